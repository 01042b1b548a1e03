"""Recommender operators: one file each, found by `pimsim.discovery.implementations("workloads.operators", "OPERATOR")`.

Each `OPERATOR` is a frozen spec of shapes with its parameters, its multiply-accumulates, a NumPy reference and the lowering
to the simulator's primitives. See `workloads/operators/base.py` for what they share.
"""
