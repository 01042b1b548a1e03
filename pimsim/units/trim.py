"""TRiM (Park et al., MICRO 2021): reducers inside the DRAM chips, one a bank group (TRiM-G) or one a bank (TRiM-B).

Modelling decisions:
    * An instruction (C-instr) of one look-up crosses the channel on command, address and data pins together, then the command and address
      pins of its rank; the chip makes ACT, column reads and PRE from it.
    * Reducers of a rank read at the same time, each a burst every nCCDL; activations share the rank's nRRDS and nFAW.
    * Hot rows (the most frequent ones of the batch's profile) have a copy in every reducer's banks; a look-up of one goes to the reducer
      with the least work sent to it so far.
    * Partial sums go over the rank's data bus to the buffer chip while other rows are read; that chip adds those of its ranks.
    * The rank's queue of instructions is `dram.controller.read_queue` long, first ready first served.

Not modelled: time and energy of filling the copies, column accesses that a partial sum takes from its bank group, detection of errors.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pimsim.dram.standard import Organisation, resolve_organisation
from pimsim.engine.reducers import Level
from pimsim.errors import ConfigError
from pimsim.graph import Gather
from pimsim.mapping.placement import burst_slots
from pimsim.spec.device import DeviceSpec
from pimsim.units.cache import most_frequent
from pimsim.units.near_rank import NearRankSpec, Reads


class TrimSpec(NearRankSpec):
    """Reducers at bank groups or banks."""

    kind: Literal["trim"]
    level: Literal["bankgroup", "bank"]
    """`bankgroup`: TRiM-G; `bank`: TRiM-B."""
    hot_share: float = Field(default=0.0, ge=0, le=1)
    """Share of all table rows that have a copy at every reducer; 0 = none."""

    @property
    def reads_end_at(self) -> Level:
        return self.level

    def arranged(self, reads: Reads, item: Gather, device: DeviceSpec) -> Reads:
        from pimsim.kernels.cache_model import least_loaded

        organisation = resolve_organisation(device.dram)
        key = reads.key(organisation)
        hot = most_frequent(key, self._copies(item, organisation))
        if not len(hot):
            return reads
        order = np.argsort(hot)
        at = order[np.minimum(np.searchsorted(hot, key, sorter=order), len(hot) - 1)]  # number among the hot rows
        is_hot = hot[at] == key
        reducer = np.where(is_hot, -1, self.reducer_of(reads, organisation))
        everywhere = self.reducers_per_rank(organisation) * organisation.ranks * organisation.channels
        least_loaded(reducer, reads.bursts, np.zeros(everywhere, np.int64))
        return self._moved(reads, is_hot, at, reducer, organisation)

    def _copies(self, item: Gather, organisation: Organisation) -> int:
        """Hot rows, if there is room for their copies beside the tables."""
        slots = [burst_slots(table.row_bytes, organisation) for table in item.tables]
        copies = int(self.hot_share * sum(table.rows for table in item.tables))
        reducers = self.reducers_per_rank(organisation) * organisation.ranks * organisation.channels
        need = sum(table.rows * size for table, size in zip(item.tables, slots, strict=True)) + copies * reducers * max(slots)
        if need * organisation.burst_bytes > organisation.total_bytes:
            raise ConfigError(
                f"unit.hot_share: {self.hot_share}: {copies} copies at {reducers} reducers and the tables need "
                f"{need * organisation.burst_bytes / 2**20:,.0f} MiB of {organisation.total_bytes / 2**20:,.0f} MiB"
            )
        return copies

    def _moved(
        self, reads: Reads, hot: NDArray[np.bool_], number: NDArray[np.int64], reducer: NDArray[np.int64], organisation: Organisation
    ) -> Reads:
        """Look-ups of hot rows at the copies of the reducers that they are given to; copies fill the last rows of the banks."""
        each = self.reducers_per_rank(organisation)
        banks = organisation.banks // organisation.ranks // each
        rank, within = np.divmod(reducer, each)
        down, column = np.divmod(number // banks * int(reads.bursts.max()), organisation.columns)
        return replace(
            reads,
            rank=np.where(hot, rank, reads.rank),
            bank=np.where(hot, within * banks + number % banks, reads.bank),
            row=np.where(hot, organisation.rows - 1 - down, reads.row),
            column=np.where(hot, column, reads.column),
        )


UNIT = TrimSpec
