"""A data set of your own: a CSV or Parquet file and a small YAML file that says what its columns are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import BeforeValidator, Field, NonNegativeInt, PositiveInt, model_validator

from pimsim.configs import read_yaml
from pimsim.errors import DataError
from pimsim.spec.base import Spec, validate
from workloads.data.click_log import ClickLog, log_scaled
from workloads.data.encoding import Modulo, Vocabulary
from workloads.data.parse_kernel import MISSING
from workloads.data.reading import Broken, Column, TextFormat, read_rows
from workloads.data.streaming import Chunk, SparseField


def _named(value: Any) -> Any:
    """A column's name alone means the column with its usual settings."""
    return {"name": value} if isinstance(value, str) else value


class LabelColumn(Spec):
    """The column to predict."""

    name: str
    positive_above: float | None = None
    """A number above this is positive; without it the column holds 0 and 1."""


class DenseColumn(Spec):
    """A column of numbers."""

    name: str
    scale: Literal["log", "none"] = "log"
    """`log`: log(1 + max(0, x)); `none`: as it is. A missing value is 0."""


class SparseColumn(Spec):
    """A column of categories."""

    name: str
    hash: int | None = Field(default=None, ge=2)
    """Rows of a hashed table; without it the column gets a vocabulary."""
    min_count: PositiveInt | None = None
    """Fewest training rows of a value that gets an id of its own; the file's `min_count` when not given."""
    values: NonNegativeInt = 0
    """Values kept of a multi-valued column; 0: one value per row."""
    pooling: Literal["sum", "none"] = "sum"
    """What becomes of several values: `sum`: one field, of which a model sums the embeddings; `none`: as many fields, each row kept."""

    @property
    def pooled(self) -> bool:
        """Whether it is one field of several look-ups."""
        return self.values > 1 and self.pooling == "sum"


class SchemaFile(ClickLog):
    """A CSV, other delimited text (plain or `.gz`) or Parquet file as its YAML describes it.

    Every value of a categorical column is told apart by a 64-bit hash of its text (two of ten million values share one with a
    probability of about one in 180,000); a hashed column takes that modulo its rows.
    """

    name: ClassVar[str] = "schema"
    files: ClassVar[tuple[str, ...]] = ("",)

    file: str | None = None
    """The raw file, relative to the YAML; without it, the YAML's name with `.csv`."""
    separator: str = Field(default=",", min_length=1, max_length=1)
    """Between fields."""
    inner_separator: str = Field(default="|", min_length=1, max_length=1)
    """Between the values of a multi-valued field."""
    header: bool = True
    """The first line has the names."""
    columns: tuple[str, ...] = ()
    """All names in their order, for a text file without header."""
    missing: tuple[str, ...] = ()
    """Texts that mean a missing value, beside the empty one."""
    label: Annotated[LabelColumn, BeforeValidator(_named)]
    dense: tuple[Annotated[DenseColumn, BeforeValidator(_named)], ...] = ()
    sparse: tuple[Annotated[SparseColumn, BeforeValidator(_named)], ...] = Field(min_length=1)
    time: str | None = None
    """Column of times for `split: temporal`: whole numbers, or YYYY-MM-DD hh:mm:ss."""
    ratio: tuple[PositiveInt, PositiveInt, PositiveInt] = (8, 1, 1)
    """Tenths of the rows that train, validate and test."""
    home: str = Field(default=".", exclude=True)
    """Folder of the YAML."""
    stem: str = Field(default="data", exclude=True)
    """Name of the YAML without its ending."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        used = [self.label.name, *(c.name for c in self.dense), *(c.name for c in self.sparse), *([self.time] if self.time else [])]
        twice = [name for name in used if used.count(name) > 1]
        if twice:
            raise ValueError(f"column {twice[0]!r} is used twice")
        if not self.header and not self.columns:
            raise ValueError("columns missing: a file without header needs the names of all columns")
        absent = [name for name in used if self.columns and name not in self.columns]
        if absent:
            raise ValueError(f"column {absent[0]!r} is not among columns")
        if sum(self.ratio) != 10:
            raise ValueError(f"ratio {list(self.ratio)} must add up to 10")
        if self.split == "temporal" and self.time is None:
            raise ValueError("time missing: a temporal split needs a column of times")
        return self

    def source_files(self, source: Path) -> list[Path]:
        given = bool(source.suffix) and not source.is_dir()
        return [source if given else Path(self.home) / (self.file or f"{self.stem}.csv")]

    def tenths(self) -> tuple[int, int, int]:
        return self.ratio

    def dense_fields(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.dense)

    def sparse_fields(self) -> list[SparseField]:
        encoders = (Modulo(c.hash) if c.hash else Vocabulary(c.min_count or self.min_count) for c in self.sparse)
        return [SparseField(c.name, encoder, c.values, c.pooled) for c, encoder in zip(self.sparse, encoders, strict=True)]

    def chunks(self, source: Path, broken: Broken) -> Iterator[Chunk]:
        (path,) = self.source_files(source)
        wanted = {c.name: Column(c.name, "number") for c in self.dense}
        wanted |= {c.name: Column(c.name, "text", c.values and c.values + 1) for c in self.sparse}  # one more tells what is left out
        wanted[self.label.name] = Column(self.label.name, "label" if self.label.positive_above is None else "number")
        if self.time is not None:
            wanted[self.time] = Column(self.time, "time")
        in_order = [wanted.get(name, Column(name, "skip")) for name in self.columns]
        columns = list(wanted.values()) if self.header or path.suffix == ".parquet" else in_order
        form = TextFormat(self.separator, self.header, self.inner_separator, self.missing)
        for rows in read_rows(path, columns, form, broken):
            label = rows.label
            if self.label.positive_above is not None:
                value = rows.numbers[self.label.name]
                if np.isnan(value).any():
                    raise DataError(f"{path}: line {rows.lines[np.argmax(np.isnan(value))]}: {self.label.name}: missing, expected a number")
                label = (value > self.label.positive_above).astype(np.uint8)
            dense = np.stack([self._scaled(c, rows.numbers[c.name]) for c in self.dense], axis=1) if self.dense else None
            keys = [rows.keys[c.name][: c.values].T if c.values else rows.keys[c.name] for c in self.sparse]
            for c in self.sparse:
                if c.values:
                    broken.shortened[c.name] += int((rows.keys[c.name][c.values] != MISSING).sum())
            time = rows.keys[self.time] if self.time is not None and self.split == "temporal" else None
            yield Chunk(label, np.zeros((len(label), 0), np.float32) if dense is None else dense, keys, time)

    def _scaled(self, column: DenseColumn, values: np.ndarray) -> np.ndarray:
        if column.scale == "log":
            return log_scaled([values], len(values))[:, 0]
        return np.clip(np.nan_to_num(values, nan=0.0), -3e38, 3e38).astype(np.float32)


def schema_file(path: Path, settings: dict[str, Any]) -> SchemaFile:
    """The data set that a YAML file describes; `settings` replace its top-level keys.

    Raises:
        ConfigError: unreadable file; an unknown, missing or invalid key.
    """
    tree = read_yaml(path) | settings
    return validate(SchemaFile, tree | {"home": str(path.parent), "stem": path.stem}, str(path))
