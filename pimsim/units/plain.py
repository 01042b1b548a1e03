"""The same work without units: the traffic that a processor of unlimited speed would cause on the plain memory.

Modelling decisions:
    * No compute time, no cache, no latency of the processor: what remains is the memory's own limit, the most favourable baseline.
    * Dense kernels stream: all operands are read from contiguous addresses dealt evenly over the channels, and when the last one has
      arrived, the result is written behind them. All requests are there at the start and go through the queue that drives near-bank
      units too (`pimsim.engine.fenced`); memories that it does not serve go through the FR-FCFS controller.
    * A gather reads every row of every look-up, in order, as fast as the controller takes requests; results stay in the processor.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pimsim.dram.standard import resolve_organisation
from pimsim.graph import AnyPrimitive, Elementwise, Gather, MatMul
from pimsim.mapping.placement import place
from pimsim.spec.device import DeviceSpec
from pimsim.spec.dram import DramSpec
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
    return Baseline("plain memory, operands read and result written as streams", _streamed(item, device, batch))


def stream_bursts(item: AnyPrimitive, batch: int, channels: int, burst_bytes: int) -> tuple[int, int]:
    """Bursts of one channel's share that a dense kernel reads and writes.

    Each operand fills bursts of its own, dealt over the channels one behind the other; stationary weights are read once for all samples.
    """
    if isinstance(item, MatMul):
        operands = [item.weight_bytes, item.input_bytes * batch]
    elif isinstance(item, Elementwise):
        operands = [item.elements * item.activation_bits * batch // 8] * item.operands
    else:
        operands = [item.input_bytes * batch]
    reads = sum(-(-size // burst_bytes) for size in operands)
    writes = -(-item.output_bytes * batch // burst_bytes)
    return -(-reads // channels), -(-writes // channels)


def _streamed(item: AnyPrimitive, device: DeviceSpec, batch: int) -> int:
    """Clocks of one channel's share of reads, then writes."""
    from pimsim.engine.dram import replay
    from pimsim.engine.fenced import can_serve, serve

    single = device.dram.model_copy(update={"channels": 1})
    size = resolve_organisation(single).burst_bytes
    reads, writes = stream_bursts(item, batch, device.dram.channels, size)
    address = np.arange(reads + writes, dtype=np.uint64) * np.uint64(size)
    if can_serve(single):
        idle, yields = getattr(device.unit, "idle_ranks", 0), getattr(device.unit, "refresh_yields", False)
        return serve(single, stream_requests(single, address, reads), idle_ranks=idle, refresh_yields=yields).cycles
    return replay(single, address, np.arange(reads + writes) >= reads).cycles


def stream_requests(single: DramSpec, address: NDArray[np.uint64], reads: int) -> NDArray[np.int64]:
    """Requests to one channel at byte addresses: the first `reads` of them reads, the others writes that wait for the last read."""
    from pimsim.dram.standard import Command
    from pimsim.engine.fenced import DRAIN
    from pimsim.mapping.address import flat_bank, map_of

    fields = map_of(single).decode(address)
    is_write = np.arange(len(address)) >= reads
    command = np.where(is_write, int(Command.WR), int(Command.RD))
    flags = np.where(is_write & (np.arange(len(address)) == reads), DRAIN, 0)
    return np.stack([command, flat_bank(resolve_organisation(single), fields), fields["row"], fields["column"], flags], axis=1)
