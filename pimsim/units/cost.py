"""What running one operator for one batch costs: time, energy by part, commands and bytes; and which resources it holds meanwhile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

HOST, MEMORY = "host", "memory"


@dataclass(frozen=True)
class OperatorCost:
    """Cost of one operator for one batch on one device.

    Attributes:
        unit: Who did the arithmetic: `host`, `pim`, or `-` for an operator without work.
        latency_ps: Time from start to result, in picoseconds.
        resources: What it occupies for that time: any of `host`, `memory`.
        energy_pj: Dynamic energy by part, in picojoules (standing power is charged by the report, over the whole latency).
        external_bytes: Bytes moved over the memory's external interface.
        commands: DRAM commands over all channels.
        limited_by: The term that set the latency, for the report.
    """

    unit: str
    latency_ps: int
    resources: tuple[str, ...]
    energy_pj: Mapping[str, float] = field(default_factory=dict)
    external_bytes: int = 0
    commands: Mapping[str, int] = field(default_factory=dict)
    limited_by: str = ""


NO_WORK = OperatorCost(unit="-", latency_ps=0, resources=())


def add_up(*parts: Mapping[str, float]) -> dict[str, float]:
    """Sum of several breakdowns, key by key."""
    total: dict[str, float] = {}
    for part in parts:
        for key, value in part.items():
            total[key] = total.get(key, 0) + value
    return total
