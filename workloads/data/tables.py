"""What an adapter hands to the cache: named, typed columns of each split."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from pydantic import PositiveInt, model_validator

from pimsim.errors import DataError
from pimsim.spec.base import Spec

SPLITS = ("train", "valid", "test")


class Schema(Spec):
    """Names of the fields and sizes of the vocabularies."""

    dense: tuple[str, ...] = ()
    """Names of the dense (numeric) fields; may be none."""
    sparse: tuple[str, ...]
    """Names of the sparse (categorical) fields."""
    cardinalities: tuple[PositiveInt, ...]
    """Ids of each sparse field run from 0 to its cardinality - 1."""
    pooling: tuple[PositiveInt, ...] = ()
    """Ids of each sparse field in a row, of which a model takes the sum of the embeddings; one each where not given. A field of
    several ids is multi-valued: -1 fills rows that have fewer."""

    @model_validator(mode="after")
    def _one_each(self) -> Self:
        if len(self.sparse) != len(self.cardinalities):
            raise ValueError(f"{len(self.sparse)} sparse fields but {len(self.cardinalities)} cardinalities")
        if self.pooling and len(self.pooling) != len(self.sparse):
            raise ValueError(f"{len(self.sparse)} sparse fields but {len(self.pooling)} pooling factors")
        return self

    @property
    def lookups(self) -> tuple[int, ...]:
        """Columns of each sparse field in a split's `sparse`."""
        return self.pooling or (1,) * len(self.sparse)

    @property
    def multi_valued(self) -> tuple[str, ...]:
        """Names of the fields with several ids in a row."""
        return tuple(name for name, count in zip(self.sparse, self.lookups, strict=True) if count > 1)

    def columns(self) -> dict[str, slice]:
        """Where each sparse field stands in a split's `sparse`."""
        ends = np.cumsum(self.lookups).tolist()
        return {name: slice(end - count, end) for name, count, end in zip(self.sparse, self.lookups, ends, strict=True)}


@dataclass(frozen=True)
class Split:
    """Rows of one split."""

    dense: np.ndarray
    """(rows, dense fields) float32."""
    sparse: np.ndarray
    """(rows, look-ups) int32, field-local ids, field after field; a multi-valued field has several columns, filled up with -1."""
    label: np.ndarray
    """(rows,) uint8, 0 or 1."""

    def __len__(self) -> int:
        return len(self.label)

    def arrays(self) -> Iterator[tuple[str, np.ndarray]]:
        """The three arrays under their names."""
        yield from (("dense", self.dense), ("sparse", self.sparse), ("label", self.label))


@dataclass(frozen=True)
class Tables:
    """A whole data set in memory."""

    schema: Schema
    splits: dict[str, Split]
    facts: dict[str, Any] = field(default_factory=dict)
    """What is worth knowing beside the rows (share of unknown ids, Bayes log loss of a synthetic set ...); JSON values only."""

    def check(self, where: str) -> None:
        """Refuses rows that training could not read.

        Raises:
            DataError: wrong shape or type, an id outside its vocabulary, a label that is neither 0 nor 1, a dense value that is
            not finite.
        """
        for name, split in self.splits.items():
            rows, place = len(split), f"{where}: {name}"
            expected = {"dense": (rows, len(self.schema.dense)), "sparse": (rows, sum(self.schema.lookups)), "label": (rows,)}
            dtypes = {"dense": np.float32, "sparse": np.int32, "label": np.uint8}
            for part, array in split.arrays():
                if array.shape != expected[part] or array.dtype != dtypes[part]:
                    raise DataError(f"{place}.{part}: {array.dtype} {array.shape}, expected {dtypes[part].__name__} {expected[part]}")
            if not rows:
                raise DataError(f"{place}: no rows")
            if split.label.max() > 1:
                row = int(np.argmax(split.label > 1))
                raise DataError(f"{place}: row {row}: label {split.label[row]}, allowed 0 and 1")
            if not np.isfinite(split.dense).all():
                row = int(np.argmin(np.isfinite(split.dense).all(axis=1)))
                raise DataError(f"{place}: row {row}: a dense value is not finite")
            for (column, span), count in zip(self.schema.columns().items(), self.schema.cardinalities, strict=True):
                ids, least = split.sparse[:, span], 0 if span.stop - span.start == 1 else -1
                outside = (ids < least) | (ids >= count)
                if outside.any():
                    row = int(np.argmax(outside.any(axis=1)))
                    raise DataError(f"{place}: row {row}: {column} {ids[outside][0]}, allowed {least} to {count - 1}")
