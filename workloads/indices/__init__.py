"""Index traces: what a model looks up in its embedding tables, sample by sample."""

from workloads.indices.trace import drawn, load_npz, save_npz, trace_from_split

__all__ = ["drawn", "load_npz", "save_npz", "trace_from_split"]
