"""UPMEM's DRAM processing units (DPU): a multithreaded 32-bit core beside each 64 MB bank, with scratchpads and a DMA engine.

Modelling decisions:
    * Pipeline, DMA engine and transfers are those of `dpu_core`; tasklets compute while others transfer.
    * Kernels run tasklet by tasklet through `pimsim.kernels.dpu`; every DPU with different work is simulated, the slowest sets the time.
    * DPUs share nothing: operands come from the host and results go back over the DIMM's interface, counted under `end_to_end`. Buffers
      of a parallel transfer are as long as the longest.
    * 32-bit operators are `arithmetic_32`; 4, 8 and 16 bits are integers (there is no FP16) with 32-bit sums.
    * `mapping.tables`: `row` deals rows over DPUs, `table` fills one DPU after another, `striped` cuts each row by columns.

Not modelled: kernel launch, the loop that wakes tasklets from a barrier, operators' bias, the host's routing of look-ups.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from pimsim.dram.standard import common_timing, resolve_organisation
from pimsim.errors import ConfigError
from pimsim.graph import AnyPrimitive, Elementwise, Gather, MatMul, Product, Reduce
from pimsim.mapping.placement import Coordinates, place
from pimsim.spec.device import DeviceSpec
from pimsim.units import dpu_instructions as isa
from pimsim.units import dpu_products
from pimsim.units import dpu_programs as programs
from pimsim.units.cost import MEMORY, KernelRun, LookUps, OperatorCost, add_up
from pimsim.units.dpu_core import DpuSpec

if TYPE_CHECKING:
    from pimsim.units.dpu_programs import Steps

FUNCTIONS = {"add": "add", "sub": "sub", "mul": "mul", "square": "mul", "relu": "relu"}


@dataclass(frozen=True)
class Launch:
    """One kernel on the DPUs.

    Attributes:
        cycles: DPU cycles of the slowest DPU.
        instructions: Instructions that it issues.
        dma_cycles: Cycles that its DMA engine is busy.
        busy_cycles: Cycles of all DPUs together.
        dpus: DPUs that work.
        send: Bytes that the host sends to each DPU before.
        send_kind: `to` or `broadcast`.
        receive: Bytes that it reads from each DPU afterwards.
        host_additions: Additions that are left to the host.
    """

    cycles: int
    instructions: int
    dma_cycles: int
    busy_cycles: float
    dpus: int
    send: int = 0
    send_kind: str = "to"
    receive: int = 0
    host_additions: int = 0

    @property
    def limited_by(self) -> str:
        """What the slowest DPU spends its cycles on."""
        if self.dma_cycles > 0.9 * self.cycles:
            return "MRAM transfers"
        return "instruction issue" if self.instructions > 0.9 * self.cycles else "latency of few tasklets"


def product_launch(
    item: Product, work: dpu_products.ProductWork, pieces: int, used: int, batch: int, slowest: tuple[int, int, int]
) -> Launch:
    """The launch of a product whose slowest DPU takes `slowest` cycles, instructions and DMA cycles."""
    busy = slowest[0] * batch * item.groups * pieces / work.items
    return Launch(*slowest, busy, used, work.items * work.row_bytes, "to", programs.padded(work.items * work.outputs * 4))


def sum_launch(item: Reduce, work: dpu_products.SumWork, batch: int, slowest: tuple[int, int, int]) -> Launch:
    """The launch of a sum whose slowest DPU takes `slowest` cycles, instructions and DMA cycles."""
    left = item.elements_out * batch * (work.parts - 1)
    return Launch(*slowest, float(slowest[0]) * work.dpus, work.dpus, receive=programs.padded(work.columns * 4), host_additions=left)


class UpmemSpec(DpuSpec):
    """Kernels on DPUs."""

    COMMANDS_OF: ClassVar[str] = "of the slowest DPU"
    kind: Literal["upmem"]

    def _run(self, steps: Steps, offsets: Steps) -> Steps:
        """Cycles, instructions and DMA cycles of each processor, (n, 3)."""
        from pimsim.kernels.dpu import run_tasklets

        return np.asarray(run_tasklets(steps, offsets, self.tasklets, self.issue_distance))

    def _matvec(self, item: MatMul, device: DeviceSpec, batch: int) -> Launch:
        """Rows dealt over DPUs; spare DPUs hold copies of the matrix and share the vectors."""
        total, vectors, bits = self.dpus_of(device), batch * item.vectors, item.weight_bits
        used = min(item.out_features, total)
        groups = min(total // used, vectors)
        each = -(-vectors // groups)
        rows = -(-item.out_features // used)
        self._check_mram(rows * programs.padded(-(-item.in_features * bits // 8)), "kernel gemv: rows of a DPU")
        one = programs.vector_bytes(item.in_features, bits)
        free = self.wram_bytes - self.tasklets * (self.stack_bytes + self.tile_bytes)
        resident = one <= free
        passes = each if resident and each * one > free else 1
        mac = isa.mac_loop(self.dtype(bits), self.library_instructions, isa.multiply_steps(self.int32_operand_bits))
        found = {}
        for share in {rows, max(rows - 1, 1)}:
            work = programs.MatVecWork(share, item.in_features, bits, each, mac, passes, resident, self.tile_bytes)
            found[share] = self._run(*programs.matvec(work, self.tasklets, self.transfer_cycles))[0]
        long = item.out_features - used * (rows - 1)
        busy = (long * found[rows][0] + (used - long) * found[max(rows - 1, 1)][0]) * vectors / each
        cycles, issued, dma = (int(value) for value in found[rows])
        out, kind = rows * each * 4, "broadcast" if groups == 1 else "to"
        return Launch(cycles, issued, dma, float(busy), used * groups, each * one, kind, programs.padded(out))

    def dealt(self, item: Elementwise, device: DeviceSpec, batch: int) -> tuple[int, float]:
        """Elements that each DPU gets, in blocks, and instructions for one of them.

        Raises:
            ConfigError: a function, width or size that the DPUs do not run.
        """
        bits = item.activation_bits
        if item.function not in FUNCTIONS or bits == 4:
            raise ConfigError(f"kernel {item.function}: {bits} bits: DPUs run {', '.join(FUNCTIONS)} on 8, 16 or 32 bits")
        dtype, op, word = self.dtype(bits), FUNCTIONS[item.function], programs.GRANULE * 8 // bits
        steps = isa.multiply_steps(self.int32_operand_bits)
        loop = isa.element_loop(op, dtype, item.operands, self.library_instructions, steps)
        loop += max(item.operands - 2, 0) * isa.operation(op, dtype, self.library_instructions, steps)
        if item.operands * self.tile_bytes * self.tasklets + self.stack_bytes * self.tasklets > self.wram_bytes:
            raise ConfigError(f"kernel {item.function}: operands: {item.operands}: tiles of {self.tasklets} tasklets exceed the WRAM")
        each = -(-item.elements * batch // (self.dpus_of(device) * word)) * word
        self._check_mram(item.operands * each * bits // 8, f"kernel {item.function}: operands of a DPU")
        return each, loop

    def _elementwise(self, item: Elementwise, device: DeviceSpec, batch: int) -> Launch:
        """Elements dealt over DPUs in blocks."""
        each, loop = self.dealt(item, device, batch)
        bits, elements = item.activation_bits, item.elements * batch
        program = programs.elementwise(each, bits, item.operands, loop, self.tile_bytes, self.tasklets, self.transfer_cycles)
        cycles, issued, dma = (int(value) for value in self._run(*program)[0])
        return Launch(cycles, issued, dma, cycles * elements / each, -(-elements // each), receive=each * bits // 8)

    def _gather(self, item: Gather, device: DeviceSpec, where: Coordinates, bag: NDArray[np.int64]) -> Launch:
        """Look-ups done where their rows live."""
        total = self.dpus_of(device)
        pieces = 1
        if device.mapping.tables == "striped":
            pieces = min(min(t.row_bytes for t in item.tables) // programs.GRANULE or 1, total)
        owner = self.owner(where, device, total // pieces)
        tables = []
        for table in item.tables:
            dtype, dim = self.dtype(table.bits), -(-table.dim // pieces)
            size = programs.padded(-(-dim * table.bits // 8))
            need = self.tasklets * (self.stack_bytes + size + 4 * dim)
            if need > self.wram_bytes:
                raise ConfigError(f"table {table.name}: dim: {table.dim}: rows and sums of {self.tasklets} tasklets exceed the WRAM")
            tables.append((size, dim, isa.accumulate_loop(dtype, self.library_instructions)))
        bags = programs.bags_of(owner, bag, len(tables), self.tasklets)
        steps, offsets, _ = programs.gather(bags, tables, self.tasklets, self.transfer_cycles)
        result = self._run(steps, offsets)
        slowest = int(np.argmax(result[:, 0]))
        dims = np.array([dim for _, dim, _ in tables])[bags.table]
        widths = np.array([table.dim for table in item.tables])
        spare = int(widths[bags.table].sum() - widths[np.unique(bag) % len(tables)].sum())
        cycles, issued, dma = (int(value) for value in result[slowest])
        return Launch(
            cycles,
            issued,
            dma,
            float(result[:, 0].sum()) * pieces,
            len(result) * pieces,
            send=programs.padded(int((np.bincount(bags.processor, bags.count + 1) * 4).max())),
            receive=int(np.bincount(bags.processor, dims * 4).max()),
            host_additions=spare,
        )

    def _product(self, item: Product, device: DeviceSpec, batch: int) -> Launch:
        """Samples dealt over DPUs."""
        work, pieces, used = dpu_products.product_work(self, item, self.dpus_of(device), batch)
        cycles, issued, dma = (int(v) for v in self._run(*dpu_products.product(work, self.tasklets, self.transfer_cycles))[0])
        return product_launch(item, work, pieces, used, batch, (cycles, issued, dma))

    def _sum(self, item: Reduce, device: DeviceSpec, batch: int) -> Launch:
        """Columns, or parts of the vectors, dealt over DPUs."""
        work = dpu_products.sum_work(self, item, self.dpus_of(device), batch)
        found = self._run(*dpu_products.total(work, self.tile_bytes, self.tasklets, self.transfer_cycles))[0]
        cycles, issued, dma = (int(value) for value in found)
        return sum_launch(item, work, batch, (cycles, issued, dma))

    def owner(self, where: Coordinates, device: DeviceSpec, groups: int) -> NDArray[np.int64]:
        """DPU, or group of DPUs that share a row, of each look-up: rows in turn, or for `table` the bytes one DPU after another."""
        organisation = resolve_organisation(device.dram)
        bank = where.channel + where.bank * device.dram.channels
        offset = where.row * organisation.columns + where.column
        if device.mapping.tables == "table":
            position = (bank * organisation.rows * organisation.columns + offset) * organisation.burst_bytes
            return np.asarray(position // self.mram_bytes % groups)
        return np.asarray((bank + offset // where.bursts * (device.dram.channels * organisation.banks)) % groups)

    def _check_mram(self, size: int, what: str) -> None:
        if size > self.mram_bytes:
            raise ConfigError(f"{what}: {size:,} bytes do not fit the {self.mram_bytes:,} of its MRAM; use more channels or fewer bits")

    def _launch_ps(self, launch: Launch) -> int:
        return math.ceil(launch.cycles * 1_000_000 / self.clock_mhz)

    def _transfers(self, launch: Launch, device: DeviceSpec) -> OperatorCost:
        """Sending operands, reading results back, and the host's additions."""
        from pimsim.units.host import roofline

        moved = (launch.send + launch.receive) * launch.dpus
        time = self.transfer_ps(launch.send, launch.dpus, launch.send_kind, device)
        time += self.transfer_ps(launch.receive, launch.dpus, "from", device)
        energy = self.transfer_pj(launch.send, launch.receive, launch.dpus, device)
        if launch.host_additions:
            host = roofline(device, launch.host_additions, launch.receive * launch.dpus)
            time, energy = time + host.latency_ps, add_up(energy, host.energy_pj)
        return OperatorCost("pim", time, (MEMORY,), energy, moved)

    def _dpu_energy(self, launch: Launch) -> dict[str, float]:
        return {"dpu": launch.busy_cycles / self.clock_mhz * self.active_mw * 1e3}  # microseconds times milliwatts are nanojoules

    def run_kernel(
        self, item: AnyPrimitive, device: DeviceSpec, batch: int, lookups: LookUps | None = None, end_to_end: bool = False
    ) -> KernelRun:
        """One kernel on all DPUs; `commands` are instructions and DMA cycles of the slowest one."""
        if isinstance(item, Gather) and lookups is not None:
            where = place(item.tables, device.mapping.tables, resolve_organisation(device.dram), device.dram.channels).locate(
                lookups.table, lookups.index
            )
            launch = self._gather(item, device, where, lookups.sample * len(item.tables) + lookups.table)
        elif isinstance(item, MatMul):
            launch = self._matvec(item, device, batch)
        elif isinstance(item, Elementwise):
            launch = self._elementwise(item, device, batch)
        elif isinstance(item, Product):
            launch = self._product(item, device, batch)
        elif isinstance(item, Reduce):
            launch = self._sum(item, device, batch)
        else:
            return super().run_kernel(item, device, batch, lookups, end_to_end)
        time, energy, limit = self._launch_ps(launch), self._dpu_energy(launch), launch.limited_by
        if end_to_end:
            around = self._transfers(launch, device)
            limit = limit if time > around.latency_ps else "host transfers"
            time, energy = time + around.latency_ps, add_up(energy, around.energy_pj)
        counts = {"DPU_INSTRUCTIONS": launch.instructions, "DPU_DMA_CYCLES": launch.dma_cycles}
        return KernelRun(-(-time // common_timing(device.dram)["tCK_ps"]), counts, energy, limit)

    def _cost(self, launch: Launch, device: DeviceSpec) -> OperatorCost:
        around, inside = self._transfers(launch, device), self._launch_ps(launch)
        return OperatorCost(
            unit="pim",
            latency_ps=inside + around.latency_ps,
            resources=(MEMORY,),
            energy_pj=add_up(self._dpu_energy(launch), around.energy_pj),
            external_bytes=around.external_bytes,
            limited_by=launch.limited_by if inside > around.latency_ps else "host transfers",
        )

    def matmul(self, item: MatMul, device: DeviceSpec, batch: int) -> OperatorCost:
        """Stationary weights times a batch's vectors: vectors sent, results read back."""
        return self._cost(self._matvec(item, device, batch), device)

    def product(self, item: Product, device: DeviceSpec, batch: int) -> OperatorCost:
        """Products of two activations: vectors sent, results read back."""
        return self._cost(self._product(item, device, batch), device)

    def gather(self, item: Gather, device: DeviceSpec, batch: int, where: Coordinates, bag: NDArray[np.int64]) -> OperatorCost:
        """Embedding gather-and-reduce: row numbers sent, partial sums read back and added by the host."""
        return self._cost(self._gather(item, device, where, bag), device)

    def compute(self, item: AnyPrimitive, *operands: NDArray[Any]) -> NDArray[Any]:
        """Values in C's arithmetic: integers wrap around, FP32 is IEEE's, sums in the order of tasklets and then DPUs (rows dealt)."""
        from pimsim.units import dpu_values

        if isinstance(item, MatMul):
            return dpu_values.matvec(item, self.dtype(item.weight_bits), self.dpus, self.tasklets, *operands)
        if isinstance(item, Elementwise) and item.function in FUNCTIONS and item.activation_bits > 4:
            return dpu_values.elementwise(item, self.dtype(item.activation_bits), *operands)
        if isinstance(item, Gather):
            return dpu_values.gather(self.dtype(item.tables[0].bits), self.dpus, *operands)
        if isinstance(item, Product):
            return dpu_values.product(item, self.dtype(item.activation_bits), list(operands))
        if isinstance(item, Reduce):
            work = dpu_products.sum_work(self, item, self.dpus, len(operands[0]))
            return dpu_values.reduction(work, self.dtype(item.activation_bits), self.tile_bytes, self.tasklets, operands[0])
        return super().compute(item, *operands)


UNIT = UpmemSpec
