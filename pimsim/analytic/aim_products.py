"""Products of two activations and sums on AiM in closed form: writes of an operand, the program's first periods and their repetitions.

A refresh within the program opens the row of the banks again.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pimsim.analytic.cost import Costs, added
from pimsim.analytic.host import roofline
from pimsim.analytic.memory import energy as memory_energy
from pimsim.analytic.table import DeviceTable
from pimsim.analytic.uploads import opened_rows, upload_clocks
from pimsim.dram.standard import Organisation, resolve_organisation
from pimsim.graph import Product, Reduce
from pimsim.units import aim_products as unit_side
from pimsim.units.aim_timing import AimCommand, Instruction

if TYPE_CHECKING:
    from pimsim.analytic.aim import Aim

Array = NDArray[np.float64]
SHOWN = 3
"""Vectors that meet equally many groups, and matrices, that are added up command by command; the last stands for the others."""


def product(own: Aim, item: Product, table: DeviceTable, batch: int, begin: Array) -> Costs:
    """As `AimSpec` runs a product, on many devices; `begin` (n,) clocks after a refresh."""
    from pimsim.analytic.aim import LIMITS, _bursts

    units: list[Any] = [device.unit for device in table.devices]
    shares = [unit_side.share_of(unit, item, batch, device) for unit, device in zip(units, table.devices, strict=True)]
    of = {name: np.array([getattr(share, name) for share in shares], float) for name in ("together", "items", "rows", "columns")}
    rows, banks = of["items"] * of["rows"], np.minimum(of["rows"], table.unit("units_per_channel"))
    before = upload_clocks(table, rows, of["columns"], banks) + table["rp"]
    clocks, counts = _programs(table, [(share, table["columns"][n]) for n, share in enumerate(shares)])
    cycles = own._refreshed(table, before + clocks, counts, begin)
    counts[AimCommand.ACT16] += _refreshes(table, begin + cycles) - _refreshes(table, begin + before)
    written = rows * of["columns"]
    opened = opened_rows(table, rows, of["columns"], banks)
    upload = memory_energy(table, {"ACT": opened, "WR": written}, written)
    scale = of["together"] * batch * item.groups / of["items"]
    commands = {command.name: counts[command] for command in AimCommand}
    commands |= {"WR": written, "ACT": commands["ACT"] + opened}
    return Costs(
        unit="pim",
        latency_ps=cycles * table["tck_ps"],
        energy_pj={part: value * scale for part, value in added(upload, own._energy(table, counts)).items()},
        external_bytes=(written + _bursts(counts)) * table["burst_bytes"] * scale,
        commands=commands,
        limit=np.where(before > cycles - before, 3, own._limit(table, cycles, counts)),
        limits=(*LIMITS, "writes of an operand to the banks"),
    )


def channel_bursts(commands: Mapping[str, Array]) -> Array:
    """Bursts over the interface of one channel, from its commands."""
    return np.asarray(sum(commands[name] for name in ("WR", "WRGB", "WRMAC16", "WRA16", "RDMAC16", "RDAF16")), float)


def _refreshes(table: DeviceTable, clocks: Array) -> Array:
    return np.where(table["refresh"] > 0, np.floor(clocks / table["refi"]), 0)


def _programs(table: DeviceTable, shapes: list[tuple[unit_side.Share, float]]) -> tuple[Array, Array]:
    """(n,) clocks and (commands, n) commands of the products' programs; devices of equal shapes at once."""
    from pimsim.analytic.aim import Channels

    Channels(table)  # resolves the timing of all devices before they are split
    clocks, counts = np.zeros(len(table)), np.zeros((len(AimCommand), len(table)))
    groups: dict[Any, list[int]] = {}
    for number, (device, shape) in enumerate(zip(table.devices, shapes, strict=True)):
        groups.setdefault((*shape, getattr(device.unit, "global_buffer_bytes", 0)), []).append(number)
    for (share, *_), numbers in groups.items():
        index, device = np.array(numbers), table.devices[numbers[0]]
        clocks[index], found = _matrices(Channels(table.take(index)), device.unit, share, resolve_organisation(device.dram))
        counts[:, index] = found[:, None]
    return clocks, counts


