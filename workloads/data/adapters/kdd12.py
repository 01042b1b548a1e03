"""KDD Cup 2012 track 2 (Tencent soso.com): ads in search sessions, 3 dense and 10 categorical fields, raw."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np

from pimsim.errors import DataError
from workloads.data.click_log import PaperLog, log_scaled
from workloads.data.parse_kernel import MISSING
from workloads.data.reading import Broken, Column, TextFormat, read_rows
from workloads.data.streaming import Chunk, SparseField

DENSE = ["impression", "depth", "position"]
SPARSE = ["display_url", "ad_id", "advertiser_id", "query_id", "keyword_id", "title_id", "description_id", "user_id", "gender", "age"]
COLUMNS = [
    Column("click", "number"), Column("impression", "number"), Column("display_url", "mixed"), Column("ad_id", "mixed"),
    Column("advertiser_id", "mixed"), Column("depth", "number"), Column("position", "number"), Column("query_id", "mixed"),
    Column("keyword_id", "mixed"), Column("title_id", "mixed"), Column("description_id", "mixed"), Column("user_id", "mixed"),
]  # fmt: skip
"""`training.txt`, in the order of the file."""
PROFILE = [Column("user_id", "mixed"), Column("gender", "mixed"), Column("age", "mixed")]
"""`userid_profile.txt`."""


class Kdd12(PaperLog):
    """`training.txt` (tab-separated, no header: click, impression, display URL, ad, advertiser, depth, position, query, keyword,
    title, description, user) and `userid_profile.txt` (user, gender, age).

    A row is positive when it has a click or more. Gender and age are joined from the profile, 0 for a user without one; a training
    file alone will do, then all are 0. Dense: log(1 + max(0, x)). Sparse: numbers modulo 2^31 - 1; with `prep=paper` then modulo
    the table's size. The rows have no time. Source: facebookresearch/NasRec, nasrec/tools/autoctr_split_data_kdd.py, whose
    second reading skips the first line of a file without header and so pairs each row with its neighbour's fold; not here.
    """

    name: ClassVar[str] = "kdd12"
    folder: ClassVar[str] = "kdd12"
    files: ClassVar[tuple[str, ...]] = ("training.txt", "userid_profile.txt")
    table_rows: ClassVar[tuple[int, ...]] = (26274, 641708, 14848, 22122011, 1188090, 3735797, 2934102, 20004011, 4, 8)

    def dense_fields(self) -> tuple[str, ...]:
        return tuple(DENSE)

    def sparse_fields(self) -> list[SparseField]:
        return [SparseField(name, encoder) for name, encoder in zip(SPARSE, self.encoders(len(SPARSE)), strict=True)]

    def chunks(self, source: Path, broken: Broken) -> Iterator[Chunk]:
        training, *profile = self.source_files(source)
        users, profiles = _profiles(profile[0], broken) if profile else (np.empty(0, np.int64), np.empty((2, 0), np.int64))
        for rows in read_rows(training, COLUMNS, TextFormat("\t", header=False), broken):
            clicks = rows.numbers["click"]
            if np.isnan(clicks).any():
                line = rows.lines[np.argmax(np.isnan(clicks))]
                raise DataError(f"{training}: line {line}: click: '', expected a number")
            keys = rows.keys | dict(zip(("gender", "age"), _joined(rows.keys["user_id"], users, profiles), strict=True))
            dense = log_scaled([rows.numbers[name] for name in DENSE], len(clicks))
            yield Chunk((clicks > 0).astype(np.uint8), dense, [keys[name] for name in SPARSE])


def _profiles(path: Path, broken: Broken) -> tuple[np.ndarray, np.ndarray]:
    """(users,) ids in ascending order, and (2, users) gender and age; the last line of a user counts."""
    parts, attributes = [np.empty(0, np.int64)], [np.empty((2, 0), np.int32)]
    for rows in read_rows(path, PROFILE, TextFormat("\t", header=False), broken):
        parts.append(rows.keys["user_id"].copy())
        both = np.stack([rows.keys["gender"], rows.keys["age"]])
        attributes.append(np.where(both == MISSING, 0, both).astype(np.int32))
    users, small = np.concatenate(parts), np.concatenate(attributes, axis=1)
    if (np.diff(users) > 0).all():  # the file is in order of the user
        return users, small
    users, last = np.unique(users[::-1], return_index=True)
    return users, small[:, ::-1][:, last]


def _joined(user: np.ndarray, users: np.ndarray, profiles: np.ndarray) -> np.ndarray:
    """(2, rows) gender and age of users, 0 for one without a profile."""
    joined = np.zeros((2, len(user)), np.int64)
    if len(users):
        place = np.minimum(np.searchsorted(users, user), len(users) - 1)
        found = users[place] == user
        joined[:, found] = profiles[:, place[found]]
    return joined


ADAPTER = Kdd12
