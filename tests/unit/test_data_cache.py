"""The binary cache: round trip, damage, concurrent builders, the guard of the test split, batches."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from pimsim.errors import ConfigError, DataError
from workloads.data import cache, data_root, find_dataset, iterate, open_dataset
from workloads.data.batches import batch_count
from workloads.data.prepare import prepare
from workloads.data.tables import Schema, Split, Tables

SMALL = "synthetic:rows=2000,fields=4,dense=2,largest=50"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("COSEARCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COSEARCH_DATA", str(tmp_path / "raw"))


def _split(rows: int, fields: int = 3) -> Split:
    rng = np.random.default_rng(rows)
    ids = rng.integers(0, 9, (rows, fields)).astype(np.int32)
    ids[:, 0] = np.arange(rows)
    return Split(rng.random((rows, 2)).astype(np.float32), ids, rng.integers(0, 2, rows).astype(np.uint8))


def _tables(rows: int = 40) -> Tables:
    schema = Schema(dense=("d0", "d1"), sparse=("a", "b", "c"), cardinalities=(rows, 9, 9))
    return Tables(schema, {name: _split(rows) for name in ("train", "valid", "test")})


def test_round_trip(tmp_path):
    tables = _tables()
    folder = cache.write_cache(tmp_path / "c", tables, {"name": "x"})
    meta = cache.read_meta(folder)
    assert Schema.model_validate(meta["schema"]) == tables.schema
    for name, split in tables.splits.items():
        read = cache.read_split(folder, meta, name)
        for (part, written), (_, array) in zip(split.arrays(), read.arrays(), strict=True):
            np.testing.assert_array_equal(array, written)
            assert array.dtype == written.dtype and not array.flags.writeable, part
        assert meta["splits"][name] == {"rows": 40, "positives": int(split.label.sum())}
    assert not list(tmp_path.glob(".building-*"))


def test_arrays_are_memory_mapped(tmp_path):
    folder = cache.write_cache(tmp_path / "c", _tables(), {"name": "x"})
    split = cache.read_split(folder, cache.read_meta(folder), "train")
    assert isinstance(split.sparse.base, np.memmap)


def test_damage_is_detected():
    dataset = open_dataset(SMALL)
    path = dataset.folder / "train" / "sparse.npy"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"sparse\.npy: damaged \(its checksum differs"):
        dataset.split("train")
    with pytest.raises(DataError, match="damaged"):
        dataset.verify()
    assert len(dataset.split("valid")) == 200
    path.write_bytes(content[:-8])
    with pytest.raises(DataError, match="damaged"):
        dataset.split("train")
    path.unlink()
    with pytest.raises(DataError, match="cannot be read"):
        dataset.split("train")


def test_damaged_description_is_one_line():
    dataset = open_dataset(SMALL)
    (dataset.folder / "meta.json").write_text("{")
    with pytest.raises(DataError, match=r"meta\.json: not a readable cache description") as caught:
        open_dataset(SMALL)
    assert "\n" not in str(caught.value)
    (dataset.folder / "meta.json").write_text(json.dumps({"format": 99}))
    with pytest.raises(DataError, match="format 99, this version reads 1"):
        open_dataset(SMALL)


def test_concurrent_builders_share_one_result(tmp_path):
    with ThreadPoolExecutor(6) as pool:
        folders = set(pool.map(lambda _: cache.write_cache(tmp_path / "c", _tables(), {"name": "x"}), range(6)))
    assert folders == {tmp_path / "c"}
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith((".", "c"))].count("c") == 1
    assert not list(tmp_path.glob(".building-*"))
    cache.read_split(tmp_path / "c", cache.read_meta(tmp_path / "c"), "test")


def test_two_processes_build_at_once():
    code = f"from workloads.data import open_dataset; d = open_dataset({SMALL!r}); print(d.folder, d.split('train').label.sum())"
    started = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = {process.communicate(timeout=60)[0] for process in started}
    assert len(outputs) == 1 and outputs.pop().strip()
    assert all(process.returncode == 0 for process in started)


def test_a_builder_that_fails_leaves_nothing(tmp_path):
    tables = _tables()
    tables.splits["valid"].sparse[3, 1] = 9
    with pytest.raises(DataError, match="x: valid: row 3: b 9, allowed 0 to 8"):
        cache.write_cache(tmp_path / "c", tables, {"name": "x"})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("label", np.full(40, 2, np.uint8), "label 2, allowed 0 and 1"),
        ("dense", np.full((40, 2), np.nan, np.float32), "not finite"),
        ("sparse", np.zeros((40, 3), np.int64), r"int64 \(40, 3\), expected int32"),
        ("dense", np.zeros((39, 2), np.float32), r"expected float32 \(40, 2\)"),
    ],
)
def test_malformed_rows_are_refused(part, value, message):
    tables = _tables()
    arrays = dict(tables.splits["train"].arrays()) | {part: value}
    broken = Tables(tables.schema, tables.splits | {"train": Split(**arrays)})
    with pytest.raises(DataError, match=message):
        broken.check("x")


def test_cache_is_built_once_and_says_so():
    lines: list[str] = []
    first = open_dataset(SMALL, lines.append)
    assert any("building the cache" in line for line in lines)
    count = len(lines)
    assert open_dataset(SMALL, lines.append).folder == first.folder
    assert len(lines) == count
    other = open_dataset(SMALL + ",seed=1")
    assert other.folder != first.folder and other.digest != first.digest
    assert other.name == SMALL + ",seed=1"


def test_the_test_split_opens_with_a_reason_and_a_line(tmp_path, caplog):
    dataset, log = open_dataset(SMALL), tmp_path / "log.jsonl"
    with pytest.raises(DataError, match="opens once, with a reason"):
        dataset.split("test")
    with pytest.raises(DataError, match="unknown split 'trian'; did you mean 'train'"):
        dataset.split("trian")
    with pytest.raises(DataError, match="reason only"):
        dataset.open_test("  ", log)
    assert not log.exists()
    assert len(dataset.open_test("final score", log)) == dataset.rows["test"] == 200
    assert not caplog.records
    dataset.open_test("again", log)
    assert "opens again, opening 2 in" in caplog.text
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(e["dataset"], e["reason"], e["digest"], e["opening"]) for e in entries] == [
        (SMALL, "final score", dataset.digest, 1),
        (SMALL, "again", dataset.digest, 2),
    ]
    dataset.open_test("default place")
    assert (tmp_path / "cache" / "test_openings.jsonl").is_file()
    with pytest.raises(DataError, match="cannot be logged"):
        dataset.open_test("x", tmp_path / "no" / "such" / "log")


def test_missing_data_says_where_it_looked(tmp_path):
    with pytest.raises(DataError, match=r"'frappe' not found: no .*raw/frappe_x1/train\.parquet.*COSEARCH_DATA.*cosearch data") as caught:
        open_dataset("frappe")
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match="unknown data set 'frape'; did you mean 'frappe'"):
        open_dataset("frape")
    with pytest.raises(ConfigError, match=r"synthetic:row=5': row: unknown key; did you mean 'rows'"):
        open_dataset("synthetic:row=5")
    with pytest.raises(ConfigError, match="rows: 5: "):
        open_dataset("synthetic:rows=5")
    with pytest.raises(ConfigError, match="KEY=VALUE"):
        open_dataset("synthetic:rows")
    with pytest.raises(DataError, match="'criteo': no "):
        prepare("criteo", tmp_path / "nowhere")
    assert find_dataset(["frappe", "synthetic"]) == "synthetic"
    with pytest.raises(DataError, match="none of the data sets frappe, avazu found"):
        find_dataset(["frappe", "avazu"])


def test_data_root_follows_the_environment(tmp_path, monkeypatch):
    assert data_root() == tmp_path / "raw"
    monkeypatch.delenv("COSEARCH_DATA")
    beside = Path(__file__).resolve().parents[2].parent / "shared" / "data"
    assert data_root() == (beside if beside.is_dir() else Path.home() / ".cache" / "cosearch" / "data")


def test_unwritable_cache_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("COSEARCH_CACHE", str(tmp_path / "file"))
    with pytest.raises(DataError, match=r"cache cannot be written: .*COSEARCH_CACHE"):
        open_dataset(SMALL)


@pytest.mark.parametrize("rows", [1, 1023, 5000, 300_000])
@pytest.mark.parametrize("batch_size", [1000, 4096])
def test_an_epoch_has_every_row_once(rows, batch_size):
    split = _split(rows)
    batches = list(iterate(split, batch_size, np.random.default_rng(3)))
    assert len(batches) == batch_count(rows, batch_size)
    assert [len(b.label) for b in batches[:-1]] == [batch_size] * (len(batches) - 1)
    order = np.concatenate([b.sparse[:, 0] for b in batches])
    np.testing.assert_array_equal(np.sort(order), np.arange(rows))
    np.testing.assert_array_equal(np.concatenate([b.label for b in batches]), split.label[order])
    np.testing.assert_array_equal(np.concatenate([b.dense for b in batches]), split.dense[order])


def test_shuffling_mixes_the_whole_split():
    """Uniform up to one pool: mean displacement of a random permutation is n / 3; beyond, blocks travel as far."""
    for rows in (50_000, 600_000):
        split = Split(np.zeros((rows, 0), np.float32), np.arange(rows, dtype=np.int32)[:, None], np.zeros(rows, np.uint8))
        order = np.concatenate([b.sparse[:, 0] for b in iterate(split, 4096, np.random.default_rng(1))])
        assert abs(np.abs(order - np.arange(rows)).mean() / (rows / 3) - 1) < 0.1
        assert (np.diff(order) == 1).mean() < 0.01


def test_epochs_are_seeded_and_resume_at_any_batch():
    split = _split(300_000, fields=1)
    whole = list(iterate(split, 4096, np.random.default_rng([7, 2])))
    for start in (0, 1, 40, 70, len(whole)):
        resumed = list(iterate(split, 4096, np.random.default_rng([7, 2]), start=start))
        assert len(resumed) == len(whole) - start
        for a, b in zip(resumed, whole[start:], strict=True):
            np.testing.assert_array_equal(a.sparse, b.sparse)
    other = next(iterate(split, 4096, np.random.default_rng([7, 3])))
    assert (other.sparse != whole[0].sparse).mean() > 0.9


def test_unshuffled_batches_keep_the_order_and_are_copies():
    split = _split(10)
    batches = list(iterate(split, 4, drop_last=True))
    assert [b.sparse[:, 0].tolist() for b in batches] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    batches[0].sparse[:] = -1
    assert split.sparse[0, 0] == 0
    assert all(array.flags.c_contiguous and array.flags.writeable for array in batches[0])
