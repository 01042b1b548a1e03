"""20,000 consecutive rows of Criteo (Kaggle 2014) with global, frequency-ranked ids: true table sizes and true arrival order."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import NonNegativeInt, PositiveInt

from pimsim.errors import DataError
from workloads.data.adapters.base import Adapter, read_table
from workloads.data.adapters.criteo import DENSE, SPARSE
from workloads.data.tables import Schema, Split, Tables
from workloads.data.vocabulary import click_log, read_label, stratified_split


class CriteoRank(Adapter):
    """`criteo_rank20k.parquet` with `Label`, I1-I13 and C1-C26 as integers.

    Prepared as `criteo`. With `ids=rank` the published ids are kept, for index traces over the true tables (too large and too
    sparse to train on 20,000 rows).
    """

    name: ClassVar[str] = "criteo_rank"
    folder: ClassVar[str] = "criteo_rank20k"
    files: ClassVar[tuple[str, ...]] = ("criteo_rank20k.parquet",)

    ids: Literal["vocabulary", "rank"] = "vocabulary"
    """`vocabulary`: ids of the values seen in training; `rank`: the global ids of the file."""
    min_count: PositiveInt = 2
    """Fewest training rows of a value that gets an id of its own (`ids=vocabulary`)."""
    seed: NonNegativeInt = 2018
    """Seed of the split."""

    def read(self, source: Path) -> Tables:
        (path,) = self.source_files(source)
        table = read_table(path, ["Label", *DENSE, *SPARSE])
        label = read_label(table, "Label", str(path))
        sparse = {name: table[name] for name in SPARSE}
        tables = click_log(table, label, {name: name for name in DENSE}, sparse, self.min_count, self.seed)
        return tables if self.ids == "vocabulary" else self._with_ranks(table, tables, label, str(path))

    def _with_ranks(self, table: Any, tables: Tables, label: np.ndarray, where: str) -> Tables:
        for name in SPARSE:
            if table[name].null_count:
                raise DataError(f"{where}: column {name!r}: {table[name].null_count} ids missing")
        ids = np.stack([table[name].to_numpy().astype(np.int32) for name in SPARSE], axis=1)
        rows = stratified_split(label, self.seed)
        splits = {n: Split(s.dense, ids[rows[n]], s.label) for n, s in tables.splits.items()}
        cardinalities = tuple(int(top) + 1 for top in ids.max(axis=0))
        return Tables(Schema(dense=tables.schema.dense, sparse=tables.schema.sparse, cardinalities=cardinalities), splits)


ADAPTER = CriteoRank