def _matrices(channel: Any, unit: Any, share: unit_side.Share, organisation: Organisation) -> tuple[Array, Array]:
    """Clocks and commands of one channel's program."""
    channel.run(Instruction("W_CFR"))
    more, counted = np.zeros_like(channel.clock), np.zeros(len(AimCommand))
    each, shown = -(-share.rows // unit.units_per_channel), min(share.items, SHOWN)
    for item in range(shown):
        begin, start = channel.end(), channel.counts.copy()
        longer, again = np.zeros_like(channel.clock), np.zeros(len(AimCommand))
        for groups, vectors in groupby(share.groups):
            count = len(list(vectors))
            for _ in range(min(count, SHOWN)):
                mark, held = channel.end(), channel.counts.copy()
                for instruction in unit_side.vector(unit, share, item * each, groups, organisation):
                    channel.run(instruction)
            longer = longer + max(count - SHOWN, 0) * (channel.end() - mark)
            again = again + max(count - SHOWN, 0) * (channel.counts - held)
        times = 1 + (share.items - shown) * (item == shown - 1)
        more = more + times * longer + (times - 1) * (channel.end() - begin)
        counted = counted + times * again + (times - 1) * (channel.counts - start)
    return channel.end() + more, channel.counts + counted


def total(own: Aim, item: Reduce, table: DeviceTable, batch: int, end_to_end: bool) -> Costs:
    """As `AimSpec` runs a sum, on many devices."""
    from pimsim.analytic.aim import LIMITS, Channels, _bursts

    units: list[Any] = [device.unit for device in table.devices]
    shapes = [unit_side.checked_sums(unit, item, device, batch) for unit, device in zip(units, table.devices, strict=True)]
    Channels(table)
    clocks, counts = np.zeros(len(table)), np.zeros((len(AimCommand), len(table)))
    for number, (shape, device) in enumerate(zip(shapes, table.devices, strict=True)):
        channel, unit = Channels(table.take(np.array([number]))), units[number]
        period = max(resolve_organisation(device.dram).columns // shape.columns, 1)  # groups in one row of the banks
        steps = unit_side.sum_program(unit, unit_side.Sums(shape.parts, shape.columns, min(shape.groups, 2 * period)), device)
        ends = []
        for step in steps:
            channel.run(step)
            if step.name == "RD_MAC":
                ends.append((channel.end(), channel.counts.copy()))
        again, rest = (shape.groups - len(ends)) / period, ends[-1 - period] if shape.groups > len(ends) else ends[-1]
        clocks[number] = (channel.end() + again * (ends[-1][0] - rest[0]))[0]
        counts[:, number] = channel.counts + again * (ends[-1][1] - rest[1])
    cycles = own._refreshed(table, clocks, counts, np.zeros(len(table)))
    counts[AimCommand.ACT16] += _refreshes(table, cycles)
    time = cycles * table["tck_ps"]
    energy = {part: value * table["channels"] for part, value in own._energy(table, counts).items()}
    adds = np.array([item.elements_out * batch * (shape.parts - 1) for shape in shapes], float)
    if end_to_end and adds.any():
        host = roofline(table, adds, adds * 2)
        time = time + np.where(adds > 0, host.latency_ps, 0)
        energy = added(energy, {part: np.where(adds > 0, value, 0) for part, value in host.energy_pj.items()})
    moved = _bursts(counts) * table["burst_bytes"] * table["channels"]
    commands = {command.name: counts[command] for command in AimCommand}
    return Costs("pim", time, energy, moved, commands, own._limit(table, cycles, counts), LIMITS)
