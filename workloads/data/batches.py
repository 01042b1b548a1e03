"""Mini-batches of a split: fast, shuffled without touching the whole split at once, and resumable at any batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from workloads.data.tables import Split

BLOCK = 1024
"""Neighbouring rows that are read together."""
POOL = 256
"""Blocks that are shuffled together, row by row: 262,144 rows. A split up to that size is permuted uniformly."""


class Batch(NamedTuple):
    """Contiguous, writable copies of some rows."""

    dense: np.ndarray
    """(batch, dense fields) float32."""
    sparse: np.ndarray
    """(batch, look-ups) int32; see `Split.sparse`."""
    label: np.ndarray
    """(batch,) uint8."""


def batch_count(rows: int, batch_size: int, drop_last: bool = False) -> int:
    """Batches of one epoch."""
    return rows // batch_size if drop_last else -(-rows // batch_size)


def iterate(
    split: Split, batch_size: int, rng: np.random.Generator | None = None, *, start: int = 0, drop_last: bool = False
) -> Iterator[Batch]:
    """One epoch of a split.

    Args:
        split: the rows.
        batch_size: rows of a batch; the last batch may be shorter.
        rng: shuffles: blocks of rows are permuted, and rows within pools of blocks; None keeps the order. It is drawn from
            once, when the first batch is asked for: a generator made afresh from the same (seed, epoch) gives the same epoch.
        start: index of the first batch to yield; with a generator as fresh as at the epoch's beginning, this resumes exactly.
        drop_last: leave a shorter last batch out.

    Yields:
        Batches number `start`, `start + 1` ...
    """
    rows = len(split)
    order = None if rng is None else _Order(rows, int(rng.integers(2**63)))
    for index in range(start, batch_count(rows, batch_size, drop_last)):
        first, last = index * batch_size, min((index + 1) * batch_size, rows)
        if order is None:
            yield Batch(split.dense[first:last].copy(), split.sparse[first:last].copy(), split.label[first:last].copy())
        else:
            chosen = order.rows(first, last)
            yield Batch(split.dense.take(chosen, axis=0), split.sparse.take(chosen, axis=0), split.label.take(chosen))


class _Order:
    """A shuffled order of rows, worked out pool by pool."""

    def __init__(self, rows: int, seed: int) -> None:
        self._rows, self._seed = rows, seed
        self._blocks = np.random.default_rng(seed).permutation(-(-rows // BLOCK))
        lengths = np.full(len(self._blocks), BLOCK)
        if rows % BLOCK:
            lengths[self._blocks == len(self._blocks) - 1] = rows % BLOCK
        ends = np.cumsum(lengths)
        self._ends = np.append(ends[POOL - 1 : -1 : POOL], rows)  # position at which each pool ends
        self._pool = -1
        self._permuted = np.empty(0, dtype=np.int64)

    def rows(self, first: int, last: int) -> np.ndarray:
        """Row numbers at positions `first` to `last` (exclusive) of the order."""
        parts = []
        while first < last:
            pool = int(np.searchsorted(self._ends, first, side="right"))
            start = int(self._ends[pool - 1]) if pool else 0
            end = min(last, int(self._ends[pool]))
            parts.append(self._of_pool(pool)[first - start : end - start])
            first = end
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _of_pool(self, pool: int) -> np.ndarray:
        if pool != self._pool:
            blocks = self._blocks[pool * POOL : (pool + 1) * POOL]
            rows = (blocks[:, None] * BLOCK + np.arange(BLOCK)).ravel()
            self._permuted = np.random.default_rng([self._seed, pool]).permutation(rows[rows < self._rows])
            self._pool = pool
        return self._permuted
