"""Lowering of matrix-vector and element-wise kernels to the requests that drive near-bank units.

The sequence is the one that the vendor's simulator (Samsung PIMSimulator) sends: park every bank, open the mode rows, write the
instructions, switch the units on, work, switch them off, close the leave rows, park. Each step ends with a fence, because the units
execute one instruction with each column command.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pimsim.dram.standard import Command, Organisation
from pimsim.engine.fenced import FENCE, LEAVE_ROW, MODE_ROW, PARK_ROW, REGISTER_ROW, AllBankMode

Requests = NDArray[np.int64]
RD, WR = int(Command.RD), int(Command.WR)
MODE_COLUMN, SWITCH_COLUMN, PROGRAM_COLUMN, INPUT_COLUMN = 31, 0, 4, 8  # columns of the special rows; only inequality matters
INSTRUCTIONS_PER_BURST = 8


def all_bank_mode(organisation: Organisation, banks_per_unit: int, column_gap: int) -> AllBankMode:
    """The banks that switch modes: the first two of either half enter, those of the first unit (two at most) leave."""
    half = organisation.banks // 2
    enter = tuple(dict.fromkeys(bank % organisation.banks for bank in (0, 1, half, half + 1)))
    return AllBankMode(enter, tuple(range(min(2, banks_per_unit))), banks_per_unit, column_gap)


class Program:
    """Requests under construction."""

    def __init__(self, organisation: Organisation, mode: AllBankMode) -> None:
        self.organisation, self.mode = organisation, mode
        self.requests: list[tuple[int, int, int, int, int]] = []

    def columns(self, command: int, bank: int, row: int, first: int = 0, count: int = 1) -> None:
        """Columns of a bank one after another, a fence behind them; `first` counts on over rows of data."""
        for column in range(first, first + count):
            over, within = divmod(column, self.organisation.columns) if row >= 0 else (0, column)
            self.requests.append((command, bank, row + over, within, FENCE * (column == first + count - 1)))

    def each(self, command: int, banks: Iterable[int], row: int) -> None:
        """One column of the same row in several banks, a fence behind the last."""
        self.requests += [(command, bank, row, MODE_COLUMN, 0) for bank in banks]
        self.requests[-1] = (*self.requests[-1][:4], FENCE)

    def park(self) -> None:
        """Reads every bank, bank groups in turn."""
        per_group, groups = self.organisation.banks_per_group, self.organisation.ranks * self.organisation.bankgroups
        self.each(RD, [group * per_group + bank for bank in range(per_group) for group in range(groups)], PARK_ROW)

    def enter(self, instructions: int) -> None:
        """From single-bank to all-bank mode, with a program in the units."""
        self.park()
        self.each(WR, self.mode.enter_banks, MODE_ROW)
        self.columns(WR, 1 % self.mode.banks_per_unit, REGISTER_ROW, PROGRAM_COLUMN, -(-instructions // INSTRUCTIONS_PER_BURST))

    def switch(self) -> None:
        """Switches the units on or off."""
        self.columns(WR, 0, REGISTER_ROW, SWITCH_COLUMN)

    def leave(self) -> None:
        """From all-bank to single-bank mode."""
        self.each(WR, self.mode.leave_banks, LEAVE_ROW)
        self.park()

    def take(self) -> Requests:
        """The requests so far, (n, 5); the program goes on empty."""
        taken, self.requests = self.requests, []
        return np.array(taken, np.int64).reshape(-1, 5)


@dataclass(frozen=True)
class MatVec:
    """One channel's share of a matrix-vector kernel; every tile is whole, because the units' program repeats whole tiles.

    Attributes:
        inputs: Input registers filled for an input tile.
        outputs: Outputs of one unit in an output tile.
        input_tiles: Input tiles.
        output_tiles: Output tiles.
        items: Vectors to multiply (no weight is used for two of them).
    """

    inputs: int
    outputs: int
    input_tiles: int
    output_tiles: int
    items: int

    @property
    def weight_columns(self) -> int:
        """Column reads of weights."""
        return self.inputs * self.outputs * self.input_tiles * self.output_tiles * self.items

    def weight_rows(self, columns: int, banks: int) -> int:
        """Rows of `columns` bursts that the weights fill in the first of the `banks` banks of a unit."""
        return -(-self.output_tiles * -(-self.input_tiles // banks) * self.inputs * self.outputs // columns)


def matvec(share: MatVec, organisation: Organisation, mode: AllBankMode) -> Requests:
    """Requests of a matrix-vector kernel in one channel, mode switches included.

    For each output tile and vector: switch the units on; for each input tile write the inputs to their registers and read the weights,
    one fence an input register; write the accumulators to the bank; switch the units off. Input tiles alternate between the banks of a
    unit, and all tiles of one bank come first.
    """
    program = Program(organisation, mode)
    program.enter(instructions=2 * mode.banks_per_unit + 2)
    pieces = [program.take()]
    banks, tile = mode.banks_per_unit, share.inputs * share.outputs
    other = 1 % banks
    result = -(-share.output_tiles * share.input_tiles // banks) * tile
    for output in range(share.output_tiles):
        program.switch()
        for bank in range(banks):
            per_bank = len(range(bank, share.input_tiles, banks))
            for at in range(per_bank):
                program.columns(WR, other, REGISTER_ROW, INPUT_COLUMN, share.inputs)
                first = (output * per_bank + at) * tile
                for register in range(share.inputs):
                    program.columns(RD, bank, 0, first + register * share.outputs, share.outputs)
        one = program.take()
        for item in range(share.items):
            program.columns(WR, other, 0, result + (output * share.items + item) * share.outputs, share.outputs)
            program.switch()
            pieces += [one, program.take()]
    program.leave()
    return np.concatenate([*pieces, program.take()])


def elementwise(tiles: int, registers: int, operands: int, organisation: Organisation, mode: AllBankMode) -> Requests:
    """Requests of an element-wise kernel in one channel, mode switches included.

    For each tile and each bank of a unit: read `registers` columns of every operand, one after the other, and write the result.

    Args:
        tiles: Tiles of `registers` columns in every bank of the channel.
        registers: Registers of one burst that hold a tile.
        operands: Operands, each in rows of its own.
        organisation: Geometry of one channel.
        mode: The all-bank mode.
    """
    program = Program(organisation, mode)
    program.enter(instructions=mode.banks_per_unit * (operands + 1) + 2)
    program.switch()
    rows = -(-tiles * registers // organisation.columns)
    for tile in range(tiles):
        for bank in range(mode.banks_per_unit):
            for operand in range(operands):
                program.columns(RD, bank, operand * rows, tile * registers, registers)
            program.columns(WR, bank, operands * rows, tile * registers, registers)
    program.switch()
    program.leave()
    return program.take()
