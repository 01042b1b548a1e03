"""SIMD units beside banks in closed form: the clocks of whole tiles, times the tiles.

Modelling decisions:
    * Matrix products and element-wise kernels repeat tiles. The first tiles of each bank, output tile and vector are added up segment by
      segment (`near_bank_program`); the last of them is the steady one.
    * Every nREFI takes a precharge, nRFC and the opening of a row.
    * Gathers bank by bank are the look-ups of plain memory and the mode switches between waves of accumulators; striped ones open a row
      a look-up in all units, the next one's while the present one is read.

Not modelled: refreshes that are lost or held up before the end (`refresh_yields`), ranks without work on the same command bus.
"""

from __future__ import annotations

from math import gcd
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pimsim.analytic import near_bank_products
from pimsim.analytic.cost import Costs, added
from pimsim.analytic.host import lookups, roofline
from pimsim.analytic.interconnect import collected, spread
from pimsim.analytic.memory import energy as memory_energy
from pimsim.analytic.memory import stream
from pimsim.analytic.near_bank_program import ACT, PRE, RD, WR, Segments
from pimsim.analytic.table import DeviceTable
from pimsim.analytic.trace import Trace
from pimsim.analytic.unit import Analytic
from pimsim.dram.standard import common_timing, resolve_organisation
from pimsim.engine.fenced import LEAVE_ROW, MODE_ROW, PARK_ROW, REGISTER_ROW
from pimsim.errors import ConfigError
from pimsim.graph import AnyPrimitive, Elementwise, Gather, MatMul, Product, Reduce
from pimsim.spec.device import DeviceSpec
from pimsim.units.near_bank import FUNCTIONS
from pimsim.units.near_bank_gather import _partial_bursts, extra_adds

Array = NDArray[np.float64]
LIMITS = ("all-bank column commands", "mode switches and row openings", "row openings", "reading partial sums back")


def lost(table: DeviceTable) -> Array:
    """Clocks that a refresh takes from a program in all-bank mode."""
    return np.where(table["refresh"] > 0, table["rp"] + table["refresh"] - (table["ranks"] - 1) * table["rp"] - table["rp"], 0)


def free(table: DeviceTable) -> Array:
    """Clocks before the end of a program in which a refresh that falls due holds nothing up any more.

    Nothing after the last read; where commands go on while a refresh waits (`refresh_yields`), nothing from the closing of the leave rows
    on: the banks are opened one after another to be parked, the last one after the reads of the others, and the refresh waits for all.
    """
    segments = Segments(table, table["gap"])
    parked = (table["banks"] - 2) * segments.between + 2 * segments.after[ACT, RD] + 1
    return np.asarray(table["read"] + 2 + table.unit("refresh_yields") * parked)


def refreshed(table: DeviceTable, clocks: Array) -> Array:
    """Clocks with the refreshes that fall into them; ranks on the same command bus take turns, this one first."""
    away = lost(table)
    first = np.floor(table["refi"] / (1 + np.nan_to_num(table.unit("idle_ranks"))))
    count = np.floor((clocks - free(table) - first) / np.maximum(table["refi"] - away, 1)) + 1
    return clocks + np.maximum(count, 0) * away


