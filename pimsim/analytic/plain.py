"""The same work without units in closed form: what `pimsim.units.plain` simulates."""

from __future__ import annotations

import numpy as np

from pimsim.analytic.host import lookups
from pimsim.analytic.memory import refreshed, stream_clocks
from pimsim.analytic.table import DeviceTable
from pimsim.analytic.trace import Trace
from pimsim.graph import AnyPrimitive
from pimsim.units.cost import Baseline
from pimsim.units.plain import stream_bursts


def plain_memory(item: AnyPrimitive, table: DeviceTable, batch: int, trace: Trace | None) -> Baseline:
    """Memory clocks of a kernel's traffic on the memory of a table's first device: reads, and when the last has arrived, writes."""
    if trace is not None:
        clocks = lookups(table, trace, external=True, policy="row").latency_ps[0] / table["tck_ps"][0]
        return Baseline("plain memory, every row read over the interface", int(np.ceil(clocks)))
    read, written = (
        np.array([float(bursts)]) for bursts in stream_bursts(item, batch, int(table["channels"][0]), int(table["burst_bytes"][0]))
    )
    clocks = refreshed(table, stream_clocks(table, read) + stream_clocks(table, written))
    return Baseline("plain memory, operands read and result written as streams", int(np.ceil(clocks[0])))
