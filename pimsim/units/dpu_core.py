"""One DPU and its path to the host: what its micro-benchmarks measure, in closed form.

Modelling decisions:
    * One instruction issues a cycle, and an instruction of a tasklet at least `issue_distance` cycles after its predecessor (revolver
      pipeline without bypass). n tasklets of i instructions each: (i - 1) * max(issue_distance, n) + n cycles.
    * An MRAM transfer keeps the DMA engine for a fixed part plus its bytes. Transfers do not overlap.
    * A rank takes part in a parallel transfer at its measured rate, one DPU of it never faster than a serial transfer. All ranks transfer
      at once, as far as the bus of their channel allows.
    * The energy of a transfer is that of ordinary reads and writes of the DIMMs: rows, bursts and interface.
    * With another clock, a running DPU's power goes with it (energy of a cycle stays), MRAM transfers keep 2 bytes a cycle, and of their
      fixed part the time of the bank stays. The 3 mW or so of MRAM accesses in that power scale with the logic's voltage like the rest.

Not modelled: the DRAM timing and refresh of a bank below the DMA figures, draining the pipeline, WRAM port conflicts, the host's work to
transpose data, limits of the host over several channels.
"""

from __future__ import annotations

import math
from typing import Literal, Self

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from pimsim.dram.standard import common_timing, resolve_organisation
from pimsim.errors import ConfigError, unknown_name
from pimsim.spec.device import DeviceSpec, UnitSpec
from pimsim.spec.operating import ScaledLogic
from pimsim.units import dpu_instructions as isa

STREAM = {"copy": (16, 0), "add": (24, 1), "scale": (16, 0), "triad": (24, 1)}
"""STREAM on INT64 in WRAM: bytes of an iteration, additional loads."""


