"""Lowering of matrix-vector and gather-reduce kernels to the command streams that drive near-bank units.

A stream is an int64 array (n, 3) of (command, bank, row), issued in this order, each at its earliest legal clock. In all-bank mode,
bank `p` stands for bank `p` of every unit.

The sequence is the one of the vendor's simulator (Samsung PIMSimulator): park every bank, switch from single-bank to all-bank mode,
program the instruction memory, switch the units on, work, switch back, park.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pimsim.dram.standard import Command, Organisation

Stream = NDArray[np.int64]
ACT, PRE, RD, WR = int(Command.ACT), int(Command.PRE), int(Command.RD), int(Command.WR)

PARK_ROW, MODE_ROW, REGISTER_ROW, LEAVE_ROW = -1, -2, -3, -4  # rows outside of the weights; only inequality matters
INSTRUCTIONS_PER_BURST = 8


def commands(rows: list[tuple[int, int, int]]) -> Stream:
    """A stream from a list of (command, bank, row)."""
    return np.array(rows, np.int64).reshape(-1, 3)


def repeat(command: int, bank: int, row: int, count: int) -> list[tuple[int, int, int]]:
    """The same command `count` times."""
    return [(command, bank, row)] * count


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


def enter(organisation: Organisation, instructions: int) -> list[tuple[int, int, int]]:
    """From single-bank mode to all-bank PIM mode with a program of `instructions` instructions; leaves the register row open in bank 0."""
    half = organisation.banks // 2
    switch = [0, half, 1 % organisation.banks, (half + 1) % organisation.banks]
    stream = park(organisation)
    stream += [(ACT, bank, MODE_ROW) for bank in switch]
    stream += [(WR, bank, MODE_ROW) for bank in switch]
    stream += [(PRE, bank, MODE_ROW) for bank in switch]
    writes = -(-instructions // INSTRUCTIONS_PER_BURST)
    stream += [(ACT, 1, REGISTER_ROW), *repeat(WR, 1, REGISTER_ROW, writes)]
    stream += [(ACT, 0, REGISTER_ROW), (WR, 0, REGISTER_ROW)]
    return stream


def leave(organisation: Organisation) -> list[tuple[int, int, int]]:
    """From all-bank PIM mode back to single-bank mode; expects every bank closed."""
    stream = [(ACT, 0, REGISTER_ROW), (WR, 0, REGISTER_ROW), (PRE, 0, REGISTER_ROW)]
    stream += [(ACT, 0, LEAVE_ROW), (WR, 0, LEAVE_ROW), (ACT, 1, LEAVE_ROW), (WR, 1, LEAVE_ROW)]
    stream += [(PRE, 0, LEAVE_ROW), (PRE, 1, LEAVE_ROW)]
    return stream + park(organisation)


@dataclass(frozen=True)
class MatVec:
    """One channel's share of a matrix-vector kernel.

    Attributes:
        input_tiles: Input registers filled for each input tile, for example (8, 8, 3).
        output_tiles: Outputs of one unit in each output tile, for example (8, 2).
        items: Vectors to multiply (no weight reuse between them).
    """

    input_tiles: tuple[int, ...]
    output_tiles: tuple[int, ...]
    items: int

    @property
    def weight_columns(self) -> int:
        """Column reads of weights."""
        return sum(self.input_tiles) * sum(self.output_tiles) * self.items


def matvec(share: MatVec, organisation: Organisation, banks_per_unit: int) -> Stream:
    """Command stream of a matrix-vector kernel in one channel, mode switches included.

    For each output tile and input tile: write the inputs to the registers through the register row (of the bank that the tile's weights do
    *not* use, when a unit has several), read the weights column by column, and move to the next tile; at the end write the accumulators back.
    """
    one = _matvec_item(share, organisation, banks_per_unit)
    head = commands([*enter(organisation, instructions=8), (PRE, 1, REGISTER_ROW), (PRE, 0, REGISTER_ROW)])
    return np.concatenate([head, np.tile(one, (share.items, 1)), commands(leave(organisation))])


def _matvec_item(share: MatVec, organisation: Organisation, banks_per_unit: int) -> Stream:
    stream: list[tuple[int, int, int]] = []
    columns = organisation.columns
    next_row = [0] * banks_per_unit
    register_bank = 1 % banks_per_unit
    for outputs in share.output_tiles:
        bank = 0
        for tile, inputs in enumerate(share.input_tiles):
            bank = tile % banks_per_unit
            overlap = bank != register_bank  # the register row can open while the previous weights are still being read
            upload = [(ACT, register_bank, REGISTER_ROW), *repeat(WR, register_bank, REGISTER_ROW, inputs)]
            reads: list[tuple[int, int, int]] = []
            for first in range(0, inputs * outputs, columns):
                row = next_row[bank]
                next_row[bank] += 1
                burst = min(columns, inputs * outputs - first)
                reads += [(ACT, bank, row), *repeat(RD, bank, row, burst), (PRE, bank, row)]
            if overlap:  # weights' activation overlaps the upload; the register row closes under the reads
                stream += [upload[0], *upload[1:], reads[0], reads[1], (PRE, register_bank, REGISTER_ROW), *reads[2:]]
            else:
                stream += [*upload, (PRE, register_bank, REGISTER_ROW), *reads]
        result = next_row[bank]
        stream += [(ACT, bank, result), *repeat(WR, bank, result, outputs), (PRE, bank, result)]
    return commands(stream)


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
    stream = enter(organisation, instructions=4)
    stream += [(PRE, 1, REGISTER_ROW), (PRE, 0, REGISTER_ROW)]
    opened: dict[int, int] = {}
    pending: list[tuple[int, int, int]] = []
    for b, r, n in zip(bank.tolist(), row.tolist(), bursts.tolist(), strict=True):
        opening: list[tuple[int, int, int]] = []
        if opened.get(b) != r:
            if b in opened:
                opening.append((PRE, b, opened[b]))
            opening.append((ACT, b, r))
            opened[b] = r
        same_bank = bool(pending) and pending[0][1] == b
        stream += pending + opening if same_bank else opening + pending
        pending = repeat(RD, b, r, n)
    stream += pending
    stream += [(PRE, b, r) for b, r in opened.items()]
    result = int(row.max(initial=0)) + 1
    stream += [(ACT, 0, result), *repeat(WR, 0, result, write_backs), (PRE, 0, result)]
    return commands(stream + leave(organisation))
