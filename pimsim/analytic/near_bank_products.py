"""Products of two activations and sums on near-bank units in closed form: writes of an operand, then repeated passes or columns."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pimsim.analytic.cost import Costs, added
from pimsim.analytic.host import roofline
from pimsim.analytic.interconnect import collected, spread
from pimsim.analytic.memory import energy as memory_energy
from pimsim.analytic.memory import stream
from pimsim.analytic.near_bank_program import ACT, RD, WR, Segments
from pimsim.analytic.table import DeviceTable
from pimsim.analytic.uploads import opened_rows, upload_clocks
from pimsim.dram.standard import resolve_organisation
from pimsim.engine.fenced import REGISTER_ROW
from pimsim.engine.pim_products import Products, chunks
from pimsim.graph import Product, Reduce
from pimsim.units import near_bank_products as unit_side

if TYPE_CHECKING:
    from pimsim.analytic.near_bank import NearBank

Array = NDArray[np.float64]
SHOWN = 16
"""Output tiles of matrices that are added up command by command."""
LIMITS = ("all-bank column commands", "mode switches, input writes and row openings")


def product(own: NearBank, item: Product, table: DeviceTable, batch: int, end_to_end: bool) -> Costs:
    """As `NearBankSpec` runs a product, on many devices."""
    from pimsim.analytic.near_bank import refreshed

    units: list[Any] = [device.unit for device in table.devices]
    pairs = list(zip(units, table.devices, strict=True))
    shares = [unit_side.share_of(unit, item, batch, device) for unit, device in pairs]
    of = {name: np.array([getattr(share, name) for share in shares], float) for name in ("items", "passes", "rows", "bursts", "outputs")}
    passes, written = of["items"] * of["passes"], of["items"] * of["rows"] * of["bursts"]
    banks = np.minimum(table.unit("units_per_channel"), of["rows"]) * own._per_unit(table)
    before = upload_clocks(table, of["items"] * of["rows"], of["bursts"], banks) + table["rp"]
    clocks, data = _passes(own, item, table, shares)
    inside = refreshed(table, before + clocks)
    inputs = np.array([share.inputs * share.input_tiles for share in shares], float)
    counts = {"ACT": data[ACT] + 2 * table["banks"] + 8, "RD": data[RD] + 2 * table["banks"], "WR": data[WR] + 8}
    array = {"ACT": data[ACT] - 2 * passes, "RD": data[RD], "WR": data[WR] - passes * (inputs + 2)}
    opened = opened_rows(table, of["items"] * of["rows"], of["bursts"], banks)
    upload = memory_energy(table, {"ACT": opened, "WR": written}, written)
    sent_ps, sent_pj = spread(table, counts["WR"] - array["WR"])
    scale = np.array([share.together for share in shares], float) * batch * item.groups / of["items"]
    energy = {part: value * scale for part, value in added(own._command_energy(table, counts, array), upload, sent_pj).items()}
    energy["pim_mac"] = item.macs * batch * own._mac_pj(table, item.activation_bits)
    time = (inside + np.ceil(sent_ps / table["tck_ps"])) * table["tck_ps"]
    moved = (written + counts["WR"] - array["WR"] + 2 * table["banks"]) * table["burst_bytes"]
    if end_to_end:
        bursts = np.array(
            [unit_side.result_bursts(u, item, s, resolve_organisation(d.dram)) for (u, d), s in zip(pairs, shares, strict=True)], float
        )
        back = stream(table, bursts * table["burst_bytes"], 1.0)
        back = collected(table, back, back.bytes * 8)
        lanes = np.where(table.unit("lane_reduction") > 0, 1, np.floor(table["burst_bytes"] * 8 / max(item.activation_bits, 8)))
        together = np.array([share.together for share in shares], float)
        host = roofline(table, item.outputs * batch * (lanes - 1), bursts * together * table["burst_bytes"])
        time = time + back.latency_ps + host.latency_ps
        energy = added(energy, {part: value * scale for part, value in back.energy_pj.items()}, host.energy_pj)
        moved = moved + back.bytes
    counts = {"ACT": counts["ACT"] + opened, "RD": counts["RD"], "WR": counts["WR"] + written}
    columns = passes * inputs * of["outputs"] * own._gap(table, item.activation_bits)
    return Costs("pim", time, energy, moved * scale, counts, np.where(columns * 2 > inside, 0, 1), LIMITS)


def in_a_model(own: NearBank, item: Product, table: DeviceTable, batch: int) -> Costs:
    """As `NearBankSpec.product`, on many devices: the kernel end to end, commands over all channels."""
    cost = product(own, item, table, batch, True)
    units: list[Any] = [device.unit for device in table.devices]
    shares = [unit_side.share_of(unit, item, batch, device) for unit, device in zip(units, table.devices, strict=True)]
    scale = np.array([share.together * batch * item.groups / share.items for share in shares])
    return replace(cost, commands={name: value * scale for name, value in cost.commands.items()})


def _passes(own: NearBank, item: Product, table: DeviceTable, shares: list[Any]) -> tuple[Array, dict[Any, Array]]:
    """Clocks and commands of all vectors through output tiles, mode switches included, refresh left out."""
    gap = own._gap(table, item.activation_bits)
    places = np.stack([table[name] for name in ("columns", "banks", "groups", "ranks")], axis=1)
    Segments(table, gap)  # resolves the timing of all devices before they are split
    clocks, data = np.zeros(len(table)), {command: np.zeros(len(table)) for command in (ACT, RD, WR)}
    groups: dict[Any, list[int]] = {}
    for number, (share, place) in enumerate(zip(shares, places, strict=True)):
        groups.setdefault((share, *place, own._per_unit(table)[number]), []).append(number)
    for (share, width, *_, banks), numbers in groups.items():
        index = np.array(numbers)
        clocks[index], found = _matrices(table.take(index), gap[index], share, int(banks), int(width))
        for command, value in found.items():
            data[command][index] = value
    return clocks, data


def _matrices(table: DeviceTable, gap: Array, share: Products, banks: int, width: int) -> tuple[Array, dict[Any, float]]:
    """Clocks and commands of devices with the same share: the first matrices, two vectors a tile, stand for the others."""
    from pimsim.analytic.near_bank import done, enter, leave

    device, channel = table.devices[0], Segments(table, gap)
    enter(channel, device, 2 * banks + 2)
    shown = min(share.items, max(2, SHOWN // len(share.vectors)))
    start, more, total = channel.clock.copy(), np.zeros(len(table)), {ACT: 0.0, RD: 0.0, WR: 0.0}
    before = dict(channel.counts)
    for item in range(shown):
        for output, vectors in enumerate(share.vectors):
            for _ in range(min(vectors, 2)):
                begin, counted = channel.clock.copy(), dict(channel.counts)
                _vector(channel, share, item * share.stride(banks), output, banks, width)
            again = max(vectors - 2, 0)
            more = more + again * (channel.clock - begin)
            for command in total:
                total[command] += again * (channel.counts[command] - counted[command])
    for command in total:
        total[command] = (total[command] + channel.counts[command] - before[command]) * share.items / shown
    longer = more * share.items / shown + (channel.clock - start) * (share.items / shown - 1)
    leave(channel, device)
    return done(channel, table) + longer, total


def _vector(channel: Segments, share: Products, base: int, output: int, banks: int, width: int) -> None:
    """One vector through one output tile, as `pimsim.engine.pim_products` sends it."""
    from pimsim.analytic.near_bank import columns

    other = 1 % banks
    channel.run(WR, 0, REGISTER_ROW, 1)
    for bank in range(banks):
        per_bank = len(range(bank, share.input_tiles, banks))
        for at in range(per_bank):
            channel.run(WR, other, REGISTER_ROW, share.inputs)
            first = base + (output * per_bank + at) * share.inputs * share.outputs
            for register in range(share.inputs):
                columns(channel, RD, bank, 0, first + register * share.outputs, share.outputs, width)
    channel.run(WR, other, 1_000_000, share.outputs)
    channel.run(WR, 0, REGISTER_ROW, 1)


def total(own: NearBank, item: Reduce, table: DeviceTable, batch: int, end_to_end: bool) -> Costs:
    """As `NearBankSpec` runs a sum, on many devices."""
    from pimsim.analytic.near_bank import refreshed

    units: list[Any] = [device.unit for device in table.devices]
    pairs = list(zip(units, table.devices, strict=True))
    shapes = [unit_side.checked_sum(unit, item, device, batch) for unit, device in pairs]
    gap, deep = own._gap(table, item.activation_bits), np.array([one.deep for one in shapes], float)
    outputs = np.array([one.outputs for one in shapes], float)
    registers = np.minimum(table.unit("input_registers"), table.unit("accumulators"))
    places = [own._per_unit(table), table["columns"], table["banks"], table["groups"], table["ranks"]]
    shape = np.stack([registers, deep, outputs, *places], axis=1).astype(np.int64)
    Segments(table, gap)
    clocks, opened = np.zeros(len(table)), np.zeros(len(table))
    for one in np.unique(shape, axis=0):
        index = np.flatnonzero((shape == one).all(axis=1))
        clocks[index], opened[index] = _columns(table.take(index), gap[index], tuple(int(value) for value in one[:5]))
    clocks = refreshed(table, clocks)
    array = {"ACT": opened, "RD": deep * outputs, "WR": outputs}
    outside = {"ACT": 2 * table["banks"] + 8, "RD": 2 * table["banks"], "WR": np.full(len(table), 9.0)}
    counts = {name: array[name] + outside[name] for name in array}
    energy = {part: value * table["channels"] for part, value in own._command_energy(table, counts, array).items()}
    energy["pim_mac"] = item.elements_in * batch * own._mac_pj(table, max(item.activation_bits, 8))
    time = clocks * table["tck_ps"]
    if end_to_end:
        size = np.array([one.sums * one.parts for one in shapes], float) * table["burst_bytes"]
        back = stream(table, size)
        back = collected(table, back, back.bytes * 8 / table["channels"])
        adds = np.array([unit_side.host_additions(u, item, s, batch) for (u, _), s in zip(pairs, shapes, strict=True)], float)
        host = roofline(table, adds, size)
        time, energy = time + back.latency_ps + host.latency_ps, added(energy, back.energy_pj, host.energy_pj)
    return Costs("pim", time, energy, np.zeros(len(table)), counts, np.where(deep > 32, 0, 1), LIMITS)


def _columns(table: DeviceTable, gap: Array, shape: tuple[int, ...]) -> tuple[Array, Array]:
    """Clocks of a sum's program and the rows of data that it opens; `shape`: registers, depth, outputs, banks of a unit, columns."""
    from pimsim.analytic.near_bank import done, enter, leave

    size, deep, outputs, banks, width = shape
    device, channel = table.devices[0], Segments(table, gap)
    enter(channel, device, banks + 3)
    channel.run(WR, 0, REGISTER_ROW, 1)
    before, read, more, opened = channel.counts[ACT], 0, np.zeros(len(table)), 0.0
    full, rest = divmod(outputs, size)
    for tile, times in ((size, full), (rest, 1)):
        if not tile or not times:
            continue
        begin, rows, marks = channel.clock.copy(), channel.counts[ACT], []
        shown = min(deep * tile, 3 * banks * width)  # whole rounds of the banks repeat
        for first, count in chunks(read, shown, size, width):
            number, column = divmod(first, width)
            if not column:
                marks.append((channel.clock.copy(), channel.counts[ACT]))
            channel.run(RD, number % banks, number // banks, count)
        read += shown
        longer, reopened = np.zeros(len(table)), 0.0
        if deep * tile > shown:
            again = (deep * tile - shown) / (banks * width)
            longer = again * (marks[-1][0] - marks[-1 - banks][0])
            reopened = again * (marks[-1][1] - marks[-1 - banks][1])
        channel.run(WR, 0, 1_000_000, tile)
        more = more + longer + (times - 1) * (channel.clock - begin + longer)
        opened += reopened + (times - 1) * (channel.counts[ACT] - rows + reopened)
    opened += channel.counts[ACT] - before
    channel.run(WR, 0, REGISTER_ROW, 1)
    leave(channel, device)
    return done(channel, table) + more, np.full(len(table), opened)
