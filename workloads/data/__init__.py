"""Data sets: raw files to a binary cache once, memory-mapped splits from then on."""

from workloads.data.batches import iterate
from workloads.data.dataset import Dataset, Schema, Split, find_dataset, open_dataset
from workloads.data.location import cache_root, data_root

__all__ = ["Dataset", "Schema", "Split", "cache_root", "data_root", "find_dataset", "iterate", "open_dataset"]
