"""Frappe_x1 (BARS): mobile-app usage, ten categorical fields, published splits."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np

from pimsim.errors import DataError
from workloads.data.adapters.base import TableAdapter, read_label, read_table
from workloads.data.tables import SPLITS, Schema, Split, Tables

FIELDS = {
    "user": 957, "item": 4082, "daytime": 7, "weekday": 7, "isweekend": 2,
    "homework": 3, "cost": 2, "weather": 9, "country": 80, "city": 233,
}  # fmt: skip
"""Fields and their cardinalities, in the order of the global ids."""


class Frappe(TableAdapter):
    """`train.parquet`, `valid.parquet`, `test.parquet` with `label` and ten columns of global ids (each field offset by those
    before it).

    Source: Baltrunas et al. 2015 (arXiv 1505.03014); split and ids of the BARS benchmark.
    """

    name: ClassVar[str] = "frappe"
    folder: ClassVar[str] = "frappe_x1"
    files: ClassVar[tuple[str, ...]] = ("train.parquet", "valid.parquet", "test.parquet")

    def read(self, source: Path) -> Tables:
        if not source.is_dir():
            raise DataError(f"{source}: frappe has three raw files ({', '.join(self.files)}); give their folder")
        cardinalities = np.array(list(FIELDS.values()))
        offsets = np.cumsum(cardinalities) - cardinalities
        splits = {}
        for name in SPLITS:
            path = source / f"{name}.parquet"
            table = read_table(path, ["label", *FIELDS])
            ids = np.stack([table[field].to_numpy().astype(np.int64) for field in FIELDS], axis=1) - offsets
            label = read_label(table, "label", str(path)).astype(np.uint8)
            splits[name] = Split(np.zeros((len(ids), 0), dtype=np.float32), ids.astype(np.int32), label)
        return Tables(Schema(sparse=tuple(FIELDS), cardinalities=tuple(FIELDS.values())), splits)


ADAPTER = Frappe
