"""Raw click logs of any size to the binary cache: the raw file is read once, memory holds a few bytes per row.

One pass over the raw rows parses them and spools typed columns to disk. Then the split is drawn (it needs all labels), each
column's values are numbered and counted over the training rows, and the splits are written in chunks. What stays in memory is one byte
per row for the label, one for the split, eight for the time where rows are split by it, and two columns' distinct values.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from pimsim.errors import DataError
from workloads.data.encoding import Encoder, Numbering
from workloads.data.parse_kernel import MISSING, count_ids
from workloads.data.tables import SPLITS, Schema

_ROWS = 1 << 16
"""Rows that are worked on together."""
_BUCKET_ROWS = 1 << 20
"""Rows that are permuted in memory when a split is shuffled."""


class Chunk(NamedTuple):
    """Some rows of a click log."""

    label: np.ndarray
    """(rows,) uint8."""
    dense: np.ndarray
    """(rows, dense fields) float32."""
    keys: list[np.ndarray]
    """Per categorical column (rows,) int64 keys, or (rows, slots)."""
    time: np.ndarray | None = None
    """(rows,) int64, where rows can be split by time."""


class SparseField(NamedTuple):
    """A categorical column and how it becomes ids."""

    name: str
    encoder: Encoder
    slots: int = 0
    """Values of a multi-valued column; 0: single values."""
    pooled: bool = False
    """A multi-valued column is one field of several look-ups, -1 where a row has fewer values; else its slots become the fields
    `name_0` ... with one vocabulary, in which a missing value is a value."""

    @property
    def names(self) -> list[str]:
        """Names of the fields it becomes."""
        return [f"{self.name}_{slot}" for slot in range(self.slots)] if self.slots and not self.pooled else [self.name]

    @property
    def width(self) -> int:
        """Columns in a split's `sparse`."""
        return max(1, self.slots)

    def ids(self, values: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, int, dict[str, Any]]:
        """Ids of the column's values, cardinality and facts (see `Encoder.ids`)."""
        if not self.pooled:
            return self.encoder.ids(self.name, values, counts)
        present = values != MISSING
        ids = np.full(len(values), -1, np.int32)
        ids[present], cardinality, facts = self.encoder.ids(self.name, values[present], counts[present])
        return ids, cardinality, facts


