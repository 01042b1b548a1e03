"""GDDR6-AiM in closed form: the clocks of one period of its program, times the periods.

Modelling decisions:
    * A program repeats itself: vectors of groups, rows, rounds. Its first periods are added up command by command from the constraints
      of `pimsim.units.aim_timing`, for all devices at once; the last of them is the steady one, and the others are as long.
    * Every nREFI takes the closing of the banks, nRFCab, the switch of modes and, within a run of columns, the opening of the row.

Not modelled: where in a period a refresh falls.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pimsim.analytic import aim_products
from pimsim.analytic.cost import Costs, added
from pimsim.analytic.memory import energy as memory_energy
from pimsim.analytic.memory import stream
from pimsim.analytic.table import DeviceTable
from pimsim.analytic.trace import Trace
from pimsim.analytic.unit import Analytic
from pimsim.dram.standard import resolve_timing
from pimsim.errors import ConfigError
from pimsim.graph import AnyPrimitive, Elementwise, MatMul, Product, Reduce
from pimsim.units.aim import ACTIVATIONS
from pimsim.units.aim_timing import (
    ACT16,
    AF16,
    CLOSED,
    EWMUL16,
    INSTRUCTIONS,
    MAC16,
    NEEDS_ROW,
    PREA,
    READ_REGISTER,
    REGISTER_MODE,
    TMOD,
    AimCommand,
    Instruction,
    _lowered,
)

Array = NDArray[np.float64]
PERIODS = 3
"""Periods that are added up command by command; the last one is the steady one."""
LIMITS = ("all-bank column commands", "global buffer writes", "row openings and mode switches")


class Channels:
    """One channel of every device: earliest clock of each command, (commands, n) clocks at once.

    Args:
        table: Devices with AiM's timing.
    """

    def __init__(self, table: DeviceTable) -> None:
        size = len(AimCommand)
        self.delay = table.keep("aim.delay", lambda: _delays(table))
        self.duration = table.keep("aim.duration", lambda: np.array([_lowered(key)[1] for key in _timings(table)], float).T)
        self.ready = np.zeros((size, len(table)))
        self.clock, self.arrival, self.moved = np.zeros(len(table)), np.ones(len(table)), np.zeros(len(table))
        self.counts = np.zeros(size)
        self.row, self.register_mode = CLOSED, False

    def run(self, instruction: Instruction) -> None:
        """One instruction, with the commands that it needs first."""
        command = INSTRUCTIONS[instruction.name]
        if command is None:
            self.arrival = self.arrival + 1
            return
        if (command in REGISTER_MODE) != self.register_mode:
            self.register_mode = not self.register_mode
            first = command
            if command in NEEDS_ROW and self.row != self._row(instruction):
                first = ACT16 if self.row == CLOSED else PREA
            self._issue(TMOD, self._earliest(first))
        if command in NEEDS_ROW and self.row != self._row(instruction):
            for opening in [ACT16] if self.row == CLOSED else [PREA, ACT16]:
                self._issue(opening, self._earliest(opening))
            self.row = self._row(instruction)
        self._issue(command, self._earliest(command))
        if instruction.count > 1:
            gap = self._earliest(command) - self.clock
            self._issue(command, self.clock + gap * (instruction.count - 1), instruction.count - 1)
        if command not in READ_REGISTER:
            self.arrival = self.arrival + 1

    def end(self) -> Array:
        """(n,) clock at which the host has been told of the end."""
        return np.maximum(np.maximum(self.clock + 1, self.arrival) + 1, self.moved + 1)

    @staticmethod
    def _row(instruction: Instruction) -> int:
        return instruction.row if instruction.name != "AF" else (1 << 29) + instruction.row

    def _earliest(self, command: AimCommand) -> Array:
        return np.maximum.reduce([self.clock + 1, self.arrival, self.ready[command]])

    def _issue(self, command: AimCommand, clock: Array, count: int = 1) -> None:
        self.counts[command] += count
        self.clock = clock
        self.ready = np.maximum(self.ready, clock + np.where(self.delay[:, command] > 0, self.delay[:, command], -np.inf))
        done = clock + self.duration[command]
        self.moved = np.maximum(self.moved, done)
        if command in READ_REGISTER:
            self.arrival = done + 1


def _timings(table: DeviceTable) -> list[tuple[tuple[str, int], ...]]:
    """Timing of each device.

    Raises:
        ConfigError: a memory without AiM's timing.
    """
    found = []
    for device in table.devices:
        timing = resolve_timing(device.dram)
        if "nRCDRDMAC" not in timing:
            raise ConfigError(f"dram.speed: {device.dram.speed!r} of {device.dram.standard}: has no timing of AiM commands")
        unit: Any = device.unit
        found.append(tuple(sorted((timing | {"nLOGIC": unit.logic_clocks(timing)}).items())))
    return found


def _delays(table: DeviceTable) -> Array:
    """(after, before, n) clocks that a command is delayed by another."""
    size = len(AimCommand)
    delay = np.zeros((size, size, len(table)))
    for at, timing in enumerate(_timings(table)):
        for before, followers in enumerate(_lowered(timing)[0]["channel"]):
            for after, clocks in followers:
                delay[after, before, at] = clocks
    return delay


def steady(table: DeviceTable, first: list[Instruction], rest: list[list[Instruction]], inner: Array, outer: Array) -> tuple[Array, Array]:
    """Clocks and commands of `outer` repetitions of `first` and `inner` others; refresh left out.

    Args:
        table: Devices whose programs look alike.
        first: Instructions that open a repetition.
        rest: The others by turns (their rows differ); empty if there are none.
        inner: (n,) others in a repetition.
        outer: (n,) repetitions.

    Returns:
        (n,) clocks, (commands, n) commands of one channel.
    """
    channel = Channels(table)
    channel.run(Instruction("W_CFR"))
    turns = int(min(PERIODS, inner.max())) if rest else 0
    marks: list[list[tuple[Array, Array]]] = []
    for _ in range(int(min(PERIODS, outer.max()))):
        marks.append([])
        for part in [first, *(rest[turn % len(rest)] for turn in range(turns))]:
            for instruction in part:
                channel.run(instruction)
            marks[-1].append((channel.end(), channel.counts.copy()))
    clocks, counts = np.zeros(len(table)), np.zeros((len(AimCommand), len(table)))
    before: tuple[Array, Array] = (np.zeros(len(table)), np.zeros(len(AimCommand)))
    for number, one in enumerate(marks):
        again = np.where(outer > number, 1.0, 0.0) + (np.maximum(outer - len(marks), 0) if number == len(marks) - 1 else 0)
        for turn, mark in enumerate(one):
            times = np.where(inner >= turn, 1.0, 0.0) + (np.maximum(inner - turns, 0) if turn == turns and turns else 0)
            clocks += again * times * (mark[0] - before[0])
            counts += again * times * (mark[1] - before[1])[:, None]
            before = mark
    return clocks, counts


class Aim(Analytic):
    """Matrix-vector products, element-wise products and activations on AiM."""

    def matmul(self, item: MatMul, table: DeviceTable, batch: int) -> Costs:
        vectors = batch * item.vectors
        units: list[Any] = [device.unit for device in table.devices]
        split: Array = np.array([unit.split(item, vectors, device) for unit, device in zip(units, table.devices, strict=True)], np.float64)
        clocks, counts = self._gemv(item, table, split[:, 0], split[:, 1])
        cycles = self._refreshed(table, clocks, counts, np.floor(table["refi"] / 2))
        scale = split[:, 0] * vectors / split[:, 1]
        bursts = _bursts(counts) * scale
        return Costs(
            unit="pim",
            latency_ps=cycles * table["tck_ps"],
            energy_pj={part: value * scale for part, value in self._energy(table, counts).items()},
            external_bytes=bursts * table["burst_bytes"],
            commands={command.name: counts[command] * scale for command in AimCommand},
            limit=self._limit(table, cycles, counts),
            limits=LIMITS,
        )

    def product(self, item: Product, table: DeviceTable, batch: int) -> Costs:
        cost = aim_products.product(self, item, table, batch, np.floor(table["refi"] / 2))
        scale = cost.external_bytes / (table["burst_bytes"] * aim_products.channel_bursts(cost.commands))
        return replace(cost, commands={name: value * scale for name, value in cost.commands.items()})

    def kernel(self, item: AnyPrimitive, table: DeviceTable, batch: int, trace: Trace | None, end_to_end: bool) -> Costs:
        channels, in_banks = table["channels"], 0
        if isinstance(item, Product):
            return aim_products.product(self, item, table, batch, np.zeros(len(table)))
        if isinstance(item, Reduce):
            return aim_products.total(self, item, table, batch, end_to_end)
        if isinstance(item, MatMul):
            clocks, counts = self._gemv(item, table, channels, np.full(len(table), float(batch * item.vectors)))
        elif isinstance(item, Elementwise) and item.function == "mul" and item.operands == 2:
            clocks, counts = self._multiply(item.elements * batch, table)
            in_banks = item.output_bytes * batch
        elif isinstance(item, Elementwise) and item.function in ACTIVATIONS:
            rounds = np.ceil(item.elements * batch / (channels * table.unit("units_per_channel")))
            row = list(ACTIVATIONS).index(item.function)
            program = [Instruction("WR_BIAS"), Instruction("AF", row=row), Instruction("RD_AF")]
            clocks, counts = steady(table, program, [], np.zeros(len(table)), rounds)
        else:
            name = item.function if isinstance(item, Elementwise) else item.op
            allowed = ", ".join(("gemv", "dot", "reduce", "mul of two operands", *ACTIVATIONS))
            raise ConfigError(f"kernel {name}: units of kind aim do not run it (allowed: {allowed})")
        cycles = self._refreshed(table, clocks, counts, np.zeros(len(table)))
        energy = {part: value * channels for part, value in self._energy(table, counts).items()}
        if end_to_end and in_banks:
            back = stream(table, float(in_banks))
            cycles, energy = cycles + np.ceil(back.latency_ps / table["tck_ps"]), added(energy, back.energy_pj)
        return Costs(
            unit="pim",
            latency_ps=cycles * table["tck_ps"],
            energy_pj=energy,
            external_bytes=_bursts(counts) * table["burst_bytes"] * channels,
            commands={command.name: counts[command] for command in AimCommand},
            limit=self._limit(table, cycles, counts),
            limits=LIMITS,
        )

    def _gemv(self, item: MatMul, table: DeviceTable, together: Array, vectors: Array) -> tuple[Array, Array]:
        groups = np.ceil(item.out_features / (together * table.unit("units_per_channel")))
        columns = np.ceil(item.in_features / table.unit("lanes"))
        piece = np.minimum(table["columns"], np.floor(table.unit("global_buffer_bytes") / table["burst_bytes"]))
        rows = np.ceil(columns / table["columns"])
        self._check(table, groups * rows, f"gemv of {item.out_features} x {item.in_features}")
        Channels(table)  # resolves the timing of all devices before they are split
        clocks, counts = np.zeros(len(table)), np.zeros((len(AimCommand), len(table)))
        shape = np.stack([columns, piece, table["columns"], groups == 1], axis=1)
        for one in np.unique(shape, axis=0):
            index = np.flatnonzero((shape == one).all(axis=1))
            total, size, row = (int(value) for value in one[:3])
            pieces = [(start, min(size, total - start)) for start in range(0, total, size)]

            def group(number: int, fresh: bool, pieces: list[tuple[int, int]] = pieces, row: int = row) -> list[Instruction]:
                steps = [Instruction("WR_BIAS")]
                for start, count in pieces:
                    steps += [Instruction("WR_GB", count)] if fresh or len(pieces) > 1 else []
                    steps.append(Instruction("MAC_ABK", count, number * (1 << 10) + start // row))
                return [*steps, Instruction("RD_MAC")]

            others = [] if one[3] else [group(1, False), group(2, False)]
            clocks[index], counts[:, index] = steady(table.take(index), group(0, True), others, groups[index] - 1, vectors[index])
        return clocks, counts

    def _multiply(self, elements: int, table: DeviceTable) -> tuple[Array, Array]:
        columns = np.ceil(elements / (table["channels"] * table["groups"] * table.unit("lanes")))
        rows = np.ceil(columns / table["columns"])
        self._check(table, rows, f"mul of {elements} elements")
        Channels(table)
        clocks, counts = np.zeros(len(table)), np.zeros((len(AimCommand), len(table)))
        last = columns - (rows - 1) * table["columns"]
        shape = np.stack([np.where(rows > 1, table["columns"], last), last], axis=1).astype(np.int64)
        for full, rest in np.unique(shape, axis=0):
            index = np.flatnonzero((shape == (full, rest)).all(axis=1))
            part, few = table.take(index), rows[index]
            turns = [[Instruction("EWMUL", int(full), row)] for row in (1, 2)]
            clocks[index], counts[:, index] = steady(part, [Instruction("EWMUL", int(full))], turns, few - 1, np.ones(len(index)))
            short = (full - rest) * _gap(part)
            clocks[index] -= short
            counts[EWMUL16, index] -= full - rest
        return clocks, counts

    def _check(self, table: DeviceTable, rows: Array, what: str) -> None:
        def capacity() -> Array:
            units: list[Any] = [device.unit for device in table.devices]
            return np.array([unit._checked(device).rows for unit, device in zip(units, table.devices, strict=True)], float)

        most = table.keep("aim.rows", capacity)
        if (rows > most).any():
            at = int((rows > most).argmax())
            raise ConfigError(f"{what}: needs {int(rows[at])} rows in every bank, but a bank has {int(most[at])}")

    def _refreshed(self, table: DeviceTable, clocks: Array, counts: Array, begin: Array) -> Array:
        """Clocks with refreshes each nREFI, counted from `begin` clocks before the start."""
        on = table["refresh"] > 0
        if not on.any():
            return clocks
        gap = _gap(table)
        within = np.minimum((counts[MAC16] + counts[EWMUL16] + counts[AF16]) * gap / np.maximum(clocks, 1), 1)
        lost = 2 + table.timing("nRP") + table.timing("nRFCab") + within * (1 + table.timing("nRCDRDMAC"))
        lost += (1 - within) * 2 * table.timing("nMODCH")
        times = np.ceil((clocks + begin - lost) / (table["refi"] - lost)) - 1
        return clocks + np.where(on, np.maximum(times, 0) * lost, 0)

    def _energy(self, table: DeviceTable, counts: Array) -> dict[str, Array]:
        """Dynamic energy of one channel's commands by part, as `AimSpec.energy_pj`."""

        def of(*names: str) -> Array:
            return np.asarray(sum(counts[AimCommand[name]] for name in names), float)

        banks = table["banks"]
        plain = {
            "ACT": of("ACT") + banks * of("ACT16"),
            "RD": of("RDCP", "RDMAC16", "RDAF16") + banks * of("AF16"),
            "WR": of("WRCP", "WRMAC16") + banks * of("WRA16"),
        }
        columns = of("MAC16") * banks + of("MAC") + of("EWMUL16") * table["groups"]
        return memory_energy(table, plain, _bursts(counts)) | {
            "pim_column": columns * table.unit("column_read_pj"),
            "pim_mac": columns * table.unit("column_mac_pj"),
        }

    def _limit(self, table: DeviceTable, cycles: Array, counts: Array) -> NDArray[np.int64]:
        columns, buffer = (counts[MAC16] + counts[EWMUL16]) * _gap(table), counts[AimCommand.WRGB] * table.timing("nCCDL")
        return np.stack([columns, buffer, cycles - columns - buffer]).argmax(axis=0)


def _gap(table: DeviceTable) -> Array:
    """(n,) clocks between two all-bank column commands."""

    def gaps() -> Array:
        units: list[Any] = [device.unit for device in table.devices]
        return np.array([unit.column_gap(16, None, resolve_timing(d.dram)) for unit, d in zip(units, table.devices, strict=True)], float)

    return table.keep("aim.gap", gaps)


def _bursts(counts: Array) -> Array:
    """Bursts over the interface of one channel."""
    return np.asarray(sum(counts[AimCommand[name]] for name in ("WRGB", "WRMAC16", "WRA16", "RDMAC16", "RDAF16")), float)


ANALYTIC = Aim()
