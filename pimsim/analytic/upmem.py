"""UPMEM's DPUs in closed form: issue slots, DMA engine and latency of tasklets as bounds, transfers to and from the host as they are.

Modelling decisions:
    * Between two barriers the tasklets of a DPU take the longest of: all instructions through one issue slot, all transfers through one
      DMA engine, and the longest tasklet alone, whose instructions are `issue_distance` cycles apart. Each bound has the start that
      it cannot overlap (the first transfer) and the end (the instructions after the last one).
    * Tasklets that start together queue at the DMA engine once; from then on they stay apart.
    * The look-ups of every DPU are counted in the trace; the DPU for which the bounds are largest sets the time.

Not modelled: what `pimsim.units.upmem` leaves out; phases in which some tasklets compute and others are already done.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pimsim.analytic.cost import Costs
from pimsim.analytic.table import DeviceTable
from pimsim.analytic.trace import Trace
from pimsim.analytic.unit import Analytic
from pimsim.errors import ConfigError
from pimsim.graph import AnyPrimitive, Elementwise, Gather, MatMul, Product, Reduce
from pimsim.spec.device import DeviceSpec
from pimsim.units import dpu_instructions as isa
from pimsim.units import dpu_products
from pimsim.units import dpu_programs as programs
from pimsim.units.upmem import Launch, UpmemSpec, product_launch, sum_launch

Array = NDArray[np.float64]
LIMITS = ("MRAM transfers", "instruction issue", "latency of few tasklets", "host transfers")


@dataclass(frozen=True)
class Phase:
    """What the tasklets of a DPU do between two barriers; numbers, or arrays over DPUs.

    Attributes:
        tasklets: Tasklets that work.
        instructions: Instructions of all of them, or the cycles that the issue slot needs for them as tasklets finish one by one.
        dma: DMA cycles of all of them.
        longest: Instructions of the tasklet with the most.
        longest_dma: Its DMA cycles.
        lead: Instructions of a tasklet before its first transfer.
        first: Cycles of a first transfer.
        tail: Instructions of a tasklet after its last read.
    """

    tasklets: Any
    instructions: Any
    dma: Any
    longest: Any
    longest_dma: Any
    lead: float
    first: Any
    tail: Any

    def cycles(self, distance: int) -> Any:
        """Cycles of the phase."""
        start = self.lead * np.maximum(distance, self.tasklets)
        issue = self.instructions + np.where(self.dma > 0, np.minimum(start, self.lead * distance) + self.first - self.lead, 0)
        engine = start + self.dma + self.tail * distance
        alone = self.longest * distance + self.longest_dma + (self.tasklets - 1) * np.maximum(self.first, 1)
        return np.maximum(np.maximum(issue, engine), alone)


def matvec(unit: UpmemSpec, work: programs.MatVecWork) -> tuple[float, float, float]:
    """Cycles, instructions and DMA cycles of one DPU's share of a matrix product; the steps are those of `dpu_programs.matvec`."""
    dma, tasklets = unit.transfer_cycles, unit.tasklets
    share = programs.row_share(work.rows, tasklets)
    chunk = programs.column_chunk(work.columns, work.bits, share)
    active = min(share * work.rows, tasklets)
    together = work.vectors // work.passes
    steps = programs._row(work, min(chunk, work.columns), together, dma)
    one, moved = sum(step[0] for step in steps), sum(step[1] for step in steps)
    workers = max(tasklets // share, 1)
    most, rows = -(-work.rows // workers), work.rows * min(share, -(-work.columns // chunk))
    main = Phase(active, rows * one, rows * moved, most * one, most * moved, programs.TILE, steps[0][1], steps[-1][0])
    outputs, holders = most * together, min(workers, work.rows)
    fold = programs.FOLD * (share - 1) * outputs if share > 1 else 0
    write = dma(programs.padded(outputs * 4), True)
    last = fold + programs.TILE + (programs.BAG if share > 1 or work.passes > 1 else 0)
    end = Phase(holders, last * holders, write * holders, last, write, last, write, 0)
    phases = [main, end]
    if work.resident:
        size = programs.padded(together * programs.vector_bytes(work.columns, work.bits))
        piece = programs.padded(-(-size // tasklets))
        users = -(-size // piece)
        load = dma(piece, False)
        each = programs.TILE + isa.BARRIER
        phases.insert(0, Phase(users, each * tasklets, load * users, each, load, programs.TILE, load, isa.BARRIER))
    cycles = sum(float(phase.cycles(unit.issue_distance)) for phase in phases)
    issued, busy = (sum(getattr(phase, name) for phase in phases) for name in ("instructions", "dma"))
    return cycles * work.passes, issued * work.passes, busy * work.passes


def elementwise(unit: UpmemSpec, elements: int, bits: int, operands: int, loop: float) -> tuple[float, float, float]:
    """Cycles, instructions and DMA cycles of one DPU's share of an element-wise function."""
    per_tile = unit.tile_bytes * 8 // bits
    tiles = -(-elements // per_tile)
    full = programs._tile(min(per_tile, elements), bits, operands, loop, unit.transfer_cycles)
    rest = programs._tile(elements - (tiles - 1) * per_tile, bits, operands, loop, unit.transfer_cycles)
    one, moved = (sum(step[at] for step in full) for at in range(2))
    last, less = (sum(step[at] for step in rest) for at in range(2))
    active, most = min(tiles, unit.tasklets), -(-tiles // unit.tasklets)
    short = most == 1 and tiles == 1
    longest, longest_dma = (last, less) if short else (most * one, most * moved)
    total, busy = (tiles - 1) * one + last, (tiles - 1) * moved + less
    phase = Phase(active, total, busy, longest, longest_dma, programs.TILE, full[0][1], 0 if tiles > active else full[-1][0])
    return float(phase.cycles(unit.issue_distance)), total, busy


def product(unit: UpmemSpec, work: dpu_products.ProductWork) -> tuple[float, float, float]:
    """Cycles, instructions and DMA cycles of one DPU's share of a product; the steps are those of `dpu_products.product`."""
    dma, tasklets = unit.transfer_cycles, unit.tasklets
    cycles, issued, busy = 0.0, 0.0, 0.0
    for size, outputs in work.blocks:
        piece = programs.padded(-(-size // tasklets))
        users, load, each = -(-size // piece), dma(piece, False), programs.TILE + isa.BARRIER
        active, most, rest = min(outputs, tasklets), -(-outputs // tasklets), outputs % tasklets
        writes = -(-most * 4 // work.tile_bytes)
        write, one = dma(programs.padded(most * 4), True), dpu_products.OUTPUT + work.k * work.mac
        end = programs.TILE * writes + isa.BARRIER
        turns = outputs // tasklets * max(unit.issue_distance, tasklets) + (rest > 0) * max(unit.issue_distance, rest)
        phases = (
            Phase(users, each * tasklets, load * users, each, load, programs.TILE, load, isa.BARRIER),
            Phase(active, one * turns, 0, most * one, 0, 0, 0, 0),
            Phase(active, end * tasklets, write * active, end, write, programs.TILE, write / writes, isa.BARRIER),
        )
        cycles += sum(float(phase.cycles(unit.issue_distance)) for phase in phases)
        issued += outputs * one + phases[0].instructions + phases[2].instructions
        busy += sum(phase.dma for phase in phases)
    return cycles * work.items, issued * work.items, busy * work.items


def total(unit: UpmemSpec, work: dpu_products.SumWork) -> tuple[float, float, float]:
    """Cycles, instructions and DMA cycles of one DPU's share of a sum; the steps are those of `dpu_products.total`."""
    dma, tasklets = unit.transfer_cycles, unit.tasklets
    tiles = dpu_products.sum_tiles(work, unit.tile_bytes)
    per_tile = tiles[0] * 8 // work.bits
    active, most = min(len(tiles), tasklets), -(-len(tiles) // tasklets)
    one, moved = programs.TILE + min(per_tile, work.elements) * work.add, dma(tiles[0], False)
    last = programs.TILE + (work.elements - (len(tiles) - 1) * per_tile) * work.add
    instructions, busy = (len(tiles) - 1) * one + last, (len(tiles) - 1) * moved + dma(tiles[-1], False)
    main = Phase(active, instructions, busy, most * one, most * moved, programs.TILE, moved, 0 if most > 1 else one - programs.TILE)
    mine = min(dpu_products.folded(work, tasklets), work.columns)
    holders, write = -(-work.columns // mine), dma(programs.padded(mine * 4), True)
    fold = isa.BARRIER + work.fold * (active - 1) * mine + programs.TILE
    end = Phase(holders, fold * holders, write * holders, fold, write, fold, write, 0)
    cycles = float(main.cycles(unit.issue_distance)) + float(end.cycles(unit.issue_distance))
    return cycles, main.instructions + end.instructions + isa.BARRIER * (tasklets - holders), main.dma + end.dma


def gather(unit: UpmemSpec, bags: programs.Bags, tables: list[tuple[int, int, float]]) -> tuple[Array, Array, Array]:
    """Cycles, instructions and DMA cycles of every DPU that has look-ups, each (dpus,); the steps are those of `dpu_programs.gather`."""
    dma, distance, tasklets = unit.transfer_cycles, unit.issue_distance, unit.tasklets
    size, dim, add = (np.array(column) for column in zip(*tables, strict=True))
    read = np.array([dma(programs.padded(int(b)), False) for b in size], float)[bags.table]
    write = np.array([dma(programs.padded(int(d) * 4), True) for d in dim], float)[bags.table]
    lists = np.array([0] + [dma(programs.padded(4 * n), False) for n in range(1, int(bags.count.max(initial=0)) + 1)], float)[bags.count]
    work = np.ceil(dim * add - 1e-9)[bags.table]
    one = programs.BAG + (bags.count + 1) * programs.LOOKUP + bags.count * work + (programs.CLEAR * dim)[bags.table]
    moved = lists + bags.count * read + write
    processors, number = np.unique(bags.processor, return_inverse=True)
    slot = number * tasklets + bags.tasklet
    shape = (len(processors), tasklets)
    each = np.bincount(slot, one, len(processors) * tasklets).reshape(shape)
    busy = np.bincount(slot, moved, len(processors) * tasklets).reshape(shape)
    longest = (each * distance + busy).argmax(axis=1)
    row = np.arange(len(processors))
    first = np.zeros(len(processors))
    np.maximum.at(first, number, lists)
    phase = Phase(
        (each > 0).sum(axis=1),
        shared(each.astype(np.float64), distance),
        busy.sum(axis=1),
        each[row, longest],
        busy[row, longest],
        programs.BAG,
        first,
        float(work.min(initial=np.inf)) if len(work) else 0.0,
    )
    return np.asarray(phase.cycles(distance), float), each.sum(axis=1), phase.dma


def shared(instructions: Array, distance: int) -> Array:
    """Cycles in which tasklets that take turns issue their instructions, (dpus, tasklets): those with fewer are done sooner."""
    ordered = np.sort(instructions, axis=1)
    running = instructions.shape[1] - np.arange(instructions.shape[1])
    steps: Array = (np.diff(ordered, axis=1, prepend=0) * np.maximum(running, distance)).sum(axis=1)
    return steps


class Upmem(Analytic):
    """Kernels on DPUs; `pimsim.units.upmem` deals the work, closed forms take the place of its simulated DPUs."""

    def matmul(self, item: MatMul, table: DeviceTable, batch: int) -> Costs:
        return self._columns(table, [(self._matvec(item, device, batch), device) for device in table.devices], True)

    def product(self, item: Product, table: DeviceTable, batch: int) -> Costs:
        return self._columns(table, [(self._product(item, device, batch), device) for device in table.devices], True)

    def gather(self, item: Gather, table: DeviceTable, batch: int, trace: Trace) -> Costs:
        return self._columns(table, [(self._gather(item, device, trace), device) for device in table.devices], True)

    def kernel(self, item: AnyPrimitive, table: DeviceTable, batch: int, trace: Trace | None, end_to_end: bool) -> Costs:
        launches = []
        for device in table.devices:
            if isinstance(item, Gather) and trace is not None:
                launch = self._gather(item, device, trace)
            elif isinstance(item, MatMul):
                launch = self._matvec(item, device, batch)
            elif isinstance(item, Elementwise):
                launch = self._elementwise(item, device, batch)
            elif isinstance(item, Product):
                launch = self._product(item, device, batch)
            elif isinstance(item, Reduce):
                launch = self._sum(item, device, batch)
            else:
                raise ConfigError(f"kernel {item.op}: units of kind upmem do not run it")
            launches.append((launch, device))
        counts = {"DPU_INSTRUCTIONS": [one.instructions for one, _ in launches], "DPU_DMA_CYCLES": [one.dma_cycles for one, _ in launches]}
        costs = self._columns(table, launches, end_to_end)
        return replace(costs, commands={name: np.array(column, float) for name, column in counts.items()})

    def _columns(self, table: DeviceTable, launches: list[tuple[Launch, DeviceSpec]], end_to_end: bool) -> Costs:
        """Time on the DPUs and, `end_to_end`, of the transfers around it."""
        count = len(launches)
        time, moved, limit = np.zeros(count), np.zeros(count), np.zeros(count, np.int64)
        energy: dict[str, Array] = {}
        for at, (launch, device) in enumerate(launches):
            unit: Any = device.unit
            time[at] = unit._launch_ps(launch)
            parts = unit._dpu_energy(launch)
            limit[at] = LIMITS.index(launch.limited_by)
            if end_to_end:
                around = unit._transfers(launch, device)
                limit[at] = limit[at] if time[at] > around.latency_ps else 3
                time[at] += around.latency_ps
                moved[at] = around.external_bytes
                parts = parts | around.energy_pj
            for name, value in parts.items():
                energy.setdefault(name, np.zeros(count))[at] = value
        return Costs("pim", time, energy, moved, {}, limit, LIMITS)

    def _matvec(self, item: MatMul, device: DeviceSpec, batch: int) -> Launch:
        unit: Any = device.unit
        total, vectors, bits = unit.dpus_of(device), batch * item.vectors, item.weight_bits
        used = min(item.out_features, total)
        groups = min(total // used, vectors)
        each, rows = -(-vectors // groups), -(-item.out_features // used)
        unit._check_mram(rows * programs.padded(-(-item.in_features * bits // 8)), "kernel gemv: rows of a DPU")
        one = programs.vector_bytes(item.in_features, bits)
        free = unit.wram_bytes - unit.tasklets * (unit.stack_bytes + unit.tile_bytes)
        resident = one <= free
        passes = each if resident and each * one > free else 1
        mac = isa.mac_loop(unit.dtype(bits), unit.library_instructions, isa.multiply_steps(unit.int32_operand_bits))
        cycles, issued, dma = matvec(unit, programs.MatVecWork(rows, item.in_features, bits, each, mac, passes, resident, unit.tile_bytes))
        busy = cycles * item.out_features / rows * vectors / each
        kind = "broadcast" if groups == 1 else "to"
        sizes = {"send": each * one, "send_kind": kind, "receive": programs.padded(rows * each * 4)}
        return Launch(math.ceil(cycles), int(issued), int(dma), busy, used * groups, **sizes)

    def _elementwise(self, item: Elementwise, device: DeviceSpec, batch: int) -> Launch:
        unit: Any = device.unit
        each, loop = unit.dealt(item, device, batch)
        bits, elements = item.activation_bits, item.elements * batch
        cycles, issued, dma = elementwise(unit, each, bits, item.operands, loop)
        busy = cycles * elements / each
        return Launch(math.ceil(cycles), int(issued), int(dma), busy, -(-elements // each), receive=each * bits // 8)

    def _product(self, item: Product, device: DeviceSpec, batch: int) -> Launch:
        unit: Any = device.unit
        work, pieces, used = dpu_products.product_work(unit, item, unit.dpus_of(device), batch)
        cycles, issued, dma = product(unit, work)
        return product_launch(item, work, pieces, used, batch, (math.ceil(cycles), int(issued), int(dma)))

    def _sum(self, item: Reduce, device: DeviceSpec, batch: int) -> Launch:
        unit: Any = device.unit
        work = dpu_products.sum_work(unit, item, unit.dpus_of(device), batch)
        cycles, issued, dma = total(unit, work)
        return sum_launch(item, work, batch, (math.ceil(cycles), int(issued), int(dma)))

    def _gather(self, item: Gather, device: DeviceSpec, trace: Trace) -> Launch:
        unit: Any = device.unit
        total, pieces = unit.dpus_of(device), 1
        if device.mapping.tables == "striped":
            pieces = min(min(t.row_bytes for t in item.tables) // programs.GRANULE or 1, total)
        key = ("upmem", *trace.geometry(device), total, pieces, unit.tasklets, unit.mram_bytes)
        bags = trace.once(
            key,
            lambda: programs.bags_of(unit.owner(trace.where(device), device, total // pieces), trace.bag, len(item.tables), unit.tasklets),
        )
        tables = []
        for table in item.tables:
            dtype, dim = unit.dtype(table.bits), -(-table.dim // pieces)
            tables.append((programs.padded(-(-dim * table.bits // 8)), dim, isa.accumulate_loop(dtype, unit.library_instructions)))
        cycles, issued, dma = gather(unit, bags, tables)
        slowest = int(np.argmax(cycles))
        dims = np.array([dim for _, dim, _ in tables])[bags.table]
        widths = np.array([table.dim for table in item.tables])
        spare = int(widths[bags.table].sum() - widths[np.unique(trace.bag) % len(tables)].sum())
        return Launch(
            math.ceil(cycles[slowest]),
            int(issued[slowest]),
            int(dma[slowest]),
            float(cycles.sum()) * pieces,
            len(cycles) * pieces,
            send=programs.padded(int((np.bincount(bags.processor, bags.count + 1) * 4).max())),
            receive=int(np.bincount(bags.processor, dims * 4).max()),
            host_additions=spare,
        )


ANALYTIC = Upmem()
