"""Embedding rows in the host's last-level cache: which bursts of a batch's look-ups hit once the cache has been in use for long.

Modelling decisions:
    * The cache is exact (`pimsim.units.cache`: set-associative, least recently used). It serves the look-ups of all gathers of a model,
      gather after gather, batch after batch; within a batch in request order.
    * What it tracks is a burst of the memory (a line, or a sector of one). The tables lie one after another in the host's address space,
      each row rounded up to the bursts that `pimsim.mapping.placement` reserves for it, so that sets are used evenly.
    * Rows may fill `llc_embedding_share` of the sets; weights and activations have the rest.
    * Steady state. Tables that fit are there as a whole. Otherwise batches that come before the measured one, from the same source,
      warm the cache up: drawn ones until twice the cache's lines have been missed (from then on its content is that of any later time),
      but at most `WARM_UP` accesses or one batch; of a file the whole batches that it has beside the measured one, and none twice, for
      a trace that repeats itself would seem to hit more than it does.

Not modelled: private caches, hardware prefetch, other programs, warming up beyond `WARM_UP` (a cache that is still filling hits less).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pimsim.dram.standard import resolve_organisation
from pimsim.graph import Workload
from pimsim.mapping.indices import draw_indices, file_samples
from pimsim.mapping.placement import burst_slots
from pimsim.spec.device import DeviceSpec, HostSpec
from pimsim.units.cache import CacheSpec, hits
from pimsim.units.cost import LookUps

BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]

WARM_UP = 1 << 22
"""Accesses before the measured batch, at most (a single batch may have more)."""


def row_cache(host: HostSpec, burst_bytes: int) -> CacheSpec | None:
    """The part of the last-level cache that embedding rows may fill; None without one."""
    sets = int(host.llc_bytes * host.llc_embedding_share) // (host.llc_ways * burst_bytes) if host.cache_embeddings else 0
    return CacheSpec(size_bytes=sets * host.llc_ways * burst_bytes, line_bytes=burst_bytes, ways=host.llc_ways) if sets else None


def caches_rows(device: DeviceSpec, workload: Workload) -> bool:
    """True when the host gathers and its cache serves rows."""
    host = device.host
    return bool(workload.gathers) and device.mapping.embedding == "host" and host.cache_embeddings and host.llc_embedding_share > 0


def weight_capacity(device: DeviceSpec, workload: Workload) -> int:
    """Bytes of the last-level cache that stationary weights may fill."""
    host = device.host
    return int(host.llc_bytes * (1 - host.llc_embedding_share)) if caches_rows(device, workload) else host.llc_bytes


def warm_hits(device: DeviceSpec, workload: Workload, batch: int) -> dict[str, BoolArray]:
    """Which bursts of a batch's look-ups the host's last-level cache serves, in steady state.

    Args:
        device: Its host has the cache, its memory says how long a burst is.
        workload: Its gathers and index source.
        batch: Samples.

    Returns:
        {gather name: (bursts,) bool}, bursts in request order; empty when the cache serves no rows.

    Raises:
        ConfigError: see `draw_indices`.
    """
    organisation = resolve_organisation(device.dram)
    cache = row_cache(device.host, organisation.burst_bytes)
    if cache is None or not caches_rows(device, workload):
        return {}
    slots = [np.array([burst_slots(t.row_bytes, organisation) for t in gather.tables]) for gather in workload.gathers]
    lines = sum(
        int(n) * t.rows for gather, each in zip(workload.gathers, slots, strict=True) for n, t in zip(each, gather.tables, strict=True)
    )
    widths = [int(np.count_nonzero(number == 0)) for _, number in _lines(workload, slots, batch, 1)]
    if lines <= cache.sets * cache.ways:
        hit = np.ones(sum(widths), bool)
    else:
        hit = _measured(cache, workload, slots, batch, sum(widths))
    return dict(zip((gather.name for gather in workload.gathers), np.split(hit, np.cumsum(widths)[:-1]), strict=True))


def _measured(cache: CacheSpec, workload: Workload, slots: list[IntArray], batch: int, accesses: int) -> BoolArray:
    """Hits of the first batch after the later ones, the second one last: they stand for those before it."""
    enough = 2 * cache.sets * cache.ways
    most = max(WARM_UP // accesses, 1)
    if workload.indices.kind == "file":
        most = min(most, max(file_samples(workload) // batch - 1, 0))
    batches = min(-(-enough // accesses), most)
    while True:
        line, number = (np.concatenate(part) for part in zip(*_lines(workload, slots, batch, 1 + batches), strict=True))
        hit = hits(cache, line[np.argsort(-number, kind="stable")])
        warm = hit[:-accesses]
        if batches >= most or np.count_nonzero(~warm) >= enough:
            return hit[-accesses:]
        batches = min(2 * batches, most)


def _lines(workload: Workload, slots: list[IntArray], batch: int, batches: int) -> list[tuple[IntArray, IntArray]]:
    """For each gather the line of every burst, in request order, and the number of its batch."""
    drawn = draw_indices(workload, batch * batches)
    first, parts = 0, []
    for gather, each in zip(workload.gathers, slots, strict=True):
        found = LookUps.of([np.asarray(drawn[table.name])[: batch * batches] for table in gather.tables])
        size = each * np.array([table.rows for table in gather.tables])
        starts = first + np.cumsum(size) - size
        bursts = each[found.table]
        step = np.arange(int(bursts.sum())) - np.repeat(np.cumsum(bursts) - bursts, bursts)
        line = np.repeat(starts[found.table] + found.index * bursts, bursts) + step
        parts.append((line, np.repeat(found.sample // batch, bursts)))
        first += int(size.sum())
    return parts
