"""What one operator costs on many devices, as arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pimsim.units.cost import HOST, MEMORY, OperatorCost

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Costs:
    """One operator on n devices.

    Attributes:
        unit: Who does the arithmetic: `host`, `pim` or `-`.
        latency_ps: (n,) time.
        energy_pj: Part to (n,) dynamic energy; NaN in a device that does not model a part, absent parts are zero.
        external_bytes: (n,) bytes over the memory's interface.
        commands: Name to (n,) DRAM commands over all channels.
        limit: (n,) number of the limiting term within `limits`.
        limits: Names of the limiting terms.
        memory: (n,) whether the memory is occupied.
    """

    unit: str
    latency_ps: Array
    energy_pj: Mapping[str, Array]
    external_bytes: Array
    commands: Mapping[str, Array] = field(default_factory=dict)
    limit: NDArray[np.int64] | None = None
    limits: Sequence[str] = ("",)
    memory: NDArray[np.bool_] | None = None

    def one(self, number: int) -> OperatorCost:
        """The cost on one device."""
        memory = bool(self.memory[number]) if self.memory is not None else self.unit == "pim"
        resources = ((HOST,) if self.unit == "host" else ()) + ((MEMORY,) if memory else ())
        return OperatorCost(
            unit=self.unit,
            latency_ps=int(np.ceil(self.latency_ps[number])),
            resources=resources,
            energy_pj={part: float(value[number]) for part, value in self.energy_pj.items()},
            external_bytes=round(float(self.external_bytes[number])),
            commands={name: round(float(value[number])) for name, value in self.commands.items() if value[number]},
            limited_by=self.limits[int(self.limit[number]) if self.limit is not None else 0],
        )


def added(*parts: Mapping[str, Array]) -> dict[str, Array]:
    """Sum of several breakdowns, part by part."""
    total: dict[str, Array] = {}
    for each in parts:
        for name, value in each.items():
            total[name] = total[name] + value if name in total else value
    return total
