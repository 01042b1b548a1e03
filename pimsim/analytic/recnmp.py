"""RecNMP in closed form: see `near_rank`."""

from pimsim.analytic.near_rank import ANALYTIC

__all__ = ["ANALYTIC"]
