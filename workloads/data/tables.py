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
    """Names of the sparse (categorical) fields, each with one id per row."""
    cardinalities: tuple[PositiveInt, ...]
    """Ids of each sparse field run from 0 to its cardinality - 1."""

    @model_validator(mode="after")
    def _one_each(self) -> Self:
        if len(self.sparse) != len(self.cardinalities):
            raise ValueError(f"{len(self.sparse)} sparse fields but {len(self.cardinalities)} cardinalities")
        return self


@dataclass(frozen=True)
class Split:
    """Rows of one split."""

    dense: np.ndarray
    """(rows, dense fields) float32."""
    sparse: np.ndarray
    """(rows, sparse fields) int32, field-local ids."""
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
            expected = {"dense": (rows, len(self.schema.dense)), "sparse": (rows, len(self.schema.sparse)), "label": (rows,)}
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
            outside = (split.sparse < 0) | (split.sparse >= np.array(self.schema.cardinalities))
            if outside.any():
                row, column = (int(i[0]) for i in np.nonzero(outside))
                allowed = self.schema.cardinalities[column] - 1
                raise DataError(f"{place}: row {row}: {self.schema.sparse[column]} {split.sparse[row, column]}, allowed 0 to {allowed}")
