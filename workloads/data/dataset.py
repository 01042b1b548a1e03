"""Opens data sets by name. Training and validation rows are open to all; the test rows open with a reason, and that is logged."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pimsim.errors import DataError, unknown_name
from workloads.data import cache
from workloads.data.adapters.base import Adapter, adapter, missing_files
from workloads.data.location import cache_root, data_root
from workloads.data.tables import Schema, Split

__all__ = ["Dataset", "Schema", "Split", "find_dataset", "open_dataset"]

Progress = Callable[[str], None]
_VERIFIED_BYTES = 256 << 20
"""Splits up to this size are checked against their checksums whenever they are opened; larger ones by `verify` only."""


class Dataset:
    """A cached data set."""

    def __init__(self, folder: Path, name: str | None = None) -> None:
        self.folder = folder
        """Cache folder."""
        self.meta: dict[str, Any] = cache.read_meta(folder)
        """Everything in `meta.json`: settings, source digests, rows and positives of each split, facts, checksums."""
        self.name: str = name or self.meta["name"]
        """Name that opened it, settings included."""
        self.schema = Schema.model_validate(self.meta["schema"])
        """Field names and cardinalities."""
        self.digest = folder.name.rpartition("-")[2]
        """Sixteen hex digits that change with the raw files and with the settings."""

    @cached_property
    def rows(self) -> dict[str, int]:
        """Rows of each split, the test split included (without opening it)."""
        return {name: split["rows"] for name, split in self.meta["splits"].items()}

    def split(self, name: Literal["train", "valid"]) -> Split:
        """The training or the validation rows.

        Raises:
            DataError: any other name, or damaged files.
        """
        if name == "test":
            raise DataError(f"{self.name}: the test split opens once, with a reason: open_test(reason, log)")
        if name not in ("train", "valid"):
            raise DataError(f"{self.name}: {unknown_name('split', name, ('train', 'valid'))}")
        return self._read(name)

    def open_test(self, reason: str, log: Path | None = None) -> Split:
        """The test rows, after a line in the log. They are meant to open once: a further opening (after a crash, say) is numbered there,
        and warned of.

        Args:
            reason: why they are needed.
            log: JSON-lines file that gets the line; `test_openings.jsonl` in the cache root by default.

        Raises:
            DataError: no reason, a log that cannot be written, or damaged files.
        """
        if not reason.strip():
            raise DataError(f"{self.name}: the test split opens with a reason only")
        target = cache_root() / "test_openings.jsonl" if log is None else log
        time = datetime.now(UTC).isoformat(timespec="seconds")
        entry = {"time": time, "dataset": self.name, "digest": self.digest, "reason": reason}
        try:
            with target.open("a+", encoding="utf-8") as handle:
                handle.seek(0)
                earlier = sum(f'"digest": "{self.digest}"' in line for line in handle)
                handle.write(json.dumps(entry | {"opening": earlier + 1}) + "\n")
        except OSError as error:
            raise DataError(f"{target}: the opening of the test split cannot be logged: {error.strerror}") from None
        if earlier:
            log_of = logging.getLogger(__name__)
            log_of.warning("warning: %s: the test split opens again, opening %d in %s: %s", self.name, earlier + 1, target, reason)
        return self._read("test")

    def verify(self) -> None:
        """Checks every file against its checksum, whatever its size.

        Raises:
            DataError: damaged files.
        """
        for name in self.rows:
            cache.read_split(self.folder, self.meta, name, verify=True)

    def _read(self, name: str) -> Split:
        size = sum(entry["bytes"] for path, entry in self.meta["files"].items() if path.startswith(f"{name}/"))
        return cache.read_split(self.folder, self.meta, name, verify=size <= _VERIFIED_BYTES)


def open_dataset(name: str, progress: Progress | None = None) -> Dataset:
    """A data set by name, from its cache; the cache is built when it is missing.

    Args:
        name: an adapter's name, with its settings if wanted: `frappe`, `synthetic:rows=50000,seed=3`.
        progress: gets a line of text when a cache is built; standard error by default.

    Raises:
        DataError: unknown name; raw files missing and no cache; malformed raw files.
        ConfigError: an unknown or invalid setting.
    """
    from workloads.data.prepare import prepare

    chosen = adapter(name)
    source = data_root() / chosen.folder
    if not missing_files(chosen, source):
        return Dataset(prepare(name, source, progress), name)
    folder = _prepared(chosen)
    if folder is None:
        absent = ", ".join(str(path) for path in missing_files(chosen, source))
        where = f"set COSEARCH_DATA to the folder that holds {chosen.folder}/, or " if chosen.folder else ""
        raise DataError(f"data set {name!r} not found: no {absent}; {where}build the cache with `cosearch data {name} --source PATH`")
    return Dataset(folder, name)


def find_dataset(preferred: Iterable[str]) -> str:
    """The first data set of a list that is there, as raw files or as a cache.

    Raises:
        DataError: none is; or an unknown name.
    """
    names = list(preferred)
    for name in names:
        chosen = adapter(name)
        if not missing_files(chosen, data_root() / chosen.folder) or _prepared(chosen) is not None:
            return name
    raise DataError(f"none of the data sets {', '.join(names)} found (looked in {data_root()} and {cache_root()}); set COSEARCH_DATA")


def _prepared(chosen: Adapter) -> Path | None:
    """The newest cache of an adapter with these settings, whatever raw files it was built from."""
    found = []
    for folder in cache_root().glob(f"{chosen.name}-{'[0-9a-f]' * 16}"):
        meta = cache.read_meta(folder)
        if meta.get("settings") == chosen.model_dump(mode="json"):
            found.append((folder.joinpath("meta.json").stat().st_mtime, folder))
    return max(found)[1] if found else None
