"""A SIMD unit beside a group of banks, as in Samsung's HBM-PIM: it multiplies what a bank reads with its own registers.

Modelling decisions:
    * The host drives the units with ordinary requests and fences through its memory controller (`pimsim.engine.fenced`). In all-bank mode
      one command reaches the same row and column of one bank of every unit.
    * Column commands in all-bank mode are spaced by nCCDL or by the time a unit needs for one burst, whichever is longer.
    * The units' program repeats whole tiles: a matrix is padded to whole input and output tiles, an element-wise kernel to whole tiles in
      every bank. Energy of arithmetic is charged for the kernel's own operations only.
    * A kernel alone (`run_kernel`) puts all channels to work on one vector after the other, as the vendor's library does; within a model
      (`matmul`) the mapper weighs every way of splitting the channels between vectors.
    * Narrow weights pack into a burst: the datapath is `simd_lanes` x 16 bits, so 8-bit weights double the lanes and 32-bit weights
      halve them; 4-bit weights are stored packed and widened to 8 bits, two unit cycles for one burst.
    * Weights that fill only a part of the channels are replicated over groups of channels, which share the batch.
    * An element-wise operation costs the energy of a multiply-accumulate, ReLU (a sign test) nothing.

Not modelled: register-file and sequencer energy, leakage of the units, bank-level ECC, registers wider than a burst for 32-bit sums of
integers, an instruction memory that overflows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from pimsim.dram.standard import Organisation, common_timing, resolve_organisation
from pimsim.errors import ConfigError
from pimsim.graph import AnyPrimitive, Elementwise, Gather, MatMul, Product, Reduce
from pimsim.mapping.placement import Coordinates, place
from pimsim.spec.device import DeviceSpec, UnitSpec
from pimsim.spec.operating import ScaledLogic
from pimsim.units.cost import MEMORY, KernelRun, LookUps, OperatorCost, add_up
from pimsim.units.near_bank_gather import Gathered, gather_banks, gather_striped
from pimsim.units.near_bank_products import product_cost, product_values, run_product, run_sum, sum_values

if TYPE_CHECKING:
    from pimsim.engine.fenced import AllBankMode, Served
    from pimsim.engine.interconnect import Carried
    from pimsim.engine.memory import Traffic
    from pimsim.engine.pim_requests import MatVec

FUNCTIONS = {"add": 2, "mul": 2, "relu": 1}  # element-wise functions and their least operands
HBM2_CHANNEL = Organisation(4096, 64, 64, bankgroups=4, banks_per_group=4, rows=1 << 15, columns=32, burst_bytes=32)


class NearBankSpec(ScaledLogic, UnitSpec):
    """SIMD units, one per group of banks."""

    ON_DIE_NETWORK: ClassVar[bool] = True
    kind: Literal["near_bank"]
    units_per_channel: PositiveInt
    """Units in one channel (pseudo-channel); they share its banks evenly."""
    simd_lanes: PositiveInt
    """Lanes of 16 bits in one unit."""
    clock_mhz: PositiveFloat | None = None
    """Clock of the unit; none = in step with the memory, one cycle each nCCDL."""
    input_registers: PositiveInt = 8
    """Registers of one burst each that hold the input vector (HBM-PIM: GRF_A)."""
    accumulators: PositiveInt = 8
    """Registers of one burst each that accumulate outputs (HBM-PIM: GRF_B)."""
    idle_ranks: NonNegativeInt = 0
    """Ranks without units on the same command bus; their refreshes take turns with those of the units' rank."""
    refresh_yields: bool = False
    """True: the controller goes on with other commands while a refresh waits for banks to close (DRAMSim2 and its descendants)."""
    lane_reduction: bool = False
    """True: an adder tree sums the lanes of an accumulator in the unit; false: the host sums them (HBM-PIM)."""
    pj_per_mac_8: NonNegativeFloat
    """Energy of one 8-bit multiply-accumulate."""
    pj_per_mac_16: NonNegativeFloat
    """Energy of one 16-bit floating-point multiply-accumulate."""
    pj_per_mac_32: NonNegativeFloat
    """Energy of one 32-bit floating-point multiply-accumulate."""
    column_read_pj_per_bit: NonNegativeFloat
    """Energy of reading one bit from an open row to the unit, without the path to the interface."""
    lane_mm2: PositiveFloat
    """Area of one 16-bit lane (multiplier and adder)."""
    register_mm2_per_byte: PositiveFloat
    """Area of one byte of register file."""
    control_mm2: NonNegativeFloat
    """Area of decoder, sequencer and instruction memory of one unit."""

    def banks_per_unit(self, organisation: Organisation) -> int:
        """Banks that one unit serves.

        Raises:
            ConfigError: the banks cannot be shared evenly.
        """
        banks = organisation.banks
        if self.units_per_channel > banks or banks % self.units_per_channel:
            raise ConfigError(f"unit.units_per_channel: {self.units_per_channel}: must divide the {banks} banks of a channel")
        return banks // self.units_per_channel

    def elements_per_burst(self, bits: int, organisation: Organisation) -> int:
        """Stored elements in one burst."""
        return organisation.burst_bytes * 8 // bits

    def column_gap(self, bits: int, organisation: Organisation, timing: dict[str, int]) -> int:
        """Clocks of the memory between two all-bank column commands, each of which brings a burst of elements of `bits` bits."""
        work = self.elements_per_burst(bits, organisation) * max(bits, 8)
        cycles = -(-work // (self.simd_lanes * 16))
        if self.clock_mhz is None:
            return cycles * timing["nCCDL"]
        burst_ps = -(-cycles * 1_000_000 // max(int(self.clock_mhz), 1))
        return max(timing["nCCDL"], -(-burst_ps // timing["tCK_ps"]))

    def logic_clock_mhz(self, device: DeviceSpec) -> float:
        """Own clock, or in step with the memory's column commands."""
        timing = common_timing(device.dram)
        return self.clock_mhz or 1e6 / (timing["nCCDL"] * timing["tCK_ps"])

    def peak_gbps(self, bits: int, organisation: Organisation, timing: dict[str, int]) -> float:
        """Bytes per nanosecond that all units of one channel read from their banks."""
        gap_ns = self.column_gap(bits, organisation, timing) * timing["tCK_ps"] / 1000
        return self.units_per_channel * organisation.burst_bytes / gap_ns

    def mac_pj(self, bits: int) -> float:
        """Energy of one multiply-accumulate on weights of `bits` bits."""
        return {4: self.pj_per_mac_8, 8: self.pj_per_mac_8, 16: self.pj_per_mac_16, 32: self.pj_per_mac_32}[bits]

    def unit_mm2(self, organisation: Organisation) -> float:
        """Area of one unit as the sum of its parts."""
        registers = (self.input_registers + self.accumulators) * organisation.burst_bytes
        tree = (self.simd_lanes - 1) / self.simd_lanes * 0.5 if self.lane_reduction else 0.0  # adders are about half of a lane
        return self.simd_lanes * self.lane_mm2 * (1 + tree) + registers * self.register_mm2_per_byte + self.control_mm2

    def area_mm2(self, device: DeviceSpec) -> float:
        """Area of all units of the device."""
        return self.unit_mm2(resolve_organisation(device.dram)) * self.units_per_channel * device.dram.channels

    def command_energy(self, device: DeviceSpec, total: Mapping[str, int], array: Mapping[str, int]) -> dict[str, float]:
        """Energy of one channel's commands: rows of data open and move in every unit, other rows cost one ordinary command.

        Args:
            device: The device.
            total: ACT, RD and WR of all rows.
            array: Those on rows of data.
        """
        from pimsim.engine.memory import command_energy

        bits = resolve_organisation(device.dram).burst_bytes * 8
        special = {name: total.get(name, 0) - array.get(name, 0) for name in ("ACT", "RD", "WR")}
        opened = command_energy(device.dram, {"ACT": array.get("ACT", 0) * self.units_per_channel}, 0)
        control = command_energy(device.dram, special, (special["RD"] + special["WR"]) * bits)
        columns = (array.get("RD", 0) + array.get("WR", 0)) * self.units_per_channel * bits
        return add_up(opened, control, {"pim_column": columns * self.column_read_pj_per_bit})

    def run_kernel(
        self, item: AnyPrimitive, device: DeviceSpec, batch: int, lookups: LookUps | None = None, end_to_end: bool = False
    ) -> KernelRun:
        """One kernel alone on all channels; see `UnitSpec.run_kernel`."""
        if isinstance(item, MatMul):
            return self._run_matmul(item, device, batch, end_to_end)
        if isinstance(item, Elementwise):
            return self._run_elementwise(item, device, batch, end_to_end)
        if isinstance(item, Gather) and lookups is not None:
            return self._run_gather(item, device, lookups, end_to_end)
        if isinstance(item, Product):
            return run_product(self, item, device, batch, end_to_end)
        if isinstance(item, Reduce):
            return run_sum(self, item, device, batch, end_to_end)
        return super().run_kernel(item, device, batch, lookups, end_to_end)

    def _run_matmul(self, item: MatMul, device: DeviceSpec, batch: int, end_to_end: bool) -> KernelRun:
        channels = device.dram.channels
        organisation = resolve_organisation(device.dram)
        share = self._one_share(item, batch * item.vectors, channels, organisation)
        if share.weight_rows(organisation.columns, self.banks_per_unit(organisation)) > organisation.rows:
            raise ConfigError(_too_large(item, organisation))
        run = self._serve_matvec(item, share, device)
        energy = {part: pj * channels for part, pj in self.command_energy(device, run.counts, run.array).items()}
        energy["pim_mac"] = item.macs * batch * self.mac_pj(item.weight_bits)
        inputs = self._broadcast(run, device)
        energy = add_up(energy, {part: pj * channels for part, pj in inputs.energy_pj.items()})
        cycles = run.cycles + _clocks(inputs.extra_ps, device)
        if end_to_end:
            back, host = self._read_results(item, share, batch * item.vectors, channels, device)
            cycles += _clocks(back.latency_ps + host.latency_ps, device)
            energy = add_up(energy, {part: pj * channels for part, pj in back.energy_pj.items()}, host.energy_pj)
        return KernelRun(cycles, run.counts, energy, self._matvec_limit(item, share, run, device))

    def _run_elementwise(self, item: Elementwise, device: DeviceSpec, batch: int, end_to_end: bool) -> KernelRun:
        from pimsim.engine.fenced import serve
        from pimsim.engine.interconnect import collected
        from pimsim.engine.memory import stream
        from pimsim.engine.pim_requests import elementwise

        if item.function not in FUNCTIONS or item.operands < FUNCTIONS[item.function]:
            raise ConfigError(f"kernel {item.function} of {item.operands} operands: near-bank units run {', '.join(FUNCTIONS)}")
        dram, organisation = device.dram, resolve_organisation(device.dram)
        registers = min(self.input_registers, self.accumulators)
        bursts = -(-item.elements * batch // self.elements_per_burst(item.activation_bits, organisation))
        tiles = -(-bursts // (organisation.banks * registers * dram.channels))
        if tiles * registers * (item.operands + 1) > organisation.rows * organisation.columns:
            raise ConfigError(
                f"kernel {item.function}: {item.elements * batch} elements do not fit the {organisation.rows} rows of each bank"
            )
        mode = self.all_bank_mode(item.activation_bits, device)
        run = serve(dram, elementwise(tiles, registers, item.operands, organisation, mode), mode, self.idle_ranks, self.refresh_yields)
        energy = {part: pj * dram.channels for part, pj in self.command_energy(device, run.counts, run.array).items()}
        energy["pim_mac"] = item.elements * batch * max(item.operands - 1, 0) * self.mac_pj(item.activation_bits)
        cycles = run.cycles
        if end_to_end:
            back = stream(dram, item.output_bytes * batch)
            back = collected(back, device.interconnect, self.units_per_channel, back.bytes * 8 // dram.channels)
            cycles, energy = cycles + _clocks(back.latency_ps, device), add_up(energy, back.energy_pj)
        return KernelRun(cycles, run.counts, energy, "all-bank column commands and turns between reads and writes")

    def _run_gather(self, item: Gather, device: DeviceSpec, lookups: LookUps, end_to_end: bool) -> KernelRun:
        organisation = resolve_organisation(device.dram)
        placement = place(item.tables, device.mapping.tables, organisation, device.dram.channels, self.units_per_channel)
        where = placement.locate(lookups.table, lookups.index)
        done = self._gathered(item, device, where, lookups.sample * len(item.tables) + lookups.table)
        latency, energy = done.latency_ps, done.energy_pj
        if end_to_end:
            latency += done.back.latency_ps + done.host.latency_ps
            energy = add_up(energy, done.back.energy_pj, done.host.energy_pj)
        return KernelRun(_clocks(latency, device), done.busiest, energy, done.limited_by)

    def compute(
        self, item: AnyPrimitive, *operands: NDArray[Any], organisation: Organisation = HBM2_CHANNEL, channels: int = 64
    ) -> NDArray[Any]:
        """The values of a kernel; see `UnitSpec.compute` and `pimsim.units.near_bank_values`.

        Args:
            item: `MatMul`, `Product`, `Reduce`, `Elementwise` (add, mul, relu) or `Gather` of one table.
            *operands: As in `UnitSpec.compute`.
            organisation: Geometry of one channel, for the lanes of a burst and the banks of a unit.
            channels: Channels, over whose units a sum is dealt.
        """
        from pimsim.units import near_bank_values as values

        if isinstance(item, MatMul):
            bits, banks = item.weight_bits, self.banks_per_unit(organisation)
            per_burst = self.elements_per_burst(bits, organisation)
            return values.matvec(operands[0], operands[1], bits, per_burst, self.input_registers, banks, self.lane_reduction)
        if isinstance(item, Elementwise):
            return values.elementwise(item.function, list(operands), item.activation_bits)
        if isinstance(item, Gather):
            weights = operands[2] if len(operands) > 2 else None
            return values.gather(operands[0], operands[1], weights, item.tables[0].bits)
        if isinstance(item, Product):
            return product_values(self, item, list(operands), organisation)
        if isinstance(item, Reduce):
            return sum_values(self, item, operands[0], organisation, channels)
        return super().compute(item, *operands)

    def matmul(self, item: MatMul, device: DeviceSpec, batch: int) -> OperatorCost:
        """Stationary weights times the batch's vectors in all-bank mode, result read back and summed by the host."""
        dram, timing = device.dram, common_timing(device.dram)
        vectors = batch * item.vectors
        together, share = self.share(item, vectors, device)
        run = self._serve_matvec(item, share, device)
        inputs = self._broadcast(run, device)
        back, host = self._read_results(item, share, vectors, together, device)
        scale = together * vectors / share.items  # channel-shares of work: `together` channels for each vector
        channel = add_up(self.command_energy(device, run.counts, run.array), inputs.energy_pj, back.energy_pj)
        outside = {name: run.counts.get(name, 0) - run.array.get(name, 0) for name in ("RD", "WR")}
        moved = back.bytes + sum(outside.values()) * resolve_organisation(dram).burst_bytes
        return OperatorCost(
            unit="pim",
            latency_ps=run.cycles * timing["tCK_ps"] + inputs.extra_ps + back.latency_ps + host.latency_ps,
            resources=(MEMORY,),
            energy_pj=add_up(
                {part: value * scale for part, value in channel.items()},
                {"pim_mac": item.macs * batch * self.mac_pj(item.weight_bits)},
                host.energy_pj,
            ),
            external_bytes=int(moved * scale),
            commands={name: int(count * scale) for name, count in run.counts.items()},
            limited_by=self._matvec_limit(item, share, run, device),
        )

    def product(self, item: Product, device: DeviceSpec, batch: int) -> OperatorCost:
        """Products of two activations: one written to the banks, the other to the registers, results read back and summed by the host."""
        return product_cost(self, item, device, batch)

    def all_bank_mode(self, bits: int, device: DeviceSpec) -> AllBankMode:
        """How this unit's banks are addressed together, columns spaced for elements of `bits` bits."""
        from pimsim.engine.pim_requests import all_bank_mode

        organisation, timing = resolve_organisation(device.dram), common_timing(device.dram)
        return all_bank_mode(organisation, self.banks_per_unit(organisation), self.column_gap(bits, organisation, timing))

    def _serve_matvec(self, item: MatMul, share: MatVec, device: DeviceSpec) -> Served:
        """One channel's share of a matrix-vector kernel; all channels are alike."""
        from pimsim.engine.fenced import serve
        from pimsim.engine.pim_requests import matvec

        mode = self.all_bank_mode(item.weight_bits, device)
        return serve(device.dram, matvec(share, resolve_organisation(device.dram), mode), mode, self.idle_ranks, self.refresh_yields)

    def _broadcast(self, run: Served, device: DeviceSpec) -> Carried:
        """The way of one channel's inputs, programs and mode switches from its port to all of its units."""
        from pimsim.engine.interconnect import carry

        timing = common_timing(device.dram)
        writes = run.counts.get("WR", 0) - run.array.get("WR", 0)
        bits, beside = writes * resolve_organisation(device.dram).burst_bytes * 8, writes * timing["nCCDL"] * timing["tCK_ps"]
        return carry(device.interconnect, self.units_per_channel, bits, beside, broadcast=True)

    def _matvec_limit(self, item: MatMul, share: MatVec, run: Served, device: DeviceSpec) -> str:
        gap = self.column_gap(item.weight_bits, resolve_organisation(device.dram), common_timing(device.dram))
        return "all-bank column commands" if share.weight_columns * gap * 2 > run.cycles else "mode switches and row openings"

    def _read_results(self, item: MatMul, share: MatVec, vectors: int, together: int, device: DeviceSpec) -> tuple[Traffic, OperatorCost]:
        """Traffic of one channel's results, and the host's sums over lanes."""
        from pimsim.engine.interconnect import collected
        from pimsim.engine.memory import stream
        from pimsim.units.host import roofline

        organisation = resolve_organisation(device.dram)
        per_unit = -(-item.out_features // (together * self.units_per_channel))
        bursts = self.result_bursts(per_unit, organisation) * self.units_per_channel * share.items
        back = stream(device.dram.model_copy(update={"channels": 1}), bursts * organisation.burst_bytes)
        back = collected(back, device.interconnect, self.units_per_channel, back.bytes * 8)
        lanes = 1 if self.lane_reduction else self.elements_per_burst(max(item.weight_bits, 8), organisation)
        return back, roofline(device, item.out_features * vectors * (lanes - 1), bursts * together * organisation.burst_bytes)

    def _one_share(self, item: MatMul, vectors: int, together: int, organisation: Organisation) -> MatVec:
        """One channel's share when `together` channels work on each vector and a channel sees `vectors` of them."""
        from pimsim.engine.pim_requests import MatVec

        self.banks_per_unit(organisation)
        bursts = -(-item.in_features // self.elements_per_burst(item.weight_bits, organisation))
        per_unit = -(-item.out_features // (together * self.units_per_channel))
        return MatVec(
            inputs=self.input_registers,
            outputs=self.accumulators,
            input_tiles=-(-bursts // self.input_registers),
            output_tiles=-(-per_unit // self.accumulators),
            items=vectors,
        )

    def share(self, item: MatMul, vectors: int, device: DeviceSpec) -> tuple[int, MatVec]:
        """How many channels work on one vector together, and one channel's share.

        Every divisor of the channel count is weighed: more channels for a vector mean fewer outputs in each, fewer channels mean more
        groups of channels that share the batch. The choice has the fewest clocks of register writes, column reads and row openings.
        """
        organisation, timing = resolve_organisation(device.dram), common_timing(device.dram)
        gap = self.column_gap(item.weight_bits, organisation, timing)
        opening = timing["nRP"] + timing["nRCD"]
        best: tuple[int, int, MatVec] | None = None
        for together in (c for c in range(1, device.dram.channels + 1) if device.dram.channels % c == 0):
            share = self._one_share(item, -(-vectors // (device.dram.channels // together)), together, organisation)
            if share.weight_rows(organisation.columns, self.banks_per_unit(organisation)) > organisation.rows:
                continue
            tiles = share.input_tiles * share.output_tiles
            one = tiles * (share.inputs * timing["nCCDL"] + opening + timing["nRCD"] + timing["nWR"])
            columns = tiles * share.inputs * share.outputs
            one += columns * gap + -(-columns // organisation.columns) * opening
            if best is None or one * share.items < best[0]:
                best = (one * share.items, together, share)
        if best is None:
            raise ConfigError(_too_large(item, organisation))
        return best[1], best[2]

    def result_bursts(self, outputs: int, organisation: Organisation) -> int:
        """Bursts that hold `outputs` finished accumulators of one unit: one each, or 32-bit sums side by side after an adder tree."""
        return -(-outputs * 4 // organisation.burst_bytes) if self.lane_reduction else outputs

    def gather(self, item: Gather, device: DeviceSpec, batch: int, where: Coordinates, bag: NDArray[np.int64]) -> OperatorCost:
        """Embedding gather-and-reduce beside the banks, partial sums read and added by the host.

        Args:
            item: The operator.
            device: The device.
            batch: Samples.
            where: Coordinates of all look-ups in request order.
            bag: Number of the (sample, table) that each look-up belongs to, (n,).
        """
        done = self._gathered(item, device, where, bag)
        return OperatorCost(
            unit="pim",
            latency_ps=done.latency_ps + done.back.latency_ps + done.host.latency_ps,
            resources=(MEMORY,),
            energy_pj=add_up(done.energy_pj, done.back.energy_pj, done.host.energy_pj),
            external_bytes=done.back.bytes,
            commands={name: int(count) for name, count in add_up(done.commands, done.back.commands).items()},
            limited_by=done.limited_by if done.latency_ps > done.back.latency_ps else "reading partial sums back",
        )

    def _gathered(self, item: Gather, device: DeviceSpec, where: Coordinates, bag: NDArray[np.int64]) -> Gathered:
        how = gather_striped if device.mapping.tables == "striped" else gather_banks
        return how(self, item, device, where, bag)


def _too_large(item: MatMul, organisation: Organisation) -> str:
    size = f"{item.out_features} x {item.in_features}"
    return f"matmul {item.name!r}: {size} weights of {item.weight_bits} bits do not fit the {organisation.rows} rows of each bank"


def _clocks(latency_ps: int, device: DeviceSpec) -> int:
    return -(-latency_ps // common_timing(device.dram)["tCK_ps"])


UNIT = NearBankSpec
