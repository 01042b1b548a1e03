"""Products of two activations and sums on DPUs: how the work is dealt, and what the tasklets of one DPU do.

Modelling decisions:
    * Product: samples are dealt over DPUs; with fewer samples than DPUs the outputs of a sample are dealt over several, each of which gets
      all of its vectors. Tasklets bring the vectors from MRAM to WRAM together and meet; outputs go to them in turn, element by element
      in order; each writes its own. Where both operands do not fit, blocks of their rows are multiplied pair by pair.
    * Sum: the vectors of a DPU lie in MRAM one after another, in tiles that go to tasklets in turn; a tasklet adds each element to an
      accumulator of its column in WRAM (a scalar: in a register). Then the tasklets meet and add each other's accumulators, a share of
      the columns each, in the order of tasklets. With fewer columns than DPUs several DPUs add a part of the vectors; the host adds those.
    * As in `gemv`, operands lie in MRAM; the host's transfers count end to end.
"""

from __future__ import annotations

from dataclasses import dataclass

from pimsim.errors import ConfigError
from pimsim.graph import Product, Reduce
from pimsim.units import dpu_instructions as isa
from pimsim.units.dpu_core import DpuSpec
from pimsim.units.dpu_instructions import BARRIER, whole
from pimsim.units.dpu_programs import JOIN, TILE, Dma, Steps, _load_vectors, _pack, _transfers, padded

OUTPUT = 8  # instructions around an output: row and column, two addresses, compare, store, increment, jump


@dataclass(frozen=True)
class ProductWork:
    """One DPU's share of a product.

    Attributes:
        items: Samples (and groups) one after another.
        blocks: For each pair of blocks of a sample, bytes that are brought to WRAM and outputs.
        k: Elements of a vector.
        mac: Instructions of one multiply-accumulate.
        row_bytes: Bytes of all vectors of a sample.
        tile_bytes: Bytes of outputs that a tasklet writes at a time.
    """

    items: int
    blocks: tuple[tuple[int, int], ...]
    k: int
    mac: float
    row_bytes: int
    tile_bytes: int

    @property
    def outputs(self) -> int:
        """Outputs of one sample in this DPU."""
        return sum(outputs for _, outputs in self.blocks)


