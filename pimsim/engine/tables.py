"""Lowering of a DRAM specification to integer tables: the constraint list of one channel as NumPy arrays.

Multi-cycle commands: a constraint counts between the last cycles of both commands, and a command is recorded at its first
cycle, so a preceding command of k cycles adds k - 1 clocks and a following one takes k - 1 off. It also occupies its command
bus for k clocks.
"""

from __future__ import annotations

import hashlib
import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pimsim.dram.standard import (
    COLUMN_COMMANDS,
    ROW_COMMANDS,
    Command,
    Constraint,
    PartialRefresh,
    Standard,
    evaluate,
    resolve_organisation,
    resolve_timing,
    standard_of,
)
from pimsim.errors import ConfigError
from pimsim.spec.dram import DramSpec

IntArray = NDArray[np.int64]

CHANNEL, RANK, SIBLING, BANKGROUP, BANK = range(5)
SCOPES = {"channel": CHANNEL, "rank": RANK, "bankgroup": BANKGROUP, "bank": BANK}
SCHEDULERS = {"frfcfs": 0, "frfcfs-row-hit": 1, "fcfs": 2}
ALL_BANK = (Command.PREA, Command.REF)
OPEN_PAGE = (Command.ACT, Command.PRE, Command.RD, Command.WR)


class ChannelTables(NamedTuple):
    """One channel as arrays.

    Attributes:
        constraints: (n, 6) rows of scope, following command, latency in clocks, window, window slot (-1 when window is 1), and 1
            where the following command starts on odd clocks only; ordered by preceding command.
        start: (commands + 1,) first row of each preceding command.
        shape: (ranks, bank groups of all ranks, banks of all ranks, window slots, longest window).
        group: (banks,) bank group (over all ranks) of each bank.
        rank: (banks,) rank of each bank.
        options: scheduler, closed page, refresh, read queue, write queue, enter write mode at, leave it below, nREFI, read
            latency, dual bus, column accesses after which the closed policy precharges, needs the general kernel; of a refresh of
            some banks: sets of banks in a rank (0 = all-bank refresh), banks of a set, distance between them, command; commands
            on odd clocks; clocks from ACT to ACT2 at most (-1 = one step); clocks for which the data clock runs on after RD and
            after WR (0 = always); clocks that a CAS and its column command need; merge reads of the same burst.
    """

    constraints: IntArray
    start: IntArray
    shape: IntArray
    group: IntArray
    rank: IntArray
    options: IntArray

    def digest(self) -> str:
        """Sixteen hex digits that change with any value."""
        return hashlib.sha256(b"".join(array.tobytes() for array in self)).hexdigest()[:16]


def _pairs(standard: Standard, timing: dict[str, int], constraint: Constraint) -> list[tuple[Command, Command, int]]:
    nominal = evaluate(constraint.latency, timing)
    cycles = standard.two_cycle
    return [
        (before, after, nominal + cycles.get(before, 1) - cycles.get(after, 1))
        for before in constraint.preceding
        for after in constraint.following
    ]


def bus_constraints(standard: Standard) -> list[tuple[Command, Command, int]]:
    """Clocks between commands on one bus where the first takes more than one."""
    buses = (ROW_COMMANDS, COLUMN_COMMANDS) if standard.dual_bus else (tuple(Command),)
    return [(before, after, clocks) for before, clocks in standard.two_cycle.items() for bus in buses if before in bus for after in bus]


def _rows(standard: Standard, timing: dict[str, int], ranks: int, used: set[Command]) -> dict[tuple[int, int, int, int], int]:
    """Merged constraints as {(preceding, scope, following, window): latency}."""
    rows: dict[tuple[int, int, int, int], int] = {}

    def add(scope: int, before: Command, after: Command, latency: int, window: int) -> None:
        if before not in used or after not in used or latency <= 0 or (scope == SIBLING and ranks == 1):
            return
        if scope == CHANNEL and ranks == 1:
            scope = RANK
        if scope in (BANKGROUP, BANK) and (before in ALL_BANK or after in ALL_BANK):
            raise ConfigError(f"{standard.title}: a {before.name}-{after.name} constraint must be at rank level")
        key = (int(before), scope, int(after), window)
        rows[key] = max(rows.get(key, 0), latency)

    for before, after, clocks in bus_constraints(standard):
        add(CHANNEL, before, after, clocks, 1)
    for constraint in standard.constraints:
        scope = SIBLING if constraint.sibling else SCOPES[constraint.level]
        for before, after, latency in _pairs(standard, timing, constraint):
            add(scope, before, after, latency, constraint.window)
    return rows


def used_commands(spec: DramSpec) -> set[Command]:
    """Commands that a controller of this specification issues."""
    used = set(OPEN_PAGE)
    standard = standard_of(spec)
    if spec.controller.refresh == "on":
        used |= {Command.PREA, Command.REF}
    elif spec.controller.refresh != "off":
        used.add(_partial_refresh(spec).command)
    if standard.act2_within:
        used.add(Command.ACT2)
    if standard.data_clock:
        used |= {Command.CAS_RD, Command.CAS_WR}
    if spec.controller.row_policy != "open":
        used |= {Command.RDA, Command.WRA}
    return used


