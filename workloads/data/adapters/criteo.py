"""Criteo display advertising (Kaggle 2014): 13 dense and 26 categorical fields, raw."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np

from workloads.data.click_log import PaperLog, log_scaled
from workloads.data.reading import Broken, Column, TextFormat, read_rows
from workloads.data.streaming import Chunk, SparseField

DENSE = [f"I{i}" for i in range(1, 14)]
SPARSE = [f"C{i}" for i in range(1, 27)]
COLUMNS = [Column("label", "label"), *(Column(n, "number") for n in DENSE), *(Column(n, "hex") for n in SPARSE)]


class Criteo(PaperLog):
    """`criteo_raw.parquet` with `label`, I1-I13, C1-C26, or the raw `train.txt` (tab-separated, no header), of any size.

    Dense: log(1 + max(0, x)), missing 0. Sparse: vocabulary of the training rows, or with `prep=paper` the token read as a
    hexadecimal number, modulo the table's size. `split=temporal` takes the order of the file for time (Kaggle's `train.txt` is in
    chronological order, the sample is not).
    """

    name: ClassVar[str] = "criteo"
    folder: ClassVar[str] = "criteo_raw24k"
    files: ClassVar[tuple[str, ...]] = ("criteo_raw.parquet",)
    also_called: ClassVar[tuple[str, ...]] = ("train.txt", "train.txt.gz")
    table_rows: ClassVar[tuple[int, ...]] = (
        1461, 584, 10131227, 2202609, 306, 25, 12518, 634, 4, 93146, 5684, 8351593, 3195, 28, 14993, 5461307, 11, 5653, 2174, 5,
        7046548, 19, 16, 286182, 106, 142573,
    )  # fmt: skip

    def dense_fields(self) -> tuple[str, ...]:
        return tuple(DENSE)

    def sparse_fields(self) -> list[SparseField]:
        return [SparseField(name, encoder) for name, encoder in zip(SPARSE, self.encoders(len(SPARSE)), strict=True)]

    def chunks(self, source: Path, broken: Broken) -> Iterator[Chunk]:
        (path,) = self.source_files(source)
        for rows in read_rows(path, COLUMNS, TextFormat("\t", header=False), broken):
            dense = log_scaled([rows.numbers[name] for name in DENSE], len(rows.label))
            time = rows.lines if self.split == "temporal" else None
            yield Chunk(rows.label, dense, [rows.keys[name] for name in SPARSE], None if time is None else time.astype(np.int64))


ADAPTER = Criteo
