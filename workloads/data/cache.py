"""The binary cache: a folder with `meta.json` and, per split, `dense.npy`, `sparse.npy` and `label.npy`, read by memory map.

A cache is written to a temporary folder and renamed when complete, so a folder that has the final name is whole; of several
processes that build the same cache at once, the first to finish wins and the others use its result.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from pimsim.errors import DataError
from workloads.data.tables import Schema, Split, Tables

FORMAT = 1
_DAY_S = 86400
_SAMPLED_BYTES = 64 << 20


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def source_digest(path: Path) -> str:
    """Identifies a raw file by content: SHA-256, or for large files that of size, first and last 64 MiB (`sampled:` in front)."""
    size = path.stat().st_size
    if size <= 4 * _SAMPLED_BYTES:
        return file_digest(path)
    state = hashlib.sha256(str(size).encode())
    with path.open("rb") as handle:
        state.update(handle.read(_SAMPLED_BYTES))
        handle.seek(-_SAMPLED_BYTES, os.SEEK_END)
        state.update(handle.read())
    return f"sampled:{state.hexdigest()}"


def write_cache(folder: Path, tables: Tables, description: dict[str, Any]) -> Path:
    """Writes a checked data set as a cache folder, all or nothing.

    Args:
        folder: final place; left as it is if another process has put it there meanwhile.
        tables: rows of every split.
        description: goes into `meta.json` (name, settings, source digests ...).

    Returns:
        The folder.

    Raises:
        DataError: the rows are malformed, or the folder cannot be written.
    """
    tables.check(str(description.get("name", folder.name)))
    with building(folder) as place:
        files: dict[str, Any] = {}
        for name, split in tables.splits.items():
            (place / name).mkdir()
            for part, array in split.arrays():
                path = place / name / f"{part}.npy"
                np.save(path, np.ascontiguousarray(array), allow_pickle=False)
                files[f"{name}/{part}.npy"] = {"sha256": file_digest(path), "bytes": path.stat().st_size}
        counts = {n: {"rows": len(s), "positives": int(s.label.sum())} for n, s in tables.splits.items()}
        describe(place, description, tables.schema, counts, files, tables.facts)
    return folder


@contextmanager
def building(folder: Path) -> Iterator[Path]:
    """A temporary folder that becomes the cache folder when the block ends well; its `spool` is thrown away.

    Raises:
        DataError: it cannot be written.
    """
    place = folder.parent / f".building-{folder.name}-{uuid4().hex}"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(folder.parent)
        place.mkdir()
        yield place
        shutil.rmtree(place / "spool", ignore_errors=True)
        _publish(place, folder)
    except OSError as error:
        raise DataError(f"{folder}: cache cannot be written: {error.strerror or error} (COSEARCH_CACHE chooses its place)") from None
    finally:
        shutil.rmtree(place, ignore_errors=True)


def describe(
    folder: Path, description: dict[str, Any], schema: Schema, counts: dict[str, Any], files: dict[str, Any], facts: dict[str, Any]
) -> None:
    """Writes `meta.json`."""
    meta = {
        "format": FORMAT,
        **description,
        "schema": schema.model_dump(mode="json"),
        "splits": counts,
        "facts": facts,
        "files": files,
    }
    (folder / "meta.json").write_text(json.dumps(meta, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _publish(building: Path, folder: Path) -> None:
    """Gives a finished cache its name, unless another process was faster."""
    try:
        building.rename(folder)
    except OSError:
        if not (folder / "meta.json").is_file():
            raise


def _remove_abandoned(root: Path) -> None:
    """Removes what builders that were killed more than a day ago left behind."""
    for path in root.glob(".building-*"):
        try:
            if time.time() - path.stat().st_mtime > _DAY_S:
                shutil.rmtree(path, ignore_errors=True)
        except OSError:
            continue


def read_meta(folder: Path) -> dict[str, Any]:
    """`meta.json` of a cache.

    Raises:
        DataError: unreadable, or written in another format.
    """
    path = folder / "meta.json"
    try:
        meta = json.loads(path.read_text(encoding="utf-8"))
        version = meta["format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: not a readable cache description ({error}); delete the folder, and it is built again") from None
    if version != FORMAT:
        raise DataError(f"{path}: format {version}, this version reads {FORMAT}; delete the folder, and it is built again")
    return meta


def read_split(folder: Path, meta: dict[str, Any], name: str, verify: bool = True) -> Split:
    """One split as read-only arrays over memory maps.

    Raises:
        DataError: a file is missing, cut short, or its checksum differs.
    """
    arrays = {}
    for part in ("dense", "sparse", "label"):
        entry = f"{name}/{part}.npy"
        path, expected = folder / entry, meta["files"][entry]
        try:
            size = path.stat().st_size
            if size != expected["bytes"] or (verify and file_digest(path) != expected["sha256"]):
                raise DataError(f"{path}: damaged (its checksum differs from meta.json); delete {folder}, and it is built again")
            empty = part == "dense" and not meta["schema"]["dense"]  # nothing to map
            arrays[part] = np.asarray(np.load(path, mmap_mode=None if empty else "r", allow_pickle=False))
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror or error}; delete {folder}, and it is built again") from None
    return Split(**arrays)
