"""What running one operator for one batch costs, inside a model and alone: time, energy by part, commands and bytes, resources held."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

HOST, MEMORY = "host", "memory"
LINK, SEND, RECEIVE = "link", "link_send", "link_receive"
RESOURCES = (HOST, MEMORY, LINK, SEND, RECEIVE)
"""What an operator may occupy, in the order in which it is taken, so that no two operators wait for each other."""


@dataclass(frozen=True)
class OperatorCost:
    """Cost of one operator for one batch on one device.

    Attributes:
        unit: Who did the arithmetic: `host`, `pim`, `link` for a transfer, or `-` for an operator without work.
        latency_ps: Time from start to result, in picoseconds.
        resources: What it occupies for that time: any of `RESOURCES`.
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


@dataclass(frozen=True)
class KernelRun:
    """One kernel alone on a device's units.

    Attributes:
        cycles: Memory clocks from the first command to the last.
        commands: DRAM commands of one channel (the busiest), or what else `UnitSpec.COMMANDS_OF` says.
        energy_pj: Dynamic energy by part over all channels, in picojoules; NaN for a part that is not modelled.
        limited_by: What set the time.
    """

    cycles: int
    commands: Mapping[str, int]
    energy_pj: Mapping[str, float]
    limited_by: str = ""


@dataclass(frozen=True)
class Baseline:
    """The same work without the units: what was simulated, and its memory clocks."""

    what: str
    cycles: int


@dataclass(frozen=True)
class LookUps:
    """The look-ups of one gather kernel in request order (sample by sample, table by table); all (n,) int64.

    Attributes:
        table: Number of the table within the gather.
        index: Row of the table.
        sample: Sample within the batch.
    """

    table: NDArray[np.int64]
    index: NDArray[np.int64]
    sample: NDArray[np.int64]

    @classmethod
    def of(cls, pooled: list[NDArray[np.int64]]) -> LookUps:
        """From one (batch, pooling) array of rows for each table; an entry of -1 is no look-up."""
        batch, pooling = len(pooled[0]), np.array([rows.shape[1] for rows in pooled])
        table = np.tile(np.repeat(np.arange(len(pooled)), pooling), batch)
        index = np.concatenate(pooled, axis=1).reshape(-1).astype(np.int64)
        sample = np.repeat(np.arange(batch), pooling.sum())
        there = index >= 0
        return cls(table, index, sample) if there.all() else cls(table[there], index[there], sample[there])


NO_WORK = OperatorCost(unit="-", latency_ps=0, resources=())


def add_up(*parts: Mapping[str, float]) -> dict[str, float]:
    """Sum of several breakdowns, key by key."""
    total: dict[str, float] = {}
    for part in parts:
        for key, value in part.items():
            total[key] = total.get(key, 0) + value
    return total