class Spool:
    """Typed columns of all rows on disk, in the order of the raw file."""

    def __init__(self, folder: Path, fields: list[SparseField], dense: int) -> None:
        folder.mkdir()
        self.folder, self.fields, self.dense = folder, fields, dense
        self._labels: list[np.ndarray] = []
        self._times: list[np.ndarray] = []

    def fill(self, chunks: Iterable[Chunk]) -> None:
        """Writes all chunks."""
        handles = [self._path("keys", i).open("wb") for i in range(len(self.fields))]
        dense = (self.folder / "dense").open("wb")
        try:
            for chunk in chunks:
                self._labels.append(chunk.label.astype(np.uint8))
                if chunk.time is not None:
                    self._times.append(chunk.time.astype(np.int64))
                np.ascontiguousarray(chunk.dense, np.float32).tofile(dense)
                for handle, keys in zip(handles, chunk.keys, strict=True):
                    np.ascontiguousarray(keys, np.int64).tofile(handle)
        finally:
            for handle in [*handles, dense]:
                handle.close()

    def label(self) -> np.ndarray:
        """(rows,) uint8."""
        return np.concatenate(self._labels) if self._labels else np.empty(0, np.uint8)

    def time(self) -> np.ndarray | None:
        """(rows,) int64, or None without times."""
        times, self._times = self._times, []
        return np.concatenate(times) if times else None

    def encode(self, index: int, split: np.ndarray) -> tuple[int, dict[str, Any]]:
        """Keys of one column to ids on disk.

        Returns:
            Cardinality and facts.
        """
        field, numbering = self.fields[index], Numbering()
        slots = field.width
        path = self._path("keys", index)
        with path.open("rb") as keys, self._path("codes", index).open("wb") as codes:
            for start in range(0, len(split), _ROWS):
                train = np.repeat(split[start : start + _ROWS] == 0, slots)
                numbering.codes(np.fromfile(keys, np.int64, len(train)), train).tofile(codes)
        path.unlink()
        ids, cardinality, facts = field.ids(numbering.values, numbering.counts)
        np.save(self._path("ids", index), ids)
        return cardinality, facts

    def rows(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(dense, sparse) of all rows, in chunks."""
        ids = [np.load(self._path("ids", i).with_suffix(".npy")) for i in range(len(self.fields))]
        codes = [self._path("codes", i).open("rb") for i in range(len(self.fields))]
        width = sum(field.width for field in self.fields)
        with (self.folder / "dense").open("rb") as dense:
            try:
                total = sum(map(len, self._labels))
                for start in range(0, total, _ROWS):
                    count = min(_ROWS, total - start)
                    sparse, place = np.empty((count, width), np.int32), 0
                    for field, of_value, handle in zip(self.fields, ids, codes, strict=True):
                        slots = field.width
                        sparse[:, place : place + slots] = of_value[np.fromfile(handle, np.int32, count * slots).reshape(count, slots)]
                        place += slots
                    yield np.fromfile(dense, np.float32, count * self.dense).reshape(count, self.dense), sparse
            finally:
                for handle in codes:
                    handle.close()

    def _path(self, what: str, index: int) -> Path:
        return self.folder / f"{what}-{index}"


class _Array:
    """One `.npy` file, written in chunks, and its checksum."""

    def __init__(self, path: Path, dtype: type, shape: tuple[int, ...]) -> None:
        self.path, self._digest = path, hashlib.sha256()
        self._handle: BinaryIO = path.open("w+b")
        np.lib.format.write_array_header_1_0(
            self._handle, {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
        )
        self._handle.seek(0)
        self._digest.update(self._handle.read())

    def add(self, rows: np.ndarray) -> None:
        data = np.ascontiguousarray(rows).data
        self._handle.write(data)
        if data.nbytes:
            self._digest.update(data.cast("B"))

    def close(self) -> dict[str, Any]:
        size = self._handle.tell()
        self._handle.close()
        return {"sha256": self._digest.hexdigest(), "bytes": size}


class _SplitFiles:
    """The three arrays of one split, in the order of the file or shuffled once.

    Shuffling is uniform and out of core: each row goes to a bucket drawn at random, and each bucket is permuted in memory.
    """

    def __init__(self, folder: Path, rows: int, dense: int, sparse: int, shuffle: int | None) -> None:
        folder.mkdir()
        self._arrays = {
            "dense": _Array(folder / "dense.npy", np.float32, (rows, dense)),
            "sparse": _Array(folder / "sparse.npy", np.int32, (rows, sparse)),
            "label": _Array(folder / "label.npy", np.uint8, (rows,)),
        }
        self._random = None if shuffle is None else np.random.default_rng(np.random.SeedSequence([shuffle, rows]))
        self._row = np.dtype([("dense", np.float32, (dense,)), ("sparse", np.int32, (sparse,)), ("label", np.uint8)])
        self._buckets = [(folder / f"bucket-{i}").open("w+b") for i in range(-(-rows // _BUCKET_ROWS))] if self._random else []

    def add(self, dense: np.ndarray, sparse: np.ndarray, label: np.ndarray) -> None:
        parts = {"dense": dense, "sparse": sparse, "label": label}
        if self._random is None:
            for part, array in self._arrays.items():
                array.add(parts[part])
            return
        rows = np.empty(len(label), self._row)
        for part, content in parts.items():
            rows[part] = content
        bucket = self._random.integers(len(self._buckets), size=len(rows))
        for i, handle in enumerate(self._buckets):
            rows[bucket == i].tofile(handle)

    def close(self) -> dict[str, dict[str, Any]]:
        """{file: checksum and size}."""
        for handle in self._buckets:
            handle.seek(0)
            rows = np.fromfile(handle, self._row)
            handle.close()
            Path(handle.name).unlink()
            assert self._random is not None
            rows = rows[self._random.permutation(len(rows))]
            for part, array in self._arrays.items():
                array.add(rows[part])
        return {f"{part}.npy": array.close() for part, array in self._arrays.items()}


def write_splits(
    folder: Path, spool: Spool, dense: tuple[str, ...], split: np.ndarray, shuffle: int | None = None
) -> tuple[Schema, dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Encodes the spooled columns and writes the arrays of every split.

    Args:
        folder: cache folder being built.
        spool: all rows.
        dense: names of the dense fields.
        split: (rows,) 0 train, 1 valid, 2 test.
        shuffle: seed of an order of the training rows; None keeps the order of the raw file.

    Returns:
        Schema, {split: rows and positives}, {file: checksum and size}, facts.
    """
    with ThreadPoolExecutor(2) as pool:
        encoded = list(pool.map(lambda index: spool.encode(index, split), range(len(spool.fields))))
    names = tuple(name for field in spool.fields for name in field.names)
    sizes = tuple(size for field, (size, _) in zip(spool.fields, encoded, strict=True) for _ in field.names)
    pooling = tuple(field.width // len(field.names) for field in spool.fields for _ in field.names)
    schema = Schema(dense=dense, sparse=names, cardinalities=sizes, pooling=pooling if max(pooling) > 1 else ())
    label = spool.label()
    rows = {name: int((split == i).sum()) for i, name in enumerate(SPLITS)}
    out = [_SplitFiles(folder / name, rows[name], len(dense), sum(pooling), None if i else shuffle) for i, name in enumerate(SPLITS)]
    unknown, present = np.zeros((2, len(SPLITS), sum(pooling)), np.int64)

    def add(i: int, start: int, chunk_dense: np.ndarray, chunk_sparse: np.ndarray) -> None:
        chosen = np.flatnonzero(split[start : start + len(chunk_sparse)] == i)
        sparse = chunk_sparse.take(chosen, axis=0)
        count_ids(sparse, unknown[i], present[i])
        out[i].add(chunk_dense.take(chosen, axis=0), sparse, label[start + chosen])

    start = 0
    with ThreadPoolExecutor(2) as pool:
        waiting: list[Future[None]] = []
        for chunk in spool.rows():  # the next one is read while this one is written
            for future in waiting:
                future.result()
            waiting = [pool.submit(add, i, start, *chunk) for i in range(len(SPLITS))]
            start += len(chunk[1])
        for future in waiting:
            future.result()
    files = {f"{name}/{part}": entry for name, one in zip(SPLITS, out, strict=True) for part, entry in one.close().items()}
    shares = {
        name: {s: float(unknown[i, at].sum() / max(1, present[i, at].sum())) for i, s in enumerate(SPLITS)}
        for name, at in schema.columns().items()
    }
    facts: dict[str, Any] = {"out_of_vocabulary": shares}
    collided = {field.name: fact["collisions"] for field, (_, fact) in zip(spool.fields, encoded, strict=True) if "collisions" in fact}
    if collided:
        facts["collisions"] = collided
    counts = {name: {"rows": rows[name], "positives": int(label[split == i].sum())} for i, name in enumerate(SPLITS)}
    return schema, counts, files, facts


def refuse_empty(split: np.ndarray, where: str) -> None:
    """Raises:
    DataError: a split without rows.
    """
    for name, rows in zip(SPLITS, np.bincount(split, minlength=3), strict=True):
        if not rows:
            raise DataError(f"{where}: {name}: no rows")
