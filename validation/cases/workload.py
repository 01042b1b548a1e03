"""Published shapes of deployed recommenders."""

from __future__ import annotations

from pimsim.api import load_workload


def gathered_bytes(name: str) -> int:
    """Bytes of embedding rows that one sample reads."""
    return sum(gather.gathered_bytes for gather in load_workload(name).gathers)
