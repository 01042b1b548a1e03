"""Avazu click-through rate (Kaggle 2014): categorical fields only."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import NonNegativeInt, PositiveInt

from pimsim.errors import DataError
from workloads.data.adapters.base import Adapter, read_table
from workloads.data.tables import Tables
from workloads.data.vocabulary import click_log, read_label

SPARSE = [
    "C1", "banner_pos", "site_id", "site_domain", "site_category", "app_id", "app_domain", "app_category", "device_id",
    "device_ip", "device_model", "device_type", "device_conn_type", *(f"C{i}" for i in range(14, 22)),
]  # fmt: skip


class Avazu(Adapter):
    """`avazu.parquet` (or the raw `train.csv`, as far as memory holds it): `click`, `hour` as YYMMDDHH, 21 categorical columns.

    `hour` becomes two fields, hour of day and weekday; the row's own `id` is left out. Vocabulary and split as in `criteo`.
    """

    name: ClassVar[str] = "avazu"
    folder: ClassVar[str] = "avazu53k"
    files: ClassVar[tuple[str, ...]] = ("avazu.parquet",)

    min_count: PositiveInt = 2
    """Fewest training rows of a value that gets an id of its own."""
    seed: NonNegativeInt = 2018
    """Seed of the split."""

    def read(self, source: Path) -> Tables:
        import pyarrow as pa

        (path,) = self.source_files(source)
        table = read_table(path, ["click", "hour", *SPARSE], text=SPARSE)
        hour, weekday = _hour_and_weekday(table["hour"], str(path))
        sparse: dict[str, Any] = {"hour": pa.chunked_array([hour]), "weekday": pa.chunked_array([weekday])}
        sparse |= {name: table[name] for name in SPARSE}
        return click_log(table, read_label(table, "click", str(path)), {}, sparse, self.min_count, self.seed)


def _hour_and_weekday(column: Any, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Hour of day (0-23) and weekday (Monday 0) of YYMMDDHH numbers."""
    stamp = column.to_numpy().astype(np.int64)
    year, month, day, hour = 2000 + stamp // 10**6, stamp // 10**4 % 100, stamp // 100 % 100, stamp % 100
    wrong = (stamp < 0) | (month < 1) | (month > 12) | (day < 1) | (day > 31) | (hour > 23)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise DataError(f"{where}: row {row}: hour {stamp[row]}, expected YYMMDDHH")
    days = ((year - 1970) * 12 + month - 1).astype("datetime64[M]").astype("datetime64[D]") + (day - 1)
    return hour, (days.astype(np.int64) + 3) % 7  # 1970-01-01 was a Thursday


ADAPTER = Avazu
