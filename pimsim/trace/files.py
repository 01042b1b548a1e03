"""Reads and writes memory traces: `.npz`, Ramulator's `LD|ST address`, DRAMsim3's `0xADDRESS READ|WRITE cycle`; text also
gzipped.

The format of a text trace is told from its first record. Empty lines and lines that start with `#` are skipped.
"""

from __future__ import annotations

import gzip
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pimsim.errors import TraceError

Format = Literal["npz", "ramulator", "dramsim3"]
Record = tuple[int, bool, int | None]
EXAMPLES = {"ramulator": "LD 0x1a2b40", "dramsim3": "0x1a2b40 READ 100"}
HIGHEST = (1 << 64) - 1


@dataclass(frozen=True)
class Trace:
    """Requests in order.

    Attributes:
        address: (n,) byte addresses, uint64.
        is_write: (n,) bool.
        arrival_cycle: (n,) clocks before which the requests are not offered, non-decreasing; None where the format has none.
    """

    address: NDArray[np.uint64]
    is_write: NDArray[np.bool_]
    arrival_cycle: NDArray[np.int64] | None = None


def read_trace(path: str | Path) -> Trace:
    """Reads a trace of any of the three formats.

    Raises:
        TraceError: missing file, unknown format or a malformed record, with file, line and what is expected.
    """
    path = Path(path)
    try:
        with path.open("rb") as handle:
            head = handle.read(4)
        if head[:2] == b"PK":
            return _read_npz(path)
        if head[:2] == b"\x1f\x8b":
            with gzip.open(path, "rt", encoding="utf-8") as lines:
                return _read_text(path, lines)
        with path.open(encoding="utf-8") as lines:
            return _read_text(path, lines)
    except (OSError, EOFError) as error:
        raise TraceError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    except UnicodeDecodeError:
        raise TraceError(f"{path}: neither .npz nor text (expected .npz, {_expected()})") from None


def _expected() -> str:
    return " or ".join(f"{name} {example!r}" for name, example in EXAMPLES.items())


def missing_array(path: Path, name: str) -> TraceError:
    """The error of an `.npz` without one of the arrays."""
    return TraceError(f"{path}: array {name!r} is missing (expected address uint64, is_write bool, optional arrival_cycle)")


def check_arrays(path: Path, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], addresses: tuple[int, ...]) -> None:
    """Checks the shape and the type of one array of an `.npz`.

    Raises:
        TraceError: not a vector of as many integers as there are addresses.
    """
    if len(shape) != 1 or shape != addresses:
        raise TraceError(f"{path}: {name}: shape {shape}: expected one entry for each of {addresses[:1]} addresses")
    if dtype.kind not in "iub":
        raise TraceError(f"{path}: {name}: type {dtype}: expected integers")


def _read_npz(path: Path) -> Trace:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in arrays.files if name in ("address", "is_write", "arrival_cycle")}
    except (ValueError, zipfile.BadZipFile, KeyError) as error:
        raise TraceError(f"{path}: not a readable .npz: {error}") from None
    for name in ("address", "is_write"):
        if name not in found:
            raise missing_array(path, name)
    address, is_write, arrival = found["address"], found["is_write"], found.get("arrival_cycle")
    for name, array in found.items():
        check_arrays(path, name, array.shape, array.dtype, address.shape)
        if array.dtype.kind == "i" and array.size and array.min() < 0:
            raise TraceError(f"{path}: {name}: record {int((array < 0).argmax())}: {int(array.min())}: must not be negative")
    if arrival is not None:
        late = np.flatnonzero(np.diff(arrival.astype(np.int64)) < 0)
        if late.size:
            raise TraceError(f"{path}: arrival_cycle: record {int(late[0]) + 1}: {int(arrival[late[0] + 1])}: earlier than the one before")
        arrival = arrival.astype(np.int64)
    return Trace(address.astype(np.uint64), is_write.astype(bool), arrival)


