"""SK hynix GDDR6-AiM: a 16-lane BF16 multiply-accumulate unit at every bank, driven by all-bank commands of the host.

Modelling decisions:
    * Every unit multiplies one column of its bank with the same column of the channel's global buffer, every max(nCCDS, nCCDL) clocks:
      the units keep up with the columns, as in the public simulator. With a slower clock of their own a column takes a cycle of that clock,
      rounded up to clocks of the memory; opening rows, mode switches and the global buffer keep theirs.
    * Matrix-vector: a group is as many outputs as there are banks in all channels; output o of a group lies in bank o, its weights in
      order along a row (1024 of them), the next 1024 in the next row. A group is WR_BIAS, for each row [WR_GB and] MAC_ABK, then RD_MAC.
      The global buffer holds one row's worth of inputs, so a vector that fits is written once and a longer one again for every group.
    * A kernel alone gives all channels to one vector after another; weights are used again only where their row happens to be open.
      Within a model, channels are split over the vectors of a batch where that needs fewer groups (weights are then held more than once).
    * Element-wise products: the banks of a bank group hold both operands and take the result; one column command makes a burst of
      products in each bank group. Activations: a value a bank is written to the MAC registers, looked up (AF), read back (RD_AF).
    * Weights and activations are BF16 whatever the model's precision: narrower ones are widened, wider ones rounded.
    * The host receives finished results with RD_MAC and RD_AF, so these count in a kernel alone too.
    * Values: products are exact, an adder tree adds the lanes pairwise, the accumulator adds columns in order. The accumulator is FP32
      (decision: its width is not public), rounded to BF16 when read, for the registers that the host reads and writes have 16 bits.
      Activations are the exact function rounded to BF16 (decision: the look-up table's size and interpolation are not public).
    * Energy: an all-bank MAC costs three reads, an element-wise product a quarter of it, AF one read in every bank (CENT's power script);
      of the three reads, the multipliers and adders are the part that scales with the logic's voltage.

Not modelled: the shift of mantissas to a common exponent in the adder tree (bank-wide mantissa shift), energy of the global buffer
(0.2 pJ a burst in CENT's script), leakage of the units, preparation of weights and look-up tables, element-wise addition (AiM adds in
the host's registers), capacity taken by weights held more than once.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from pimsim.dram.standard import Organisation, resolve_organisation, resolve_timing
from pimsim.errors import ConfigError
from pimsim.graph import AnyPrimitive, Elementwise, MatMul, Product, Reduce
from pimsim.numerics.formats import round_bf16
from pimsim.spec.device import DeviceSpec, UnitSpec
from pimsim.spec.operating import ScaledLogic
from pimsim.units import aim_products
from pimsim.units.aim_timing import AimResult, Instruction, issue_program
from pimsim.units.cost import MEMORY, KernelRun, LookUps, OperatorCost, add_up

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ACTIVATIONS: dict[str, Callable[[NDArray[np.float32]], NDArray[Any]]] = {
    "relu": lambda x: np.maximum(x, 0),
    "sigmoid": lambda x: 0.5 + 0.5 * np.tanh(x.astype(np.float64) / 2),
    "tanh": lambda x: np.tanh(x.astype(np.float64)),
}
"""Functions of the look-up tables, in the order of their rows."""


class AimSpec(ScaledLogic, UnitSpec):
    """Multiply-accumulate units at the banks, with one global buffer a channel."""

    kind: Literal["aim"]
    units_per_channel: PositiveInt = 16
    """Units in one channel, one a bank."""
    lanes: PositiveInt = 16
    """BF16 multipliers of one unit: one burst."""
    global_buffer_bytes: PositiveInt = 2048
    """Buffer of a channel that holds a piece of the input vector."""
    accumulator: Literal["fp32", "bf16"] = "fp32"
    """Format in which a unit accumulates."""
    clock_mhz: PositiveFloat | None = None
    """Clock of the units; none = in step with the memory, one cycle each max(nCCDS, nCCDL)."""
    column_read_pj: NonNegativeFloat
    """Energy of reading one column of one bank to its unit."""
    column_mac_pj: NonNegativeFloat
    """Energy of one unit's multiply-accumulates of one column."""
    lane_mm2: PositiveFloat
    """Area of one lane (multiplier and its share of the adder tree)."""
    buffer_mm2_per_byte: PositiveFloat
    """Area of one byte of global buffer."""
    control_mm2: NonNegativeFloat
    """Area of decoder, registers and activation logic of one unit."""

    def column_gap(self, bits: int, organisation: Organisation | None, timing: Mapping[str, int]) -> int:
        """Clocks between two all-bank column commands; `bits` does not matter, everything is BF16."""
        return max(timing["nCCDS"], timing["nCCDL"], self.logic_clocks(timing))

    def logic_clocks(self, timing: Mapping[str, int]) -> int:
        """Clocks of the memory in one cycle of the units; 0 where they keep step with it."""
        return 0 if self.clock_mhz is None else math.ceil(1e6 / (self.clock_mhz * timing["tCK_ps"]) - 1e-9)

    def logic_clock_mhz(self, device: DeviceSpec) -> float:
        """Own clock, or in step with the memory's column commands."""
        timing = resolve_timing(device.dram)
        return self.clock_mhz or 1e6 / (max(timing["nCCDS"], timing["nCCDL"]) * timing["tCK_ps"])

    def peak_gbps(self, bits: int, organisation: Organisation, timing: Mapping[str, int]) -> float:
        """Bytes per nanosecond that all units of one channel read from their banks."""
        gap_ns = self.column_gap(bits, organisation, timing) * timing["tCK_ps"] / 1000
        return self.units_per_channel * organisation.burst_bytes / gap_ns

    def peak_gflops(self, organisation: Organisation, timing: Mapping[str, int]) -> float:
        """Arithmetic of all units of one channel, GFLOP/s (a multiply-accumulate is two)."""
        return 2 * self.units_per_channel * self.lanes / (self.column_gap(16, organisation, timing) * timing["tCK_ps"] / 1000)

    def area_mm2(self, device: DeviceSpec) -> float:
        """Area of all units and global buffers as the sum of their parts."""
        unit = self.lanes * self.lane_mm2 + self.control_mm2
        return device.dram.channels * (self.units_per_channel * unit + self.global_buffer_bytes * self.buffer_mm2_per_byte)

    def run_kernel(
        self, item: AnyPrimitive, device: DeviceSpec, batch: int, lookups: LookUps | None = None, end_to_end: bool = False
    ) -> KernelRun:
        """A matrix-vector product, an element-wise product, an activation, a product of activations or a sum, alone on all channels.

        Raises:
            ConfigError: another kernel, or one that does not fit into the banks.
        """
        organisation = self._checked(device)
        in_banks = host_adds = 0
        if isinstance(item, Product):
            done = aim_products.multiply(self, item, device, batch)
            scale = done.share.together * batch * item.groups / done.share.items  # channels' shares of work
            everywhere = {part: value * scale for part, value in done.energy_pj.items()}
            return KernelRun(cycles=done.clocks, commands=done.counts, energy_pj=everywhere, limited_by=done.limited_by)
        if isinstance(item, MatMul):
            program = self.gemv_program(item, batch * item.vectors, device, device.dram.channels)
        elif isinstance(item, Elementwise) and item.function == "mul" and item.operands == 2:
            program = self.multiply_program(item.elements * batch, device)
            in_banks = item.output_bytes * batch
        elif isinstance(item, Elementwise) and item.function in ACTIVATIONS:
            program = self.activation_program(item.function, item.elements * batch, device)
        elif isinstance(item, Reduce):
            shape = aim_products.checked_sums(self, item, device, batch)
            program, host_adds = aim_products.sum_program(self, shape, device), item.elements_out * batch * (shape.parts - 1)
        else:
            name = item.function if isinstance(item, Elementwise) else item.op
            allowed = ", ".join(("gemv", "dot", "reduce", "mul of two operands", *ACTIVATIONS))
            raise ConfigError(f"kernel {name}: units of kind aim do not run it (allowed: {allowed})")
        run = issue_program(device.dram, program, logic_clocks=self.logic_clocks(resolve_timing(device.dram)))
        energy = {part: value * device.dram.channels for part, value in self.energy_pj(run.counts, device, organisation).items()}
        cycles, limited = run.cycles, self._limit(run, resolve_timing(device.dram))
        if end_to_end and in_banks:
            from pimsim.engine.memory import stream

            back = stream(device.dram, in_banks)
            cycles += -(-back.latency_ps // resolve_timing(device.dram)["tCK_ps"])
            energy = add_up(energy, back.energy_pj)
        if end_to_end and host_adds:
            from pimsim.units.host import roofline

            host = roofline(device, host_adds, host_adds * 2)
            cycles += -(-host.latency_ps // resolve_timing(device.dram)["tCK_ps"])
            energy = add_up(energy, host.energy_pj)
        return KernelRun(cycles=cycles, commands=run.counts, energy_pj=energy, limited_by=limited)

    def matmul(self, item: MatMul, device: DeviceSpec, batch: int) -> OperatorCost:
        """Stationary weights times a batch's vectors: upload, multiply-accumulate and read-back; channels split over the vectors."""
        organisation, timing = self._checked(device), resolve_timing(device.dram)
        vectors = batch * item.vectors
        together, each = self.split(item, vectors, device)
        program = self.gemv_program(item, each, device, together)
        begin = timing["nREFI"] // 2  # on average a kernel starts in the middle of a refresh interval
        run = issue_program(device.dram, program, begin, self.logic_clocks(timing))
        scale = together * vectors / each  # channel-shares of work: `together` channels for each vector
        energy = {part: value * scale for part, value in self.energy_pj(run.counts, device, organisation).items()}
        return OperatorCost(
            unit="pim",
            latency_ps=run.cycles * timing["tCK_ps"],
            resources=(MEMORY,),
            energy_pj=energy,
            external_bytes=int(_bursts(run.counts) * organisation.burst_bytes * scale),
            commands={name: int(count * scale) for name, count in run.counts.items()},
            limited_by=self._limit(run, timing),
        )

    def product(self, item: Product, device: DeviceSpec, batch: int) -> OperatorCost:
        """Products of two activations: one written to the banks, the other to the global buffers, results with RD_MAC."""
        return aim_products.product_cost(self, item, device, batch)

    def split(self, item: MatMul, vectors: int, device: DeviceSpec) -> tuple[int, int]:
        """How many channels work on one vector together, and how many vectors each of them sees: the fewest groups, then fewest copies."""
        channels = device.dram.channels

        def work(together: int) -> tuple[int, int]:
            groups = -(-item.out_features // (together * self.units_per_channel))
            return -(-vectors // (channels // together)) * groups, -together

        together = min((c for c in range(1, channels + 1) if channels % c == 0), key=work)
        return together, -(-vectors // (channels // together))

    def gemv_program(self, item: MatMul, vectors: int, device: DeviceSpec, together: int) -> list[Instruction]:
        """One channel's instructions for `vectors` vectors, `together` channels sharing the outputs of each.

        Raises:
            ConfigError: the weights do not fit into the banks.
        """
        organisation = self._checked(device)
        groups = -(-item.out_features // (together * self.units_per_channel))
        columns = -(-item.in_features // self.lanes)
        piece = min(organisation.columns, self.global_buffer_bytes // organisation.burst_bytes)
        pieces = [(start, min(piece, columns - start)) for start in range(0, columns, piece)]
        rows = -(-columns // organisation.columns)
        _fit(groups * rows, organisation, f"gemv of {item.out_features} x {item.in_features}")
        program = [Instruction("W_CFR")]
        for _ in range(vectors):
            for group in range(groups):
                program.append(Instruction("WR_BIAS"))
                for start, count in pieces:
                    if group == 0 or len(pieces) > 1:
                        program.append(Instruction("WR_GB", count))
                    program.append(Instruction("MAC_ABK", count, group * rows + start // organisation.columns))
                program.append(Instruction("RD_MAC"))
        return program

    def multiply_program(self, elements: int, device: DeviceSpec) -> list[Instruction]:
        """One channel's instructions for the element-wise product of two vectors.

        Raises:
            ConfigError: the operands do not fit into the banks.
        """
        organisation = self._checked(device)
        columns = -(-elements // (device.dram.channels * organisation.bankgroups * self.lanes))
        rows = -(-columns // organisation.columns)
        _fit(rows, organisation, f"mul of {elements} elements")
        counts = [min(organisation.columns, columns - row * organisation.columns) for row in range(rows)]
        return [Instruction("W_CFR"), *(Instruction("EWMUL", count, row) for row, count in enumerate(counts))]

    def activation_program(self, function: str, elements: int, device: DeviceSpec) -> list[Instruction]:
        """One channel's instructions for an activation function of every element: one element a bank at a time."""
        self._checked(device)
        table = list(ACTIVATIONS).index(function)
        rounds = -(-elements // (device.dram.channels * self.units_per_channel))
        return [Instruction("W_CFR"), *[Instruction("WR_BIAS"), Instruction("AF", row=table), Instruction("RD_AF")] * rounds]

    def energy_pj(self, counts: Mapping[str, int], device: DeviceSpec, organisation: Organisation) -> dict[str, float]:
        """Dynamic energy of one channel's commands by part."""
        from pimsim.engine.memory import command_energy

        def of(*names: str) -> int:
            return sum(counts.get(name, 0) for name in names)

        banks, columns = organisation.banks, of("MAC16") * organisation.banks + of("MAC") + of("EWMUL16") * organisation.bankgroups
        plain = {
            "ACT": of("ACT") + banks * of("ACT16"),
            "RD": of("RDCP", "RDMAC16", "RDAF16") + banks * of("AF16"),
            "WR": of("WRCP", "WRMAC16") + banks * of("WRA16"),
        }
        return command_energy(device.dram, plain, _bursts(counts) * organisation.burst_bytes * 8) | {
            "pim_column": columns * self.column_read_pj,
            "pim_mac": columns * self.column_mac_pj,
        }

    def compute(self, item: AnyPrimitive, *operands: NDArray[Any], channels: int = 32) -> NDArray[Any]:
        """The values that the units compute, float32 arrays of BF16 values (sums of several banks' parts: FP32).

        Args:
            item: `MatMul`: operands are weights (out, in), vectors (batch, in) and optionally a bias (out,), result (batch, out).
                `Elementwise` (mul, relu, sigmoid, tanh): one array an operand, result of the same shape. `Product` and `Reduce`: as in
                `UnitSpec.compute`.
            *operands: The values; rounded to BF16 first.
            channels: Channels, over whose banks a sum is dealt.

        Raises:
            ConfigError: a kernel that these units do not run.
        """
        values = [round_bf16(operand) for operand in operands]
        if isinstance(item, MatMul):
            return self._products(*values)
        if isinstance(item, Elementwise) and item.function == "mul" and len(values) == 2:
            return round_bf16(values[0] * values[1])
        if isinstance(item, Elementwise) and item.function in ACTIVATIONS:
            return round_bf16(ACTIVATIONS[item.function](values[0]))
        if isinstance(item, Product):
            return aim_products.product_values(self, item, values)
        if isinstance(item, Reduce):
            return aim_products.sum_values(self, item, values[0], channels)
        return super().compute(item, *operands)

    def _products(
        self, weights: NDArray[np.float32], vectors: NDArray[np.float32], bias: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """(batch, out): column by column, the lanes added pairwise, then to the accumulator, which starts at the bias."""
        total = np.zeros((len(vectors), len(weights)), np.float32) + (0 if bias is None else bias)
        for start in range(0, weights.shape[1], self.lanes):
            part = vectors[:, None, start : start + self.lanes] * weights[None, :, start : start + self.lanes]
            while part.shape[-1] > 1:
                if part.shape[-1] % 2:
                    part = np.concatenate([part, np.zeros_like(part[..., :1])], axis=-1)
                part = part[..., 0::2] + part[..., 1::2]
            total = total + part[..., 0]
            if self.accumulator == "bf16":
                total = round_bf16(total)
        return round_bf16(total)

    def _limit(self, run: AimResult, timing: Mapping[str, int]) -> str:
        """The largest part of the time."""
        columns = sum(run.counts.get(name, 0) for name in ("MAC16", "EWMUL16")) * self.column_gap(16, None, timing)
        buffer = run.counts.get("WRGB", 0) * timing["nCCDL"]
        parts = {
            "all-bank column commands": columns,
            "global buffer writes": buffer,
            "row openings and mode switches": run.cycles - columns - buffer,
        }
        return max(parts, key=lambda name: parts[name])

    def _checked(self, device: DeviceSpec) -> Organisation:
        organisation = resolve_organisation(device.dram)
        if self.units_per_channel != organisation.banks:
            raise ConfigError(f"unit.units_per_channel: {self.units_per_channel}: must be one a bank, {organisation.banks}")
        if self.lanes * 16 != organisation.burst_bytes * 8:
            raise ConfigError(f"unit.lanes: {self.lanes}: must take one burst, {organisation.burst_bytes * 8 // 16}")
        if self.global_buffer_bytes % organisation.burst_bytes:
            raise ConfigError(f"unit.global_buffer_bytes: {self.global_buffer_bytes}: must be bursts of {organisation.burst_bytes}")
        return organisation


def _bursts(counts: Mapping[str, int]) -> int:
    """Bursts over the interface of one channel."""
    return sum(counts.get(name, 0) for name in ("WRGB", "WRMAC16", "WRA16", "RDMAC16", "RDAF16"))


def _fit(rows: int, organisation: Organisation, what: str) -> None:
    if rows > organisation.rows:
        raise ConfigError(f"{what}: needs {rows} rows in every bank, but a bank has {organisation.rows}")


UNIT = AimSpec
