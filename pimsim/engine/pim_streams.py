"""Lowering of gather-reduce kernels to the command streams that drive near-bank units.

A stream is an int64 array (n, 3) of (command, bank, row), issued in this order, each at its earliest legal clock. In all-bank mode,
bank `p` stands for bank `p` of every unit.

The frame is the one of the vendor's kernels (`pim_requests`): park every bank, switch from single-bank to all-bank mode, program the
instruction memory, switch the units on, work, switch back, park.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pimsim.dram.standard import Command, Organisation
from pimsim.engine.fenced import LEAVE_ROW, MODE_ROW, PARK_ROW, REGISTER_ROW

Stream = NDArray[np.int64]
ACT, PRE, RD, WR = int(Command.ACT), int(Command.PRE), int(Command.RD), int(Command.WR)

INSTRUCTIONS_PER_BURST = 8


def commands(rows: list[tuple[int, int, int]]) -> Stream:
    """A stream from a list of (command, bank, row)."""
    return np.array(rows, np.int64).reshape(-1, 3)


def park(organisation: Organisation) -> list[tuple[int, int, int]]:
    """Opens, reads and closes every bank, bank groups in turn, as far apart as the activation window makes them."""
    per_group = organisation.banks_per_group
    order = [group * per_group + bank for bank in range(per_group) for group in range(organisation.bankgroups)]
    stream: list[tuple[int, int, int]] = []
    read_lag, close_lag = 4, 9
    for step in range(len(order) + close_lag):
        if step < len(order):
            stream.append((ACT, order[step], PARK_ROW))
        if 0 <= step - close_lag < len(order):
            stream.append((PRE, order[step - close_lag], PARK_ROW))
        if 0 <= step - read_lag < len(order):
            stream.append((RD, order[step - read_lag], PARK_ROW))
    return stream


class Program:
    """A command stream under construction that knows which row each bank holds open."""

    def __init__(self) -> None:
        self.stream: list[tuple[int, int, int]] = []
        self.open: dict[int, int] = {}

    def row(self, bank: int, row: int) -> None:
        """Opens a row unless it is open already."""
        if self.open.get(bank) != row:
            self.close(bank)
            self.stream.append((ACT, bank, row))
            self.open[bank] = row

    def close(self, *banks: int) -> None:
        """Closes banks that are open."""
        for bank in banks:
            if bank in self.open:
                self.stream.append((PRE, bank, self.open.pop(bank)))

    def column(self, command: int, bank: int, row: int, count: int = 1) -> None:
        """Column commands to one row."""
        self.row(bank, row)
        self.stream += [(command, bank, row)] * count

    def enter(self, organisation: Organisation, instructions: int) -> None:
        """From single-bank to all-bank mode with a program of `instructions` instructions in the units."""
        half = organisation.banks // 2
        switch = [0, half, 1 % organisation.banks, (half + 1) % organisation.banks]
        self.stream += park(organisation)
        for bank in switch:
            self.row(bank, MODE_ROW)
        for bank in switch:
            self.column(WR, bank, MODE_ROW)
        self.close(*switch)
        self.column(WR, 1, REGISTER_ROW, -(-instructions // INSTRUCTIONS_PER_BURST))

    def units(self) -> None:
        """Switches the units on or off: one write to the register row of bank 0."""
        self.column(WR, 0, REGISTER_ROW)

    def leave(self, organisation: Organisation) -> None:
        """From all-bank mode back to single-bank mode."""
        self.close(*sorted(self.open))
        for bank in (0, 1):
            self.column(WR, bank, LEAVE_ROW)
        self.close(0, 1)
        self.stream += park(organisation)


def gather_striped(
    bank: NDArray[np.int64], row: NDArray[np.int64], bursts: NDArray[np.int64], organisation: Organisation, write_backs: int
) -> Stream:
    """Command stream of a gather-reduce in one channel whose table rows are striped over all units.

    Each look-up reads `bursts` columns of DRAM row `row` in bank `bank` of every unit; a row that is still open is not opened again, and
    the next look-up's row opens in another bank of the units while the present one is read.

    Args:
        bank: Bank within the unit of each look-up, (n,).
        row: DRAM row of each look-up, (n,).
        bursts: Columns of each look-up, (n,).
        organisation: Geometry of one channel.
        write_backs: Accumulator write-backs over all reduced vectors.
    """
    program = Program()
    program.enter(organisation, instructions=4)
    program.units()
    program.close(0, 1)
    pending: tuple[int, int, int] | None = None
    for b, r, n in zip(bank.tolist(), row.tolist(), bursts.tolist(), strict=True):
        if pending is not None and pending[0] == b:
            program.column(RD, *pending)
            program.row(b, r)
        else:
            program.row(b, r)
            if pending is not None:
                program.column(RD, *pending)
        pending = (b, r, n)
    if pending is not None:
        program.column(RD, *pending)
        program.column(WR, pending[0], pending[1] + 1, write_backs)
    program.units()
    program.leave(organisation)
    return commands(program.stream)