def _number(text: str, base: int) -> int:
    value = int(text, base)
    if not 0 <= value <= HIGHEST or "_" in text:
        raise ValueError(text)
    return value


def _ramulator(line: str) -> Record:
    kind, address = line.split()
    return _number(address, 0), {"LD": False, "ST": True}[kind], None


def _dramsim3(line: str) -> Record:
    address, kind, cycle = line.split()
    return _number(address, 16), {"READ": False, "WRITE": True}[kind], _number(cycle, 10)


PARSERS: dict[str, Callable[[str], Record]] = {"ramulator": _ramulator, "dramsim3": _dramsim3}


def _sniff(line: str) -> str | None:
    for name, parse in PARSERS.items():
        try:
            parse(line)
        except (ValueError, KeyError):
            continue
        return name
    return None


def parse_lines(path: Path, lines: Iterable[str]) -> Iterator[Record]:
    """Yields the records of a text trace.

    Raises:
        TraceError: no record, an unknown format or a malformed record, with its line.
    """
    name: str | None = None
    latest = 0
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        if name is None:
            name = _sniff(text)
            if name is None:
                raise TraceError(f"{path} line {number}: {text[:60]!r}: expected {_expected()}")
        try:
            record = PARSERS[name](text)
        except (ValueError, KeyError):
            raise TraceError(f"{path} line {number}: {text[:60]!r}: expected {EXAMPLES[name]!r}") from None
        if record[2] is not None:
            if record[2] < latest:
                raise TraceError(f"{path} line {number}: cycle {record[2]}: earlier than the one before ({latest})")
            latest = record[2]
        yield record
    if name is None:
        raise TraceError(f"{path}: no requests (expected .npz, {_expected()})")


def _read_text(path: Path, lines: Iterable[str]) -> Trace:
    return trace_of(parse_lines(path, lines))


def trace_of(records: Iterable[Record]) -> Trace:
    """A trace of parsed records."""
    address: list[int] = []
    is_write: list[bool] = []
    arrival: list[int] = []
    for where, write, cycle in records:
        address.append(where)
        is_write.append(write)
        if cycle is not None:
            arrival.append(cycle)
    return Trace(np.array(address, np.uint64), np.array(is_write, bool), np.array(arrival, np.int64) if arrival else None)


def write_trace(path: str | Path, trace: Trace, form: Format) -> None:
    """Writes a trace; text is gzipped when the name ends in `.gz`.

    DRAMsim3 needs clocks: without `arrival_cycle`, request i is written with clock i.

    Raises:
        TraceError: the file cannot be written, or Ramulator's format is asked to hold arrival clocks.
    """
    path = Path(path)
    try:
        if form == "npz":
            arrays = {"address": trace.address, "is_write": trace.is_write}
            if trace.arrival_cycle is not None:
                arrays["arrival_cycle"] = trace.arrival_cycle
            with path.open("wb") as binary:
                np.savez_compressed(binary, **arrays)  # type: ignore[arg-type]
            return
        opener = gzip.open if path.suffix == ".gz" else open
        with opener(path, "wt", encoding="utf-8") as handle:
            handle.writelines(_lines(path, trace, form))
    except OSError as error:
        raise TraceError(f"{path}: cannot be written: {error.strerror}") from None


def _lines(path: Path, trace: Trace, form: Format) -> Iterable[str]:
    pairs = zip(trace.address.tolist(), trace.is_write.tolist(), strict=True)
    if form == "ramulator":
        if trace.arrival_cycle is not None:
            raise TraceError(f"{path}: Ramulator's format has no arrival clocks; write npz or dramsim3")
        return (f"{'ST' if write else 'LD'} {address:#x}\n" for address, write in pairs)
    cycles = range(len(trace.address)) if trace.arrival_cycle is None else trace.arrival_cycle.tolist()
    return (f"{a:#x} {'WRITE' if w else 'READ'} {c}\n" for (a, w), c in zip(pairs, cycles, strict=True))
