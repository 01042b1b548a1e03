"""What a DRAM standard is: levels, commands, timing constraints, organisations, speed bins and currents, as data.

A new standard is one new file in this folder that defines `STANDARD = Standard(...)`; discovery finds it by its file name.
The engine knows none of them by name: it reads the constraint list, lowered to integer tables in `pimsim/engine/tables.py`.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from functools import lru_cache
from types import CodeType
from typing import Literal

from pimsim.discovery import implementation
from pimsim.errors import ConfigError, unknown_name
from pimsim.spec.dram import DramSpec


class Command(IntEnum):
    """DRAM commands; the codes in command streams, kernels and command logs.

    REFPB refreshes one bank (or a pair), REFSB the same bank of every bank group. Where a standard activates in two steps, ACT
    is the first (ACT1) and ACT2 the second. CAS_RD and CAS_WR start the data clock ahead of a column command.
    """

    ACT = 0
    PRE = 1
    PREA = 2
    RD = 3
    WR = 4
    RDA = 5
    WRA = 6
    REF = 7
    REFPB = 8
    REFSB = 9
    ACT2 = 10
    CAS_RD = 11
    CAS_WR = 12


ROW_COMMANDS = (Command.ACT, Command.PRE, Command.PREA, Command.REF, Command.REFPB, Command.REFSB, Command.ACT2)
COLUMN_COMMANDS = (Command.RD, Command.WR, Command.RDA, Command.WRA)
Level = Literal["channel", "rank", "bankgroup", "bank"]


@dataclass(frozen=True)
class Constraint:
    """After any `preceding` command, no `following` command at the same `level` node for `latency` clocks.

    Attributes:
        level: Node that both commands share.
        preceding: Commands that start the constraint.
        following: Commands that it delays.
        latency: Expression over the standard's timing names, in clocks, for example `nCL + nBL + 2 - nCWL`.
        window: The constraint counts from the `window`-th last preceding command (4 for tFAW).
        sibling: It delays the *other* nodes of that level instead (rank switching).
    """

    level: Level
    preceding: tuple[Command, ...]
    following: tuple[Command, ...]
    latency: str
    window: int = 1
    sibling: bool = False


@dataclass(frozen=True)
class Organisation:
    """Geometry of one channel.

    Attributes:
        density_mb: Megabits of one device (of one pseudo-channel for HBM, of one of the two channels for GDDR6).
        device_bits: Data width of one device.
        channel_bits: Data width of the channel.
        ranks: Ranks (1 for pseudo-channels).
        bankgroups: Bank groups per rank.
        banks_per_group: Banks per bank group.
        rows: Rows per bank.
        columns: Bursts per row (of the whole channel width).
        burst_bytes: Bytes of one burst, the size of a request.
        channels: Channels of the system.
    """

    density_mb: int
    device_bits: int
    channel_bits: int
    bankgroups: int
    banks_per_group: int
    rows: int
    columns: int
    burst_bytes: int
    ranks: int = 1
    channels: int = 1

    @property
    def banks(self) -> int:
        """Banks of one channel, all ranks."""
        return self.ranks * self.bankgroups * self.banks_per_group

    @property
    def row_bytes(self) -> int:
        """Bytes of one row of one bank."""
        return self.columns * self.burst_bytes

    @property
    def channel_bytes(self) -> int:
        """Capacity of one channel."""
        return self.banks * self.rows * self.row_bytes

    @property
    def total_bytes(self) -> int:
        """Capacity of all channels."""
        return self.channels * self.channel_bytes


@dataclass(frozen=True)
class SpeedBin:
    """One speed bin: data rate, clock and its timing in clocks.

    Attributes:
        rate_mtps: Data rate in MT/s.
        timing: Clocks by name, `tCK_ps` included.
        by_width: Further clocks that depend on the device width in bits.
        source: Where the numbers come from.
    """

    rate_mtps: int
    timing: Mapping[str, int]
    source: str
    by_width: Mapping[int, Mapping[str, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Currents:
    """Supply voltage and currents of one device, for the standard energy formulas.

    Attributes:
        vdd_v: Supply voltage.
        idd_ma: Currents in mA by JEDEC name (IDD0, IDD2N, IDD3N, IDD4R, IDD4W, IDD5AB ...).
        width_bits: Data width that the currents belong to; a channel is charged channel width / width_bits of them.
        scope: What is left out or scaled.
        source: Where the numbers come from.
    """

    vdd_v: float
    idd_ma: Mapping[str, float]
    width_bits: int
    scope: str
    source: str


@dataclass(frozen=True)
class PartialRefresh:
    """Refresh of some banks of a rank while the others go on.

    Attributes:
        command: The command, REFPB or REFSB.
        banks: Which banks one command refreshes: one, a pair half a rank apart, or the same bank of every bank group.
        interval: Clocks between two commands to one rank: an expression over the timing names and `banks` (banks per rank).
        busy: Clocks that the refreshed banks are busy, an expression.
    """

    command: Command
    banks: Literal["one", "pair", "group"]
    interval: str
    busy: str


@dataclass(frozen=True)
class Standard:
    """One DRAM standard as data.

    Attributes:
        title: The name in prose.
        constraints: Timing constraints between commands, in clocks from a command's last cycle to the next one's last cycle.
        read_latency: Clocks from RD to the last data beat.
        organisations: Presets by name.
        speeds: Speed bins by name.
        refresh_ns: Nanoseconds of the refresh timings: a number, or a number per density in Mb.
        currents: By (organisation, speed bin); none where no currents are public.
        two_cycle: Commands that occupy their command bus for more than one tick.
        dual_bus: Row and column commands have a command bus each (HBM).
        source: Main public source.
        beats_per_clock: Data beats of one pin in one clock.
        ticks_per_clock: Engine clocks ("ticks") in one clock of the standard. 2 where a command bus works on both edges (HBM3):
            presets and overrides are in clocks, everything resolved from them, and every result, in ticks.
        rising_edge: Commands that start on odd ticks only.
        common: Expressions for the names that every standard shares (`common_timing`) where this one calls them otherwise.
        banks_refreshed: Refresh beside all-bank that the standard has: mode (per-bank, same-bank) to a description.
        act2_within: Latest clocks from ACT to ACT2; empty where one command activates.
        data_clock: Clocks for which the data clock runs on after RD and after WR; empty where it needs no CAS to start.
    """

    title: str
    constraints: tuple[Constraint, ...]
    read_latency: str
    organisations: Mapping[str, Organisation]
    speeds: Mapping[str, SpeedBin]
    refresh_ns: Mapping[str, Mapping[int, float] | float]
    source: str
    currents: Mapping[tuple[str, str], Currents] = field(default_factory=dict)
    two_cycle: Mapping[Command, int] = field(default_factory=dict)
    dual_bus: bool = False
    beats_per_clock: int = 2
    ticks_per_clock: int = 1
    rising_edge: tuple[Command, ...] = ()
    common: Mapping[str, str] = field(default_factory=dict)
    banks_refreshed: Mapping[str, PartialRefresh] = field(default_factory=dict)
    act2_within: str = ""
    data_clock: tuple[str, str] | tuple[()] = ()


def standard_of(spec: DramSpec) -> Standard:
    """The standard that a specification names.

    Raises:
        ConfigError: unknown standard.
    """
    found: Standard = implementation("pimsim.dram", "STANDARD", "DRAM standard (dram.standard)", spec.standard)
    return found


def _preset(spec: DramSpec, kind: str) -> tuple[Organisation, SpeedBin]:
    standard = standard_of(spec)
    if spec.organisation not in standard.organisations:
        raise ConfigError(unknown_name(f"{spec.standard} organisation (dram.organisation)", spec.organisation, standard.organisations))
    if spec.speed not in standard.speeds:
        raise ConfigError(unknown_name(f"{spec.standard} speed bin (dram.speed)", spec.speed, standard.speeds))
    return standard.organisations[spec.organisation], standard.speeds[spec.speed]


def _ceil_clocks(ns: float, tck_ps: int) -> int:
    return -(-round(ns * 1000) // tck_ps)


def resolve_timing(spec: DramSpec) -> dict[str, int]:
    """Every timing value of a specification under its standard's names, in ticks (clocks, but half clocks for HBM3).

    `tCK_ps` is picoseconds of one tick.

    Raises:
        ConfigError: unknown standard, organisation, speed bin or timing name; a negative or impossible value.
    """
    (organisation, speed), standard = _preset(spec, "timing"), standard_of(spec)
    timing = dict(speed.timing) | dict(speed.by_width.get(organisation.device_bits, {}))
    tck = spec.timing.get("tCK_ps", timing["tCK_ps"])
    if tck < standard.ticks_per_clock:
        raise ConfigError(f"dram.timing.tCK_ps: {tck}: must be at least {standard.ticks_per_clock}")
    for name, value in standard.refresh_ns.items():
        if not isinstance(value, float | int):
            value = value[organisation.density_mb]
        timing[name] = _ceil_clocks(value, timing["tCK_ps"])
    for name, clocks in spec.timing.items():
        if name not in timing:
            raise ConfigError(unknown_name(f"{spec.standard} timing name (dram.timing)", name, timing))
        if clocks < 0:
            raise ConfigError(f"dram.timing.{name}: {clocks}: must not be negative")
        timing[name] = clocks
    for name in (standard.common.get("nBL", "nBL"), "nCCDS", "nREFI"):
        if timing.get(name, 1) < 1:
            raise ConfigError(f"dram.timing.{name}: {timing[name]}: must be at least 1")
    busy = evaluate(standard.common.get("nRFC", "nRFC"), timing) + timing["nRC"]
    if spec.controller.refresh == "on" and timing["nREFI"] <= busy:
        raise ConfigError(f"dram.timing.nREFI: {timing['nREFI']}: must exceed nRFC + nRC = {busy} with refresh on")
    ticks = standard.ticks_per_clock
    return {name: value // ticks if name == "tCK_ps" else value * ticks for name, value in timing.items()}


COMMON = {"nBL": "nBL", "nRCD": "nRCD", "nRTP": "nRTP", "nRFC": "nRFC", "nRPab": "nRP"}


def common_timing(spec: DramSpec) -> dict[str, int]:
    """As `resolve_timing`, with the names that every standard shares added: nBL, nRCD (of reads), nRTP, nRFC, nRPab."""
    timing = resolve_timing(spec)
    return {name: evaluate(text, timing) for name, text in (COMMON | dict(standard_of(spec).common)).items()} | timing


@lru_cache(maxsize=256)
def _organisation(standard: str, organisation: str, speed: str, ranks: int, channels: int) -> Organisation:
    from dataclasses import replace

    spec = DramSpec(standard=standard, organisation=organisation, speed=speed, ranks=ranks, channels=channels)
    preset, _ = _preset(spec, "organisation")
    return replace(preset, ranks=ranks, channels=channels)


def resolve_organisation(spec: DramSpec) -> Organisation:
    """Geometry of a specification, its ranks and channels filled in.

    Raises:
        ConfigError: unknown standard, organisation or speed bin.
    """
    return _organisation(spec.standard, spec.organisation, spec.speed, spec.ranks, spec.channels)


_ALLOWED = (ast.Expression, ast.BinOp, ast.Add, ast.Sub, ast.Mult, ast.FloorDiv, ast.Name, ast.Load, ast.Constant, ast.Call)
_SCOPE = {"__builtins__": {}, "max": max}


@lru_cache(maxsize=1024)
def _compiled(expression: str) -> CodeType:
    tree = ast.parse(expression, mode="eval")
    for node in ast.walk(tree):
        called = isinstance(node, ast.Call) and not (isinstance(node.func, ast.Name) and node.func.id == "max" and not node.keywords)
        constant = isinstance(node, ast.Constant) and type(node.value) is not int
        if called or constant or not isinstance(node, _ALLOWED):
            raise ValueError(f"latency expression {expression!r}: {ast.dump(node)} is not allowed")
    return compile(tree, expression, "eval")


def evaluate(expression: str, timing: Mapping[str, int]) -> int:
    """Value of a latency expression (names, integers, + - * //, max) over timing values in clocks."""
    if expression in timing:
        return timing[expression]
    value: int = eval(_compiled(expression), _SCOPE, timing)
    return value
