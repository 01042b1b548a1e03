"""MovieLens-1M: ratings as clicks, with the user's and the film's attributes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from pimsim.errors import DataError
from workloads.data.adapters.base import read_table
from workloads.data.click_log import ClickLog
from workloads.data.encoding import Vocabulary
from workloads.data.parse_kernel import MISSING
from workloads.data.reading import Broken, Column, TextFormat, read_rows
from workloads.data.streaming import Chunk, SparseField

USER = ("gender", "age", "occupation", "zip")
FILM = ("genres", "year")
GENRES = 6
"""Most genres of a film."""
FILES = ("ratings_part.parquet", "users.parquet", "movies.parquet")
RAW = {"ratings": ("user", "movie", "rating", "ts"), "users": ("user", *USER), "movies": ("movie", "title", "genres")}
"""GroupLens' `ratings.dat`, `users.dat`, `movies.dat`: columns, separated by `::`."""


class Movielens(ClickLog):
    """`ratings_part.parquet`, `users.parquet` and `movies.parquet`, or a folder with GroupLens' `ratings.dat`, `users.dat`, `movies.dat`.

    Positive: a rating above `threshold`. Fields: user, movie, the user's gender, age group, occupation and zip code, the film's
    genres (the combination is one value, as in AutoInt, or with `genres=values` up to six look-ups, summed) and year. `split=temporal`
    goes by the time stamp.
    """

    name: ClassVar[str] = "movielens"
    folder: ClassVar[str] = "ml_1m_part"
    files: ClassVar[tuple[str, ...]] = FILES

    threshold: float = 3
    """A rating above this is positive."""
    genres: Literal["combination", "values"] = "combination"
    """A film's genres as one value, or as a multi-valued field."""

    def source_files(self, source: Path) -> list[Path]:
        raw = [source / f"{name}.dat" for name in RAW]
        return raw if all(path.is_file() for path in raw) else [source / name for name in self.files]

    def dense_fields(self) -> tuple[str, ...]:
        return ()

    def sparse_fields(self) -> list[SparseField]:
        slots = {"genres": GENRES} if self.genres == "values" else {}
        names = ("user", "movie", *USER, *FILM)
        return [SparseField(name, Vocabulary(self.min_count), slots.get(name, 0), pooled=name in slots) for name in names]

    def chunks(self, source: Path, broken: Broken) -> Iterator[Chunk]:
        if not source.is_dir():
            raise DataError(f"{source}: movielens has three raw files ({', '.join(self.files)}); give their folder")
        paths = self.source_files(source)
        of_user = _attributes(paths[1], "user", USER)
        of_film = _attributes(paths[2], "movie", FILM, split="genres" if self.genres == "values" else None)
        for user, movie, rating, stamp in _ratings(paths[0], broken):
            keys = [user, movie]
            for what, (ids, values), path in ((user, of_user, paths[1]), (movie, of_film, paths[2])):
                place = np.minimum(np.searchsorted(ids, what), len(ids) - 1)
                if (ids[place] != what).any():
                    raise DataError(f"{path}: no line for {what[np.argmax(ids[place] != what)]}, which {paths[0].name} names")
                keys += [codes[place] for codes in values]
            yield Chunk((rating > self.threshold).astype(np.uint8), np.zeros((len(user), 0), np.float32), keys, stamp)

    def events(self, source: Path) -> tuple[str, np.ndarray, np.ndarray, np.ndarray]:
        parts = list(_ratings(self.source_files(source)[0], Broken(self.broken)))
        user, movie, _, stamp = (np.concatenate(part) for part in zip(*parts, strict=True))
        return "movie", user, movie, stamp


def _ratings(path: Path, broken: Broken) -> Iterator[tuple[np.ndarray, ...]]:
    """User, movie, rating and time stamp."""
    names = RAW["ratings"]
    if path.suffix == ".parquet":
        columns, form = [Column(n, "number" if n == "rating" else "integer") for n in names], TextFormat()
    else:  # a field between two separators is an empty column
        columns = [c for n in names for c in (Column(n, "number" if n == "rating" else "integer"), Column("", "skip"))][:-1]
        form = TextFormat(":", header=False)
    for rows in read_rows(path, columns, form, broken):
        for column in (rows.keys["user"], rows.keys["movie"], rows.keys["ts"], rows.numbers["rating"]):
            wrong = np.isnan(column) if column.dtype == np.float64 else column < 0
            if wrong.any():
                raise DataError(f"{path}: line {rows.lines[np.argmax(wrong)]}: a missing or negative number; expected {', '.join(names)}")
        yield rows.keys["user"], rows.keys["movie"], rows.numbers["rating"], rows.keys["ts"]


def _attributes(path: Path, key: str, names: tuple[str, ...], split: str | None = None) -> tuple[np.ndarray, list[np.ndarray]]:
    """(n,) ids in ascending order, and for each attribute (n,) codes of its texts; of the one to `split` at `|`, (n, 6)."""
    table = _dat(path) if path.suffix == ".dat" else read_table(path, [key, *names]).to_pydict()
    ids = np.array(table[key], np.int64)
    order = np.argsort(ids, kind="stable")
    codes = []
    for name in names:
        texts = [str(table[name][i]) for i in order]
        if name == split:
            parts = [(text.split("|") + [""] * GENRES)[:GENRES] for text in texts]
            known, code = np.unique(np.array(parts), return_inverse=True)
            codes.append(np.where(known[code] == "", MISSING, code).reshape(-1, GENRES).astype(np.int64))
        else:
            codes.append(np.unique(np.array(texts), return_inverse=True)[1].astype(np.int64))
    return ids[order], codes


def _dat(path: Path) -> dict[str, list[Any]]:
    """`users.dat` or `movies.dat`; a film's year stands in its title."""
    names = RAW[path.stem]
    table: dict[str, list[Any]] = {name: [] for name in (*names, "year")}
    for number, line in enumerate(path.read_text(encoding="latin-1").splitlines(), 1):
        parts = line.split("::")
        if len(parts) != len(names) or not parts[0].isdigit():
            raise DataError(f"{path}: line {number}: {line[:60]!r}, expected {'::'.join(names)}")
        for name, part in zip(names, parts, strict=True):
            table[name].append(part)
        table["year"].append(parts[1].rstrip()[-5:-1] if path.stem == "movies" else "")
    return table


ADAPTER = Movielens
