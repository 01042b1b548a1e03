"""Criteo display advertising (Kaggle 2014): 13 dense and 26 categorical fields, raw."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pydantic import NonNegativeInt, PositiveInt

from workloads.data.adapters.base import Adapter, read_table
from workloads.data.tables import Tables
from workloads.data.vocabulary import click_log, read_label

DENSE = [f"I{i}" for i in range(1, 14)]
SPARSE = [f"C{i}" for i in range(1, 27)]


class Criteo(Adapter):
    """`criteo_raw.parquet` with `label`, I1-I13, C1-C26, or the raw `train.txt` (tab-separated, no header), as far as memory
    holds it.

    Dense: log(1 + max(0, x)), missing 0. Sparse: vocabulary of the training rows, id 0 for rare and unknown values. Stratified
    80/10/10.
    """

    name: ClassVar[str] = "criteo"
    folder: ClassVar[str] = "criteo_raw24k"
    files: ClassVar[tuple[str, ...]] = ("criteo_raw.parquet",)

    min_count: PositiveInt = 2
    """Fewest training rows of a value that gets an id of its own."""
    seed: NonNegativeInt = 2018
    """Seed of the split."""

    def read(self, source: Path) -> Tables:
        (path,) = self.source_files(source)
        table = read_table(path, ["label", *DENSE, *SPARSE], header=False, separator="\t", text=SPARSE)
        label = read_label(table, "label", str(path))
        sparse = {name: table[name] for name in SPARSE}
        return click_log(table, label, {name: name for name in DENSE}, sparse, self.min_count, self.seed)


ADAPTER = Criteo
