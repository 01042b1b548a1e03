"""The joint search of recommender models and processing-in-memory hardware; command `cosearch`."""
