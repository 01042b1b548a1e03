"""Embedding gather-and-reduce on near-bank units: bank by bank, or striped over all units of a channel.

Modelling decisions:
    * Rows that lie in one bank are read by ordinary per-bank commands and summed by the unit of that bank.
    * Rows that are striped over the units of a channel are read in lock-step by all of them, in the order of the look-ups; the next
      look-up's row opens in another bank meanwhile.
    * The host reads and adds the partial sums.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pimsim.dram.standard import Organisation, common_timing, resolve_organisation
from pimsim.graph import Gather
from pimsim.mapping.placement import Coordinates
from pimsim.spec.device import DeviceSpec
from pimsim.units.cost import OperatorCost, add_up

if TYPE_CHECKING:
    from pimsim.engine.memory import Traffic
    from pimsim.units.near_bank import NearBankSpec

IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Gathered:
    """A gather up to the partial sums, and what the host does with them.

    Attributes:
        latency_ps: Time of the units' work.
        commands: Commands over all channels.
        busiest: Commands of the busiest channel.
        energy_pj: Energy of the units' work by part.
        back: Traffic of reading the partial sums.
        host: The host's additions.
        limited_by: What sets the time of the units' work.
    """

    latency_ps: int
    commands: dict[str, int]
    busiest: dict[str, int]
    energy_pj: dict[str, float]
    back: Traffic
    host: OperatorCost
    limited_by: str


def gather_banks(unit: NearBankSpec, item: Gather, device: DeviceSpec, where: Coordinates, bag: IntArray) -> Gathered:
    """Each unit sums the rows that its own banks hold."""
    from pimsim.engine.memory import lookups
    from pimsim.engine.pim_streams import ACT, PRE, REGISTER_ROW, WR, commands
    from pimsim.engine.stream import issue_stream

    dram, organisation, timing = device.dram, resolve_organisation(device.dram), common_timing(device.dram)
    inside = lookups(dram, organisation, where, external=False)
    number = where.channel * unit.units_per_channel + where.bank // unit.banks_per_unit(organisation)
    pairs, first = np.unique(np.stack([bag, number]), axis=1, return_index=True)
    bursts = _partial_bursts(item, organisation)[bag[first] % len(item.tables)]
    per_unit = np.bincount(pairs[1], bursts, minlength=dram.channels * unit.units_per_channel).astype(np.int64)
    waves = int(-(-per_unit.max(initial=0) // unit.accumulators))
    switch = commands([(ACT, 0, REGISTER_ROW), (WR, 0, REGISTER_ROW), (PRE, 0, REGISTER_ROW)] * 2)
    switching = issue_stream(dram.model_copy(update={"channels": 1}), switch).cycles * timing["tCK_ps"] * waves
    read = per_unit.reshape(dram.channels, -1).sum(axis=1)
    back, host = _read_back(device, read, extra_adds(item, pairs[0]), unit.units_per_channel)
    energy = dict(inside.energy_pj)
    energy.pop("dram_read", None)
    energy["pim_column"] = int(where.bursts.sum()) * organisation.burst_bytes * 8 * unit.column_read_pj_per_bit
    energy["pim_mac"] = _add_pj(unit, item, bag)
    mine = where.channel == np.bincount(where.channel, where.bursts).argmax() if len(bag) else np.zeros(0, bool)
    own = replace(where, **{name: getattr(where, name)[mine] for name in ("channel", "bank", "row", "column", "bursts")})
    busiest = lookups(dram, organisation, own, external=False).commands if dram.channels > 1 else inside.commands
    limit = "row openings" if inside.latency_ps > switching else "mode switches between waves of accumulators"
    return Gathered(inside.latency_ps + switching, inside.commands, busiest, energy, back, host, limit)


def gather_striped(unit: NearBankSpec, item: Gather, device: DeviceSpec, where: Coordinates, bag: IntArray) -> Gathered:
    """All units of a channel read their piece of a row in lock-step and sum it; the host reads a piece from each."""
    from pimsim.engine.pim_streams import gather_striped as program_of
    from pimsim.engine.stream import issue_stream

    dram, organisation, timing = device.dram, resolve_organisation(device.dram), common_timing(device.dram)
    single = dram.model_copy(update={"channels": 1})
    gap = max(unit.column_gap(table.bits, organisation, timing) for table in item.tables)
    slots = _partial_bursts(item, organisation, pieces=unit.units_per_channel)
    cycles, read, partials = 0, np.zeros(dram.channels, np.int64), np.zeros(0, np.int64)
    counts: dict[str, int] = {}
    busiest: dict[str, int] = {}
    energy: dict[str, float] = {}
    for channel in np.unique(where.channel):
        mine = where.channel == channel
        bags = np.unique(bag[mine])
        write_backs = int(slots[bags % len(item.tables)].sum())
        program = program_of(where.bank[mine], where.row[mine], where.bursts[mine], organisation, write_backs)
        result = issue_stream(single, program, column_gap=gap)
        busiest = result.counts if result.cycles > cycles else busiest
        cycles = max(cycles, result.cycles)
        counts = {name: int(count) for name, count in add_up(counts, result.counts).items()}
        energy = add_up(energy, _program_energy(unit, program, device, organisation))
        read[channel] = write_backs * unit.units_per_channel
        partials = np.concatenate([partials, bags])
    back, host = _read_back(device, read, extra_adds(item, partials), unit.units_per_channel)
    energy["pim_mac"] = _add_pj(unit, item, bag)
    return Gathered(cycles * timing["tCK_ps"], counts, busiest, energy, back, host, "all-bank row openings")


def _program_energy(unit: NearBankSpec, program: IntArray, device: DeviceSpec, organisation: Organisation) -> dict[str, float]:
    from pimsim.dram.standard import Command

    def count(name: str, array: bool) -> int:
        return int(((program[:, 0] == int(Command[name])) & ((program[:, 2] >= 0) == array)).sum())

    total = {name: count(name, True) + count(name, False) for name in ("ACT", "RD", "WR")}
    return unit.command_energy(device, total, {name: count(name, True) for name in total})


def _partial_bursts(item: Gather, organisation: Organisation, pieces: int = 1) -> IntArray:
    """Bursts of one partial sum in one unit, for each table; sums are kept in 16 bits or more."""
    sizes = [-(-table.dim // pieces) * max(table.bits, 16) // 8 for table in item.tables]
    return np.array([-(-size // organisation.burst_bytes) for size in sizes], np.int64)


def extra_adds(item: Gather, bags: IntArray) -> int:
    """Additions that join partial sums, given the bag (sample x tables + table) of each."""
    dims = np.array([table.dim for table in item.tables], np.int64)
    return int(dims[bags % len(dims)].sum() - dims[np.unique(bags) % len(dims)].sum())


def _read_back(device: DeviceSpec, bursts: IntArray, adds: int, nodes: int) -> tuple[Traffic, OperatorCost]:
    """Traffic of reading partial sums from `nodes` units a channel (bursts in each; the busiest sets the time), the host's additions."""
    from pimsim.engine.interconnect import collected
    from pimsim.engine.memory import command_energy, stream
    from pimsim.units.host import roofline

    dram, size = device.dram, resolve_organisation(device.dram).burst_bytes
    total = int(bursts.sum())
    busiest = stream(dram.model_copy(update={"channels": 1}), int(bursts.max(initial=0)) * size)
    counts = {name: round(count * total / max(int(bursts.max(initial=0)), 1)) for name, count in busiest.commands.items()}
    traffic = replace(busiest, bytes=total * size, commands=counts, energy_pj=command_energy(dram, counts, total * size * 8))
    traffic = collected(traffic, device.interconnect, nodes, int(bursts.max(initial=0)) * size * 8)
    return traffic, roofline(device, adds, total * size)


def _add_pj(unit: NearBankSpec, item: Gather, bag: IntArray) -> float:
    """Energy of the units' additions: an addition is charged as a multiply-accumulate of its precision."""
    each = np.array([table.dim * unit.mac_pj(max(table.bits, 16)) for table in item.tables])
    return float(each[bag % len(item.tables)].sum())