def enter(channel: Segments, device: DeviceSpec, instructions: int) -> None:
    """From single-bank to all-bank mode, with a program in the units."""
    unit: Any = device.unit
    organisation = resolve_organisation(device.dram)
    mode = unit.all_bank_mode(16, device)
    park(channel, device)
    channel.each(WR, list(mode.enter_banks), MODE_ROW)
    channel.run(WR, 1 % unit.banks_per_unit(organisation), REGISTER_ROW, -(-instructions // 8))


def park(channel: Segments, device: DeviceSpec) -> None:
    """Reads every bank once."""
    organisation = resolve_organisation(device.dram)
    groups, per_group = organisation.ranks * organisation.bankgroups, organisation.banks_per_group
    banks = [group * per_group + bank for bank in range(per_group) for group in range(groups)]
    channel.each(RD, banks, PARK_ROW)
    for bank in banks:
        channel.close(bank)


def leave(channel: Segments, device: DeviceSpec) -> None:
    """From all-bank to single-bank mode."""
    unit: Any = device.unit
    banks = list(unit.all_bank_mode(16, device).leave_banks)
    channel.each(WR, banks, LEAVE_ROW)
    for bank in banks:  # the mode ends when these rows are closed
        channel.openable = np.maximum(channel.openable, channel.close(bank) + 1)
    park(channel, device)


def done(channel: Segments, table: DeviceTable) -> Array:
    """Clocks until the last read has been handed on."""
    return channel.clock + table["read"] + 2


def columns(channel: Segments, command: Any, bank: int, row: int, first: int, count: int, width: int) -> None:
    """Columns one after another, over rows of `width`."""
    while count:
        part = min(count, width - first % width)
        channel.run(command, bank, row + first // width, part, alone=True)
        first, count = first + part, count - part


def matvec(table: DeviceTable, gap: Array, shape: tuple[int, ...], outer: Array, items: Array) -> tuple[Array, dict[Any, Array]]:
    """Clocks of a matrix-vector program and its commands on rows of data, refresh left out.

    Args:
        table: Devices of one geometry.
        gap: (n,) clocks between all-bank columns.
        shape: Input registers, accumulators, input tiles, banks of a unit, columns of a row.
        outer: (n,) output tiles.
        items: (n,) vectors.
    """
    inputs, outputs, tiles, banks, width = shape
    device, channel = table.devices[0], Segments(table, gap)
    enter(channel, device, 2 * banks + 2)
    tile, other, repeat = inputs * outputs, 1 % banks, width // gcd(width, inputs * outputs)
    result = -(-tiles * tile // banks // width) + 2
    total, marks = np.zeros(len(table)), []
    extra = np.zeros(len(table))
    for turn in range(3):
        begin, before = channel.clock.copy(), dict(channel.counts)
        more, again = np.zeros(len(table)), {ACT: 0.0, RD: 0.0, WR: 0.0}
        channel.run(WR, 0, REGISTER_ROW, 1)
        for bank in range(banks):
            per_bank = len(range(bank, tiles, banks))
            shown, previous = min(per_bank, repeat + 2), []
            for at in range(shown):
                previous.append((channel.clock.copy(), dict(channel.counts)))
                channel.run(WR, other, REGISTER_ROW, inputs)
                first = (turn * per_bank + at) * tile
                for register in range(inputs):
                    columns(channel, RD, bank, 0, first + register * outputs, outputs, width)
            if per_bank > shown:
                left = (per_bank - shown) / repeat
                more = more + left * (channel.clock - (previous[-repeat][0] if repeat > 0 else channel.clock))
                for command in again:
                    again[command] += left * (channel.counts[command] - previous[-repeat][1][command])
        columns(channel, WR, other, 1_000_000 + result, turn * outputs, outputs, width)
        channel.run(WR, 0, REGISTER_ROW, 1)
        each = {command: channel.counts[command] - before[command] + again[command] for command in again}
        marks.append((channel.clock - begin + more, each))
        extra = extra + more
    whole = outer * items
    for turn, (clocks, _) in enumerate(marks):
        total += clocks * (np.where(whole > turn, 1.0, 0.0) + (np.maximum(whole - 3, 0) if turn == 2 else 0))
    start = channel.clock - sum(clocks for clocks, _ in marks) + extra
    leave(channel, device)
    shown_clocks = sum(clocks for clocks, _ in marks) - extra
    counts = {command: marks[-1][1][command] * whole for command in (ACT, RD, WR)}
    del start
    return done(channel, table) - shown_clocks + total, counts


def elementwise(table: DeviceTable, gap: Array, shape: tuple[int, ...], tiles: Array) -> tuple[Array, dict[Any, Array]]:
    """Clocks of an element-wise program and its commands, refresh left out; `shape`: registers, operands, banks of a unit, columns."""
    registers, operands, banks, width = shape
    device, channel = table.devices[0], Segments(table, gap)
    enter(channel, device, banks * (operands + 1) + 2)
    channel.run(WR, 0, REGISTER_ROW, 1)
    repeat = width // gcd(width, registers)
    marks, before = [channel.clock.copy()], dict(channel.counts)
    for tile in range(2 * repeat):
        for bank in range(banks):
            for operand in range(operands):
                columns(channel, RD, bank, operand * 10_000, tile * registers, registers, width)
            columns(channel, WR, bank, operands * 10_000, tile * registers, registers, width)
        marks.append(channel.clock.copy())
    counts = {command: (channel.counts[command] - before[command]) / (2 * repeat) * tiles for command in (ACT, RD, WR)}
    steps = np.diff(np.stack(marks), axis=0)
    steady = steps[repeat:].mean(axis=0)
    shown = np.minimum(tiles, 2 * repeat).astype(np.int64)
    work = np.take_along_axis(np.cumsum(steps, axis=0), (shown - 1)[None, :], axis=0)[0] + np.maximum(tiles - 2 * repeat, 0) * steady
    end = channel.clock.copy()
    channel.run(WR, 0, REGISTER_ROW, 1)
    leave(channel, device)
    return done(channel, table) - (end - marks[0]) + work, counts


class NearBank(Analytic):
    """Matrix products, element-wise kernels and gathers of SIMD units at banks."""

    def matmul(self, item: MatMul, table: DeviceTable, batch: int) -> Costs:
        vectors = batch * item.vectors
        shares = [self._share(item, vectors, device) for device in table.devices]
        together = np.array([share[0] for share in shares], float)
        clocks, energy, counts, moved, back, host = self._matvec(item, table, [share[1] for share in shares], together, vectors)
        scale = together * vectors / np.array([share[1].items for share in shares], float)
        total = {part: value * scale for part, value in added(energy, back.energy_pj).items()}
        total["pim_mac"] = item.macs * batch * self._mac_pj(table, item.weight_bits)
        return Costs(
            unit="pim",
            latency_ps=clocks * table["tck_ps"] + back.latency_ps + host.latency_ps,
            energy_pj=added(total, host.energy_pj),
            external_bytes=(moved + back.bytes) * scale,
            commands={name: value * scale for name, value in counts.items()},
            limit=self._limit(item, table, [share[1] for share in shares], clocks),
            limits=LIMITS,
        )

    def kernel(self, item: AnyPrimitive, table: DeviceTable, batch: int, trace: Trace | None, end_to_end: bool) -> Costs:
        if isinstance(item, Gather) and trace is not None:
            return self._gather(item, table, trace, end_to_end)
        if isinstance(item, Elementwise):
            return self._elementwise(item, table, batch, end_to_end)
        if isinstance(item, Product):
            return near_bank_products.product(self, item, table, batch, end_to_end)
        if isinstance(item, Reduce):
            return near_bank_products.total(self, item, table, batch, end_to_end)
        if not isinstance(item, MatMul):
            raise ConfigError(f"kernel {item.op}: units of kind near_bank do not run it")
        channels, vectors = table["channels"], batch * item.vectors
        units: list[Any] = [device.unit for device in table.devices]
        shares = [
            unit._one_share(item, vectors, device.dram.channels, resolve_organisation(device.dram))
            for unit, device in zip(units, table.devices, strict=True)
        ]
        clocks, energy, counts, moved, back, host = self._matvec(item, table, shares, channels, vectors)
        total = {part: value * channels for part, value in energy.items()}
        total["pim_mac"] = item.macs * batch * self._mac_pj(table, item.weight_bits)
        time = clocks * table["tck_ps"]
        if end_to_end:
            time = time + back.latency_ps + host.latency_ps
            total = added(total, {part: value * channels for part, value in back.energy_pj.items()}, host.energy_pj)
        return Costs("pim", time, total, moved * channels, counts, self._limit(item, table, shares, clocks), LIMITS)

    def product(self, item: Product, table: DeviceTable, batch: int) -> Costs:
        return near_bank_products.in_a_model(self, item, table, batch)

    def gather(self, item: Gather, table: DeviceTable, batch: int, trace: Trace) -> Costs:
        return self._gather(item, table, trace, True)

    def _share(self, item: MatMul, vectors: int, device: DeviceSpec) -> tuple[int, Any]:
        unit: Any = device.unit
        found: tuple[int, Any] = unit.share(item, vectors, device)
        return found

    def _gap(self, table: DeviceTable, bits: int) -> Array:
        def make() -> Array:
            units: list[Any] = [device.unit for device in table.devices]
            pairs = zip(units, table.devices, strict=True)
            return np.array([u.column_gap(bits, resolve_organisation(d.dram), common_timing(d.dram)) for u, d in pairs], float)

        return table.keep(f"near_bank.gap.{bits}", make)

    def _mac_pj(self, table: DeviceTable, bits: int) -> Array:
        return table.unit({4: "pj_per_mac_8", 8: "pj_per_mac_8", 16: "pj_per_mac_16", 32: "pj_per_mac_32"}[bits])

    def _per_unit(self, table: DeviceTable) -> Array:
        return table["banks"] / table.unit("units_per_channel")

    def _matvec(self, item: MatMul, table: DeviceTable, shares: list[Any], together: Array, vectors: int) -> tuple[Any, ...]:
        """Clocks, energy of a channel, commands, bytes written to it, traffic of results, the host's sums."""
        gap, count = self._gap(table, item.weight_bits), len(table)
        outer = np.array([share.output_tiles for share in shares], float)
        items = np.array([share.items for share in shares], float)
        shape = np.stack(
            [
                *([getattr(share, name) for share in shares] for name in ("inputs", "outputs", "input_tiles")),
                self._per_unit(table),
                table["columns"],
                table["banks"],
                table["groups"],
                table["ranks"],
            ],
            axis=1,
        ).astype(np.int64)
        Segments(table, gap)  # resolves the timing of all devices before they are split
        clocks, data = np.zeros(count), {command: np.zeros(count) for command in (ACT, RD, WR)}
        for one in np.unique(shape, axis=0):
            index = np.flatnonzero((shape == one).all(axis=1))
            numbers = tuple(int(value) for value in one[:5])
            clocks[index], found = matvec(table.take(index), gap[index], numbers, outer[index], items[index])
            for command, value in found.items():
                data[command][index] = value
        clocks = refreshed(table, clocks)
        per_item = outer * items
        written = per_item * (shape[:, 0] * shape[:, 2] + 2)  # input registers and switches
        counts = {"ACT": data[ACT] + 2 * table["banks"] + 8, "RD": data[RD] + 2 * table["banks"], "WR": data[WR] + 8}
        array = {"ACT": data[ACT] - 2 * per_item, "RD": data[RD], "WR": data[WR] - written}
        energy = self._command_energy(table, counts, array)
        size = np.ceil(item.out_features / (together * table.unit("units_per_channel")))
        reduced = table.unit("lane_reduction") > 0
        bursts = np.where(reduced, np.ceil(size * 4 / table["burst_bytes"]), size) * table.unit("units_per_channel") * items
        sent_ps, sent_pj = spread(table, written + 8)
        clocks, energy = clocks + np.ceil(sent_ps / table["tck_ps"]), added(energy, sent_pj)
        back = stream(table, bursts * table["burst_bytes"], 1.0)
        back = collected(table, back, back.bytes * 8)
        lanes = np.where(reduced, 1, np.floor(table["burst_bytes"] * 8 / max(item.weight_bits, 8)))
        host = roofline(table, item.out_features * vectors * (lanes - 1), bursts * together * table["burst_bytes"])
        return clocks, energy, counts, written * table["burst_bytes"], back, host

    def _command_energy(self, table: DeviceTable, total: dict[str, Array], array: dict[str, Array]) -> dict[str, Array]:
        """Energy of one channel's commands, as `NearBankSpec.command_energy`."""
        units, bits = table.unit("units_per_channel"), table["burst_bytes"] * 8
        special = {name: total[name] - array[name] for name in total}
        opened = {"dram_activate": array["ACT"] * units * table["act_pj"]}
        moved = (array["RD"] + array["WR"]) * units * bits
        control = memory_energy(table, special, special["RD"] + special["WR"])
        return added(opened, control, {"pim_column": moved * table.unit("column_read_pj_per_bit")})

    def _limit(self, item: MatMul, table: DeviceTable, shares: list[Any], clocks: Array) -> NDArray[np.int64]:
        columns_read = np.array([share.weight_columns for share in shares], float)
        return np.where(columns_read * self._gap(table, item.weight_bits) * 2 > clocks, 0, 1)

    def _elementwise(self, item: Elementwise, table: DeviceTable, batch: int, end_to_end: bool) -> Costs:
        if item.function not in FUNCTIONS or item.operands < FUNCTIONS[item.function]:
            raise ConfigError(f"kernel {item.function} of {item.operands} operands: near-bank units run {', '.join(FUNCTIONS)}")
        registers = np.minimum(table.unit("input_registers"), table.unit("accumulators"))
        bursts = np.ceil(item.elements * batch / np.floor(table["burst_bytes"] * 8 / item.activation_bits))
        tiles = np.ceil(bursts / (table["banks"] * registers * table["channels"]))
        tiles = np.maximum(tiles, 1)
        gap, count = self._gap(table, item.activation_bits), len(table)
        fields = [
            registers,
            np.full(count, item.operands),
            self._per_unit(table),
            table["columns"],
            table["banks"],
            table["groups"],
            table["ranks"],
        ]
        shape = np.stack(fields, axis=1).astype(np.int64)
        Segments(table, gap)  # resolves the timing of all devices before they are split
        clocks, data = np.zeros(count), {name: np.zeros(count) for name in ("ACT", "RD", "WR")}
        for one in np.unique(shape, axis=0):
            index = np.flatnonzero((shape == one).all(axis=1))
            clocks[index], found = elementwise(table.take(index), gap[index], tuple(int(v) for v in one[:4]), tiles[index])
            for command, value in found.items():
                data[command.name][index] = value
        clocks = refreshed(table, clocks)
        outside = {"ACT": 2 * table["banks"] + 8, "RD": 2 * table["banks"], "WR": np.full(count, 9.0)}
        counts = {name: data[name] + outside[name] for name in data}
        energy = {part: value * table["channels"] for part, value in self._command_energy(table, counts, data).items()}
        operations = item.elements * batch * max(item.operands - 1, 0)
        energy["pim_mac"] = operations * self._mac_pj(table, item.activation_bits)
        time = clocks * table["tck_ps"]
        if end_to_end:
            back = stream(table, float(item.output_bytes * batch))
            back = collected(table, back, back.bytes * 8 / table["channels"])
            time, energy = time + back.latency_ps, added(energy, back.energy_pj)
        return Costs("pim", time, energy, np.zeros(count), counts, np.zeros(count, np.int64), LIMITS)

    def _gather(self, item: Gather, table: DeviceTable, trace: Trace, end_to_end: bool) -> Costs:
        striped = np.array([device.mapping.tables == "striped" for device in table.devices])
        work = [self._counted(item, device, trace) for device in table.devices]
        of = {name: np.array([each[name] for each in work], float) for name in work[0]}
        inside = lookups(table, trace, external=False) if not striped.any() else None
        if striped.any() and not striped.all():
            raise ConfigError("mapping.tables: striped and other placements: estimate them apart")
        if inside is None:
            clocks = refreshed(table, self._striped(item, table, of))
            time = clocks * table["tck_ps"]
            counts = {"ACT": of["opened"], "RD": of["bursts"], "WR": of["written"]}
            units = table.unit("units_per_channel")
            energy = {"dram_activate": of["opened"] * units * table["act_pj"]}
            energy["pim_column"] = (of["bursts"] + of["written"]) * units * table["burst_bytes"] * 8 * table.unit("column_read_pj_per_bit")
        else:
            switch = Segments(table, table["gap"])
            for _ in range(2):
                switch.run(WR, 0, REGISTER_ROW, 1)
                switch.clock = switch.close(0)
            waves = np.ceil(of["busiest"] / table.unit("accumulators"))
            time = inside.latency_ps + (switch.clock + 1) * table["tck_ps"] * waves
            counts = dict(inside.commands)
            energy = {part: value for part, value in inside.energy_pj.items() if part != "dram_read"}
            energy["pim_column"] = of["bursts"] * table["burst_bytes"] * 8 * table.unit("column_read_pj_per_bit")
        elements = sum(t.dim * trace.batch * t.pooling * self._mac_pj(table, max(t.bits, 16)) for t in item.tables)
        energy["pim_mac"] = np.asarray(elements, float) + np.zeros(len(table))
        back = stream(table, of["back"] * table["burst_bytes"], 1.0)
        back = collected(table, back, back.bytes * 8)
        moved = of["sums"] * table["burst_bytes"]
        host = roofline(table, of["extra"], moved)
        if end_to_end:
            time = time + back.latency_ps + host.latency_ps
            ratio = of["sums"] / np.maximum(of["back"], 1)
            energy = added(energy, {part: value * ratio for part, value in back.energy_pj.items()}, host.energy_pj)
        limit = np.where(back.latency_ps > time / 2, 3, 2) if end_to_end else np.full(len(table), 2)
        return Costs("pim", time, energy, moved * end_to_end, counts, limit, LIMITS)

    def _counted(self, item: Gather, device: DeviceSpec, trace: Trace) -> dict[str, float]:
        unit: Any = device.unit
        key = ("near_bank", *trace.geometry(device), unit.units_per_channel)
        found: dict[str, float] = trace.once(key, lambda: _count(unit, item, device, trace))
        return found

    def _striped(self, item: Gather, table: DeviceTable, of: dict[str, Array]) -> Array:
        """Clocks of the busiest channel's lock-step reads, mode switches included, every command in order.

        The next row opens before the present one is read, but its bank can only be closed after the reads before: (k - 1) columns,
        read to precharge, precharge to activation, and one clock to the next column.
        """
        gap = np.maximum.reduce([self._gap(table, t.bits) for t in item.tables])
        after, k = Segments(table, gap).after, of["k"]
        written, closed, opened = after[WR, PRE], after[PRE, ACT], after[ACT, WR] + 1
        park = (table["banks"] - 1) * table["activate_rank"] + table["ras"] + 1
        frame = 2 * park + 3 * table["activate_rank"] + 2 * gap + 4 * written + 3 * closed + 5 * opened
        results = closed + opened + written + of["write_backs"] * gap
        alternating = np.maximum((k - 1) * gap + after[RD, PRE] + closed + 1, after[ACT, ACT] / 2)
        same = np.maximum(after[ACT, ACT], table["rcd"] + (k - 1) * gap + after[RD, PRE] + closed)
        each = of["hits"] * k * gap + (1 - of["hits"]) * (of["same"] * same + (1 - of["same"]) * alternating)
        return frame + results + table["rcd"] + of["channel"] * each + table["read"]


def _count(unit: Any, item: Gather, device: DeviceSpec, trace: Trace) -> dict[str, float]:
    """Partial sums and look-ups of a gather, by unit and channel."""
    where, organisation, channels = trace.where(device), resolve_organisation(device.dram), device.dram.channels
    bag, count = trace.bag, len(item.tables)
    if device.mapping.tables == "striped":
        slots = _partial_bursts(item, organisation, pieces=unit.units_per_channel)
        pairs = np.unique(np.stack([bag, where.channel]), axis=1)
        sums = np.bincount(pairs[1], slots[pairs[0] % count], channels)
        busiest = int(np.bincount(where.channel, where.bursts).argmax())
        mine = where.channel == busiest
        bank, row = where.bank[mine], where.row[mine]
        same = bank[1:] == bank[:-1]
        hit = same & (row[1:] == row[:-1])
        read = sums * unit.units_per_channel
        return {
            "channel": float(mine.sum()),
            "k": float(where.bursts[mine].mean()),
            "same": float((same & ~hit).sum() / max((~hit).sum(), 1)),
            "hits": float(hit.mean()) if len(hit) else 0.0,
            "write_backs": float(sums[busiest]),
            "written": float(sums.sum()),
            "opened": float(len(bag) * (1 - (hit.mean() if len(hit) else 0))),
            "bursts": float(where.bursts.sum()),
            "busiest": 0.0,
            "back": float(read.max()),
            "sums": float(read.sum()),
            "extra": float(extra_adds(item, pairs[0])),
        }
    number = where.channel * unit.units_per_channel + where.bank // unit.banks_per_unit(organisation)
    pairs = np.unique(np.stack([bag, number]), axis=1)
    size = _partial_bursts(item, organisation)[pairs[0] % count]
    per_unit = np.bincount(pairs[1], size, channels * unit.units_per_channel)
    back = per_unit.reshape(channels, -1).sum(axis=1)
    empty = dict.fromkeys(("channel", "k", "same", "hits", "write_backs", "written", "opened"), 0.0)
    return empty | {
        "bursts": float(where.bursts.sum()),
        "busiest": float(per_unit.max()),
        "back": float(back.max()),
        "sums": float(per_unit.sum()),
        "extra": float(extra_adds(item, pairs[0])),
    }


ANALYTIC = NearBank()
