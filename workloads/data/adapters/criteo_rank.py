"""20,000 consecutive rows of Criteo (Kaggle 2014) with global, frequency-ranked ids: true table sizes and true arrival order."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

from workloads.data.adapters.criteo import DENSE, SPARSE
from workloads.data.click_log import ClickLog, log_scaled
from workloads.data.encoding import Identity, Vocabulary
from workloads.data.reading import Broken, Column, TextFormat, read_rows
from workloads.data.streaming import Chunk, SparseField


class CriteoRank(ClickLog):
    """`criteo_rank20k.parquet` with `Label`, I1-I13 and C1-C26 as integers.

    Prepared as `criteo`. With `ids=rank` the published ids are kept, for index traces over the true tables (too large and too
    sparse to train on 20,000 rows). Rows are in order of arrival, which `split=temporal` takes for time.
    """

    name: ClassVar[str] = "criteo_rank"
    folder: ClassVar[str] = "criteo_rank20k"
    files: ClassVar[tuple[str, ...]] = ("criteo_rank20k.parquet",)

    ids: Literal["vocabulary", "rank"] = "vocabulary"
    """`vocabulary`: ids of the values seen in training; `rank`: the global ids of the file."""

    def dense_fields(self) -> tuple[str, ...]:
        return tuple(DENSE)

    def sparse_fields(self) -> list[SparseField]:
        encoder = Identity() if self.ids == "rank" else Vocabulary(self.min_count)
        return [SparseField(name, encoder) for name in SPARSE]

    def chunks(self, source: Path, broken: Broken) -> Iterator[Chunk]:
        (path,) = self.source_files(source)
        columns = [Column("Label", "label"), *(Column(n, "number") for n in DENSE), *(Column(n, "integer") for n in SPARSE)]
        for rows in read_rows(path, columns, TextFormat(), broken):
            dense = log_scaled([rows.numbers[name] for name in DENSE], len(rows.label))
            yield Chunk(rows.label, dense, [rows.keys[name] for name in SPARSE], rows.lines)


ADAPTER = CriteoRank
