"""Data-set adapters: one file each, found by `pimsim.discovery.implementations("workloads.data.adapters", "ADAPTER")`."""
