"""Compute units: one file a unit, each defining `UNIT` (its spec class) and the cost of the primitives that it runs."""
