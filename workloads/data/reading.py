"""Raw files to typed chunks of rows: delimited text of any size, plain or gzip, and Parquet; broken lines are counted and named."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from pimsim.errors import DataError, unknown_name

Kind = Literal["skip", "label", "number", "hex", "mixed", "text", "integer", "time"]
KINDS: tuple[Kind, ...] = ("skip", "label", "number", "hex", "mixed", "text", "integer", "time")
"""In the order of the parser's codes."""
_EXPECTED = {
    "label": "allowed 0 and 1",
    "number": "expected a number",
    "hex": "expected at most 15 hexadecimal digits",
    "mixed": "expected decimal or hexadecimal digits",
    "integer": "expected a whole number",
    "time": "expected a whole number or YYYY-MM-DD hh:mm:ss",
}
_BLOCK = 8 << 20
_PARQUET_ROWS = 1 << 15
_AT_ONCE = 3
_NAMED = 10
"""Broken lines that are named."""


class Column(NamedTuple):
    """One column of a raw file."""

    name: str
    kind: Kind
    """`label`: 0 or 1; `number`: decimal, missing allowed; categorical values as 64-bit keys: `hex` (the number), `mixed` (decimal
    if it can be read so, else hexadecimal, modulo 2^31 - 1: what NASRec does to Avazu and KDD Cup 2012), `text` (a hash),
    `integer`; `time`: a whole number, or a date and time whose digits are read as one number; `skip`."""
    slots: int = 0
    """Values kept of a multi-valued field; 0 for single values."""


class Rows(NamedTuple):
    """Good rows of one block, column by column."""

    label: np.ndarray
    """(rows,) uint8."""
    numbers: dict[str, np.ndarray]
    """{column: (rows,) float64, NaN where missing}."""
    keys: dict[str, np.ndarray]
    """{column: (rows,) int64, or (slots, rows); `MISSING` where missing}."""
    lines: np.ndarray
    """(rows,) line numbers in the file, from 1 (rows of a Parquet file)."""


@dataclass
class Broken:
    """Counts broken lines against a limit."""

    limit: int
    count: int = 0
    first: list[str] = field(default_factory=list)
    """What is wrong with the first ones."""
    shortened: Counter[str] = field(default_factory=Counter)
    """Rows with more values of a multi-valued column than are kept, by column."""

    def add(self, count: int, problems: list[str]) -> None:
        """Counts more broken lines.

        Raises:
            DataError: more than the limit.
        """
        self.first += problems[: _NAMED - len(self.first)]
        self.count += count
        if self.count > self.limit:
            more = f" ({self.count} broken lines so far, limit broken={self.limit})" if self.count > 1 or self.limit else ""
            raise DataError(self.first[min(self.limit, len(self.first) - 1)] + more)


class TextFormat(NamedTuple):
    """How a text file is written."""

    separator: str = ","
    header: bool = True
    inner: str = "|"
    """Between the values of a multi-valued field."""
    missing: tuple[str, ...] = ()
    """Texts that mean a missing value, beside the empty one."""


def read_rows(path: Path, columns: Sequence[Column], form: TextFormat, broken: Broken) -> Iterator[Rows]:
    """Streams the rows of a `.parquet` or text file (`.gz` too) in file order; memory does not grow with the file.

    Args:
        path: the file.
        columns: with a header or Parquet, those wanted, found by name; else all columns in their order.
        form: how a text file is written.
        broken: counts the lines that cannot be read; they are left out.

    Raises:
        DataError: unreadable file, missing column, or too many broken lines (file, line, column, value, what is allowed).
    """
    try:
        if path.suffix == ".parquet":
            blocks, columns, form, first_line = _parquet_blocks(path, columns, form), columns, form._replace(separator="\t"), 1
        else:
            handle: Any = gzip.open(path) if path.suffix == ".gz" else path.open("rb")
            first_line = 1
            if form.header:
                columns, first_line = _from_header(handle.readline(), columns, form.separator, path), 2
            blocks = _text_blocks(handle)
        yield from _parsed(blocks, _Parser(path, columns, form), first_line, broken)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None


def _from_header(line: bytes, columns: Sequence[Column], separator: str, path: Path) -> list[Column]:
    """A column for every name of the header: those wanted, and `skip` for the others."""
    text = line.decode("utf-8-sig", "replace").rstrip("\r\n")
    names = next(csv.reader([text], delimiter=separator), [])
    wanted = {column.name: column for column in columns}
    absent = [name for name in wanted if name not in names]
    if absent:
        raise DataError(f"{path}: line 1: {unknown_name('column', absent[0], names)}")
    twice = [name for name in wanted if names.count(name) > 1]
    if twice:
        raise DataError(f"{path}: line 1: column {twice[0]!r} stands twice")
    return [wanted.get(name, Column(name, "skip")) for name in names]


def _text_blocks(handle: Any) -> Iterator[bytes]:
    """Blocks of whole lines."""
    with handle:
        rest = b""
        while block := handle.read(_BLOCK):
            end = block.rfind(b"\n") + 1
            if end:
                yield rest + block[:end]
                rest = block[end:]
            else:
                rest += block
                if len(rest) > 8 * _BLOCK:
                    raise DataError(f"{handle.name}: a line longer than {8 * _BLOCK >> 20} MiB: not a text file of rows")
        if rest:
            yield rest


