"""Lowering of products of two activations and of sums to the requests that drive near-bank units.

The frame (park, enter, switch on, work, switch off, leave, park) is that of `pim_requests`. Operands of a product come with the request:
in single-bank mode the host first writes one of them to the banks, in the layout of a matrix-vector kernel's weights; then each vector of
the other one goes to the input registers. Operands of a sum lie in the banks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pimsim.dram.standard import Organisation
from pimsim.engine.fenced import DRAIN, REGISTER_ROW, AllBankMode, Served
from pimsim.engine.pim_requests import INPUT_COLUMN, RD, WR, Program, Requests


@dataclass(frozen=True)
class Products:
    """One channel's share of small products, each of a written matrix with several vectors.

    Attributes:
        together: Channels that share the rows of each matrix.
        rows: Rows of a matrix in this channel.
        bursts: Bursts of a row.
        inputs: Input registers that one input tile fills.
        input_tiles: Input tiles.
        outputs: Rows of one unit in an output tile.
        vectors: Vectors that each output tile is multiplied with, one number an output tile.
        items: Matrices of this channel, one after another.
    """

    together: int
    rows: int
    bursts: int
    inputs: int
    input_tiles: int
    outputs: int
    vectors: tuple[int, ...]
    items: int

    @property
    def passes(self) -> int:
        """Vectors through output tiles of one matrix."""
        return sum(self.vectors)

    def stride(self, banks: int) -> int:
        """Columns that one matrix takes in each bank of a unit."""
        return len(self.vectors) * -(-self.input_tiles // banks) * self.inputs * self.outputs

    def columns(self, banks: int) -> int:
        """Columns of matrices and results in each bank of a unit."""
        return self.items * (self.stride(banks) + self.passes * self.outputs)


def upload(share: Products, units: int, organisation: Organisation, banks: int) -> Requests:
    """Writes of all matrices in single-bank mode, row by row; rows go to the units in turn. What follows has to drain them."""
    item, row, burst = (part.ravel() for part in np.mgrid[: share.items, : share.rows, : share.bursts])
    tile, place = np.divmod(row // units, share.outputs)
    at, register = np.divmod(burst, share.inputs)
    bank, depth = at % banks, at // banks
    per_bank = (share.input_tiles - bank + banks - 1) // banks
    column = item * share.stride(banks) + ((tile * per_bank + depth) * share.inputs + register) * share.outputs + place
    kind, flags = np.full(len(row), WR), np.zeros(len(row), np.int64)
    where = (row % units * banks + bank, column // organisation.columns, column % organisation.columns)
    return np.stack([kind, *where, flags], axis=1).astype(np.int64)


def products(share: Products, units: int, organisation: Organisation, mode: AllBankMode) -> Requests:
    """Requests of all products of one channel: the matrices' writes, mode switches, and the vectors.

    For each matrix, output tile and vector: switch the units on; for each input tile write the vector's piece to the input registers and
    read the matrix, one fence an input register; write the accumulators to the bank; switch off.
    """
    banks = mode.banks_per_unit
    other = 1 % banks
    program = Program(organisation, mode)
    program.enter(instructions=2 * banks + 2)
    first = program.take()
    first[0, 4] |= DRAIN
    pieces = [upload(share, units, organisation, banks), first]
    result = share.items * share.stride(banks)
    for item in range(share.items):
        for output, vectors in enumerate(share.vectors):
            one = _pass(program, share, item * share.stride(banks), output)
            for _ in range(vectors):
                program.columns(WR, other, 0, result, share.outputs)
                program.switch()
                pieces += [one, program.take()]
                result += share.outputs
    program.leave()
    return np.concatenate([*pieces, program.take()])


def _pass(program: Program, share: Products, base: int, output: int) -> Requests:
    """One vector through one output tile of the matrix that begins at column `base`, up to the accumulators."""
    banks = program.mode.banks_per_unit
    tile, other = share.inputs * share.outputs, 1 % banks
    program.switch()
    for bank in range(banks):
        per_bank = len(range(bank, share.input_tiles, banks))
        for at in range(per_bank):
            program.columns(WR, other, REGISTER_ROW, INPUT_COLUMN, share.inputs)
            first = base + (output * per_bank + at) * tile
            for register in range(share.inputs):
                program.columns(RD, bank, 0, first + register * share.outputs, share.outputs)
    return program.take()


@dataclass(frozen=True)
class Sums:
    """One channel's share of a sum; every unit does the same.

    Attributes:
        deep: Bursts that are added to one accumulator.
        outputs: Accumulators of one unit that get a sum.
        registers: Accumulators used at a time, and columns between two fences.
    """

    deep: int
    outputs: int
    registers: int

    def tiles(self) -> list[int]:
        """Accumulators of each pass."""
        full, rest = divmod(self.outputs, self.registers)
        return [self.registers] * full + [rest] * (rest > 0)


def sums(share: Sums, organisation: Organisation, mode: AllBankMode) -> Requests:
    """Requests of a sum in one channel: rows of the operands, banks of a unit in turn, then the accumulators to the first bank."""
    program = Program(organisation, mode)
    program.enter(instructions=mode.banks_per_unit + 3)
    program.switch()
    banks, read, written = mode.banks_per_unit, 0, 0
    result = -(-share.deep * share.outputs // (banks * organisation.columns)) + 1
    for outputs in share.tiles():
        for first, count in chunks(read, share.deep * outputs, share.registers, organisation.columns):
            number, column = divmod(first, organisation.columns)
            program.columns(RD, number % banks, number // banks, column, count)
        read += share.deep * outputs
        program.columns(WR, 0, result, written, outputs)
        written += outputs
    program.switch()
    program.leave()
    return program.take()


def chunks(start: int, count: int, size: int, width: int) -> Iterator[tuple[int, int]]:
    """First column and length of runs of at most `size` columns that stay within rows of `width`, from `start` on."""
    end = start + count
    while start < end:
        run = min(size, end - start, width - start % width)
        yield start, run
        start += run


def uploaded(run: Served) -> dict[str, int]:
    """Commands of a logged run in single-bank mode before the first special row, which is the first park."""
    from pimsim.dram.standard import Command

    column = np.isin(run.log[:, 1], (int(Command.RD), int(Command.WR)))
    ends = np.flatnonzero(column & (run.log[:, 3] < 0))
    before = run.log[: int(ends[0]) if len(ends) else len(run.log)]
    own = before[(before[:, 2] >= 0) & (before[:, 3] >= 0)]
    return {command.name: int((own[:, 1] == int(command)).sum()) for command in (Command.ACT, Command.WR)}
