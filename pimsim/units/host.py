"""The host as a roofline over the same memory: arithmetic, last-level cache and DRAM traffic, whichever takes longest.

Modelling decisions:
    * One operator takes its dispatch time plus the longest of arithmetic, cache traffic and memory traffic.
    * Stationary weights are read once a batch: from the last-level cache when all weights that the host multiplies fit, else from memory.
    * Embedding rows always come from memory; look-ups of a batch are issued in order, as fast as the controller takes them.
    * Arithmetic runs at FP32 speed whatever the weights' precision; narrow weights save traffic only.

Not modelled: cache hits on embedding rows, vector units for narrow types, several operators at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pimsim.dram.standard import resolve_organisation
from pimsim.graph import Gather, Primitive
from pimsim.mapping.placement import Coordinates
from pimsim.spec.device import DeviceSpec
from pimsim.units.cost import HOST, MEMORY, OperatorCost, add_up

if TYPE_CHECKING:
    from pimsim.engine.memory import Traffic


def operator(item: Primitive, device: DeviceSpec, batch: int, weights_resident: bool) -> OperatorCost:
    """Any operator but the embedding look-up."""
    from pimsim.engine.memory import stream

    activations = (item.input_bytes + item.output_bytes) * batch
    from_memory = 0 if weights_resident else item.weight_bytes
    traffic = stream(device.dram, from_memory)
    return roofline(device, flops(item, batch), activations + item.weight_bytes, traffic)


def gather(item: Gather, device: DeviceSpec, batch: int, where: Coordinates) -> OperatorCost:
    """Embedding gather-and-reduce: rows from memory, sums on the host."""
    from pimsim.engine.memory import lookups

    traffic = lookups(device.dram, resolve_organisation(device.dram), where, external=True)
    return roofline(device, item.elementary_ops * batch, (item.input_bytes + item.output_bytes) * batch, traffic)


def flops(item: Primitive, batch: int) -> int:
    """Floating-point operations of a batch."""
    return (2 * item.macs + item.elementary_ops) * batch


def roofline(device: DeviceSpec, operations: int, cache_bytes: int, traffic: Traffic | None = None) -> OperatorCost:
    """Cost of arithmetic, cache and memory traffic that overlap."""
    from pimsim.engine.memory import no_traffic

    host = device.host
    traffic = traffic or no_traffic()
    times = {
        "host arithmetic": operations * 1000 / (host.peak_gflops * host.efficiency),
        "last-level cache": cache_bytes * 1000 / host.llc_gbps,
        "memory": float(traffic.latency_ps),
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