def _parquet_blocks(path: Path, columns: Sequence[Column], form: TextFormat) -> Iterator[bytes]:
    """The columns wanted, in their order, as tab-separated text: every format goes through one parser."""
    try:
        import pyarrow as pa
        import pyarrow.compute
        import pyarrow.csv
        import pyarrow.parquet
    except ImportError:
        raise DataError(f"{path}: reading Parquet needs pyarrow: pip install 'pim-cosearch[search]'") from None
    options = pa.csv.WriteOptions(include_header=False, delimiter="\t", quoting_style="needed")
    try:
        with pa.parquet.ParquetFile(path) as source:
            found = source.schema_arrow.names
            absent = [column.name for column in columns if column.name not in found]
            if absent:
                raise DataError(f"{path}: {unknown_name('column', absent[0], found)}")
            for batch in source.iter_batches(_PARQUET_ROWS, columns=[column.name for column in columns]):
                arrays = []
                for column in columns:
                    array = batch.column(column.name)
                    if pa.types.is_list(array.type) or pa.types.is_large_list(array.type):
                        array = pa.compute.binary_join(array.cast(pa.list_(pa.string())), form.inner)
                    arrays.append(array.cast(pa.uint8()) if pa.types.is_boolean(array.type) else array)
                sink = io.BytesIO()
                pa.csv.write_csv(pa.table(arrays, [column.name for column in columns]), sink, options)
                yield sink.getvalue()
    except pa.ArrowException as error:
        raise DataError(f"{path}: cannot be read: {str(error).splitlines()[0]}") from None


class _Parser:
    """Parses blocks of lines into rows."""

    def __init__(self, path: Path, columns: Sequence[Column], form: TextFormat) -> None:
        self.path, self.columns, self.form = path, columns, form
        self._kinds = np.array([KINDS.index(column.kind) for column in columns], np.int64)
        self._slots = np.array([column.slots for column in columns], np.int64)
        self._places = np.zeros(len(columns), np.int64)
        self._numbers = self._keys = 0
        for i, column in enumerate(columns):
            if column.kind == "number":
                self._places[i], self._numbers = self._numbers, self._numbers + 1
            elif column.kind not in ("skip", "label"):
                self._places[i], self._keys = self._keys, self._keys + max(1, column.slots)
        words = [word.encode() for word in form.missing if word]
        self._lengths = np.array([len(word) for word in words], np.int64)
        self._words = np.zeros((len(words), max(map(len, words), default=0)), np.uint8)
        for i, word in enumerate(words):
            self._words[i, : len(word)] = np.frombuffer(word, np.uint8)

    def __call__(self, block: bytes) -> tuple[Rows, int, int, np.ndarray, bytes]:
        """Rows, broken lines, lines, what is known of the first broken ones, and the block."""
        from workloads.data.parse_kernel import parse

        data = np.frombuffer(block, np.uint8)
        most = block.count(b"\n") + 1
        label, lines = np.zeros(most, np.uint8), np.empty(most, np.int64)
        numbers, keys = np.empty((self._numbers, most)), np.empty((self._keys, most), np.int64)
        broken = np.zeros((_NAMED, 3), np.int64)
        rows, bad, count = parse(
            data, ord(self.form.separator), ord(self.form.inner), self._kinds, self._places, self._slots, self._words, self._lengths,
            label, numbers, keys, lines, broken,
        )  # fmt: skip
        named: tuple[dict[str, np.ndarray], dict[str, np.ndarray]] = ({}, {})
        for column, place in zip(self.columns, self._places, strict=True):
            if column.kind == "number":
                named[0][column.name] = numbers[place, :rows]
            elif column.kind not in ("skip", "label"):
                named[1][column.name] = keys[place : place + column.slots, :rows] if column.slots else keys[place, :rows]
        return Rows(label[:rows], *named, lines[:rows]), bad, count, broken[: min(bad, _NAMED)], block

    def problem(self, block: bytes, broken: np.ndarray, first_line: int) -> str:
        """One line of text about a broken line."""
        from workloads.data.parse_kernel import BAD_VALUE, FEW_FIELDS, MANY_FIELDS

        line, column, reason = (int(number) for number in broken)
        place, expected = f"{self.path}: line {first_line + line}", len(self.columns)
        if reason in (FEW_FIELDS, MANY_FIELDS):
            return f"{place}: {column} fields, expected {expected}"
        name = self.columns[column].name
        if reason != BAD_VALUE:
            return f"{place}: {name}: a quote that is not closed on its line"
        text = block.split(b"\n", line + 1)[line].decode("utf-8", "replace").rstrip("\r")
        value = next(csv.reader([text], delimiter=self.form.separator))[column][:40]
        return f"{place}: {name}: {value!r}, {_EXPECTED[self.columns[column].kind]}"


def _parsed(blocks: Iterator[bytes], parser: _Parser, first_line: int, broken: Broken) -> Iterator[Rows]:
    """Parses blocks a few at once, and gives them back in order."""
    waiting: deque[Future[Any]] = deque()
    with ThreadPoolExecutor(2) as pool:

        def taken() -> Rows:
            nonlocal first_line
            rows, bad, count, which, block = waiting.popleft().result()
            if bad:
                broken.add(bad, [parser.problem(block, one, first_line) for one in which])
            rows.lines.__iadd__(first_line)
            first_line += count
            return rows

        for block in blocks:
            waiting.append(pool.submit(parser, block))
            if len(waiting) >= _AT_ONCE:
                yield taken()
        while waiting:
            yield taken()
