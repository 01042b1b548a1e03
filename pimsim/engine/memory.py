"""Plain memory traffic on the command-level engine: contiguous streams, scattered look-ups, and what they cost."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pimsim.dram.standard import Organisation, resolve_organisation, resolve_timing
from pimsim.energy.dram import command_energy_pj
from pimsim.engine.dram import replay
from pimsim.mapping.address import compose
from pimsim.mapping.placement import Coordinates
from pimsim.spec.dram import DramSpec


@dataclass(frozen=True)
class Traffic:
    """One burst of traffic: time in picoseconds, bytes over the interface, command counts over all channels, dynamic energy by part."""

    latency_ps: int
    bytes: int
    commands: dict[str, int]
    energy_pj: dict[str, float]


def no_traffic() -> Traffic:
    """Nothing moved."""
    return Traffic(0, 0, {}, {})


def command_energy(dram: DramSpec, commands: dict[str, int], interface_bits: int) -> dict[str, float]:
    """Dynamic energy of commands and of moving bits over the interface, in picojoules by part.

    Refresh is charged with standing power, not here. A part that is not modelled (a standard without public currents) is NaN and makes
    every sum that it enters NaN; interface energy is left out where the device gives none.
    """
    each = command_energy_pj(dram) or dict.fromkeys(("ACT", "RD", "WR"), math.nan)
    energy = {
        "dram_activate": commands.get("ACT", 0) * each["ACT"],
        "dram_read": commands.get("RD", 0) * each["RD"],
        "dram_write": commands.get("WR", 0) * each["WR"],
    }
    if dram.io_pj_per_bit is not None:
        energy["dram_io"] = interface_bits * dram.io_pj_per_bit
    return energy


@lru_cache(maxsize=4096)
def _stream_one_channel(dram: DramSpec, bursts: int, write: bool) -> tuple[int, tuple[tuple[str, int], ...]]:
    organisation = resolve_organisation(dram)
    address = np.arange(bursts, dtype=np.uint64) * np.uint64(organisation.burst_bytes)
    result = replay(dram, address, np.full(bursts, write))
    return result.cycles, tuple(result.commands.items())


def stream(dram: DramSpec, size_bytes: int, write: bool = False) -> Traffic:
    """Contiguous traffic dealt evenly over all channels; every channel is alike, so one is simulated."""
    if size_bytes <= 0:
        return no_traffic()
    organisation = resolve_organisation(dram)
    bursts = -(-size_bytes // organisation.burst_bytes)
    per_channel = -(-bursts // dram.channels)
    busy = -(-bursts // per_channel)
    single = dram.model_copy(update={"channels": 1})
    cycles, counts = _stream_one_channel(single, per_channel, write)
    commands = {name: count * busy for name, count in counts}
    moved = bursts * organisation.burst_bytes
    latency = cycles * resolve_timing(dram)["tCK_ps"]
    return Traffic(latency, moved, commands, command_energy(dram, commands, moved * 8))


def address_stream(dram: DramSpec, organisation: Organisation, where: Coordinates) -> NDArray[np.uint64]:
    """Byte addresses of every burst of look-ups, in their order; (bursts,) uint64 under the memory's address map."""
    total = int(where.bursts.sum())
    which = np.repeat(np.arange(len(where.bursts)), where.bursts)
    step = np.arange(total) - np.repeat(np.cumsum(where.bursts) - where.bursts, where.bursts)
    column = where.column[which] + step
    return compose(
        dram,
        channel=where.channel[which],
        bank=where.bank[which],
        row=where.row[which] + column // organisation.columns,
        column=column % organisation.columns,
    )


def lookups(dram: DramSpec, organisation: Organisation, where: Coordinates, external: bool) -> Traffic:
    """Scattered look-ups read burst by burst in the order given, every channel on its own.

    Args:
        dram: The memory.
        organisation: Its geometry.
        where: Coordinates of the look-ups.
        external: True when the bursts cross the interface (host), false when a unit beside the bank keeps them.
    """
    address = address_stream(dram, organisation, where)
    total = len(address)
    result = replay(dram, address, np.zeros(total, bool))
    commands = dict(result.commands)
    moved = total * organisation.burst_bytes if external else 0
    latency = result.cycles * resolve_timing(dram)["tCK_ps"]
    return Traffic(latency, moved, commands, command_energy(dram, commands, moved * 8))
