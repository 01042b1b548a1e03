"""Avazu click-through rate (Kaggle 2014): categorical fields only."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np

from pimsim.errors import DataError
from workloads.data.click_log import PaperLog
from workloads.data.reading import Broken, Column, TextFormat, read_rows
from workloads.data.streaming import Chunk, SparseField

SPARSE = [
    "C1", "banner_pos", "site_id", "site_domain", "site_category", "app_id", "app_domain", "app_category", "device_id",
    "device_ip", "device_model", "device_type", "device_conn_type", *(f"C{i}" for i in range(14, 22)),
]  # fmt: skip


class Avazu(PaperLog):
    """`avazu.parquet`, or the raw `train.csv` or `train.gz` of any size: `click`, `hour` as YYMMDDHH, 21 categorical columns.

    `hour` becomes two fields, hour of day and weekday, and the row's own `id` is left out. `prep=paper` instead keeps `id` (in a table
    of 10,000 rows) and `hour` as they are, reads every token as a decimal number if it looks like one, else as a hexadecimal,
    modulo 2^31 - 1 and then modulo the table's size, and adds a dense field that is always 0. `split=temporal` goes by the hour.
    """

    name: ClassVar[str] = "avazu"
    folder: ClassVar[str] = "avazu53k"
    files: ClassVar[tuple[str, ...]] = ("avazu.parquet",)
    also_called: ClassVar[tuple[str, ...]] = ("train.csv", "train.gz", "train.csv.gz")
    table_rows: ClassVar[tuple[int, ...]] = (
        10000, 241, 8, 8, 4738, 7746, 27, 8553, 560, 37, 2686409, 6729487, 8252, 6, 5, 2627, 9, 10, 436, 5, 69, 173, 61,
    )  # fmt: skip

    def dense_fields(self) -> tuple[str, ...]:
        return ("zero",) if self.prep == "paper" else ()

    def sparse_fields(self) -> list[SparseField]:
        names = ["id", "hour", *SPARSE] if self.prep == "paper" else ["hour", "weekday", *SPARSE]
        return [SparseField(name, encoder) for name, encoder in zip(names, self.encoders(len(names)), strict=True)]

    def chunks(self, source: Path, broken: Broken) -> Iterator[Chunk]:
        (path,) = self.source_files(source)
        paper = self.prep == "paper"
        columns = [Column("click", "label"), Column("hour", "integer"), *(Column(n, "mixed" if paper else "text") for n in SPARSE)]
        columns += [Column("id", "mixed")] if paper else []
        for rows in read_rows(path, columns, TextFormat(), broken):
            stamp, count = rows.keys["hour"], len(rows.label)
            hour, weekday = hour_and_weekday(stamp, rows.lines, str(path))
            first = [rows.keys["id"], stamp] if paper else [hour, weekday]
            time = stamp if self.split == "temporal" else None
            yield Chunk(rows.label, np.zeros((count, int(paper)), np.float32), [*first, *(rows.keys[n] for n in SPARSE)], time)


def hour_and_weekday(stamp: np.ndarray, lines: np.ndarray, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Hour of day (0-23) and weekday (Monday 0) of YYMMDDHH numbers.

    Raises:
        DataError: no such hour.
    """
    year, month, day, hour = 2000 + stamp // 10**6, stamp // 10**4 % 100, stamp // 100 % 100, stamp % 100
    wrong = (stamp < 0) | (month < 1) | (month > 12) | (day < 1) | (day > 31) | (hour > 23)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise DataError(f"{where}: line {lines[row]}: hour {stamp[row]}, expected YYMMDDHH")
    days = ((year - 1970) * 12 + month - 1).astype("datetime64[M]").astype("datetime64[D]") + (day - 1)
    return hour, (days.astype(np.int64) + 3) % 7  # 1970-01-01 was a Thursday


ADAPTER = Avazu
