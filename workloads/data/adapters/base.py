"""What an adapter is: a frozen spec of settings that reads raw files into typed tables."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from pimsim.configs import parse_override
from pimsim.discovery import implementations
from pimsim.errors import DataError, unknown_name
from pimsim.spec.base import Spec, validate
from workloads.data.cache import write_cache
from workloads.data.tables import Tables


class Adapter(Spec, ABC):
    """A data set's raw format; the fields of a subclass are its settings."""

    name: ClassVar[str]
    """Name that a user types: the file name of the module."""
    folder: ClassVar[str] = ""
    """Folder of the raw files within the data root."""
    files: ClassVar[tuple[str, ...]] = ()
    """Raw files within the folder; none for a generated data set."""
    also_called: ClassVar[tuple[str, ...]] = ()
    """Other names of the one raw file, as it is published."""
    version: ClassVar[int] = 1
    """Goes up when the same raw files come to give other rows, so that older caches are not taken."""

    def source_files(self, source: Path) -> list[Path]:
        """The raw files at a source: the adapter's own in a folder, or the one file given."""
        for name in (*self.files, *self.also_called) if self.also_called else ():
            if (source / name).is_file():
                return [source / name]
        return [source] if self.files and source.is_file() else [source / name for name in self.files]

    def events(self, source: Path) -> tuple[str, np.ndarray, np.ndarray, np.ndarray]:
        """Name of the items, and user, item and time of every event, for histories of users.

        Raises:
            DataError: the data set has no users' histories, or malformed raw files.
        """
        raise DataError(f"data set {self.name!r}: it has no users' histories")

    @abstractmethod
    def build(self, folder: Path, source: Path, description: dict[str, Any], say: Callable[[str], None]) -> None:
        """Raw files to a cache folder.

        Args:
            folder: final place.
            source: raw folder or file.
            description: goes into `meta.json`.
            say: gets lines of text.

        Raises:
            DataError: malformed raw files, or an unwritable folder.
        """


class TableAdapter(Adapter):
    """A data set that fits in memory."""

    @abstractmethod
    def read(self, source: Path) -> Tables:
        """All rows of all splits.

        Raises:
            DataError: the raw files are malformed.
        """

    def build(self, folder: Path, source: Path, description: dict[str, Any], say: Callable[[str], None]) -> None:
        write_cache(folder, self.read(source), description)


def adapter(name: str) -> Adapter:
    """An adapter with its settings from `name` or `name:setting=value,...`; a name that ends in `.yaml` is a schema file.

    Raises:
        DataError: unknown data set.
        ConfigError: unknown or invalid setting.
    """
    kind, _, settings = name.partition(":")
    pairs = [parse_override(part) for part in settings.split(",") if part]
    if kind.endswith((".yaml", ".yml")):
        from workloads.data.schema_file import schema_file

        return schema_file(Path(kind), dict(pairs))
    found = implementations("workloads.data.adapters", "ADAPTER")
    if kind not in found:
        raise DataError(f"{unknown_name('data set', kind, found)}, or a schema file that ends in .yaml")
    return validate(found[kind], dict(pairs), f"data set {name!r}")


def missing_files(chosen: Adapter, source: Path) -> list[Path]:
    """Raw files of an adapter that are not at a source."""
    return [path for path in chosen.source_files(source) if not path.is_file()]


def read_table(path: Path, columns: list[str]) -> Any:
    """Columns of a Parquet file as a pyarrow table.

    Raises:
        DataError: pyarrow missing, unreadable file, or missing column.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet
    except ImportError:
        raise DataError(f"{path}: reading Parquet needs pyarrow: pip install 'pim-cosearch[search]'") from None
    try:
        table = pa.parquet.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: cannot be read: {str(error).splitlines()[0]}") from None
    absent = [name for name in columns if name not in table.column_names]
    if absent:
        raise DataError(f"{path}: column {absent[0]!r} missing (found: {', '.join(table.column_names)})")
    return table.select(columns)


def read_label(table: Any, name: str, where: str) -> np.ndarray:
    """A label column as (rows,) int64.

    Raises:
        DataError: a missing value, or one that is neither 0 nor 1.
    """
    column = table[name]
    if column.null_count:
        raise DataError(f"{where}: column {name!r}: {column.null_count} labels missing")
    try:
        label = column.to_numpy().astype(np.int64)
    except (TypeError, ValueError):
        raise DataError(f"{where}: column {name!r}: {column.type} values, expected 0 and 1") from None
    wrong = (label != 0) & (label != 1)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise DataError(f"{where}: row {row}: {name} {label[row]}, allowed 0 and 1")
    return label
