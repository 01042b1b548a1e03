"""RecNMP (Ke et al., ISCA 2020): each rank gathers and adds the rows that lie in it, with a cache, beside the other ranks.

Modelling decisions:
    * One instruction a look-up, whatever the row's size, on command, address and data pins together.
    * RankCache: set-associative, LRU, one a rank, lines of one burst; a hit costs no DRAM command and waits only for the adders.
    * LocalityBit: a profile of the batch's indices lets only rows that are looked up `locality_lookups` times or more into the cache.
    * Table-aware packets: all look-ups of a batch into one table are sent before those into the next.
    * The buffer chip adds the sums of its ranks, the host those of several DIMMs.

Not modelled: packets that hold up others of the same queue, the time of profiling (below 2 % in the paper).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import NonNegativeInt, PositiveInt, model_validator

from pimsim.dram.standard import Organisation
from pimsim.graph import Gather
from pimsim.spec.device import DeviceSpec
from pimsim.units.cache import CacheSpec, hits, repeated
from pimsim.units.near_rank import Gathered, NearRankSpec, Reads


class RecNmpSpec(NearRankSpec):
    """Rank-level processing with a RankCache."""

    kind: Literal["recnmp"]
    rank_cache_bytes: NonNegativeInt
    """Capacity of one rank's cache; 0 = none (RecNMP-base)."""
    rank_cache_ways: PositiveInt = 4
    """Lines of one set."""
    locality_lookups: PositiveInt = 1
    """Look-ups of a row in a batch from which on its LocalityBit is set; 1 caches every row."""
    table_aware: bool = True
    """True: packets table by table; false: sample by sample."""

    @model_validator(mode="after")
    def _whole_sets(self) -> RecNmpSpec:
        if self.rank_cache_bytes % (64 * self.rank_cache_ways):
            raise ValueError(f"rank_cache_bytes must be a multiple of rank_cache_ways x 64 = {64 * self.rank_cache_ways}")
        return self

    def arranged(self, reads: Reads, item: Gather, device: DeviceSpec) -> Reads:
        if not self.table_aware:
            return reads
        return reads.taken(np.argsort(reads.bag % len(item.tables), kind="stable"))

    def cached(self, bursts: Reads, organisation: Organisation) -> NDArray[np.bool_]:
        hit = np.zeros(len(bursts.rank), bool)
        if not self.rank_cache_bytes:
            return hit
        cache = CacheSpec(size_bytes=self.rank_cache_bytes, line_bytes=organisation.burst_bytes, ways=self.rank_cache_ways)
        keep, line = repeated(bursts.key(organisation), self.locality_lookups), bursts.place(organisation)
        for rank in np.unique(bursts.rank):
            mine = np.flatnonzero(bursts.rank == rank)
            hit[mine] = hits(cache, line[mine], keep[mine])
        return hit

    def limit(self, gathered: Gathered, end_to_end: bool) -> str:
        rate = gathered.bits["hits"] / max(gathered.bits["accesses"], 1)
        return f"{super().limit(gathered, end_to_end)} (RankCache hits {rate:.1%})"


UNIT = RecNmpSpec
