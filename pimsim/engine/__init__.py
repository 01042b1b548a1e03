"""Lowering (spec + graph -> arrays of integer ticks) and the drivers of the kernels."""
