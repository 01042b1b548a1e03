"""Index traces: what a model looks up in its embedding tables, sample by sample, and how much a cache helps."""

from workloads.indices.histories import user_histories
from workloads.indices.locality import hit_rates, reuse, write_hit_rate_plot
from workloads.indices.trace import drawn, load_npz, save_npz, trace_from_split

__all__ = ["drawn", "hit_rates", "load_npz", "reuse", "save_npz", "trace_from_split", "user_histories", "write_hit_rate_plot"]
