"""The interconnect between a channel's interface and its units on many devices: `pimsim.engine.interconnect`, device by device.

Nothing is computed where no device has one.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pimsim.analytic.memory import Traffic
from pimsim.analytic.table import DeviceTable
from pimsim.dram.standard import common_timing
from pimsim.engine.interconnect import carry

Array = NDArray[np.float64]
Added = tuple[NDArray[np.float64], dict[str, NDArray[np.float64]]]


def spread(table: DeviceTable, writes: Array) -> Added:
    """Time (n,) and energy by part that sending `writes` (n,) bursts to all units of a channel adds."""
    gaps = [common_timing(device.dram)["nCCDL"] for device in table.devices] if _any(table) else 0
    return _carried(table, writes * table["burst_bytes"] * 8, writes * np.asarray(gaps) * table["tck_ps"], True, None)


def collected(table: DeviceTable, traffic: Traffic, bits: Array) -> Traffic:
    """Reads of results with their way to the port; `bits` (n,) are those of the busiest channel."""
    extra, energy = _carried(table, bits, traffic.latency_ps, False, traffic.bytes * 8)
    if not energy:
        return traffic
    return replace(traffic, latency_ps=traffic.latency_ps + extra, energy_pj={**traffic.energy_pj, **energy})


def _any(table: DeviceTable) -> bool:
    return any(device.interconnect is not None for device in table.devices)


def _carried(table: DeviceTable, bits: Array, beside_ps: Array, broadcast: bool, everywhere: Array | None) -> Added:
    if not _any(table):
        return np.zeros(len(table)), {}
    nodes, total = table.unit("units_per_channel"), bits if everywhere is None else everywhere
    ways = [
        carry(device.interconnect, int(nodes[n]), round(float(bits[n])), round(float(beside_ps[n])), broadcast, round(float(total[n])))
        for n, device in enumerate(table.devices)
    ]
    energy = np.array([way.energy_pj.get("interconnect", 0.0) for way in ways])
    return np.array([way.extra_ps for way in ways], float), {"interconnect": energy}
