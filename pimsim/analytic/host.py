"""The host as a roofline (`pimsim.units.host`) with closed forms of the memory's time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pimsim.analytic.cost import Costs, added
from pimsim.analytic.memory import Traffic, energy, refreshed, stream
from pimsim.analytic.table import DeviceTable
from pimsim.analytic.trace import Trace
from pimsim.analytic.window import rules, slowest
from pimsim.graph import Gather, Primitive
from pimsim.units.host import flops

Array = NDArray[np.float64]
LIMITS = ("host arithmetic", "last-level cache", "memory", "outstanding look-ups", "dispatch")


def operator(item: Primitive, table: DeviceTable, batch: int, resident: NDArray[np.bool_]) -> Costs:
    """Any operator but the embedding look-up; `resident` where the last-level cache holds the model's weights."""
    activations = (item.input_bytes + item.output_bytes) * batch
    traffic = stream(table, np.where(resident, 0.0, float(item.weight_bytes)))
    return roofline(table, flops(item, batch), activations + item.weight_bytes, traffic)


def gather(item: Gather, table: DeviceTable, batch: int, trace: Trace) -> Costs:
    """Embedding gather-and-reduce: rows from the last-level cache or from memory, sums on the host."""
    counted = [trace.counted(device, cached=True) for device in table.devices]
    found, missed = (np.array([getattr(each, name) for each in counted], float) for name in ("cached_lines", "memory_lines"))
    moved = (item.input_bytes + item.output_bytes) * batch + np.array([each.cached_bytes for each in counted], float)
    miss_ns = table["llc_latency_ns"] + table["memory_path_ns"] + table["unloaded"] * table["tck_ps"] / 1000
    waiting = (found * table["llc_latency_ns"] + missed * miss_ns) * 1000 / table["outstanding"]
    return roofline(table, item.elementary_ops * batch, moved, lookups(table, trace, external=True, cached=True), waiting)


def lookups(table: DeviceTable, trace: Trace, external: bool, policy: str = "", cached: bool = False) -> Traffic:
    """Scattered reads of all look-ups.

    Args:
        table: The devices.
        trace: The look-ups.
        external: The bursts cross the interface.
        policy: Placement in place of `mapping.tables`.
        cached: The host's last-level cache serves what it holds.
    """
    counted = [trace.counted(device, policy, cached) for device in table.devices]
    walks = [slowest(rules(device.dram), each.channels) for device, each in zip(table.devices, counted, strict=True)]
    clocks = refreshed(table, np.array([walk.clocks for walk in walks]))
    bursts = np.array([each.bursts for each in counted], float)
    opened = np.array([each.opened * walk.reopened for each, walk in zip(counted, walks, strict=True)])
    commands = {"ACT": opened, "RD": bursts}
    crossing = bursts if external else np.zeros_like(bursts)
    return Traffic(clocks * table["tck_ps"], crossing * table["burst_bytes"], commands, energy(table, commands, crossing))


def roofline(
    table: DeviceTable,
    operations: Array | float,
    cache_bytes: Array | float,
    traffic: Traffic | None = None,
    waiting_ps: Array | float = 0.0,
) -> Costs:
    """Cost of arithmetic, cache traffic, memory traffic and waiting that overlap."""
    none = np.zeros(len(table))
    memory = none if traffic is None else traffic.latency_ps
    times = np.stack([operations * 1000 / table["flops_per_ns"], cache_bytes * 1000 / table["llc_gbps"], memory, waiting_ps + none])
    limit = times.argmax(axis=0)
    longest = times.max(axis=0)
    own = {"host_compute": operations * table["pj_per_flop"], "host_cache": cache_bytes * table["pj_per_llc_byte"]}
    return Costs(
        unit="host",
        latency_ps=np.ceil(table["dispatch_ps"] + longest),
        energy_pj=own if traffic is None else added(own, traffic.energy_pj),
        external_bytes=none if traffic is None else traffic.bytes,
        commands={} if traffic is None else traffic.commands,
        limit=np.where(longest > table["dispatch_ps"], limit, 4),
        limits=LIMITS,
        memory=memory > 0,
    )
