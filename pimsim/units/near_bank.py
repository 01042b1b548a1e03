"""A SIMD unit beside a group of banks, as in Samsung's HBM-PIM: it multiplies what a bank reads with its own registers.

Modelling decisions:
    * The host drives the units with ordinary column commands. In all-bank mode one command reaches the same row and column of one bank of
      every unit, and one all-bank activation counts once in the activation window, as in the vendor's simulator.
    * Column commands in all-bank mode are spaced by nCCDL or by the time a unit needs for one burst, whichever is longer.
    * Narrow weights pack into a burst: the datapath is `simd_lanes` x 16 bits, so 8-bit weights double the lanes and 32-bit weights
      halve them; 4-bit weights are stored packed and widened to 8 bits, two unit cycles for one burst.
    * Weights that fill only a part of the channels are replicated over groups of channels, which share the batch.
    * In bank-local gathers each unit accumulates the rows of its own banks, read by per-bank commands; the host reads each partial sum.

Not modelled: register-file and sequencer energy, leakage of the units, bank-level ECC.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from pimsim.dram.standard import Organisation, common_timing, resolve_organisation
from pimsim.errors import ConfigError
from pimsim.graph import Gather, MatMul
from pimsim.mapping.placement import Coordinates
from pimsim.spec.device import DeviceSpec, UnitSpec
from pimsim.units.cost import MEMORY, OperatorCost, add_up

if TYPE_CHECKING:
    from pimsim.engine.memory import Traffic
    from pimsim.engine.pim_streams import MatVec


class NearBankSpec(UnitSpec):
    """SIMD units, one per group of banks."""

    kind: Literal["near_bank"]
    units_per_channel: PositiveInt
    """Units in one channel (pseudo-channel); they share its banks evenly."""
    simd_lanes: PositiveInt
    """Lanes of 16 bits in one unit."""
    clock_mhz: PositiveFloat
    """Clock of the unit."""
    input_registers: PositiveInt = 8
    """Registers of one burst each that hold the input vector (HBM-PIM: GRF_A)."""
    accumulators: PositiveInt = 8
    """Registers of one burst each that accumulate outputs (HBM-PIM: GRF_B)."""
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

    def burst_ps(self, bits: int, organisation: Organisation) -> int:
        """Time one unit needs to consume one burst of elements of `bits` bits, in picoseconds."""
        work = self.elements_per_burst(bits, organisation) * max(bits, 8)
        cycles = -(-work // (self.simd_lanes * 16))
        return -(-cycles * 1_000_000 // max(int(self.clock_mhz), 1))

    def column_gap(self, bits: int, organisation: Organisation, timing: dict[str, int]) -> int:
        """Clocks of the memory between two all-bank column commands."""
        return max(timing["nCCDL"], -(-self.burst_ps(bits, organisation) // timing["tCK_ps"]))

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

    def matmul(self, item: MatMul, device: DeviceSpec, batch: int) -> OperatorCost:
        """Stationary weights times the batch's vectors in all-bank mode, result read back and summed by the host."""
        from pimsim.engine.memory import command_energy, stream
        from pimsim.engine.pim_streams import matvec
        from pimsim.engine.stream import issue_stream
        from pimsim.units.host import roofline

        dram, organisation, timing = device.dram, resolve_organisation(device.dram), common_timing(device.dram)
        vectors = batch * item.vectors
        together, share = self.share(item, vectors, device)
        program = matvec(share, organisation, timing, self.banks_per_unit(organisation))
        gap = self.column_gap(item.weight_bits, organisation, timing)
        begin = timing["nREFI"] // 2  # on average a kernel starts in the middle of a refresh interval
        result = issue_stream(dram.model_copy(update={"channels": 1}), program, column_gap=gap, begin=begin)

        per_unit = sum(self.result_bursts(outputs, organisation) for outputs in share.output_tiles)
        bursts = per_unit * self.units_per_channel * share.items
        back = stream(dram.model_copy(update={"channels": 1}), bursts * organisation.burst_bytes)
        lanes = 1 if self.lane_reduction else self.elements_per_burst(max(item.weight_bits, 8), organisation)
        host = roofline(device, item.out_features * vectors * (lanes - 1), bursts * together * organisation.burst_bytes)

        scale = together * vectors / share.items  # channel-shares of work: `together` channels for each vector
        macs = share.weight_columns * self.units_per_channel * self.elements_per_burst(item.weight_bits, organisation)
        channel = add_up(
            self._program_energy(program, device, organisation),
            {"pim_mac": macs * self.mac_pj(item.weight_bits)},
            command_energy(dram, back.commands, back.bytes * 8),
        )
        return OperatorCost(
            unit="pim",
            latency_ps=result.cycles * timing["tCK_ps"] + back.latency_ps + host.latency_ps,
            resources=(MEMORY,),
            energy_pj=add_up({part: value * scale for part, value in channel.items()}, host.energy_pj),
            external_bytes=int((back.bytes + _count(program, "WR", special=True) * organisation.burst_bytes) * scale),
            commands={name: int(count * scale) for name, count in result.counts.items()},
            limited_by="all-bank column commands" if share.weight_columns * gap * 2 > result.cycles else "mode switches and row openings",
        )

    def share(self, item: MatMul, vectors: int, device: DeviceSpec) -> tuple[int, MatVec]:
        """How many channels work on one vector together, and one channel's share.

        Every divisor of the channel count is weighed: more channels for a vector mean fewer outputs in each, fewer channels mean more
        groups of channels that share the batch. The choice has the fewest clocks of register writes, column reads and row openings.
        """
        from pimsim.engine.pim_streams import MatVec

        organisation, timing = resolve_organisation(device.dram), common_timing(device.dram)
        self.banks_per_unit(organisation)
        per_burst = self.elements_per_burst(item.weight_bits, organisation)
        registers = -(-item.in_features // per_burst)
        inputs = _tiles(registers, self.input_registers)
        gap = self.column_gap(item.weight_bits, organisation, timing)
        opening = timing["nRP"] + timing["nRCD"]
        best: tuple[int, int, MatVec] | None = None
        for together in (c for c in range(1, device.dram.channels + 1) if device.dram.channels % c == 0):
            per_unit = -(-item.out_features // (together * self.units_per_channel))
            share = MatVec(inputs, _tiles(per_unit, self.accumulators), -(-vectors // (device.dram.channels // together)))
            tiles = len(share.output_tiles)
            one = tiles * (registers * timing["nCCDL"] + len(inputs) * (opening + timing["nRCD"] + timing["nWR"]))
            one += registers * per_unit * gap + -(-registers * per_unit // organisation.columns) * opening
            if best is None or one * share.items < best[0]:
                best = (one * share.items, together, share)
        assert best is not None
        return best[1], best[2]

    def result_bursts(self, outputs: int, organisation: Organisation) -> int:
        """Bursts that hold `outputs` finished accumulators of one unit: one each, or 32-bit sums side by side after an adder tree."""
        return -(-outputs * 4 // organisation.burst_bytes) if self.lane_reduction else outputs

    def _program_energy(self, program: NDArray[np.int64], device: DeviceSpec, organisation: Organisation) -> dict[str, float]:
        """Energy of one channel's stream: array rows open in every unit, register and mode rows cost one ordinary command."""
        from pimsim.engine.memory import command_energy

        array = {name: _count(program, name, special=False) for name in ("ACT", "RD", "WR")}
        special = {name: _count(program, name, special=True) for name in ("ACT", "RD", "WR")}
        bits = organisation.burst_bytes * 8
        opened = command_energy(device.dram, {"ACT": array["ACT"] * self.units_per_channel}, 0)
        columns = (array["RD"] + array["WR"]) * self.units_per_channel * bits
        control = command_energy(device.dram, special, special["WR"] * bits)
        return add_up(opened, control, {"pim_column": columns * self.column_read_pj_per_bit})

    def gather(self, item: Gather, device: DeviceSpec, batch: int, where: Coordinates, bag: NDArray[np.int64]) -> OperatorCost:
        """Embedding gather-and-reduce beside the banks.

        Args:
            item: The operator.
            device: The device.
            batch: Samples.
            where: Coordinates of all look-ups in request order.
            bag: Number of the (sample, table) that each look-up belongs to, (n,).
        """
        if device.mapping.tables == "striped":
            return self._gather_striped(item, device, batch, where, bag)
        return self._gather_banks(item, device, batch, where, bag)

    def _gather_banks(self, item: Gather, device: DeviceSpec, batch: int, where: Coordinates, bag: NDArray[np.int64]) -> OperatorCost:
        """Each unit sums the rows that its own banks hold; the host reads and adds the partial sums."""
        from pimsim.engine.memory import lookups
        from pimsim.engine.pim_streams import ACT, PRE, REGISTER_ROW, WR, commands
        from pimsim.engine.stream import issue_stream

        dram, organisation, timing = device.dram, resolve_organisation(device.dram), common_timing(device.dram)
        inside = lookups(dram, organisation, where, external=False)
        unit = where.channel * self.units_per_channel + where.bank // self.banks_per_unit(organisation)
        pairs, first = np.unique(np.stack([bag, unit]), axis=1, return_index=True)
        bursts = self._partial_bursts(item, organisation)[bag[first] % len(item.tables)]
        per_unit = np.bincount(pairs[1], bursts, minlength=dram.channels * self.units_per_channel).astype(np.int64)
        waves = int(-(-per_unit.max(initial=0) // self.accumulators))
        switch = commands([(ACT, 0, REGISTER_ROW), (WR, 0, REGISTER_ROW), (PRE, 0, REGISTER_ROW)] * 2)
        switching = issue_stream(dram.model_copy(update={"channels": 1}), switch).cycles * timing["tCK_ps"] * waves
        back, host = self._read_back(item, device, per_unit.reshape(dram.channels, -1).sum(axis=1), len(pairs[0]) - len(np.unique(bag)))
        energy = dict(inside.energy_pj)
        energy.pop("dram_read", None)
        energy["pim_column"] = int(where.bursts.sum()) * organisation.burst_bytes * 8 * self.column_read_pj_per_bit
        energy["pim_mac"] = self._add_pj(item, where, bag)
        return OperatorCost(
            unit="pim",
            latency_ps=inside.latency_ps + switching + back.latency_ps + host.latency_ps,
            resources=(MEMORY,),
            energy_pj=add_up(energy, back.energy_pj, host.energy_pj),
            external_bytes=back.bytes,
            commands=_add_counts(inside.commands, back.commands),
            limited_by="row openings" if inside.latency_ps > switching + back.latency_ps else "reading partial sums back",
        )

    def _gather_striped(self, item: Gather, device: DeviceSpec, batch: int, where: Coordinates, bag: NDArray[np.int64]) -> OperatorCost:
        """All units of a channel read their piece of a row in lock-step and sum it; the host reads a piece from each."""
        from pimsim.engine.pim_streams import gather_striped
        from pimsim.engine.stream import issue_stream

        dram, organisation, timing = device.dram, resolve_organisation(device.dram), common_timing(device.dram)
        single = dram.model_copy(update={"channels": 1})
        gap = max(self.column_gap(table.bits, organisation, timing) for table in item.tables)
        slots = self._partial_bursts(item, organisation, pieces=self.units_per_channel)
        cycles, read, partials = 0, np.zeros(dram.channels, np.int64), 0
        counts: dict[str, int] = {}
        energy: dict[str, float] = {}
        for channel in np.unique(where.channel):
            mine = where.channel == channel
            bags = np.unique(bag[mine])
            write_backs = int(slots[bags % len(item.tables)].sum())
            program = gather_striped(where.bank[mine], where.row[mine], where.bursts[mine], organisation, write_backs)
            result = issue_stream(single, program, column_gap=gap)
            cycles = max(cycles, result.cycles)
            counts = _add_counts(counts, result.counts)
            energy = add_up(energy, self._program_energy(program, device, organisation))
            read[channel] = write_backs * self.units_per_channel
            partials += len(bags)
        back, host = self._read_back(item, device, read, partials - len(np.unique(bag)))
        energy["pim_mac"] = self._add_pj(item, where, bag)
        return OperatorCost(
            unit="pim",
            latency_ps=cycles * timing["tCK_ps"] + back.latency_ps + host.latency_ps,
            resources=(MEMORY,),
            energy_pj=add_up(energy, back.energy_pj, host.energy_pj),
            external_bytes=back.bytes,
            commands=_add_counts(counts, back.commands),
            limited_by="all-bank row openings" if cycles * timing["tCK_ps"] > back.latency_ps else "reading partial sums back",
        )

    def _partial_bursts(self, item: Gather, organisation: Organisation, pieces: int = 1) -> NDArray[np.int64]:
        """Bursts of one partial sum in one unit, for each table; sums are kept in 16 bits or more."""
        sizes = [-(-table.dim // pieces) * max(table.bits, 16) // 8 for table in item.tables]
        return np.array([-(-size // organisation.burst_bytes) for size in sizes], np.int64)

    def _read_back(self, item: Gather, device: DeviceSpec, bursts: NDArray[np.int64], extra_partials: int) -> tuple[Traffic, OperatorCost]:
        """Traffic of reading partial sums (bursts in each channel; the busiest sets the time) and the host's additions."""
        from dataclasses import replace

        from pimsim.engine.memory import command_energy, stream
        from pimsim.units.host import roofline

        dram, size = device.dram, resolve_organisation(device.dram).burst_bytes
        total = int(bursts.sum())
        busiest = stream(dram.model_copy(update={"channels": 1}), int(bursts.max(initial=0)) * size)
        counts = {name: round(count * total / max(int(bursts.max(initial=0)), 1)) for name, count in busiest.commands.items()}
        traffic = replace(busiest, bytes=total * size, commands=counts, energy_pj=command_energy(dram, counts, total * size * 8))
        widest = max(table.dim for table in item.tables)
        return traffic, roofline(device, extra_partials * widest, total * size)

    def _add_pj(self, item: Gather, where: Coordinates, bag: NDArray[np.int64]) -> float:
        """Energy of the units' additions: an addition is charged as a multiply-accumulate of its precision."""
        each = np.array([table.dim * self.mac_pj(max(table.bits, 16)) for table in item.tables])
        return float(each[bag % len(item.tables)].sum())


def _add_counts(*parts: dict[str, int]) -> dict[str, int]:
    return {name: int(count) for name, count in add_up(*parts).items()}


def _tiles(total: int, size: int) -> tuple[int, ...]:
    """`total` things in tiles of `size`, the last one shorter."""
    full, rest = divmod(total, size)
    return (size,) * full + ((rest,) if rest else ())


def _count(program: NDArray[np.int64], name: str, special: bool) -> int:
    """Commands of one name in a stream that touch mode and register rows (`special`) or array rows."""
    from pimsim.dram.standard import Command

    return int(((program[:, 0] == int(Command[name])) & ((program[:, 2] < 0) == special)).sum())


UNIT = NearBankSpec
