"""Embedding gathers near memory, beside the plain memory, with and without the host's last-level cache."""

from __future__ import annotations

from typing import Any

from pimsim.api import load_device, run_kernel
from pimsim.dram.standard import resolve_organisation, resolve_timing
from pimsim.engine.memory import lookups
from pimsim.graph import Gather, IndexSource, Table
from pimsim.mapping.indices import draw_table
from pimsim.mapping.placement import place
from pimsim.units.cache import CacheSpec, missed
from pimsim.units.cost import LookUps

ROWS = 1_000_000
LOCALITY = IndexSource(kind="zipf", exponent=0.9)


def _gather(tables: int, dim: int, pooling: int) -> Gather:
    return Gather(name="look_up", tables=tuple(Table(name=f"table{n}", rows=ROWS, dim=dim, pooling=pooling) for n in range(tables)))


def _cycles(device: str, tables: int, dim: int, pooling: int, batch: int, overrides: dict[str, Any]) -> tuple[int, int]:
    report = run_kernel(load_device(device, overrides), _gather(tables, dim, pooling), batch, LOCALITY)
    return report.cycles, report.baseline.cycles


def speedup(device: str, tables: int, dim: int, pooling: int, batch: int, overrides: dict[str, Any] | None = None) -> float:
    """Time of the plain memory over time of the units."""
    near, plain = _cycles(device, tables, dim, pooling, batch, overrides or {})
    return plain / near


def speedup_behind_cache(device: str, tables: int, dim: int, pooling: int, batch: int, cache_bytes: int, ways: int) -> float:
    """As `speedup`, the plain memory serving only what misses a last-level cache."""
    spec, item = load_device(device), _gather(tables, dim, pooling)
    organisation = resolve_organisation(spec.dram)
    found = LookUps.of([draw_table(table, batch, LOCALITY) for table in item.tables])
    where = place(item.tables, "row", organisation, spec.dram.channels).locate(found.table, found.index)
    behind = missed(CacheSpec(size_bytes=cache_bytes, ways=ways), where, organisation)
    plain = lookups(spec.dram, organisation, behind, external=True).latency_ps // resolve_timing(spec.dram)["tCK_ps"]
    return plain / _cycles(device, tables, dim, pooling, batch, {})[0]


def speedup_over(device: str, other: str, tables: int, dim: int, pooling: int, batch: int, overrides: dict[str, Any]) -> float:
    """Time of other units (with overrides that give them the same memory) over time of these."""
    return _cycles(other, tables, dim, pooling, batch, overrides)[0] / _cycles(device, tables, dim, pooling, batch, {})[0]


def energy_saved(device: str, tables: int, dim: int, pooling: int, batch: int) -> float:
    """Share of the dynamic memory energy of the plain memory that the units save, in per cent."""
    spec, item = load_device(device), _gather(tables, dim, pooling)
    near = run_kernel(spec, item, batch, LOCALITY, end_to_end=True).energy_pj["total"]
    organisation, unit = resolve_organisation(spec.dram), spec.unit
    found = LookUps.of([draw_table(table, batch, LOCALITY) for table in item.tables])
    where = place(item.tables, "row", organisation, spec.dram.channels).locate(found.table, found.index)
    plain = lookups(spec.dram, organisation, where, external=True)
    per_bit = getattr(unit, "column_read_pj_per_bit", 0.0) + (spec.dram.io_pj_per_bit or 0.0)
    assert near is not None
    return 100 * (1 - near / (plain.energy_pj["dram_activate"] + plain.bytes * 8 * per_bit))
