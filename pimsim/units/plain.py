"""The same work without units: the traffic that a processor of unlimited speed would cause on the plain memory.

Modelling decisions:
    * No compute time, no cache, no latency of the processor: what remains is the memory's own limit, the most favourable baseline.
    * Dense kernels stream: all operands are read from contiguous addresses dealt evenly over the channels, then the result is written.
    * A gather reads every row of every look-up, in order, as fast as the controller takes requests; results stay in the processor.
"""

from __future__ import annotations

import numpy as np

from pimsim.dram.standard import resolve_organisation
from pimsim.graph import AnyPrimitive, Elementwise, Gather, MatMul
from pimsim.mapping.placement import place
from pimsim.spec.device import DeviceSpec
from pimsim.units.cost import Baseline, LookUps


def plain_memory(item: AnyPrimitive, device: DeviceSpec, batch: int, lookups: LookUps | None) -> Baseline:
    """Memory clocks of a kernel's traffic on the device's memory without its units.

    Args:
        item: The kernel.
        device: The device.
        batch: Samples.
        lookups: The rows to gather, for a `Gather`.
    """
    from pimsim.dram.standard import resolve_timing
    from pimsim.engine.memory import lookups as read_lookups

    if isinstance(item, Gather) and lookups is not None:
        organisation = resolve_organisation(device.dram)
        where = place(item.tables, "row", organisation, device.dram.channels, 1).locate(lookups.table, lookups.index)
        traffic = read_lookups(device.dram, organisation, where, external=True)
        return Baseline("plain memory, every row read over the interface", traffic.latency_ps // resolve_timing(device.dram)["tCK_ps"])
    return Baseline("plain memory, operands read and result written as streams", _streamed(device, *traffic_bytes(item, batch)))


def traffic_bytes(item: AnyPrimitive, batch: int) -> tuple[int, int]:
    """Bytes read and written by a dense kernel; stationary weights are read once for all samples."""
    if isinstance(item, MatMul):
        return item.weight_bytes + item.input_bytes * batch, item.output_bytes * batch
    if isinstance(item, Elementwise):
        return item.operands * item.elements * item.activation_bits // 8 * batch, item.output_bytes * batch
    return item.input_bytes * batch, item.output_bytes * batch


def _streamed(device: DeviceSpec, read_bytes: int, written_bytes: int) -> int:
    from pimsim.engine.dram import replay

    size = resolve_organisation(device.dram).burst_bytes * device.dram.channels
    reads, writes = -(-read_bytes // size), -(-written_bytes // size)
    address = np.arange(reads + writes, dtype=np.uint64) * np.uint64(resolve_organisation(device.dram).burst_bytes)
    single = device.dram.model_copy(update={"channels": 1})
    return replay(single, address, np.arange(reads + writes) >= reads).cycles
