"""Reads a trace part by part, so that it never is in memory as a whole: the same formats and errors as `read_trace`."""

from __future__ import annotations

import gzip
import zipfile
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np

from pimsim.errors import TraceError
from pimsim.trace.files import Trace, check_arrays, missing_array, parse_lines, trace_of

NAMES = ("address", "is_write", "arrival_cycle")


def read_parts(path: str | Path, requests: int) -> Iterator[Trace]:
    """Yields a trace in parts of `requests` requests.

    `.npz` members are read as streams, compressed or not; of text, only the lines of one part are held.

    Raises:
        TraceError: see `read_trace`; of what comes later in the file, when it is reached.
    """
    path = Path(path)
    try:
        with path.open("rb") as handle:
            head = handle.read(4)
        if head[:2] == b"PK":
            yield from _npz_parts(path, requests)
        elif head[:2] == b"\x1f\x8b":
            with gzip.open(path, "rt", encoding="utf-8") as lines:
                yield from _text_parts(path, lines, requests)
        else:
            with path.open(encoding="utf-8") as lines:
                yield from _text_parts(path, lines, requests)
    except (OSError, EOFError) as error:
        raise TraceError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    except UnicodeDecodeError:
        raise TraceError(f"{path}: neither .npz nor text") from None


class _Column:
    """One array of an `.npz` file, read as a stream."""

    def __init__(self, path: Path, archive: zipfile.ZipFile, name: str) -> None:
        self.path, self.name = path, name
        self.stream: IO[bytes] = archive.open(f"{name}.npy")
        version = np.lib.format.read_magic(self.stream)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        self.shape, _, self.dtype = header(self.stream)

    def read(self, count: int) -> np.ndarray[Any, Any]:
        """The next entries."""
        data = self.stream.read(count * self.dtype.itemsize)
        if len(data) != count * self.dtype.itemsize:
            raise TraceError(f"{self.path}: array {self.name!r} ends early")
        return np.frombuffer(data, self.dtype)


def _npz_parts(path: Path, requests: int) -> Iterator[Trace]:
    try:
        with zipfile.ZipFile(path) as archive:
            present = {Path(name).stem for name in archive.namelist()}
            for name in NAMES[:2]:
                if name not in present:
                    raise missing_array(path, name)
            columns = {name: _Column(path, archive, name) for name in NAMES if name in present}
            shape = columns["address"].shape
            for name, column in columns.items():
                check_arrays(path, name, column.shape, column.dtype, shape)
            latest = 0
            for begin in range(0, shape[0], requests):
                count = min(requests, shape[0] - begin)
                found = {name: column.read(count) for name, column in columns.items()}
                for name, array in found.items():
                    if array.dtype.kind == "i" and array.min() < 0:
                        at = begin + int((array < 0).argmax())
                        raise TraceError(f"{path}: {name}: record {at}: {int(array.min())}: must not be negative")
                arrival = found.get("arrival_cycle")
                if arrival is not None:
                    arrival = arrival.astype(np.int64)
                    late = np.flatnonzero(np.diff(arrival, prepend=latest) < 0)
                    if late.size:
                        at = int(late[0])
                        raise TraceError(f"{path}: arrival_cycle: record {begin + at}: {int(arrival[at])}: earlier than the one before")
                    latest = int(arrival[-1])
                yield Trace(found["address"].astype(np.uint64), found["is_write"].astype(bool), arrival)
    except (ValueError, zipfile.BadZipFile, KeyError) as error:
        raise TraceError(f"{path}: not a readable .npz: {error}") from None


def _text_parts(path: Path, lines: Iterable[str], requests: int) -> Iterator[Trace]:
    records = parse_lines(path, lines)
    while len((part := trace_of(islice(records, requests))).address):
        yield part
