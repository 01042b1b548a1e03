"""What the tasklets of one DPU do for a kernel, as steps of instructions and MRAM transfers for `pimsim.kernels.dpu`.

Modelling decisions:
    * Matrix-vector: a DPU holds whole rows. The input vectors lie in WRAM when they fit, loaded by all tasklets together, else one at a
      time, else they are streamed beside the matrix. Rows go to tasklets in turn; with fewer rows than tasklets several share a row by
      columns, and the first of them adds the partial sums in their order.
    * Element-wise: tiles of the operands go to tasklets in turn; each is read, computed in place and written back.
    * Look-ups: the bags of a DPU go to tasklets in turn; a tasklet reads the bag's row numbers, then row by row, adds each to an
      accumulator in WRAM, and writes the sum to MRAM.
    * Transfers are rounded up to 8 bytes; those longer than the DMA's limit are several in a row, taken as one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pimsim.units.dpu_instructions import BARRIER, whole

Steps = NDArray[np.int64]
Dma = Callable[[int, bool], int]
GRANULE = 8  # bytes
TILE = 5  # instructions around a tile: two addresses, compare, jump, DMA
BAG = 12  # instructions around a bag: sample, list address and length, output address, two DMA
LOOKUP = 6  # instructions around a look-up: row number, row address, DMA, compare, jump
CLEAR = 3  # store, increment, jump for each cleared accumulator
FOLD = 3  # address, load, addition for each partial sum of another tasklet
JOIN = -1  # a barrier, in the second column


def padded(size: int) -> int:
    """Bytes rounded up to what the DMA moves."""
    return -(-size // GRANULE) * GRANULE


def row_share(rows: int, tasklets: int) -> int:
    """Tasklets that work on one row together."""
    return max(1, tasklets // rows)


def vector_bytes(columns: int, bits: int) -> int:
    """Bytes of an input vector; against 4-bit weights it has 8 bits an element."""
    return -(-columns * max(bits, 8) // 8)


def column_chunk(columns: int, bits: int, share: int) -> int:
    """Columns of one tasklet when `share` tasklets split a row: whole 8-byte words."""
    word = GRANULE * 8 // bits
    return -(-columns // (share * word)) * word


@dataclass(frozen=True)
class MatVecWork:
    """One DPU's share of a matrix product.

    Attributes:
        rows: Rows of the matrix.
        columns: Columns.
        bits: Bits of a weight.
        vectors: Input vectors.
        mac: Instructions of one multiply-accumulate.
        passes: Times the matrix is read: 1, or once a vector.
        resident: True when the vectors of a pass lie in WRAM, false when they are streamed.
        tile_bytes: Bytes of a matrix tile.
    """

    rows: int
    columns: int
    bits: int
    vectors: int
    mac: float
    passes: int
    resident: bool
    tile_bytes: int


def _pack(programs: list[list[tuple[int, int]]]) -> tuple[Steps, Steps]:
    lengths = [len(program) for program in programs]
    steps = np.array([step for program in programs for step in program], np.int64).reshape(-1, 2)
    return steps, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def _transfers(size: int, limit: int) -> list[int]:
    """A transfer cut into pieces that the DMA takes."""
    full, rest = divmod(padded(size), limit)
    return [limit] * full + ([rest] if rest else [])


def matvec(work: MatVecWork, tasklets: int, dma: Dma) -> tuple[Steps, Steps]:
    """Programs of a matrix product.

    Args:
        work: The DPU's share.
        tasklets: Tasklets that run.
        dma: Cycles of a transfer, from bytes and whether it writes.
    """
    share = row_share(work.rows, tasklets)
    chunk = column_chunk(work.columns, work.bits, share)
    programs: list[list[tuple[int, int]]] = [[] for _ in range(tasklets)]
    together = work.vectors // work.passes
    for _ in range(work.passes):
        if work.resident:
            _load_vectors(programs, together * vector_bytes(work.columns, work.bits), dma)
        for tasklet, program in enumerate(programs):
            if tasklet >= share * work.rows:
                continue
            start = tasklet % share * chunk
            columns = min(chunk, work.columns - start)
            mine = len(range(tasklet // share, work.rows, tasklets // share))
            if columns > 0:
                program.extend(_row(work, columns, together, dma) * mine)
        _finish_rows(programs, work, share, together, dma)
    return _pack([program or [(1, 0)] for program in programs])


def _load_vectors(programs: list[list[tuple[int, int]]], size: int, dma: Dma) -> None:
    """All tasklets bring a part of the input vectors to WRAM and meet."""
    piece = padded(-(-size // len(programs)))
    for number, program in enumerate(programs):
        mine = min(piece, padded(size) - number * piece)
        if mine > 0:
            program.append((TILE, dma(mine, False)))
        program.append((BARRIER, JOIN))


def _row(work: MatVecWork, columns: int, vectors: int, dma: Dma) -> list[tuple[int, int]]:
    """One row, or a tasklet's columns of it, for some vectors."""
    steps: list[tuple[int, int]] = []
    for size in _transfers(-(-columns * work.bits // 8), work.tile_bytes):
        elements = min(size * 8 // work.bits, columns)
        columns -= elements
        steps.append((TILE, dma(size, False)))
        if not work.resident:
            steps.extend([(TILE, dma(padded(vector_bytes(elements, work.bits)), False))] * vectors)
        steps.append((whole(elements * work.mac * vectors), 0))
    return steps


def _finish_rows(programs: list[list[tuple[int, int]]], work: MatVecWork, share: int, vectors: int, dma: Dma) -> None:
    """Partial sums of a row are added where tasklets shared it; finished rows are written to MRAM."""
    for number, program in enumerate(programs):
        if share > 1 or work.passes > 1:
            program.append((BARRIER, JOIN))
        if number % share or number // share >= work.rows:
            program.append((1, 0))
            continue
        outputs = len(range(number // share, work.rows, max(1, len(programs) // share))) * vectors
        if share > 1:
            program.append((FOLD * (share - 1) * outputs, 0))
        program.append((TILE, dma(padded(outputs * 4), True)))


def elementwise(elements: int, bits: int, operands: int, loop: float, tile_bytes: int, tasklets: int, dma: Dma) -> tuple[Steps, Steps]:
    """Programs of an element-wise function in place of its first operand; `loop` instructions an element."""
    per_tile = tile_bytes * 8 // bits
    tiles = -(-elements // per_tile)
    full = _tile(per_tile, bits, operands, loop, dma)
    programs = [full * len(range(tasklet, tiles, tasklets)) for tasklet in range(tasklets)]
    last = elements - (tiles - 1) * per_tile
    holder = (tiles - 1) % tasklets
    programs[holder] = programs[holder][: -len(full)] + _tile(last, bits, operands, loop, dma)
    return _pack(programs)


def _tile(elements: int, bits: int, operands: int, loop: float, dma: Dma) -> list[tuple[int, int]]:
    size = padded(-(-elements * bits // 8))
    return [(TILE, dma(size, False))] * operands + [(whole(elements * loop) + TILE, dma(size, True))]


@dataclass(frozen=True)
class Bags:
    """Look-ups sorted by processor, tasklet, bag and request, as one entry a (processor, bag); all (n,).

    Attributes:
        processor: Processor of each bag.
        tasklet: Tasklet within the processor.
        table: Table of each bag.
        count: Look-ups that the processor makes for the bag.
    """

    processor: Steps
    tasklet: Steps
    table: Steps
    count: Steps


def bags_of(processor: Steps, bag: Steps, tables: int, tasklets: int) -> Bags:
    """Groups look-ups, given by processor and (sample, table) number, both (n,); a processor's bags go to its tasklets in turn."""
    width = int(bag.max(initial=0)) + 1
    keys, count = np.unique(processor * width + bag, return_counts=True)
    owner = keys // width
    first = np.concatenate([[True], owner[1:] != owner[:-1]])
    turn = np.arange(len(keys)) - np.maximum.accumulate(np.where(first, np.arange(len(keys)), 0))
    order = np.lexsort((turn, turn % tasklets, owner))
    return Bags(owner[order], (turn % tasklets)[order], (keys % width % tables)[order], count[order])


def gather(bags: Bags, tables: list[tuple[int, int, float]], tasklets: int, dma: Dma) -> tuple[Steps, Steps, Steps]:
    """Programs of look-ups for every processor that has any.

    Args:
        bags: The work.
        tables: For each table bytes of a row in one DPU, elements of it, instructions to add one element.
        tasklets: Tasklets of a processor.
        dma: Cycles of a transfer.

    Returns:
        Steps, first step of each tasklet, numbers of the processors.
    """
    size, dim, add = (np.array(column) for column in zip(*tables, strict=True))
    read = np.array([dma(padded(int(b)), False) for b in size], np.int64)[bags.table]
    write = np.array([dma(padded(int(d) * 4), True) for d in dim], np.int64)[bags.table]
    lists = np.array([0] + [dma(padded(4 * n), False) for n in range(1, int(bags.count.max(initial=0)) + 1)], np.int64)[bags.count]
    work = np.ceil(dim * add - 1e-9).astype(np.int64)[bags.table]
    clear = (CLEAR * dim).astype(np.int64)[bags.table]
    length = bags.count + 2  # the list of rows, each row, the sum
    begin = np.cumsum(length) - length
    bag = np.repeat(np.arange(len(length)), length)
    position = np.arange(int(length.sum())) - begin[bag]
    steps = np.stack([LOOKUP + work[bag], read[bag]], axis=1)
    first, second, last = position == 0, position == 1, position == length[bag] - 1
    steps[first] = np.stack([np.full(len(length), BAG), lists], axis=1)
    steps[second, 0] = LOOKUP + clear
    steps[last] = np.stack([LOOKUP + work, write], axis=1)
    processors, index = np.unique(bags.processor, return_inverse=True)
    slots = np.bincount(index * tasklets + bags.tasklet, length, minlength=len(processors) * tasklets).astype(np.int64)
    return steps, np.concatenate([[0], np.cumsum(slots)]), processors