class DpuSpec(ScaledLogic, UnitSpec):
    """DPUs of all ranks and their transfers."""

    dpus: PositiveInt = 2556
    """DPUs that work, at most; a device with fewer ranks has fewer."""
    dpus_per_rank: PositiveInt = 64
    """DPUs of one rank."""
    clock_mhz: PositiveFloat
    """Clock of a DPU."""
    nominal_clock_mhz: PositiveFloat = 350.0
    """Clock for which `active_mw`, `dma_read_cycles` and `dma_write_cycles` hold."""
    issue_distance: PositiveInt = 11
    """Cycles between two instructions of one tasklet."""
    max_tasklets: PositiveInt = 24
    """Hardware threads."""
    tasklets: PositiveInt = 16
    """Tasklets that a kernel runs."""
    mram_bytes: PositiveInt
    """Bank of one DPU."""
    wram_bytes: PositiveInt
    """Scratchpad of one DPU."""
    iram_bytes: PositiveInt
    """Instruction memory of one DPU."""
    stack_bytes: NonNegativeInt = 1024
    """WRAM that each tasklet keeps for its stack."""
    tile_bytes: int = Field(default=1024, ge=8, le=2048, multiple_of=8)
    """MRAM transfer of streaming kernels."""
    dma_min_bytes: PositiveInt = 8
    """Shortest MRAM transfer, and its granularity."""
    dma_max_bytes: PositiveInt = 2048
    """Longest MRAM transfer."""
    dma_read_cycles: NonNegativeFloat
    """Fixed part of an MRAM read."""
    dma_write_cycles: NonNegativeFloat
    """Fixed part of an MRAM write."""
    dma_bank_ns: NonNegativeFloat = 0.0
    """Time within a fixed part that the bank takes to close a row and open another one, whatever the DPU's clock."""
    dma_bytes_per_cycle: PositiveFloat
    """Bytes that a transfer moves each cycle after its fixed part."""
    library_instructions: dict[str, NonNegativeFloat]
    """Instructions of routines that are constants, call included, by `<type>_<operation>`: `fp32_add`, `int64_mul` ..."""
    arithmetic_32: Literal["fp32", "int32"] = "fp32"
    """What 32-bit operators are."""
    int32_operand_bits: int = Field(default=32, ge=1, le=32)
    """Length of the INT32 operands of a kernel; products end early on short ones."""
    send_gbps: PositiveFloat
    """Host to the DPUs of one rank in parallel."""
    receive_gbps: PositiveFloat
    """DPUs of one rank to host in parallel."""
    broadcast_gbps: PositiveFloat
    """Host to the DPUs of one rank, the same bytes to each, copies counted."""
    serial_send_gbps: PositiveFloat
    """Host to one DPU."""
    serial_receive_gbps: PositiveFloat
    """One DPU to host."""
    active_mw: NonNegativeFloat
    """Power of one running DPU with its share of the chip."""
    sram_mm2_per_kib: PositiveFloat
    """Area of scratchpad and instruction memory."""
    core_mm2: PositiveFloat
    """Area of pipeline, register file and DMA engine of one DPU."""

    @model_validator(mode="after")
    def _tasklets_fit(self) -> Self:
        if self.tasklets > self.max_tasklets:
            raise ValueError(f"tasklets: {self.tasklets}: at most max_tasklets = {self.max_tasklets}")
        if min(self.dma_read_cycles, self.dma_write_cycles) < self.dma_bank_ns * self.nominal_clock_mhz / 1000:
            raise ValueError(f"dma_bank_ns: {self.dma_bank_ns}: longer than a fixed part at {self.nominal_clock_mhz:g} MHz")
        if self.tasklets * (self.stack_bytes + 2 * self.tile_bytes) > self.wram_bytes:
            raise ValueError(f"tasklets: {self.tasklets} stacks and pairs of tiles do not fit wram_bytes = {self.wram_bytes}")
        return self

    def at_clock(self) -> Self:
        """Power and fixed parts of transfers at the clock of the DPU: energy of a cycle stays, and so does the time of the bank."""
        if self.clock_mhz == self.nominal_clock_mhz:
            return self
        bank = self.dma_bank_ns * (self.clock_mhz - self.nominal_clock_mhz) / 1000
        update = {
            "active_mw": self.active_mw * self.clock_mhz / self.nominal_clock_mhz,
            "dma_read_cycles": self.dma_read_cycles + bank,
            "dma_write_cycles": self.dma_write_cycles + bank,
        }
        note = {name: f"{self.source.get(name, '')}, at {self.clock_mhz:g} MHz" for name in update}
        return self.model_copy(update=update | {"nominal_clock_mhz": self.clock_mhz, "source": self.source | note})

    def dpus_of(self, device: DeviceSpec) -> int:
        """DPUs of a device."""
        return min(self.dpus, device.dram.channels * device.dram.ranks * self.dpus_per_rank)

    def dtype(self, bits: int) -> str:
        """Type of operators of some bits."""
        return self.arithmetic_32 if bits == 32 else f"int{bits}"

    def area_mm2(self, device: DeviceSpec) -> float:
        """Area of all DPUs."""
        sram = (self.wram_bytes + self.iram_bytes) / 1024 * self.sram_mm2_per_kib
        return (sram + self.core_mm2) * self.dpus_of(device)

    def compute_cycles(self, instructions: int, tasklets: int) -> int:
        """Cycles of a phase in which each tasklet issues `instructions`, from the first issue to the one after the last."""
        return (instructions - 1) * max(self.issue_distance, tasklets) + tasklets

    def issue_rate(self, tasklets: int) -> float:
        """Instructions a cycle of a long phase.

        Raises:
            ConfigError: more tasklets than the DPU has, or none.
        """
        if not 1 <= tasklets <= self.max_tasklets:
            raise ConfigError(f"tasklets: {tasklets}: must be 1 to {self.max_tasklets}")
        return tasklets / max(self.issue_distance, tasklets)

    def throughput_mops(self, op: str, dtype: str, tasklets: int = 16) -> float:
        """Million operations a second of one DPU in a loop over an array in WRAM with a constant (PrIM's micro-benchmark).

        Args:
            op: `add`, `sub`, `mul` or `div`.
            dtype: `int8` ... `int64`, `fp32`, `fp64`.
            tasklets: Tasklets that share the DPU.
        """
        loop = isa.element_loop(op, dtype, 1, self.library_instructions)
        return self.clock_mhz * self.issue_rate(tasklets) / loop

    def stream_mbps(self, kernel: str, tasklets: int = 16) -> float:
        """Megabytes a second of STREAM on INT64 arrays in WRAM, unrolled: `copy`, `add`, `scale` or `triad`."""
        if kernel not in STREAM:
            raise ConfigError(unknown_name("STREAM kernel", kernel, STREAM))
        size, additional = STREAM[kernel]
        instructions = 2.0 + additional
        if kernel in ("add", "triad"):
            instructions += isa.operation("add", "int64", self.library_instructions)
        if kernel in ("scale", "triad"):
            instructions += isa.operation("mul", "int64", self.library_instructions)
        return self.clock_mhz * self.issue_rate(tasklets) * size / instructions

    def dma_cycles(self, size_bytes: int, write: bool = False) -> int:
        """Cycles of one MRAM transfer.

        Raises:
            ConfigError: a size that the DMA engine does not take.
        """
        if size_bytes % self.dma_min_bytes or not self.dma_min_bytes <= size_bytes <= self.dma_max_bytes:
            allowed = f"multiples of {self.dma_min_bytes} up to {self.dma_max_bytes}"
            raise ConfigError(f"MRAM transfer: {size_bytes} bytes (allowed: {allowed})")
        return self.transfer_cycles(size_bytes, write)

    def transfer_cycles(self, size_bytes: int, write: bool = False) -> int:
        """Cycles of as many MRAM transfers as the bytes need, one after the other."""
        fixed = self.dma_write_cycles if write else self.dma_read_cycles
        return math.ceil(-(-size_bytes // self.dma_max_bytes) * fixed) + math.ceil(size_bytes / self.dma_bytes_per_cycle)

    def mram_bandwidth(self, size_bytes: int, write: bool = False, dpus: int = 1) -> float:
        """Megabytes a second of back-to-back MRAM transfers of one size in some DPUs."""
        return dpus * size_bytes * self.clock_mhz / self.dma_cycles(size_bytes, write)

    def transfer_pj(self, sent_bytes: int, received_bytes: int, dpus: int, device: DeviceSpec) -> dict[str, float]:
        """Energy by part of a parallel transfer to and from `dpus` DPUs, bytes for each: bursts, rows opened for them, and the interface.

        A burst reaches the same bank of every chip of a rank, so that as many DPUs share its row and its column.
        """
        from pimsim.engine.memory import command_energy

        organisation = resolve_organisation(device.dram)
        chips = organisation.channel_bits // organisation.device_bits
        banks, piece = math.ceil(dpus / chips), organisation.burst_bytes // chips
        sizes = {"WR": -(-sent_bytes // piece), "RD": -(-received_bytes // piece)}  # bursts of a bank
        counts = {name: banks * size for name, size in sizes.items()}
        counts["ACT"] = banks * sum(-(-size // organisation.columns) for size in sizes.values())
        return command_energy(device.dram, counts, (sent_bytes + received_bytes) * dpus * 8)

    def transfer_ps(self, bytes_per_dpu: int, dpus: int, kind: str, device: DeviceSpec | None = None) -> int:
        """Time of a transfer between host and MRAM banks.

        Args:
            bytes_per_dpu: Bytes for each DPU.
            dpus: DPUs; ranks are filled one after the other.
            kind: `to`, `from`, `broadcast`, or one DPU at a time: `serial_to`, `serial_from`.
            device: Limits the ranks of a channel to its bus; without it ranks are independent.
        """
        if kind in ("serial_to", "serial_from"):
            rate = self.serial_send_gbps if kind == "serial_to" else self.serial_receive_gbps
            return math.ceil(dpus * bytes_per_dpu * 1000 / rate)
        rates = {"to": self.send_gbps, "from": self.receive_gbps, "broadcast": self.broadcast_gbps}
        if kind not in rates:
            raise ConfigError(unknown_name("transfer", kind, [*rates, "serial_to", "serial_from"]))
        alone = self.serial_receive_gbps if kind == "from" else self.serial_send_gbps
        rank_bytes = min(dpus, self.dpus_per_rank) * bytes_per_dpu
        time = max(rank_bytes * 1000 / rates[kind], bytes_per_dpu * 1000 / alone)
        if device is not None:
            ranks = -(-dpus // self.dpus_per_rank)
            organisation, timing = resolve_organisation(device.dram), common_timing(device.dram)
            bus_gbps = organisation.burst_bytes * 1000 / (timing["nBL"] * timing["tCK_ps"])
            time = max(time, -(-ranks // device.dram.channels) * rank_bytes * 1000 / bus_gbps)
        return math.ceil(time)
