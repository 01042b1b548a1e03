"""Streams whose rows overlap three and more at a time, in ranks that take turns: a short walk instead of a form.

Of two rows in two ranks, bursts take turns and every turn costs a switch. With a third row in the controller's window, bursts of one rank
can follow each other, but only as long as it stays there; how long depends on all three. So the window kernel serves some rows in the
order of the address map, and their pace is taken.

Modelling decisions:
    * `FRESH` rows of closed banks, and the same banks with another row each; the pace of either is that between marks, its start and end
      aside.

Not modelled: more banks than these before the first is opened again.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from pimsim.analytic.window import paced, rules, sample
from pimsim.dram.standard import resolve_organisation
from pimsim.mapping.address import map_of
from pimsim.spec.dram import DramSpec

FRESH = 32
"""Rows of either kind that are walked through."""


@lru_cache(maxsize=1 << 12)
def row_paces(dram: DramSpec) -> tuple[float, float]:
    """Clocks from row to row of a contiguous stream of one channel, of rows in banks still closed and in banks with another row open."""
    one, organisation = dram.model_copy(update={"channels": 1}), resolve_organisation(dram)
    run, count = organisation.columns, min(FRESH, organisation.banks)
    where = map_of(one).decode((np.arange(count) * run * organisation.burst_bytes).astype(np.uint64))
    group = where["rank"] * organisation.bankgroups + where["bankgroup"]
    bank = np.tile(group * organisation.banks_per_group + where["bank"], 2)
    row = np.repeat([0, 1], count)
    reads = sample(bank, row, np.full(2 * count, run), np.ones(2 * count, bool))
    by, start = rules(one), count // 4  # rows aside at the start, and two at the end
    fresh, later = (paced(by, reads, ((first + start) * run, (first + count - 2) * run)) for first in (0, count))
    return fresh * run, later * run
