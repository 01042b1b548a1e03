"""The requests that drive near-bank units, added up segment by segment for many devices at once.

A segment is a run of equal columns of one bank and row with a fence behind it, as in `pimsim.engine.pim_requests`. Rows are closed as soon
as nothing up to the fence wants them; the next segment's row opens when only the last request before its fence is left, or, for a
request that has a fence itself, when it is the oldest.

Not modelled: two commands that want the same clock, refresh that closes a row within a segment (`refreshed` adds its time).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pimsim.analytic.table import COMMANDS, DeviceTable, spacings
from pimsim.dram.standard import Command

Array = NDArray[np.float64]
ACT, PRE, RD, WR = Command.ACT, Command.PRE, Command.RD, Command.WR
NEVER = -1e9


class Segments:
    """One channel of every device, banks addressed together; clocks are (n,) arrays.

    Args:
        table: The devices.
        gap: (n,) clocks between two columns in all-bank mode.
    """

    def __init__(self, table: DeviceTable, gap: Array) -> None:
        def make() -> Array:
            return np.array([[[spacings(d.dram)[a, b] for d in table.devices] for b in COMMANDS] for a in COMMANDS], float)

        def across() -> Array:
            return np.array([spacings(d.dram, across=True)[ACT, ACT] for d in table.devices], float)

        after = table.keep("spacings", make)
        self.after = {(a, b): after[i, j] for i, a in enumerate(COMMANDS) for j, b in enumerate(COMMANDS)}
        self.between = np.maximum(table.keep("spacings.across", across), table["activate_rank"])
        self.table, self.gap, count = table, gap, len(table)
        self.rows: dict[int, int | None] = {}
        self.last: dict[tuple[int, Command], Array] = {}
        self.clock = np.zeros(count)  # of the last column
        self.kind = RD
        self.openable = np.zeros(count)
        self.activated = np.full(count, NEVER)
        self.none = np.full(count, NEVER)
        self.counts = {command: 0 for command in (ACT, PRE, RD, WR)}
        self.special = 0

    def at(self, bank: int, command: Command) -> Array:
        """Clock of a bank's last command of a kind."""
        return self.last.get((bank, command), self.none)

    def run(self, command: Command, bank: int, row: int, count: int, alone: bool = True, fenced: bool = True) -> None:
        """`count` columns of a row; `alone` when a fence stands before them, else they go with those before; `fenced`: one behind them."""
        before = self.clock
        first = before + np.where(alone, 1, 0)
        if self.kind == command:
            first = np.maximum(first, before + self.gap)
        else:
            first = np.maximum(first, before + self.after[self.kind, command])
        if fenced and count == 1:  # its fence keeps its row closed until it is the oldest request
            self.openable = np.maximum(self.openable, before + 1)
        if self.rows.get(bank) != row:
            self._open(bank, row)
            first = np.maximum(first, self.at(bank, ACT) + self.after[ACT, command])
        last = first + (count - 1) * self.gap
        if fenced:
            self.openable = (last - self.gap if count > 1 else before) + 1
        self.clock, self.kind = last, command
        self.last[bank, command] = last
        self.counts[command] += count

    def _open(self, bank: int, row: int) -> None:
        ready = np.maximum(self.openable, self.activated + self.between)
        if self.rows.get(bank) is not None:
            self.close(bank)
        ready = np.maximum.reduce([ready, self.at(bank, PRE) + self.after[PRE, ACT], self.at(bank, ACT) + self.after[ACT, ACT]])
        self.last[bank, ACT] = self.activated = ready
        self.rows[bank] = row
        self.counts[ACT] += 1

    def close(self, bank: int) -> Array:
        """Clock at which a bank's row is closed, once nothing wants it."""
        unwanted = np.maximum(self.at(bank, RD), self.at(bank, WR)) + 1
        clock: Array = np.maximum.reduce([unwanted, *(self.at(bank, c) + self.after[c, PRE] for c in (ACT, RD, WR))])
        self.last[bank, PRE] = clock
        self.rows[bank] = None
        self.counts[PRE] += 1
        return clock

    def each(self, command: Command, banks: list[int], row: int) -> None:
        """One column of a row in several banks, side by side, a fence behind the last."""
        gap, self.gap = self.gap, self.table["burst"]
        for number, bank in enumerate(banks):
            self.run(command, bank, row, 1, alone=number == 0, fenced=number == len(banks) - 1)
        self.gap = gap
