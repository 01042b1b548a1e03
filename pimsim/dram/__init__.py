"""DRAM standards: one file a standard, each defining `STANDARD`; data, no logic."""
