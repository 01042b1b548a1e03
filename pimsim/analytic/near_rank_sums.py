"""Sums on gather-reduce units in closed form: the gather that `pimsim.units.near_rank_sums` makes of them, device by device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pimsim.analytic.cost import Costs, added
from pimsim.analytic.host import roofline
from pimsim.analytic.table import DeviceTable
from pimsim.analytic.trace import Trace
from pimsim.graph import AnyPrimitive
from pimsim.units.near_rank_sums import lowered, without_copies

if TYPE_CHECKING:
    from pimsim.analytic.near_rank import NearRank


def total(own: NearRank, item: AnyPrimitive, table: DeviceTable, batch: int, end_to_end: bool) -> Costs:
    """As `NearRankSpec` runs a sum, on many devices."""
    found = []
    for device in table.devices:
        unit: Any = device.unit
        work = lowered(unit, item, device, batch)
        alone = DeviceTable.of([device.model_copy(update={"unit": without_copies(unit)})])
        cost = own._costs(work.gather, alone, Trace(work.gather, work.sums, work.lookups), end_to_end)
        time, energy = cost.latency_ps, cost.energy_pj
        if end_to_end and work.host_adds:
            host = roofline(alone, work.host_adds, work.host_adds * 4)
            time, energy = time + host.latency_ps, added(energy, host.energy_pj)
        found.append((cost, time, energy))
    costs = [cost for cost, _, _ in found]
    parts = dict.fromkeys(part for _, _, energy in found for part in energy)
    return Costs(
        unit="pim",
        latency_ps=np.concatenate([time for _, time, _ in found]),
        energy_pj={part: np.array([float(energy.get(part, [0.0])[0]) for _, _, energy in found]) for part in parts},
        external_bytes=np.concatenate([cost.external_bytes for cost in costs]),
        commands={name: np.concatenate([cost.commands[name] for cost in costs]) for name in costs[0].commands},
        limit=np.concatenate([cost.limit for cost in costs if cost.limit is not None]),
        limits=costs[0].limits,
    )
