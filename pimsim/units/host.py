"""The host as a roofline over the same memory: arithmetic, last-level cache and DRAM traffic, whichever takes longest.

Modelling decisions:
    * One operator takes its dispatch time plus the longest of arithmetic, cache traffic, memory traffic and waiting for look-ups.
    * Stationary weights are read once a batch: from the last-level cache when all weights that the host multiplies fit their share of it,
      else from memory.
    * Embedding rows that the last-level cache holds (`pimsim.units.host_cache`) cost its bandwidth and energy; the others are read from
      memory in order, as fast as the controllers take them.
    * Waiting: the cores have `max_outstanding_lines` requests under way at most, so that by Little's law n of them take at least
      n x latency / outstanding. The latency is that of a memory without other traffic: where queues fill up, the controllers are the limit
      and `memory` is the longer time; where both are alike, the bound is too short, for queues then add to the latency.
    * Arithmetic runs at FP32 speed whatever the weights' precision; narrow weights save traffic only.

Not modelled: private caches, energy of filling the cache with rows, the limit of outstanding requests for weights (contiguous, so that
prefetchers run ahead), vector units for narrow types, several operators at once.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pimsim.dram.standard import resolve_organisation, resolve_timing
from pimsim.graph import Gather, Primitive, Workload
from pimsim.mapping.placement import Coordinates, place
from pimsim.spec.device import DeviceSpec, HostSpec
from pimsim.spec.dram import DramSpec
from pimsim.units.cost import HOST, MEMORY, Baseline, LookUps, OperatorCost, add_up

if TYPE_CHECKING:
    from pimsim.engine.memory import Traffic


def operator(item: Primitive, device: DeviceSpec, batch: int, weights_resident: bool) -> OperatorCost:
    """Any operator but the embedding look-up."""
    from pimsim.engine.memory import stream

    activations = (item.input_bytes + item.output_bytes) * batch
    from_memory = 0 if weights_resident else item.weight_bytes
    traffic = stream(device.dram, from_memory)
    return roofline(device, flops(item, batch), activations + item.weight_bytes, traffic)


def gather(item: Gather, device: DeviceSpec, batch: int, where: Coordinates, hit: NDArray[np.bool_] | None = None) -> OperatorCost:
    """Embedding gather-and-reduce: rows from the last-level cache or from memory, sums on the host.

    Args:
        item: The gather.
        device: The device.
        batch: Samples.
        where: Coordinates of its look-ups, in order.
        hit: (bursts,) which of their bursts the last-level cache serves; none when None.
    """
    traffic, cached_bytes, waiting_ps = look_up(device, where, hit)
    moved = (item.input_bytes + item.output_bytes) * batch + cached_bytes
    return roofline(device, item.elementary_ops * batch, moved, traffic, waiting_ps)


def reached_by_host(device: DeviceSpec, own: bool) -> DeviceSpec:
    """The device as an operator of the host finds it; itself without a link.

    Args:
        device: The device.
        own: True: with the host's own memory, where there is one; false: with the memory behind the link, a round trip farther.
    """
    if device.link is None:
        return device
    if own and device.host_memory is not None:
        return device.model_copy(update={"dram": device.host_memory, "link": None, "host_memory": None})
    path = device.host.memory_path_ns + 2 * device.link.latency_ns
    return device.model_copy(update={"host": device.host.model_copy(update={"memory_path_ns": path})})


def look_up(device: DeviceSpec, where: Coordinates, hit: NDArray[np.bool_] | None) -> tuple[Traffic, int, float]:
    """Look-ups without the arithmetic: traffic of those that miss, bytes of those that hit, and picoseconds of waiting (Little's law)."""
    from pimsim.engine.memory import lookups, no_traffic
    from pimsim.units.cache import selected, single_bursts

    organisation = resolve_organisation(device.dram)
    owner = np.repeat(np.arange(len(where.bursts)), where.bursts)
    hit = np.zeros(len(owner), bool) if hit is None else hit
    missed = selected(single_bursts(where, organisation), ~hit) if hit.any() else where
    traffic = no_traffic() if hit.all() else lookups(device.dram, organisation, missed, external=True)
    size = organisation.burst_bytes
    from_cache = requests(np.bincount(owner[hit], minlength=len(where.bursts)) * size, device.host)
    from_memory = requests(np.bincount(owner[~hit], minlength=len(where.bursts)) * size, device.host)
    return traffic, int(hit.sum()) * size, waiting(device, from_cache, from_memory)


def gather_baseline(item: Gather, device: DeviceSpec, workload: Workload, batch: int, lookups: LookUps) -> Baseline:
    """Memory clocks of a gather's look-ups by the host of a device: the longest of cache traffic, memory traffic and waiting.

    As for the plain memory (`pimsim.units.plain`), rows are dealt over all channels and arithmetic and dispatch are left out.

    Args:
        item: The gather.
        device: The device; its units and mapping do not matter.
        workload: The gather alone with its index source, for the steady state of the cache.
        batch: Samples.
        lookups: The look-ups of the batch.
    """
    from pimsim.units.host_cache import warm_hits

    by_host = device.model_copy(update={"mapping": device.mapping.model_copy(update={"tables": "row", "embedding": "host"})})
    where = place(item.tables, "row", resolve_organisation(device.dram), device.dram.channels).locate(lookups.table, lookups.index)
    traffic, cached_bytes, waiting_ps = look_up(device, where, warm_hits(by_host, workload, batch).get(item.name))
    longest = max(float(traffic.latency_ps), cached_bytes * 1000 / device.host.llc_gbps, waiting_ps)
    clocks = math.ceil(longest / resolve_timing(device.dram)["tCK_ps"])
    return Baseline("the device's host: rows from its last-level cache or over the interface, look-ups under way limited", clocks)


def requests(read_bytes: NDArray[np.int64], host: HostSpec) -> int:
    """Lines of look-ups that read so many bytes each."""
    return int((-(-read_bytes // host.line_bytes)).sum())


def waiting(device: DeviceSpec, from_cache: int, from_memory: int) -> float:
    """Least time in picoseconds for so many requests when `max_outstanding_lines` of them are under way at a time."""
    host = device.host
    if host.max_outstanding_lines is None:
        return 0.0
    miss_ns = host.llc_latency_ns + host.memory_path_ns + unloaded_ps(device.dram) / 1000
    return (from_cache * host.llc_latency_ns + from_memory * miss_ns) * 1000 / host.max_outstanding_lines


@lru_cache(maxsize=4096)
def unloaded_ps(dram: DramSpec) -> int:
    """Latency of one read of an idle memory, in picoseconds."""
    from pimsim.engine.dram import replay

    single = dram.model_copy(update={"channels": 1})
    return replay(single, np.zeros(1, np.uint64), np.zeros(1, bool)).cycles * resolve_timing(dram)["tCK_ps"]


def flops(item: Primitive, batch: int) -> int:
    """Floating-point operations of a batch."""
    return (2 * item.macs + item.elementary_ops) * batch


def roofline(
    device: DeviceSpec, operations: int, cache_bytes: int, traffic: Traffic | None = None, waiting_ps: float = 0.0
) -> OperatorCost:
    """Cost of arithmetic, cache traffic, memory traffic and waiting that overlap."""
    from pimsim.engine.memory import no_traffic

    host = device.host
    traffic = traffic or no_traffic()
    times = {
        "host arithmetic": operations * 1000 / (host.peak_gflops * host.efficiency),
        "last-level cache": cache_bytes * 1000 / host.llc_gbps,
        "memory": float(traffic.latency_ps),
        "outstanding look-ups": waiting_ps,
    }
    limit = max(times, key=lambda name: times[name])
    latency = host.dispatch_ns * 1000 + times[limit]
    energy = {"host_compute": operations * host.pj_per_flop, "host_cache": cache_bytes * host.pj_per_llc_byte}
    return OperatorCost(
        unit="host",
        latency_ps=int(-(-latency // 1)),
        resources=(HOST, MEMORY) if traffic.latency_ps else (HOST,),
        energy_pj=add_up(energy, traffic.energy_pj),
        external_bytes=traffic.bytes,
        commands=traffic.commands,
        limited_by=limit if times[limit] > host.dispatch_ns * 1000 else "dispatch",
    )