def _partial_refresh(spec: DramSpec) -> PartialRefresh:
    known, mode = standard_of(spec).banks_refreshed, spec.controller.refresh
    if mode not in known:
        allowed = ", ".join(["on", "off", *known])
        raise ConfigError(f"dram.controller.refresh: {mode!r}: {spec.standard} has no such refresh (allowed: {allowed})")
    return known[mode]


def _refresh_options(spec: DramSpec, timing: dict[str, int]) -> tuple[int, tuple[int, int, int, int]]:
    """Clocks between refreshes of a rank, and (sets, banks of a set, distance, command) of a refresh of some banks."""
    if spec.controller.refresh in ("on", "off"):
        return timing["nREFI"], (0, 0, 0, 0)
    organisation, partial = resolve_organisation(spec), _partial_refresh(spec)
    banks = organisation.bankgroups * organisation.banks_per_group
    interval = evaluate(partial.interval, timing | {"banks": banks})
    busy = evaluate(partial.busy, timing)
    if interval < 1 or (interval <= busy and partial.banks == "group"):
        raise ConfigError(f"dram.timing: {partial.interval} = {interval}: must exceed the {busy} clocks of {partial.busy}")
    sets = {"one": (banks, 1, 0), "pair": (banks // 2, 2, banks // 2)}
    sets["group"] = (organisation.banks_per_group, organisation.bankgroups, organisation.banks_per_group)
    return interval, (*sets[partial.banks], int(partial.command))


def _watermarks(spec: DramSpec) -> tuple[int, int]:
    """Write-queue sizes at which draining starts (at least) and stops (below); single precision, as Ramulator compares them."""
    controller = spec.controller
    if controller.write_low_watermark > controller.write_high_watermark:
        raise ConfigError(f"dram.controller.write_low_watermark: {controller.write_low_watermark}: must not exceed write_high_watermark")
    size = np.float32(controller.write_queue)
    high = float(np.float32(controller.write_high_watermark) * size)
    low = float(np.float32(controller.write_low_watermark) * size)
    return math.floor(high) + 1, max(math.ceil(low), 1)


def lower(spec: DramSpec, all_commands: bool = False, standard: Standard | None = None) -> ChannelTables:
    """Tables of one channel.

    Args:
        spec: The memory.
        all_commands: Keep the constraints of every command (command streams) instead of those that the controller issues.
        standard: The standard with other constraints than its file's (data paths that end inside the memory); None for its file's.

    Raises:
        ConfigError: see `resolve_timing`.
    """
    standard, timing, organisation = standard or standard_of(spec), resolve_timing(spec), resolve_organisation(spec)
    used = set(Command) if all_commands else used_commands(spec)
    rows = _rows(standard, timing, organisation.ranks, used)
    ordered = sorted(rows)
    constraints = np.full((len(ordered), 6), -1, np.int64)
    windows = 0
    for at, key in enumerate(ordered):
        _, scope, after, window = key
        constraints[at, :4] = scope, after, rows[key], window
        constraints[at, 5] = after in standard.rising_edge
        if window > 1:
            constraints[at, 4] = windows
            windows += 1
    before = np.array([key[0] for key in ordered], np.int64)
    start = np.searchsorted(before, np.arange(len(Command) + 1)).astype(np.int64)
    groups = organisation.ranks * organisation.bankgroups
    bank = np.arange(organisation.banks)
    longest = int(constraints[:, 3].max(initial=1))
    enter, leave = _watermarks(spec)
    controller = spec.controller
    interval, partial = _refresh_options(spec, timing)
    clock_runs = [evaluate(text, timing) for text in standard.data_clock] or [0, 0]
    options = [
        SCHEDULERS[controller.scheduler],
        controller.row_policy != "open",
        controller.refresh != "off",
        controller.read_queue,
        controller.write_queue,
        enter,
        leave,
        interval,
        evaluate(standard.read_latency, timing),
        standard.dual_bus,
        0 if controller.row_policy == "auto-precharge" else 1,
        bool(standard.act2_within or standard.data_clock or standard.rising_edge or partial[0] or controller.merge_reads),
        *partial,
        bool(standard.rising_edge),
        evaluate(standard.act2_within, timing) if standard.act2_within else -1,
        *clock_runs,
        max([1, *(rows[key] for key in ordered if key[0] in (Command.CAS_RD, Command.CAS_WR))]),
        controller.merge_reads,
    ]
    return ChannelTables(
        constraints=constraints,
        start=start,
        shape=np.array([organisation.ranks, groups, organisation.banks, max(windows, 1), max(longest, 1)], np.int64),
        group=(bank // organisation.banks_per_group).astype(np.int64),
        rank=(bank // (organisation.banks_per_group * organisation.bankgroups)).astype(np.int64),
        options=np.array(options, np.int64),
    )
