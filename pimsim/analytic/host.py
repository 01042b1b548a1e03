"""The host as a roofline (`pimsim.units.host`) with closed forms of the memory's time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pimsim.analytic.cost import Costs, added
from pimsim.analytic.memory import Traffic, energy, lookup_clocks, refreshed, stream
from pimsim.analytic.table import DeviceTable
from pimsim.analytic.trace import Trace, load_of
from pimsim.graph import Gather, Primitive
from pimsim.units.host import flops

Array = NDArray[np.float64]
LIMITS = ("host arithmetic", "last-level cache", "memory", "dispatch")


def operator(item: Primitive, table: DeviceTable, batch: int, resident: NDArray[np.bool_]) -> Costs:
    """Any operator but the embedding look-up; `resident` where the last-level cache holds the model's weights."""
    activations = (item.input_bytes + item.output_bytes) * batch
    traffic = stream(table, np.where(resident, 0.0, float(item.weight_bytes)))
    return roofline(table, flops(item, batch), activations + item.weight_bytes, traffic)


def gather(item: Gather, table: DeviceTable, batch: int, trace: Trace) -> Costs:
    """Embedding gather-and-reduce: rows from memory, sums on the host."""
    moved = (item.input_bytes + item.output_bytes) * batch
    return roofline(table, item.elementary_ops * batch, moved, lookups(table, trace, external=True))


def lookups(table: DeviceTable, trace: Trace, external: bool, policy: str = "") -> Traffic:
    """Scattered reads of all look-ups; `external` when the bursts cross the interface, `policy` in place of `mapping.tables`."""
    counted = [trace.counted(device, policy) for device in table.devices]
    clocks = refreshed(table, lookup_clocks(table, load_of(counted)))
    bursts = np.array([each.all_bursts for each in counted], float)
    commands = {"ACT": np.array([each.lookups * each.misses for each in counted]), "RD": bursts}
    crossing = bursts if external else np.zeros_like(bursts)
    return Traffic(clocks * table["tck_ps"], crossing * table["burst_bytes"], commands, energy(table, commands, crossing))


def roofline(table: DeviceTable, operations: Array | float, cache_bytes: Array | float, traffic: Traffic | None = None) -> Costs:
    """Cost of arithmetic, cache and memory traffic that overlap."""
    none = np.zeros(len(table))
    memory = none if traffic is None else traffic.latency_ps
    times = np.stack([operations * 1000 / table["flops_per_ns"], cache_bytes * 1000 / table["llc_gbps"], memory])
    limit = times.argmax(axis=0)
    longest = times.max(axis=0)
    own = {"host_compute": operations * table["pj_per_flop"], "host_cache": cache_bytes * table["pj_per_llc_byte"]}
    return Costs(
        unit="host",
        latency_ps=np.ceil(table["dispatch_ps"] + longest),
        energy_pj=own if traffic is None else added(own, traffic.energy_pj),
        external_bytes=none if traffic is None else traffic.bytes,
        commands={} if traffic is None else traffic.commands,
        limit=np.where(longest > table["dispatch_ps"], limit, 3),
        limits=LIMITS,
        memory=memory > 0,
    )
