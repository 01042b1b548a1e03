"""Keys of a categorical column to ids: a vocabulary of the training rows, hashing as the papers do it, or ids as they are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from pimsim.errors import DataError
from workloads.data.parse_kernel import MISSING, number_values, refill


class Encoder(ABC):
    """How the values of one column become ids."""

    @abstractmethod
    def ids(self, name: str, values: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, int, dict[str, Any]]:
        """Ids of the values of a column.

        Args:
            name: of the column, for errors.
            values: (distinct,) int64 keys of all rows, `MISSING` among them.
            counts: (distinct,) training rows of each.

        Returns:
            (distinct,) int32 ids, the cardinality, and facts.
        """


class Vocabulary(Encoder):
    """Ids by falling frequency in the training rows; id 0 is everything seen fewer than `min_count` times there.

    A missing value counts as a value. Ties are broken by the key.
    """

    def __init__(self, min_count: int) -> None:
        self.min_count = min_count

    def ids(self, name: str, values: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, int, dict[str, Any]]:
        known = np.flatnonzero(counts >= self.min_count)
        known = known[np.lexsort((values[known], -counts[known]))]
        ids = np.zeros(len(values), np.int32)
        ids[known] = np.arange(1, len(known) + 1)
        return ids, len(known) + 1, {}


class Modulo(Encoder):
    """NASRec's hashing: `key mod (rows - 1) + 1`, a missing value is 0. No vocabulary: different values may share a row.

    Source: facebookresearch/NasRec, nasrec/utils/data_pipes.py.
    """

    def __init__(self, rows: int) -> None:
        self.rows = rows

    def ids(self, name: str, values: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, int, dict[str, Any]]:
        present = values != MISSING
        ids = np.where(present, values % max(1, self.rows - 1) + 1, 0).astype(np.int32)
        return ids, self.rows, {"collisions": collisions(ids[present], counts[present], self.rows)}


class Identity(Encoder):
    """Ids as they stand in the file."""

    def ids(self, name: str, values: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, int, dict[str, Any]]:
        if (values == MISSING).any():
            raise DataError(f"column {name!r}: ids missing, and ids as they are leave no id for that")
        if values.min() < 0 or values.max() >= 2**31 - 1:
            wrong = values.min() if values.min() < 0 else values.max()
            raise DataError(f"column {name!r}: id {wrong}, allowed 0 to {2**31 - 2}")
        return values.astype(np.int32), int(values.max()) + 1, {}


def collisions(ids: np.ndarray, counts: np.ndarray, rows: int) -> dict[str, Any]:
    """What hashing costs a column: values that share a row with others, and the training look-ups that go to such rows."""
    by_id = np.argsort(ids, kind="stable")
    found, first, values = np.unique(ids[by_id], return_index=True, return_counts=True)
    look_ups = np.add.reduceat(counts[by_id], first) if len(first) else np.zeros(0, np.int64)
    shared = values > 1
    total = int(counts.sum())
    return {
        "values": len(ids),
        "rows": rows,
        "used_rows": len(found),
        "values_sharing": int(values[shared].sum()),
        "lookups_sharing": float(look_ups[shared].sum() / total) if total else 0.0,
    }


class Numbering:
    """Numbers the values of one column, block by block; memory grows with the distinct values only."""

    def __init__(self) -> None:
        self._used = 0
        self._table, self._codes_of = np.zeros(1 << 16, np.int64), np.zeros(1 << 16, np.int32)
        self._values, self._counts = np.zeros(1 << 15, np.int64), np.zeros(1 << 15, np.int64)

    def codes(self, keys: np.ndarray, train: np.ndarray) -> np.ndarray:
        """(n,) int32 numbers of keys, in order of first appearance; `train` says which rows are counted."""
        codes = np.empty(len(keys), np.int32)
        step = 1 << 14
        for start in range(0, len(keys), step):
            block = keys[start : start + step]
            if self._used + len(block) > len(self._values):
                self._grow()
            self._used = number_values(
                block, train[start : start + step], self._table, self._codes_of, self._values, self._counts, self._used,
                codes[start : start + step],
            )  # fmt: skip
        return codes

    def _grow(self) -> None:
        size = 2 * len(self._table)
        self._values, self._counts = (np.concatenate([a, np.zeros(len(a), np.int64)]) for a in (self._values, self._counts))
        self._table, self._codes_of = np.zeros(size, np.int64), np.zeros(size, np.int32)
        refill(self._values, self._used, self._table, self._codes_of)

    @property
    def values(self) -> np.ndarray:
        """Keys by number."""
        return self._values[: self._used]

    @property
    def counts(self) -> np.ndarray:
        """Training rows by number."""
        return self._counts[: self._used]
