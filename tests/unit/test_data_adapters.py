"""Adapters: real data when it lies beside the checkout, small files made here, and the synthetic log's promises."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pimsim.errors import ConfigError, DataError
from workloads.data import open_dataset
from workloads.data.adapters.base import adapter
from workloads.data.adapters.criteo import DENSE, SPARSE
from workloads.data.click_log import log_scaled
from workloads.data.encoding import Modulo, Numbering, Vocabulary
from workloads.data.parse_kernel import MISSING
from workloads.data.prepare import prepare
from workloads.data.split import stratified_folds, stratified_split, temporal_split

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"
pa = pytest.importorskip("pyarrow")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("COSEARCH_CACHE", str(tmp_path / "cache"))


def _real(monkeypatch, folder: str) -> None:
    if not (SHARED / folder).is_dir():
        pytest.skip(f"no ../shared/data/{folder} beside the checkout")
    monkeypatch.setenv("COSEARCH_DATA", str(SHARED))


def test_frappe_has_its_published_rows(monkeypatch, tmp_path):
    _real(monkeypatch, "frappe_x1")
    dataset = open_dataset("frappe")
    assert dataset.rows == {"train": 202027, "valid": 57722, "test": 28860}
    assert sum(dataset.schema.cardinalities) == 5382 and not dataset.schema.dense
    rates = [dataset.meta["splits"][n]["positives"] / rows for n, rows in dataset.rows.items()]
    np.testing.assert_allclose(rates, [0.3346, 0.3303, 0.3304], atol=5e-5)
    train = dataset.split("train")
    assert train.dense.shape == (202027, 0)
    import pyarrow.parquet as parquet

    raw = parquet.read_table(SHARED / "frappe_x1" / "train.parquet")
    np.testing.assert_array_equal(train.sparse[:, 1], raw["item"].to_numpy() - 957)
    np.testing.assert_array_equal(train.sparse[:, 9], raw["city"].to_numpy() - (5382 - 233))
    assert (train.sparse.max(axis=0) < dataset.schema.cardinalities).all()


def test_a_prepared_cache_serves_without_its_raw_files(monkeypatch, tmp_path):
    _real(monkeypatch, "frappe_x1")
    folder = prepare("frappe", SHARED / "frappe_x1", lambda line: None)
    monkeypatch.setenv("COSEARCH_DATA", str(tmp_path / "empty"))
    assert open_dataset("frappe").folder == folder


@pytest.mark.parametrize(
    ("name", "folder", "rows", "dense", "sparse", "positives"),
    [
        ("criteo", "criteo_raw24k", 24433, 13, 26, 0.2202),
        ("criteo_rank", "criteo_rank20k", 20000, 13, 26, 0.2427),
        ("avazu", "avazu53k", 53247, 0, 23, 0.1695),
    ],
)
def test_samples_split_stratified(monkeypatch, name, folder, rows, dense, sparse, positives):
    _real(monkeypatch, folder)
    dataset = open_dataset(name)
    assert sum(dataset.rows.values()) == rows
    assert dataset.rows["valid"] == pytest.approx(rows / 10, abs=1) and dataset.rows["test"] == pytest.approx(rows / 10, abs=1)
    assert (len(dataset.schema.dense), len(dataset.schema.sparse)) == (dense, sparse)
    for split, count in dataset.rows.items():
        assert dataset.meta["splits"][split]["positives"] / count == pytest.approx(positives, abs=1e-3)
    train = dataset.split("train")
    assert (train.dense >= 0).all()
    for field, cardinality in enumerate(dataset.schema.cardinalities):
        counts = np.bincount(train.sparse[:, field], minlength=cardinality)[1:]
        assert counts.min() >= 2 and (np.diff(counts) <= 0).all()  # rarer values are out of vocabulary, ids by frequency


def test_criteo_rank_keeps_global_ids_when_asked(monkeypatch):
    _real(monkeypatch, "criteo_rank20k")
    dataset = open_dataset("criteo_rank:ids=rank")
    assert dataset.schema.cardinalities[2] == 10_128_201
    assert max(int(dataset.split(n).sparse[:, 2].max()) for n in ("train", "valid")) < 10_128_201


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("rows", [101, 1003, 20_000])
def test_stratified_split_is_scikit_learns(rows, first):
    from sklearn.model_selection import StratifiedKFold

    label = (np.random.default_rng(rows).random(rows) < 0.2).astype(np.int64)
    label[0] = first
    folds = np.empty(rows, np.int64)
    for i, (_, test) in enumerate(StratifiedKFold(10, shuffle=True, random_state=2018).split(label, label)):
        folds[test] = i
    np.testing.assert_array_equal(stratified_folds(label), folds)
    np.testing.assert_array_equal(stratified_split(label), np.array([0] * 8 + [1, 2])[folds])
    assert not np.array_equal(stratified_folds(label, seed=1), folds)


def test_a_class_without_ten_rows_cannot_be_split():
    with pytest.raises(DataError, match="ten rows of each class at least, found 1003 and 0"):
        stratified_split(np.zeros(1003, np.int64))


def test_temporal_split_never_looks_ahead():
    time = np.random.default_rng(0).integers(0, 240, 5000)
    split = temporal_split(time)
    assert time[split == 0].max() < time[split == 1].min() and time[split == 1].max() < time[split == 2].min()
    np.testing.assert_allclose(np.bincount(split) / 5000, [0.8, 0.1, 0.1], atol=0.01)
    with pytest.raises(DataError, match="no rows are left for train: too few different times"):
        temporal_split(np.zeros(100, np.int64))


def test_ids_by_frequency_in_training_rows_only():
    keys = np.array([7, 5, 5, MISSING, 7, 9, MISSING, 8, 8, 8])
    numbering = Numbering()
    codes = numbering.codes(keys, np.arange(10) < 7)
    ids, cardinality, _ = Vocabulary(2).ids("x", numbering.values, numbering.counts)
    assert cardinality == 4  # out of vocabulary, then missing, 5, 7 (two each, by key); 9 once; 8 in no training row
    assert ids[codes].tolist() == [3, 2, 2, 1, 3, 0, 1, 0, 0, 0]


def test_values_are_numbered_whatever_their_count():
    rng = np.random.default_rng(0)
    keys = rng.integers(-(2**62), 2**62, 60_000)[rng.integers(0, 60_000, 150_000)]
    train = rng.random(150_000) < 0.5
    numbering = Numbering()
    codes = np.concatenate([numbering.codes(keys[i : i + 40_000], train[i : i + 40_000]) for i in range(0, 150_000, 40_000)])
    np.testing.assert_array_equal(numbering.values[codes], keys)
    assert len(numbering.values) == len(np.unique(keys)) > 2**15
    np.testing.assert_array_equal(numbering.counts, np.bincount(codes[train], minlength=len(numbering.values)))


def test_the_papers_hashing_and_its_collisions():
    values = np.array([MISSING, 0, 1, 9, 10, 0xFFFFFFFF])
    ids, rows, facts = Modulo(10).ids("x", values, np.array([5, 1, 2, 3, 4, 0]))
    assert rows == 10 and ids.tolist() == [0, 1, 2, 1, 2, 0xFFFFFFFF % 9 + 1]  # x.fmod(rows - 1) + 1, missing: fmod(-1) + 1
    assert facts["collisions"] == {"values": 5, "rows": 10, "used_rows": 3, "values_sharing": 4, "lookups_sharing": 1.0}


def test_dense_values_are_log_scaled():
    values = log_scaled([np.array([0, 1, -3, np.nan, 99])], 5)
    np.testing.assert_allclose(values[:, 0], np.log1p([0, 1, 0, 0, 99]), rtol=1e-6)
    assert values.dtype == np.float32


def _criteo_text(path: Path, rows: int, broken: str = "") -> None:
    rng = np.random.default_rng(0)
    lines = []
    for i in range(rows):
        dense = ["" if rng.random() < 0.1 else str(rng.integers(-1, 50)) for _ in DENSE]
        sparse = ["" if rng.random() < 0.1 else f"{68000120 + rng.integers(4)}" for _ in SPARSE]  # hex that looks like a number
        lines.append("\t".join([str(int(i % 4 == 0)), *dense, *sparse]))
    path.write_text("\n".join(lines) + "\n" + broken)


def test_criteo_reads_its_raw_text(tmp_path, monkeypatch):
    _criteo_text(tmp_path / "train.txt", 200)
    folder = prepare("criteo:min_count=1", tmp_path / "train.txt", lambda line: None)
    monkeypatch.setenv("COSEARCH_DATA", str(tmp_path / "empty"))
    dataset = open_dataset("criteo:min_count=1")
    assert dataset.folder == folder and dataset.rows == {"train": 160, "valid": 20, "test": 20}
    assert set(dataset.schema.cardinalities) == {6}  # four values, missing, out of vocabulary
    with pytest.raises(DataError, match="'criteo:min_count=2' not found"):
        open_dataset("criteo:min_count=2")  # other settings, another cache


def test_broken_raw_files_are_one_line(tmp_path):
    _criteo_text(tmp_path / "train.txt", 50, broken="1\t2\t3\n")
    with pytest.raises(DataError, match=r"train\.txt: line 51: 3 fields, expected 40") as caught:
        prepare("criteo", tmp_path / "train.txt", lambda line: None)
    assert "\n" not in str(caught.value)
    (tmp_path / "criteo_raw.parquet").write_text("no parquet")
    with pytest.raises(DataError, match=r"criteo_raw\.parquet: cannot be read"):
        prepare("criteo", tmp_path, lambda line: None)
    (tmp_path / "avazu.csv").write_text("click,hour,C1\n0,14102100,1\n")
    with pytest.raises(DataError, match=r"avazu\.csv: line 1: unknown column 'banner_pos'"):
        prepare("avazu", tmp_path / "avazu.csv", lambda line: None)
    with pytest.raises(DataError, match="frappe has three raw files"):
        prepare("frappe", tmp_path / "avazu.csv", lambda line: None)
    assert not list((tmp_path / "cache").glob("*"))


def test_labels_are_checked(tmp_path):
    _criteo_text(tmp_path / "train.txt", 50)
    text = (tmp_path / "train.txt").read_text().splitlines()
    text[7] = "2" + text[7][1:]
    (tmp_path / "train.txt").write_text("\n".join(text) + "\n")
    with pytest.raises(DataError, match=r"train\.txt: line 8: label: '2', allowed 0 and 1"):
        prepare("criteo", tmp_path / "train.txt", lambda line: None)


SYNTHETIC = "rows=20000,fields=6,largest=100"


def test_synthetic_is_reproducible():
    one = adapter(f"synthetic:{SYNTHETIC}").read(Path())
    two = adapter(f"synthetic:{SYNTHETIC}").read(Path())
    other = adapter(f"synthetic:{SYNTHETIC},seed=1").read(Path())
    for (_, a), (_, b), (_, c) in zip(*(t.splits["train"].arrays() for t in (one, two, other)), strict=True):
        np.testing.assert_array_equal(a, b)
        assert not np.array_equal(a, c)
    assert one.facts == two.facts
    assert {n: len(s) for n, s in one.splits.items()} == {"train": 16000, "valid": 2000, "test": 2000}


def test_synthetic_keeps_its_promises():
    """The Bayes log loss is the true probability's within sampling error; each planted order adds to what can be learnt."""
    tables = adapter("synthetic:rows=60000").read(Path())
    for name, facts in tables.facts["splits"].items():
        rows = len(tables.splits[name])
        assert abs(facts["bayes_logloss"] - facts["true_probability_logloss"]) < 5 * 0.6 / np.sqrt(rows)
        assert facts["bayes_logloss"] + 0.02 < facts["second_order_logloss"]
        assert facts["second_order_logloss"] + 0.03 < facts["first_order_logloss"] < facts["constant_logloss"]
        assert 0.75 < facts["true_probability_auc"] < 0.95
        assert tables.splits[name].label.mean() == pytest.approx(0.25, abs=0.02)


def test_synthetic_planted_triple_can_be_read_off_the_rows():
    """With nothing else planted, the click rates of the id combinations take two values, signed as a product of traits."""
    chosen = adapter(
        "synthetic:rows=50000,fields=3,dense=0,smallest=4,largest=4,exponent=0,pairs=0,triples=1,first_order_std=0,pairs_std=0,triples_std=2"
    )
    tables = chosen.read(Path())
    train = tables.splits["train"]
    combination = train.sparse @ np.array([16, 4, 1])
    rates = np.array([train.label[combination == c].mean() for c in range(64)]).reshape(4, 4, 4)
    high = rates > (rates.min() + rates.max()) / 2
    assert rates[high].min() - rates[~high].max() > 0.2  # two values, far apart
    sign = np.where(high, 1, -1)
    np.testing.assert_array_equal(sign, sign[:, :1, :1] * sign[:1, :, :1] * sign[:1, :1, :])


@pytest.mark.parametrize("settings", ["pairs=40,fields=5", "triples=2,fields=3,pairs=1", "largest=3,smallest=4"])
def test_impossible_synthetic_settings_are_refused(settings):
    with pytest.raises(ConfigError, match=r"is more than|is below"):
        adapter(f"synthetic:{settings}")
