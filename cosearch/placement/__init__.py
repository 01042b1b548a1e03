"""Which operator of a model runs on the host and which on the units beside the memory (H4H-NAS's question, for recommenders)."""
