"""An independent legality checker: reads a command log and lists what the timing tables and the bank states forbid.

Written from the constraint lists in `pimsim/dram/` alone; it shares no code with the lowering or the kernels. Every command
is compared with the latest commands of every constraint, one by one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pimsim.dram.standard import (
    COLUMN_COMMANDS,
    Command,
    Constraint,
    Standard,
    evaluate,
    resolve_organisation,
    resolve_timing,
    standard_of,
)
from pimsim.spec.dram import DramSpec

DEPTH = {"channel": 1, "rank": 2, "bankgroup": 3, "bank": 4}
COLUMNS = set(COLUMN_COMMANDS)
CLOSING = {Command.PRE, Command.PREA, Command.RDA, Command.WRA}
Place = tuple[int, ...]


@dataclass(frozen=True)
class Violation:
    """One forbidden command.

    Attributes:
        index: Position in the log.
        cycle: Its clock.
        command: Its name.
        rule: What it breaks.
        earliest: First legal clock, or -1 for a state violation.
    """

    index: int
    cycle: int
    command: str
    rule: str
    earliest: int = -1


@dataclass
class _Rule:
    """One constraint with the clocks of its latest preceding commands at each place."""

    constraint: Constraint
    latency: int
    cycles: Mapping[Command, int]
    past: dict[Place, deque[int]] = field(default_factory=dict)

    @property
    def depth(self) -> int:
        return DEPTH[self.constraint.level]

    def earliest(self, command: Command, place: Place) -> int:
        """First legal clock of the command, counted at its first cycle."""
        c = self.constraint
        if command not in c.following:
            return -1
        here = place[: self.depth]
        found = -1
        for there, clocks in self.past.items():
            near = there != here and there[:-1] == here[:-1] if c.sibling else there == here
            if near and len(clocks) == c.window:
                found = max(found, clocks[0] + self.latency - (self.cycles.get(command, 1) - 1))
        return found

    def note(self, command: Command, place: Place, clock: int) -> None:
        """Remembers a preceding command by its last cycle."""
        if command in self.constraint.preceding:
            clocks = self.past.setdefault(place[: self.depth], deque(maxlen=self.constraint.window))
            clocks.append(clock + self.cycles.get(command, 1) - 1)

    def text(self) -> str:
        c = self.constraint
        names = "/".join(x.name for x in c.preceding), "/".join(x.name for x in c.following)
        window = f" (window {c.window})" if c.window > 1 else ""
        return f"{c.level}{' sibling' if c.sibling else ''}: {names[0]} -> {names[1]}: {c.latency} = {self.latency}{window}"


def violations(log: NDArray[np.void], spec: DramSpec, timing: Mapping[str, int] | None = None, limit: int = 100) -> list[Violation]:
    """Everything in a command log that is not legal.

    Args:
        log: Structured array with cycle, command, channel, rank, bankgroup, bank, row, in order of cycle (as `replay` returns
            it).
        spec: The memory.
        timing: Timing values to check against instead of the specification's.
        limit: Stop after this many.
    """
    standard = standard_of(spec)
    values = dict(resolve_timing(spec) if timing is None else timing)
    rules = [_Rule(c, evaluate(c.latency, values), standard.two_cycle) for c in standard.constraints]
    by_command = {command: [rule for rule in rules if command in rule.constraint.following] for command in Command}
    to_note = {command: [rule for rule in rules if command in rule.constraint.preceding] for command in Command}
    opened: dict[Place, int] = {}
    two_steps, data_clock = _TwoSteps(standard, values), _DataClock(standard, values)
    bus_free: dict[Any, int] = {}
    found: list[Violation] = []
    for index, entry in enumerate(log.tolist()):
        record = dict(zip(log.dtype.names or (), entry, strict=True))
        command, clock = Command(record["command"]), record["cycle"]
        places = _places(command, record, spec)
        place = places[0]

        def report(rule: str, earliest: int = -1, index: int = index, clock: int = clock, command: Command = command) -> None:
            found.append(Violation(index, clock, command.name, rule, earliest))

        for rule in by_command[command]:
            if clock < (at := max(rule.earliest(command, one) for one in places)):
                report(rule.text(), at)
        bus = (place[0], command in COLUMNS) if standard.dual_bus else place[0]
        if clock < bus_free.get(bus, 0):
            report("command bus is busy", bus_free[bus])
        bus_free[bus] = clock + standard.two_cycle.get(command, 1)
        if command in standard.rising_edge and clock % 2 == 0:
            report(f"{command.name} on a falling edge")
        if wrong := _state(command, places, record["row"], opened):
            report(wrong)
        for wrong in two_steps.wrong(command, place, clock):
            report(wrong)
        if wrong := data_clock.wrong(command, place, clock):
            report(wrong)
        for rule in to_note[command]:
            for one in places if rule.depth == DEPTH["bank"] else places[:1]:
                rule.note(command, one, clock)
        if len(found) >= limit:
            break
    return found[:limit]


def _places(command: Command, record: Mapping[str, int], spec: DramSpec) -> list[Place]:
    """Banks that a command addresses; rank commands keep their own single place."""
    first = (record["channel"], record["rank"], record["bankgroup"], record["bank"])
    if command not in (Command.REFPB, Command.REFSB):
        return [first]
    kind = standard_of(spec).banks_refreshed[spec.controller.refresh].banks
    groups, half = resolve_organisation(spec).bankgroups, resolve_organisation(spec).bankgroups // 2
    if kind == "group":
        return [(*first[:2], group, first[3]) for group in range(groups)]
    return [first] if kind == "one" else [first, (*first[:2], first[2] + half, first[3])]


def _state(command: Command, places: list[Place], row: int, opened: dict[Place, int]) -> str | None:
    """Updates the open rows and says what is wrong, if anything."""
    place = places[0]
    if command == Command.ACT:
        wrong = "ACT on an open bank" if place in opened else None
        opened[place] = row
        return wrong
    if command in COLUMNS:
        wrong = None if opened.get(place) == row else f"{command.name} of row {row} while row {opened.get(place)} is open"
        if command in CLOSING:
            opened.pop(place, None)
        return wrong
    if command == Command.PRE:
        opened.pop(place, None)
    if command == Command.PREA:
        for bank in [bank for bank in opened if bank[:2] == place[:2]]:
            del opened[bank]
    if command == Command.REF and any(bank[:2] == place[:2] for bank in opened):
        return "REF with an open bank"
    if command in (Command.REFPB, Command.REFSB) and any(bank in opened for bank in places):
        return f"{command.name} with an open bank"
    return None


class _TwoSteps:
    """ACT2 after each ACT, in time and before anything else at that bank; one activation at a time."""

    def __init__(self, standard: Standard, timing: Mapping[str, int]) -> None:
        self.within = evaluate(standard.act2_within, timing) if standard.act2_within else None
        self.pending: dict[int, tuple[Place, int]] = {}

    def wrong(self, command: Command, place: Place, clock: int) -> list[str]:
        if self.within is None:
            return []
        begun = self.pending.get(place[0])
        if command == Command.ACT2:
            self.pending.pop(place[0], None)
            if begun is None or begun[0] != place:
                return ["ACT2 without ACT"]
            return ["ACT2 too late"] if clock > begun[1] + self.within else []
        found = ["ACT while another waits for its ACT2"] if begun and command == Command.ACT else []
        if begun and (place == begun[0] or (place[3] < 0 and place[:2] == begun[0][:2])):
            found.append(f"{command.name} between ACT and ACT2")
        if command == Command.ACT:
            self.pending[place[0]] = place, clock
        return found


class _DataClock:
    """A column command finds the data clock running, or directly after its CAS."""

    def __init__(self, standard: Standard, timing: Mapping[str, int]) -> None:
        self.runs = [evaluate(text, timing) for text in standard.data_clock]
        self.until: dict[int, int] = {}
        self.cas: dict[int, tuple[Command, Place]] = {}

    def wrong(self, command: Command, place: Place, clock: int) -> str | None:
        if not self.runs:
            return None
        before = self.cas.pop(place[0], None)
        if command in (Command.CAS_RD, Command.CAS_WR):
            self.cas[place[0]] = command, place
        if before and (command not in COLUMNS or before[1] != place):
            return f"{command.name} between CAS and its column command"
        if command not in COLUMNS:
            return None
        read = command in (Command.RD, Command.RDA)
        running = clock < self.until.get(place[0], 0)
        self.until[place[0]] = max(self.until.get(place[0], 0), clock + self.runs[0 if read else 1])
        if before:
            return None if before[0] == (Command.CAS_RD if read else Command.CAS_WR) else f"{command.name} after {before[0].name}"
        return None if running else f"{command.name} while the data clock has stopped"


def missing_refreshes(log: NDArray[np.void], spec: DramSpec, cycles: int, postponed: int = 1) -> list[str]:
    """Ranks (or banks) that got fewer refreshes than clocks / interval, less the `postponed` that may still be due."""
    timing, organisation, mode = resolve_timing(spec), resolve_organisation(spec), spec.controller.refresh
    interval, command, banks = timing["nREFI"], Command.REF, [(-1, -1)]
    if mode != "on":
        partial = standard_of(spec).banks_refreshed[mode]
        groups = {"one": organisation.bankgroups, "pair": organisation.bankgroups // 2, "group": 1}[partial.banks]
        banks = [(group, bank) for group in range(groups) for bank in range(organisation.banks_per_group)]
        if partial.banks == "group":
            banks = [(-1, bank) for _, bank in banks]
        each = evaluate(partial.interval, timing | {"banks": organisation.bankgroups * organisation.banks_per_group})
        interval, command = each * len(banks), partial.command
    due = cycles // interval - postponed
    refreshes = log[log["command"] == command]
    short = []
    for channel in range(spec.channels):
        for rank in range(spec.ranks):
            here = refreshes[(refreshes["channel"] == channel) & (refreshes["rank"] == rank)]
            for group, bank in banks:
                count = int(((here["bankgroup"] == group) & (here["bank"] == bank)).sum())
                if count < due:
                    short.append(f"channel {channel} rank {rank} bank {group}, {bank}: {count} of at least {due} refreshes")
    return short


def standards() -> dict[str, Standard]:
    """Every standard that is installed, by name."""
    from pimsim.discovery import implementations

    return implementations("pimsim.dram", "STANDARD")
