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

from pimsim.dram.standard import COLUMN_COMMANDS, Command, Constraint, Standard, evaluate, resolve_timing, standard_of
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


def violations(
    log: NDArray[np.void], spec: DramSpec, timing: Mapping[str, int] | None = None, limit: int = 100
) -> list[Violation]:
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
    bus_free: dict[Any, int] = {}
    found: list[Violation] = []
    for index, entry in enumerate(log.tolist()):
        record = dict(zip(log.dtype.names or (), entry, strict=True))
        command, clock = Command(record["command"]), record["cycle"]
        place = (record["channel"], record["rank"], record["bankgroup"], record["bank"])

        def report(rule: str, earliest: int = -1, index: int = index, clock: int = clock, command: Command = command) -> None:
            found.append(Violation(index, clock, command.name, rule, earliest))

        for rule in by_command[command]:
            if clock < (at := rule.earliest(command, place)):
                report(rule.text(), at)
        bus = (place[0], command in COLUMNS) if standard.dual_bus else place[0]
        if clock < bus_free.get(bus, 0):
            report("command bus is busy", bus_free[bus])
        bus_free[bus] = clock + standard.two_cycle.get(command, 1)
        if wrong := _state(command, place, record["row"], opened):
            report(wrong)
        for rule in to_note[command]:
            rule.note(command, place, clock)
        if len(found) >= limit:
            break
    return found[:limit]


def _state(command: Command, place: Place, row: int, opened: dict[Place, int]) -> str | None:
    """Updates the open rows and says what is wrong, if anything."""
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
    return None


def missing_refreshes(log: NDArray[np.void], spec: DramSpec, cycles: int, postponed: int = 1) -> list[str]:
    """Ranks that got fewer REF than clocks / nREFI, less the `postponed` that may still be due."""
    timing = resolve_timing(spec)
    due = cycles // timing["nREFI"] - postponed
    refreshes = log[log["command"] == Command.REF]
    short = []
    for channel in range(spec.channels):
        for rank in range(spec.ranks):
            count = int(((refreshes["channel"] == channel) & (refreshes["rank"] == rank)).sum())
            if count < due:
                short.append(f"channel {channel} rank {rank}: {count} of at least {due} refreshes")
    return short


def standards() -> dict[str, Standard]:
    """Every standard that is installed, by name."""
    from pimsim.discovery import implementations

    return implementations("pimsim.dram", "STANDARD")
