"""Products of two activations and sums on GDDR6-AiM.

Modelling decisions:
    * Product: neither operand is resident. The second one is written to the banks by ordinary writes, row by row of the matrix, one
      bank after the other; then the banks are closed and the vectors of the first one go through the global buffer as in `gemv`.
      Matrix rows that are shorter than a bank's row lie side by side in it. A strict lower triangle skips whole groups of rows (as many
      as there are banks), not single outputs.
    * Samples are dealt over groups of channels, which share the rows of a matrix: the fewest passes, then the fewest written rows.
    * Sum: the units multiply with ones, which are written to the global buffer once. The values of one sum lie along a bank's row; with
      fewer sums than banks several banks add a part each, and the host, which reads every bank's part anyway, adds the parts in FP32.

Not modelled: the refresh of the plain writes shares its phase with the program's, the host's work to lay out operands.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pimsim.dram.standard import Organisation, resolve_organisation, resolve_timing
from pimsim.errors import ConfigError
from pimsim.graph import Product, Reduce
from pimsim.spec.device import DeviceSpec
from pimsim.units.aim_timing import Instruction, issue_program
from pimsim.units.cost import MEMORY, OperatorCost, add_up

if TYPE_CHECKING:
    from pimsim.units.aim import AimSpec


@dataclass(frozen=True)
class Share:
    """One channel's share of small products or sums.

    Attributes:
        together: Channels that share the rows of a matrix.
        items: Matrices, one after another.
        rows: Rows of each matrix in this channel.
        columns: Columns (bursts) of a row.
        groups: For each vector, the groups of one row a bank that it meets.
    """

    together: int
    items: int
    rows: int
    columns: int
    groups: tuple[int, ...]

    @property
    def passes(self) -> int:
        """Groups over all vectors of one matrix."""
        return sum(self.groups)

    def bank_row(self, slot: int | NDArray[np.int64], organisation: Organisation) -> int | NDArray[np.int64]:
        """Row of the banks at which a group begins, groups of all matrices counted through."""
        side_by_side = organisation.columns // self.columns
        return slot // side_by_side if side_by_side else slot * -(-self.columns // organisation.columns)


def share_of(unit: AimSpec, item: Product, batch: int, device: DeviceSpec) -> Share:
    """One channel's share of the products of a batch.

    Raises:
        ConfigError: the matrices do not fit into the banks.
    """
    channels, organisation = device.dram.channels, unit._checked(device)
    shares = [_dealt(unit, item, batch, channels, together) for together in range(1, channels + 1) if channels % together == 0]
    share = min(shares, key=lambda one: (one.items * one.passes, one.items * one.rows))
    last = int(share.bank_row(share.items * -(-share.rows // unit.units_per_channel), organisation))
    if last + 1 > organisation.rows:
        what = f"{batch * item.groups} products of {item.m} x {item.k} and {item.k} x {item.n}"
        raise ConfigError(f"kernel dot: {what} need {last + 1} rows in every bank, but a bank has {organisation.rows}")
    return share


def _dealt(unit: AimSpec, item: Product, batch: int, channels: int, together: int) -> Share:
    step = together * unit.units_per_channel
    met = range(1, item.m) if item.triangle else [item.n] * item.m  # rows that each vector meets
    groups = tuple(-(-rows // step) for rows in met) or (1,)
    rows = -(-max(item.n - item.triangle, 1) // together)
    return Share(together, -(-batch * item.groups // (channels // together)), rows, -(-item.k // unit.lanes), groups)


def program(unit: AimSpec, share: Share, organisation: Organisation) -> Iterator[Instruction]:
    """One channel's instructions once the matrices lie in the banks."""
    each = -(-share.rows // unit.units_per_channel)
    yield Instruction("W_CFR")
    for item in range(share.items):
        for groups in share.groups:
            yield from vector(unit, share, item * each, groups, organisation)


def vector(unit: AimSpec, share: Share, first: int, groups: int, organisation: Organisation) -> Iterator[Instruction]:
    """One vector through `groups` groups of rows, which begin at group `first` of all matrices."""
    piece = min(organisation.columns, unit.global_buffer_bytes // organisation.burst_bytes)
    pieces = [(start, min(piece, share.columns - start)) for start in range(0, share.columns, piece)]
    for group in range(groups):
        row = int(share.bank_row(first + group, organisation))
        yield Instruction("WR_BIAS")
        for start, count in pieces:
            if group == 0 or len(pieces) > 1:
                yield Instruction("WR_GB", count)
            yield Instruction("MAC_ABK", count, row + start // organisation.columns)
        yield Instruction("RD_MAC")


def upload(unit: AimSpec, share: Share, organisation: Organisation) -> NDArray[np.int64]:
    """Writes of all matrices of one channel for `pimsim.engine.fenced`, (n, 5)."""
    from pimsim.dram.standard import Command

    banks = unit.units_per_channel
    item, row, burst = (part.ravel() for part in np.mgrid[: share.items, : share.rows, : share.columns])
    slot = item * -(-share.rows // banks) + row // banks
    side_by_side = organisation.columns // share.columns
    column = slot % side_by_side * share.columns + burst if side_by_side else burst
    down, column = np.divmod(column, organisation.columns)
    kind, flags = np.full(len(row), int(Command.WR)), np.zeros(len(row), np.int64)
    return np.stack([kind, row % banks, share.bank_row(slot, organisation) + down, column, flags], axis=1).astype(np.int64)


@dataclass(frozen=True)
class Multiplied:
    """Products of a batch: clocks, commands of one channel, energy of one channel by part, bytes over one channel's interface."""

    share: Share
    clocks: int
    counts: dict[str, int]
    energy_pj: dict[str, float]
    moved: int
    limited_by: str


def multiply(unit: AimSpec, item: Product, device: DeviceSpec, batch: int, begin: int = 0) -> Multiplied:
    """Products of a batch, one channel's share; the program starts `begin` clocks and the writes after a refresh."""
    from pimsim.engine.fenced import serve
    from pimsim.engine.memory import command_energy
    from pimsim.units.aim import _bursts

    organisation, timing = unit._checked(device), resolve_timing(device.dram)
    share = share_of(unit, item, batch, device)
    written = serve(device.dram.model_copy(update={"channels": 1}), upload(unit, share, organisation))
    before = written.cycles + timing["nWR"] + timing["nRP"]
    run = issue_program(device.dram, program(unit, share, organisation), begin + before, unit.logic_clocks(timing))
    bits = written.counts["WR"] * organisation.burst_bytes * 8
    energy = add_up(command_energy(device.dram, written.counts, bits), unit.energy_pj(run.counts, device, organisation))
    counts = {name: int(count) for name, count in add_up(written.counts, run.counts).items()}
    moved = (_bursts(run.counts) + written.counts["WR"]) * organisation.burst_bytes
    limit = "writes of an operand to the banks" if before > run.cycles else unit._limit(run, timing)
    return Multiplied(share, before + run.cycles, counts, energy, moved, limit)


def product_cost(unit: AimSpec, item: Product, device: DeviceSpec, batch: int) -> OperatorCost:
    """Products of a batch within a model."""
    timing = resolve_timing(device.dram)
    done = multiply(unit, item, device, batch, timing["nREFI"] // 2)  # on average it starts in the middle of a refresh interval
    scale = done.share.together * batch * item.groups / done.share.items
    return OperatorCost(
        unit="pim",
        latency_ps=done.clocks * timing["tCK_ps"],
        resources=(MEMORY,),
        energy_pj={part: value * scale for part, value in done.energy_pj.items()},
        external_bytes=int(done.moved * scale),
        commands={name: int(count * scale) for name, count in done.counts.items()},
        limited_by=done.limited_by,
    )


@dataclass(frozen=True)
class Sums:
    """How sums are dealt over the banks.

    Attributes:
        parts: Banks that add a part of the values each.
        columns: Columns of a part.
        groups: Groups of one part a bank that each channel adds.
    """

    parts: int
    columns: int
    groups: int


def sums_of(item: Reduce, batch: int, lanes: int, banks: int) -> Sums:
    """How `banks` banks share the sums of a batch."""
    columns = -(-item.elements_in // (item.elements_out * lanes))
    total = item.elements_out * batch
    part = -(-columns // max(1, min(banks // total, columns)))
    parts = -(-columns // part)
    return Sums(parts, part, -(-total * parts // banks))


def checked_sums(unit: AimSpec, item: Reduce, device: DeviceSpec, batch: int) -> Sums:
    """How the banks of a device share the sums.

    Raises:
        ConfigError: the values do not fit into the banks.
    """
    organisation = unit._checked(device)
    shape = sums_of(item, batch, unit.lanes, device.dram.channels * unit.units_per_channel)
    need = int(Share(1, 1, 1, shape.columns, ()).bank_row(shape.groups, organisation))
    if need > organisation.rows:
        what = f"reduce of {item.elements_in * batch} elements"
        raise ConfigError(f"kernel {what}: needs {need} rows in every bank, but a bank has {organisation.rows}")
    return shape


def sum_program(unit: AimSpec, shape: Sums, device: DeviceSpec) -> list[Instruction]:
    """One channel's instructions: ones to the global buffer, then every group's columns times them."""
    organisation = resolve_organisation(device.dram)
    piece = min(organisation.columns, unit.global_buffer_bytes // organisation.burst_bytes)
    place = Share(1, 1, 1, shape.columns, ())
    steps = [Instruction("W_CFR"), Instruction("WR_GB", min(piece, shape.columns))]
    for group in range(shape.groups):
        row = int(place.bank_row(group, organisation))
        steps.append(Instruction("WR_BIAS"))
        for start in range(0, shape.columns, piece):
            steps.append(Instruction("MAC_ABK", min(piece, shape.columns - start), row + start // organisation.columns))
        steps.append(Instruction("RD_MAC"))
    return steps


def product_values(unit: AimSpec, item: Product, operands: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    """(batch, m, n), or (batch, pairs) of a strict lower triangle: each vector of (batch, m, k) with the rows of (batch, n, k)."""
    pairs = zip(operands[0], operands[-1], strict=True)
    return item.kept(np.stack([unit._products(second, first) for first, second in pairs]))


def sum_values(unit: AimSpec, item: Reduce, vectors: NDArray[np.float32], channels: int) -> NDArray[np.float32]:
    """Sums (batch, outputs) of vectors (batch, k, outputs): parts as the units add them, then added in order in FP32 by the host."""
    batch, count, outputs = vectors.shape
    shape = sums_of(item, batch, unit.lanes, channels * unit.units_per_channel)
    size = shape.columns * unit.lanes
    padded = np.pad(vectors, ((0, 0), (0, shape.parts * size - count), (0, 0)))
    rows = padded.reshape(batch, shape.parts, size, outputs).transpose(0, 3, 1, 2).reshape(-1, size)
    parts = unit._products(rows, np.ones((1, size), np.float32)).reshape(batch, outputs, shape.parts)
    total = parts[..., 0]
    for part in range(1, shape.parts):
        total = total + parts[..., part]
    return total
