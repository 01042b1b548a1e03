"""Files of one's own: a schema file, CSV and Parquet alike, and one clear line for whatever is wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pimsim.errors import ConfigError, DataError
from workloads.data import open_dataset
from workloads.data.prepare import prepare

SCHEMA = """
label: {name: rating, positive_above: 3}
dense: [price, {name: age, scale: none}]
sparse: [user, {name: item, hash: 7}, {name: tags, values: 3, pooling: none}]
missing: [NA, "-"]
time: when
min_count: 1
"""
RNG = np.random.default_rng(2)
ROWS = 120
TABLE = {
    "when": [f"2024-01-{1 + i // 6:02d} 12:00:0{i % 6}" for i in range(ROWS)],
    "rating": [1 + i % 5 for i in range(ROWS)],
    "note": ['say, "hi"' if i % 3 else "plain" for i in range(ROWS)],
    "price": [None if i % 10 == 0 else float(i) / 4 for i in range(ROWS)],
    "age": [-1.5e1 - i for i in range(ROWS)],
    "user": [f"u{i % 9}" if i % 11 else None for i in range(ROWS)],
    "item": [f"i{RNG.integers(40)}" for i in range(ROWS)],
    "tags": [["a", "b", "c", "d"][: i % 5] for i in range(ROWS)],
}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("COSEARCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "mine.yaml").write_text(SCHEMA)


def _csv(path: Path, separator: str = ",", header: bool = True, end: str = "\n") -> None:
    def cell(value: object, i: int) -> str:
        if value is None:
            return ("", "NA", "-")[i % 3]
        text = "|".join(value) if isinstance(value, list) else str(value)
        return '"' + text.replace('"', '""') + '"' if separator in text or '"' in text else text

    rows = [separator.join(cell(TABLE[name][i], i) for name in TABLE) for i in range(ROWS)]
    path.write_text(end.join([*([separator.join(TABLE)] if header else []), *rows]) + end)


def test_csv_and_parquet_give_the_same_rows(tmp_path):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    _csv(tmp_path / "mine.csv")
    from_csv = open_dataset(str(tmp_path / "mine.yaml"))
    parquet.write_table(pa.table(TABLE), tmp_path / "mine.parquet")
    prepare(str(tmp_path / "mine.yaml"), tmp_path / "mine.parquet", lambda line: None)
    caches = sorted((tmp_path / "cache").glob("schema-*"))
    metas = [(folder / "meta.json").read_text().partition('"files"')[2] for folder in caches]
    assert len(caches) == 2 and metas[0] == metas[1]  # every array, byte by byte
    _csv(tmp_path / "crlf.csv", end="\r\n")
    prepare(str(tmp_path / "mine.yaml"), tmp_path / "crlf.csv", lambda line: None)
    assert {(f / "meta.json").read_text().partition('"files"')[2] for f in (tmp_path / "cache").glob("schema-*")} == {metas[0]}

    assert from_csv.rows == {"train": 96, "valid": 12, "test": 12}
    assert from_csv.schema.dense == ("price", "age") and from_csv.schema.sparse == ("user", "item", "tags_0", "tags_1", "tags_2")
    assert from_csv.schema.cardinalities == (11, 7, 5, 5, 5)  # nine users, missing, out of vocabulary; three tags kept of four


def test_temporal_split_without_header(tmp_path):
    _csv(tmp_path / "data.tsv", separator="\t", header=False)
    settings = f'split: temporal\nratio: [5, 3, 2]\nheader: false\nseparator: "\\t"\nfile: data.tsv\ncolumns: [{", ".join(TABLE)}]\n'
    (tmp_path / "mine.yaml").write_text(SCHEMA + settings)
    dataset = open_dataset(str(tmp_path / "mine.yaml"))
    assert dataset.rows == {"train": 60, "valid": 36, "test": 24}
    train = dataset.split("train")
    assert train.label.tolist() == [int(1 + i % 5 > 3) for i in range(60)]
    np.testing.assert_allclose(train.dense[:, 1], [-15.0 - i for i in range(60)])
    np.testing.assert_allclose(train.dense[:, 0], [0 if i % 10 == 0 else np.log1p(i / 4) for i in range(60)], rtol=1e-6)
    by_user = train.sparse[:, 0]
    assert len(set(by_user[[i for i in range(60) if i % 11 == 0]])) == 1  # all spellings of missing are one value
    tags = train.sparse[4]  # a, b, c, (d)
    assert len(set(tags[2:])) == 3
    padding = set(train.sparse[0, 2:])
    assert len(padding) == 1 and train.sparse[1, 2] == tags[2] and set(train.sparse[1, 3:]) == padding
    settings_too = open_dataset(f"{tmp_path / 'mine.yaml'}:split=stratified")
    assert settings_too.digest != dataset.digest


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("sparse: [user]", r"mine\.yaml: .*label"),
        (SCHEMA.replace("hash: 7", "hashes: 7"), r"mine\.yaml: sparse\.1\.hashes: unknown key"),
        (SCHEMA + "ratio: [8, 1, 2]\n", r"mine\.yaml: .*must add up to 10"),
        (SCHEMA.replace("price,", "user,"), r"mine\.yaml: .*column 'user' is used twice"),
        (SCHEMA.replace("time: when", "split: temporal"), r"mine\.yaml: .*time missing"),
        (SCHEMA + "header: false\n", r"mine\.yaml: .*columns missing"),
        (SCHEMA + "label: x\n", r"mine\.yaml: line 8: key 'label' stands twice"),
    ],
)
def test_a_wrong_schema_is_one_line(tmp_path, change, message):
    (tmp_path / "mine.yaml").write_text(change)
    _csv(tmp_path / "mine.csv")
    with pytest.raises(ConfigError, match=message) as caught:
        open_dataset(str(tmp_path / "mine.yaml"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("-16.0", "young", r"mine\.csv: line 3: age: 'young', expected a number"),
        ("2024-01-01 12:00:02", "soon", r"mine\.csv: line 4: when: 'soon', expected a whole number or YYYY"),
        ('"say, ""hi"""', '"say', r"mine\.csv: line 3: note: a quote that is not closed"),
        (",rating,", ",ratings,", r"mine\.csv: line 1: unknown column 'rating'; did you mean 'ratings'"),
        ("12:00:01,2", "12:00:01,", r"mine\.csv: line 3: rating: missing, expected a number"),
        (",-17.0,", ",", r"mine\.csv: line 4: 7 fields, expected 8"),
    ],
)
def test_a_wrong_row_is_one_line_with_its_number(tmp_path, old, new, message):
    _csv(tmp_path / "mine.csv")
    text = (tmp_path / "mine.csv").read_text()
    assert old in text
    (tmp_path / "mine.csv").write_text(text.replace(old, new, 1))
    with pytest.raises(DataError, match=message) as caught:
        open_dataset(str(tmp_path / "mine.yaml"))
    assert "\n" not in str(caught.value)


def test_a_missing_file_says_which(tmp_path):
    with pytest.raises(DataError, match=r"not found: no .*mine\.csv; build the cache with `cosearch data"):
        open_dataset(str(tmp_path / "mine.yaml"))
    with pytest.raises(ConfigError, match=r"none\.yaml"):
        open_dataset(str(tmp_path / "none.yaml"))


def test_empty_and_damaged_files_are_one_line(tmp_path):
    import gzip

    name = f"{tmp_path / 'mine.yaml'}:split=temporal"
    (tmp_path / "mine.csv").write_text(",".join(TABLE) + "\n")
    with pytest.raises(DataError, match=r"no rows$"):
        open_dataset(name)
    _csv(tmp_path / "mine.csv")
    packed = gzip.compress((tmp_path / "mine.csv").read_bytes())
    for content in (packed[:-20], packed[:40] + b"\xff" * 40 + packed[80:], b"no gzip"):
        (tmp_path / "mine.csv.gz").write_bytes(content)
        with pytest.raises(DataError, match=r"mine\.csv\.gz: ") as caught:
            prepare(name, tmp_path / "mine.csv.gz", lambda line: None)
        assert "\n" not in str(caught.value)
