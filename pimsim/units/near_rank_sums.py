"""Sums on gather-reduce units: their adders add any vectors, not only rows of tables.

Modelling decisions:
    * A vector is a row: one instruction reads it and one reducer adds it. A row has at most four bursts in each reducer that shares it (256
      bytes in RecNMP). Shorter vectors lie side by side in a row, and the host adds the sides; longer ones are cut into pieces, each a
      sum of its own.
    * Every vector is read once: nothing is cached or has copies.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pimsim.dram.standard import common_timing, resolve_organisation
from pimsim.errors import ConfigError
from pimsim.graph import AnyPrimitive, Gather, Product, Reduce, Table
from pimsim.spec.device import DeviceSpec
from pimsim.units.cost import KernelRun, LookUps, add_up

if TYPE_CHECKING:
    from pimsim.units.near_rank import NearRankSpec

ROW_BURSTS = 4
FORMATS: dict[int, type[np.generic]] = {32: np.float32, 16: np.float16, 8: np.int8}


@dataclass(frozen=True)
class Lowered:
    """A sum as a gather.

    Attributes:
        gather: One table; its pooling is the rows of one sum.
        lookups: Every row once, sum by sum.
        sums: Sums of all samples and pieces.
        fold: Vectors side by side in a row.
        pieces: Pieces of a vector.
        host_adds: Additions of sides that are left to the host.
    """

    gather: Gather
    lookups: LookUps
    sums: int
    fold: int
    pieces: int
    host_adds: int


def lowered(unit: NearRankSpec, item: AnyPrimitive, device: DeviceSpec, batch: int) -> Lowered:
    """A sum as the gather that these units run.

    Raises:
        ConfigError: another kernel, or elements of a width that they do not add.
    """
    if not isinstance(item, Reduce):
        name, why = ("dot", ", for they have no multipliers for two activations") if isinstance(item, Product) else (item.op, "")
        raise ConfigError(f"kernel {name}: units of kind {unit.kind} do not run it{why} (allowed: embedding, reduce)")
    bits, outputs = item.activation_bits, item.elements_out
    if bits not in FORMATS:
        raise ConfigError(f"kernel reduce: {bits} bits: units of kind {unit.kind} add 8, 16 or 32 bits")
    wide = ROW_BURSTS * resolve_organisation(device.dram).burst_bytes * 8 // bits * unit.stripes(device)
    fold = max(min(wide // outputs, item.elements_in // outputs), 1)
    pieces = -(-outputs // wide)
    dim = -(-outputs * fold // pieces)
    rows = -(-item.elements_in // (outputs * fold))
    sums = batch * pieces
    index = np.arange(sums * rows)
    table = Table(name=item.name, rows=sums * rows, dim=dim, bits=bits, pooling=rows)
    lookups = LookUps(np.zeros_like(index), index, index // rows)
    return Lowered(Gather(name=item.name, tables=(table,)), lookups, sums, fold, pieces, batch * outputs * (fold - 1))


def without_copies(unit: NearRankSpec) -> NearRankSpec:
    """The unit with no copies of hot rows, where it has any."""
    return unit.model_copy(update={"hot_share": 0.0}) if "hot_share" in type(unit).model_fields else unit


def run_sum(unit: NearRankSpec, item: AnyPrimitive, device: DeviceSpec, batch: int, end_to_end: bool) -> KernelRun:
    """A sum alone; end to end the host adds the sides of folded vectors."""
    from pimsim.units.host import roofline

    work = lowered(unit, item, device, batch)
    run = without_copies(unit).run_kernel(work.gather, device, batch, work.lookups, end_to_end)
    if not end_to_end or not work.host_adds:
        return run
    host = roofline(device, work.host_adds, work.host_adds * 4)
    cycles = run.cycles + -(-host.latency_ps // common_timing(device.dram)["tCK_ps"])
    return KernelRun(cycles, run.commands, add_up(run.energy_pj, host.energy_pj), run.limited_by)


def sum_values(
    unit: NearRankSpec, item: AnyPrimitive, operands: tuple[NDArray[Any], ...], device: DeviceSpec | None
) -> NDArray[np.float32]:
    """Sums (batch, outputs) in FP32 of vectors (batch, k, outputs), as the reducers of a device and then its host add them.

    Raises:
        ConfigError: another kernel or other operands, or no device.
    """
    if len(operands) != 1 or device is None:
        allowed = "embedding with 2 to 4 operands, reduce of one operand on a device"
        raise ConfigError(f"kernel {item.op}: units of kind {unit.kind} do not run it (allowed: {allowed})")
    vectors = operands[0]
    batch, count, outputs = vectors.shape
    work = lowered(unit, item, device, batch)
    table = work.gather.tables[0]
    rows, dim = table.pooling, table.dim
    padded = np.pad(vectors.astype(FORMATS[table.bits]), ((0, 0), (0, rows * work.fold - count), (0, 0)))
    wide = padded.reshape(batch, rows, work.fold * outputs)
    wide = np.pad(wide, ((0, 0), (0, 0), (0, work.pieces * dim - wide.shape[2])))
    cut = wide.reshape(batch, rows, work.pieces, dim).transpose(0, 2, 1, 3).reshape(-1, dim)
    indices = np.arange(work.sums * rows).reshape(work.sums, rows)
    found = without_copies(unit).compute(work.gather, cut, indices, np.ones(indices.shape, np.float32), unit.reducers(work.gather, device))
    sides = found.reshape(batch, work.pieces * dim)[:, : work.fold * outputs].reshape(batch, work.fold, outputs)
    total: NDArray[np.float32] = sides[:, 0]
    for side in range(1, work.fold):
        total = total + sides[:, side]
    return total
