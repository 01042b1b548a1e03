"""What the adapters of click logs share: preparation, split and broken lines as settings, and the way to the cache."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import NonNegativeInt, PositiveInt

from pimsim.errors import DataError
from workloads.data.adapters.base import Adapter
from workloads.data.cache import building, describe
from workloads.data.encoding import Encoder, Modulo, Vocabulary
from workloads.data.parse_kernel import log_scale
from workloads.data.reading import Broken
from workloads.data.split import stratified_split, temporal_split
from workloads.data.streaming import Chunk, SparseField, Spool, refuse_empty, write_splits

_LOG_OF_WHOLE = np.log1p(np.arange(1 << 14, dtype=np.float64)).astype(np.float32)


class ClickLog(Adapter):
    """A data set whose raw rows stream into the cache, whatever their number."""

    version: ClassVar[int] = 2

    min_count: PositiveInt = 2
    """Fewest training rows of a value that gets an id of its own (vocabularies)."""
    split: Literal["stratified", "temporal"] = "stratified"
    """`stratified`: drawn by seed with equal shares of positives; `temporal`: the earliest rows train, the latest test."""
    seed: NonNegativeInt = 2018
    """Seed of the stratified split."""
    shuffle: NonNegativeInt | None = None
    """Seed of an order that the training rows are put into once; without it they keep the order of the raw file (index traces need
    that, and training shuffles every epoch anyway)."""
    broken: NonNegativeInt = 0
    """Broken lines that are left out, counted and named; one more ends the preparation."""

    @abstractmethod
    def dense_fields(self) -> tuple[str, ...]:
        """Names of the dense fields."""

    @abstractmethod
    def sparse_fields(self) -> list[SparseField]:
        """The categorical columns and how they become ids."""

    @abstractmethod
    def chunks(self, source: Path, broken: Broken) -> Iterator[Chunk]:
        """All rows in the order of the raw file.

        Raises:
            DataError: malformed raw files.
        """

    def tenths(self) -> tuple[int, int, int]:
        """Tenths of the rows that train, validate and test."""
        return 8, 1, 1

    def build(self, folder: Path, source: Path, description: dict[str, Any], say: Callable[[str], None]) -> None:
        broken = Broken(self.broken)
        with building(folder) as place:
            spool = Spool(place / "spool", self.sparse_fields(), len(self.dense_fields()))
            spool.fill(self.chunks(source, broken))
            if broken.count:
                say(f"left out {broken.count} broken lines; the first: {broken.first[0]}")
            left_out = {name: rows for name, rows in broken.shortened.items() if rows}
            for name, rows in left_out.items():
                say(f"{name}: {rows:,} rows have more values than are kept; the later ones are left out")
            if not len(spool.label()):
                raise DataError(f"{source}: no rows")
            split = self._split(spool)
            refuse_empty(split, str(source))
            schema, counts, files, facts = write_splits(place, spool, self.dense_fields(), split, self.shuffle)
            facts["broken_lines"] = {"count": broken.count, "first": broken.first}
            if broken.shortened:
                facts["rows_with_more_values"] = dict(broken.shortened)
            for line in collision_lines(facts.get("collisions", {})):
                say(line)
            describe(place, description, schema, counts, files, facts)

    def _split(self, spool: Spool) -> np.ndarray:
        if self.split == "stratified":
            return stratified_split(spool.label(), self.seed, self.tenths())
        time = spool.time()
        if time is None:
            raise DataError(f"data set {self.name!r}: split: 'temporal': its rows have no time; allowed 'stratified'")
        return temporal_split(time, self.tenths())


class PaperLog(ClickLog):
    """A click log that NASRec uses: `prep=paper` prepares it as that paper does."""

    table_rows: ClassVar[tuple[int, ...]]
    """Rows of the embedding tables (nasrec/utils/config.py), field by field."""

    prep: Literal["vocabulary", "paper"] = "vocabulary"
    """`vocabulary`: ids of the values seen in training; `paper`: hashing into tables of the published sizes."""
    most_rows: PositiveInt | None = None
    """Largest table (`prep=paper`); the paper searches with 500000 and scores without a limit."""

    def encoders(self, fields: int) -> list[Encoder]:
        """One per field."""
        if self.prep == "vocabulary":
            return [Vocabulary(self.min_count)] * fields
        return [Modulo(min(rows, self.most_rows or rows)) for rows in self.table_rows]


def log_scaled(columns: list[np.ndarray], rows: int) -> np.ndarray:
    """`log(1 + max(0, x))`, 0 where missing; (rows, columns) float32."""
    dense = np.empty((rows, len(columns)), np.float32)
    for i, column in enumerate(columns):
        log_scale(column, _LOG_OF_WHOLE, dense[:, i])
    return dense


def collision_lines(collisions: dict[str, dict[str, Any]]) -> Iterator[str]:
    """The collision report as text."""
    if collisions:
        yield f"{'hashed field':<18} {'values':>11} {'rows':>11} {'used rows':>11} {'sharing':>8} {'look-ups sharing':>17}"
    for name, fact in collisions.items():
        share = fact["values_sharing"] / max(1, fact["values"])
        yield (
            f"{name:<18} {fact['values']:>11,} {fact['rows']:>11,} {fact['used_rows']:>11,} {share:>8.1%} {fact['lookups_sharing']:>17.1%}"
        )