def product_work(unit: DpuSpec, item: Product, dpus: int, batch: int) -> tuple[ProductWork, int, int]:
    """One DPU's share of the products of a batch, DPUs that share a sample, and DPUs that work.

    Raises:
        ConfigError: two vectors do not fit the WRAM, or a DPU's samples its MRAM.
    """
    total, bits = batch * item.groups, item.activation_bits
    row = padded(-(-item.k * bits // 8))
    free = unit.wram_bytes - unit.tasklets * (unit.stack_bytes + unit.tile_bytes)
    if 2 * row > free:
        raise ConfigError(f"kernel dot: vectors of {item.k} elements: two of them exceed the {free:,} bytes of WRAM beside the stacks")
    pieces, blocks = _blocks(item, row, free, max(1, dpus // total))
    operands = (item.m + (0 if item.triangle else item.n)) * row
    mac = isa.mac_loop(unit.dtype(bits), unit.library_instructions, isa.multiply_steps(unit.int32_operand_bits))
    items = -(-total // min(total, dpus))
    work = ProductWork(items, blocks, item.k, mac, min(operands, sum(size for size, _ in blocks)), unit.tile_bytes)
    if items * (work.row_bytes + 4 * work.outputs) > unit.mram_bytes:
        raise ConfigError(f"kernel dot: {items} samples of a DPU exceed the {unit.mram_bytes:,} bytes of its MRAM")
    return work, pieces, min(total, dpus) * pieces


def _blocks(item: Product, row: int, free: int, dpus: int) -> tuple[int, tuple[tuple[int, int], ...]]:
    """DPUs that share a sample, at most `dpus`, and the pairs of blocks (bytes, outputs) of the one with the most.

    The blocks are the smallest that give every DPU at most one pair, if the WRAM holds them.
    """
    most = max(item.m, item.n)
    if dpus == 1 and (item.m + (0 if item.triangle else item.n)) * row <= free:
        return 1, (((item.m + (0 if item.triangle else item.n)) * row, item.outputs // item.groups),)
    side = next((size for size in range(1, most + 1) if _pairs(item, size)[2] <= dpus), most)
    side = min(side, free // (2 * row))
    down, across, pairs = _pairs(item, side)
    first, second = -(-item.m // down), -(-item.n // across)
    share = -(-pairs // dpus)
    crossed = min(share, pairs - down) if item.triangle else share  # pairs of different blocks
    halves = ((first * row, first * (first - 1) // 2),) * (share - crossed if first > 1 else 0)
    return -(-pairs // share), (((first + second) * row, first * second),) * crossed + halves


def _pairs(item: Product, side: int) -> tuple[int, int, int]:
    """Blocks of at most `side` vectors of the first and of the second operand, and the pairs of them that have outputs."""
    down, across = -(-item.m // side), -(-item.n // side)
    return down, across, down * (down + 1) // 2 if item.triangle else down * across


def product(work: ProductWork, tasklets: int, dma: Dma) -> tuple[Steps, Steps]:
    """Programs of a product: for each sample and pair of blocks load and meet, compute, write, and meet before the next load."""
    programs: list[list[tuple[int, int]]] = [[] for _ in range(tasklets)]
    for size, outputs in work.blocks:
        _load_vectors(programs, size, dma)
        for number, program in enumerate(programs):
            mine = len(range(number, outputs, tasklets))
            for done in range(0, mine, work.tile_bytes // 4):
                some = min(work.tile_bytes // 4, mine - done)
                program.append((whole(some * (OUTPUT + work.k * work.mac)) + TILE, dma(padded(some * 4), True)))
            program.append((BARRIER, JOIN))
    return _pack([program * work.items for program in programs])


@dataclass(frozen=True)
class SumWork:
    """One DPU's share of a sum.

    Attributes:
        elements: Elements that the DPU adds.
        columns: Sums that it makes.
        bits: Bits of an element.
        add: Instructions for one element.
        fold: Instructions for one accumulator of another tasklet.
        parts: DPUs that share a sum.
        dpus: DPUs that work.
    """

    elements: int
    columns: int
    bits: int
    add: float
    fold: float
    parts: int
    dpus: int


def sum_work(unit: DpuSpec, item: Reduce, dpus: int, batch: int) -> SumWork:
    """One DPU's share of the sums of a batch.

    Raises:
        ConfigError: 4-bit elements, or accumulators that do not fit the WRAM.
    """
    bits, total = item.activation_bits, item.elements_out * batch
    if bits == 4:
        raise ConfigError("kernel reduce: 4 bits: DPUs add 8, 16 or 32 bits")
    count = -(-item.elements_in // item.elements_out)
    columns = -(-total // dpus)
    part = -(-count // max(1, min(dpus // total, count * bits // 64)))
    dtype = unit.dtype(bits)
    fold = isa.ADDRESS + 1 + isa.operation("add", isa.sum_type(dtype), unit.library_instructions)
    add = isa.accumulate_loop(dtype, unit.library_instructions) if columns > 1 else fold + isa.LOOP
    if unit.tasklets * (unit.stack_bytes + unit.tile_bytes + 4 * columns) > unit.wram_bytes:
        raise ConfigError(f"kernel reduce: {columns} sums a DPU: accumulators of {unit.tasklets} tasklets exceed the WRAM")
    if padded(-(-part * columns * bits // 8)) > unit.mram_bytes:
        raise ConfigError(f"kernel reduce: {part * columns} elements of a DPU exceed the {unit.mram_bytes:,} bytes of its MRAM")
    parts = -(-count // part)
    return SumWork(part * columns, columns, bits, add, fold, parts, -(-total // columns) * parts)


def sum_tiles(work: SumWork, tile_bytes: int) -> list[int]:
    """Bytes of the tiles of a DPU's elements."""
    return _transfers(-(-work.elements * work.bits // 8), tile_bytes)


def total(work: SumWork, tile_bytes: int, tasklets: int, dma: Dma) -> tuple[Steps, Steps]:
    """Programs of a sum: tiles in turn, meet, fold the tasklets' accumulators, write."""
    programs: list[list[tuple[int, int]]] = [[] for _ in range(tasklets)]
    left = work.elements
    tiles = sum_tiles(work, tile_bytes)
    for number, size in enumerate(tiles):
        elements = min(size * 8 // work.bits, left)
        left -= elements
        programs[number % tasklets] += [(TILE, dma(size, False)), (whole(elements * work.add), 0)]
    for number, program in enumerate(programs):
        program.append((BARRIER, JOIN))
        mine = min(folded(work, tasklets), work.columns - number * folded(work, tasklets))
        if mine > 0:
            program.append((whole(work.fold * (min(len(tiles), tasklets) - 1) * mine + TILE), dma(padded(mine * 4), True)))
    return _pack(programs)


def folded(work: SumWork, tasklets: int) -> int:
    """Columns whose accumulators one tasklet adds up: whole 8-byte words."""
    return -(-work.columns // (2 * tasklets)) * 2
