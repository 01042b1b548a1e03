"""Products of two activations and sums on near-bank units.

Modelling decisions:
    * Product: the second operand is written to the banks in single-bank mode, before the units are entered; the first goes vector by
      vector to the input registers of all units. Both cost time in a kernel alone, for neither operand is resident. A strict lower
      triangle writes all vectors but the last and skips output tiles that lie above the diagonal, not single outputs.
    * The program is written for the shape: a tile has no more inputs and outputs than the operands fill (whole bursts).
    * Samples are dealt over groups of channels; a group's channels share the rows of the matrix. The number of channels in a group is
      the one with the fewest clocks of register writes, columns and row openings.
    * Sum: vectors lie in the banks; vectors shorter than a burst lie side by side in it. With fewer sums than units several units add a
      part of the vectors each. The host adds parts and lanes (a unit with an adder tree the lanes of a scalar).

Not modelled: samples across the lanes (the host would have to interleave 16 of them), the host's work to lay out operands.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from pimsim.dram.standard import Organisation, common_timing, resolve_organisation
from pimsim.errors import ConfigError
from pimsim.graph import Product, Reduce
from pimsim.spec.device import DeviceSpec
from pimsim.units.cost import MEMORY, KernelRun, OperatorCost, add_up

if TYPE_CHECKING:
    from pimsim.engine.fenced import Served
    from pimsim.engine.memory import Traffic
    from pimsim.engine.pim_products import Products
    from pimsim.units.near_bank import NearBankSpec


@dataclass(frozen=True)
class SumShape:
    """How a sum is dealt over units.

    Attributes:
        fold: Vectors side by side in a burst.
        sums: Bursts of sums of all samples.
        parts: Units that add a part of the vectors each.
        deep: Bursts that one accumulator adds.
        outputs: Accumulators of one unit that get a sum.
    """

    fold: int
    sums: int
    parts: int
    deep: int
    outputs: int


def sum_shape(item: Reduce, batch: int, per_burst: int, units: int) -> SumShape:
    """How `units` units with `per_burst` elements in a burst add the vectors of a sum."""
    fold = max(per_burst // item.elements_out, 1)
    rows = -(-item.elements_in // (item.elements_out * fold))
    sums = batch * -(-item.elements_out // per_burst)
    parts = max(1, min(units // sums, rows))
    deep = -(-rows // parts)
    return SumShape(fold, sums, -(-rows // deep), deep, -(-sums * -(-rows // deep) // units))


def tile_of(bursts: int, most: int) -> tuple[int, int]:
    """Registers of a tile and tiles, for vectors of `bursts` bursts and at most `most` registers."""
    tiles = -(-bursts // most)
    return -(-bursts // tiles), tiles


def share_of(unit: NearBankSpec, item: Product, batch: int, device: DeviceSpec) -> Products:
    """One channel's share of the products of a batch.

    Raises:
        ConfigError: the operands do not fit the banks.
    """
    organisation, timing = resolve_organisation(device.dram), common_timing(device.dram)
    gap, opening = unit.column_gap(item.activation_bits, organisation, timing), timing["nRP"] + timing["nRCD"]
    banks = unit.banks_per_unit(organisation)
    best: tuple[int, Products] | None = None
    for together in (c for c in range(1, device.dram.channels + 1) if device.dram.channels % c == 0):
        share = _dealt(unit, item, batch, device, together)
        if share.columns(banks) > organisation.rows * organisation.columns:
            continue
        inputs = share.inputs * share.input_tiles
        one = inputs * timing["nCCDL"] + share.outputs * (inputs * gap + timing["nCCDL"]) + (2 * share.input_tiles + 3) * opening
        clocks = share.items * (share.passes * one + share.rows * share.bursts * timing["nCCDS"])
        if best is None or clocks < best[0]:
            best = clocks, share
    if best is None:
        size = f"{batch * item.groups} products of {item.m} x {item.k} and {item.k} x {item.n}"
        raise ConfigError(f"kernel dot: {size} do not fit the {organisation.rows} rows of each bank")
    return best[1]


def _dealt(unit: NearBankSpec, item: Product, batch: int, device: DeviceSpec, together: int) -> Products:
    from pimsim.engine.pim_products import Products

    bursts = -(-item.k // unit.elements_per_burst(item.activation_bits, resolve_organisation(device.dram)))
    inputs, input_tiles = tile_of(bursts, unit.input_registers)
    rows = -(-max(item.n - item.triangle, 1) // together)
    outputs, tiles = tile_of(-(-rows // unit.units_per_channel), unit.accumulators)
    step = outputs * unit.units_per_channel * together  # rows of an output tile over all channels that share the matrix
    vectors = tuple(max(item.m - 1 - tile * step, 1) if item.triangle else item.m for tile in range(tiles))
    items = -(-batch * item.groups // (device.dram.channels // together))
    return Products(together, rows, bursts, inputs, input_tiles, outputs, vectors, items)


@dataclass(frozen=True)
class Multiplied:
    """Products of a batch up to the results in the banks, and reading them.

    Attributes:
        clocks: Memory clocks of the writes and the units' work.
        counts: Commands of one channel.
        energy_pj: Energy over all channels by part.
        scale: Channels' shares of work (the last group of channels may have fewer samples).
        moved: Bytes over one channel's interface before results are read.
        back: Traffic of one channel's results.
        host: The host's sums over lanes.
        limited_by: What sets the time.
    """

    clocks: int
    counts: dict[str, int]
    energy_pj: dict[str, float]
    scale: float
    moved: int
    back: Traffic
    host: OperatorCost
    limited_by: str


def multiply(unit: NearBankSpec, item: Product, device: DeviceSpec, batch: int) -> Multiplied:
    """Products of a batch on all channels; all channels are alike."""
    from pimsim.engine.fenced import serve
    from pimsim.engine.interconnect import carry
    from pimsim.engine.memory import command_energy
    from pimsim.engine.pim_products import products, uploaded

    dram, organisation, timing = device.dram, resolve_organisation(device.dram), common_timing(device.dram)
    share, mode = share_of(unit, item, batch, device), unit.all_bank_mode(item.activation_bits, device)
    requests = products(share, unit.units_per_channel, organisation, mode)
    run = serve(dram, requests, mode, unit.idle_ranks, unit.refresh_yields, log_commands=True)
    before = uploaded(run)
    inside = _without(run, before)
    size, writes = organisation.burst_bytes, before["WR"]
    sent = carry(device.interconnect, unit.units_per_channel, writes * size * 8, writes * timing["nCCDS"] * timing["tCK_ps"])
    inputs = unit._broadcast(inside, device)
    channel = add_up(
        unit.command_energy(device, inside.counts, inside.array),
        command_energy(dram, before, writes * size * 8),
        sent.energy_pj,
        inputs.energy_pj,
    )
    scale = share.together * batch * item.groups / share.items
    energy = {part: value * scale for part, value in channel.items()}
    energy["pim_mac"] = item.macs * batch * unit.mac_pj(item.activation_bits)
    back, host = read_products(unit, item, share, batch, device)
    special = sum(inside.counts.get(name, 0) - inside.array.get(name, 0) for name in ("RD", "WR"))
    gap = unit.column_gap(item.activation_bits, organisation, timing)
    columns = share.items * share.passes * share.inputs * share.input_tiles * share.outputs
    limit = "all-bank column commands" if columns * gap * 2 > run.cycles else "mode switches, input writes and row openings"
    clocks = run.cycles + -(-(sent.extra_ps + inputs.extra_ps) // timing["tCK_ps"])
    return Multiplied(clocks, run.counts, energy, scale, (writes + special) * size, back, host, limit)


def _without(run: Served, before: dict[str, int]) -> Served:
    """A run less the commands of its single-bank part."""
    counts = {name: count - before.get(name, 0) for name, count in run.counts.items()}
    return replace(run, counts=counts, array={name: count - before.get(name, 0) for name, count in run.array.items()})


def result_bursts(unit: NearBankSpec, item: Product, share: Products, organisation: Organisation) -> int:
    """Bursts of results that the host reads from one channel: an accumulator each, or 32-bit sums side by side after an adder tree."""
    if unit.lane_reduction:
        return share.items * share.passes * unit.units_per_channel * unit.result_bursts(share.outputs, organisation)
    each = -(-item.outputs // (item.groups * share.together * unit.units_per_channel))
    return share.items * unit.units_per_channel * each


def read_products(unit: NearBankSpec, item: Product, share: Products, batch: int, device: DeviceSpec) -> tuple[Traffic, OperatorCost]:
    """Traffic of one channel's results, and the host's sums over lanes."""
    from pimsim.engine.interconnect import collected
    from pimsim.engine.memory import stream
    from pimsim.units.host import roofline

    organisation = resolve_organisation(device.dram)
    bursts = result_bursts(unit, item, share, organisation)
    back = stream(device.dram.model_copy(update={"channels": 1}), bursts * organisation.burst_bytes)
    back = collected(back, device.interconnect, unit.units_per_channel, back.bytes * 8)
    lanes = 1 if unit.lane_reduction else unit.elements_per_burst(max(item.activation_bits, 8), organisation)
    return back, roofline(device, item.outputs * batch * (lanes - 1), bursts * share.together * organisation.burst_bytes)


def run_product(unit: NearBankSpec, item: Product, device: DeviceSpec, batch: int, end_to_end: bool) -> KernelRun:
    """Products of two activations, alone on all channels."""
    done = multiply(unit, item, device, batch)
    cycles, energy = done.clocks, done.energy_pj
    if end_to_end:
        back = {part: value * done.scale for part, value in done.back.energy_pj.items()}
        cycles += -(-(done.back.latency_ps + done.host.latency_ps) // common_timing(device.dram)["tCK_ps"])
        energy = add_up(energy, back, done.host.energy_pj)
    return KernelRun(cycles, done.counts, energy, done.limited_by)


def product_cost(unit: NearBankSpec, item: Product, device: DeviceSpec, batch: int) -> OperatorCost:
    """Products of two activations within a model: results read back and summed over lanes by the host."""
    done = multiply(unit, item, device, batch)
    back = {part: value * done.scale for part, value in done.back.energy_pj.items()}
    return OperatorCost(
        unit="pim",
        latency_ps=done.clocks * common_timing(device.dram)["tCK_ps"] + done.back.latency_ps + done.host.latency_ps,
        resources=(MEMORY,),
        energy_pj=add_up(done.energy_pj, back, done.host.energy_pj),
        external_bytes=int((done.moved + done.back.bytes) * done.scale),
        commands={name: int(count * done.scale) for name, count in done.counts.items()},
        limited_by=done.limited_by,
    )


def run_sum(unit: NearBankSpec, item: Reduce, device: DeviceSpec, batch: int, end_to_end: bool) -> KernelRun:
    """A sum of vectors that lie in the banks, alone on all channels.

    Raises:
        ConfigError: the vectors do not fit the banks.
    """
    from pimsim.engine.fenced import serve
    from pimsim.engine.pim_products import Sums, sums

    dram, organisation = device.dram, resolve_organisation(device.dram)
    shape = checked_sum(unit, item, device, batch)
    share = Sums(shape.deep, shape.outputs, min(unit.input_registers, unit.accumulators))
    mode = unit.all_bank_mode(item.activation_bits, device)
    run = serve(dram, sums(share, organisation, mode), mode, unit.idle_ranks, unit.refresh_yields)
    energy = {part: value * dram.channels for part, value in unit.command_energy(device, run.counts, run.array).items()}
    energy["pim_mac"] = item.elements_in * batch * unit.mac_pj(max(item.activation_bits, 8))
    cycles = run.cycles
    if end_to_end:
        back, host = read_sums(unit, item, shape, device, batch)
        cycles += -(-(back.latency_ps + host.latency_ps) // common_timing(dram)["tCK_ps"])
        energy = add_up(energy, back.energy_pj, host.energy_pj)
    return KernelRun(cycles, run.counts, energy, "all-bank column commands" if share.deep > 32 else "mode switches and row openings")


def checked_sum(unit: NearBankSpec, item: Reduce, device: DeviceSpec, batch: int) -> SumShape:
    """How a sum is dealt over the units of a device, if it fits their banks."""
    organisation = resolve_organisation(device.dram)
    banks, per_burst = unit.banks_per_unit(organisation), unit.elements_per_burst(item.activation_bits, organisation)
    shape = sum_shape(item, batch, per_burst, unit.units_per_channel * device.dram.channels)
    if shape.deep * shape.outputs // banks + shape.outputs + 2 * organisation.columns > organisation.rows * organisation.columns:
        raise ConfigError(f"kernel reduce: {item.elements_in * batch} elements do not fit the {organisation.rows} rows of each bank")
    return shape


def read_sums(unit: NearBankSpec, item: Reduce, shape: SumShape, device: DeviceSpec, batch: int) -> tuple[Traffic, OperatorCost]:
    """Traffic of all partial sums, and the host's additions of parts and lanes."""
    from pimsim.engine.interconnect import collected
    from pimsim.engine.memory import stream
    from pimsim.units.host import roofline

    size = shape.sums * shape.parts * resolve_organisation(device.dram).burst_bytes
    back = stream(device.dram, size)
    back = collected(back, device.interconnect, unit.units_per_channel, back.bytes * 8 // device.dram.channels)
    return back, roofline(device, host_additions(unit, item, shape, batch), size)


def host_additions(unit: NearBankSpec, item: Reduce, shape: SumShape, batch: int) -> int:
    """Additions of parts and lanes that are left to the host."""
    lanes = 1 if unit.lane_reduction and item.elements_out == 1 else shape.fold
    return batch * item.elements_out * (shape.parts * lanes - 1)


def product_values(unit: NearBankSpec, item: Product, operands: list[NDArray[Any]], organisation: Organisation) -> NDArray[Any]:
    """Values of a product; see `pimsim.units.near_bank_values.product`."""
    from pimsim.units.near_bank_values import product

    per_burst = unit.elements_per_burst(item.activation_bits, organisation)
    registers, _ = tile_of(-(-item.k // per_burst), unit.input_registers)
    return product(item, operands, per_burst, registers, unit.banks_per_unit(organisation), unit.lane_reduction)


def sum_values(unit: NearBankSpec, item: Reduce, vectors: NDArray[Any], organisation: Organisation, channels: int) -> NDArray[Any]:
    """Values of sums of vectors (batch, k, outputs); see `pimsim.units.near_bank_values.reduction`."""
    from pimsim.units.near_bank_values import reduction

    per_burst = unit.elements_per_burst(item.activation_bits, organisation)
    shape = sum_shape(item, len(vectors), per_burst, unit.units_per_channel * channels)
    tree = unit.lane_reduction and item.elements_out == 1
    return reduction(vectors, item.activation_bits, shape.parts, shape.fold, shape.deep, tree)
