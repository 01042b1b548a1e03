"""`prep=paper` against the published code, line by line in Python; temporal splits; broken lines; files larger than a block."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from pimsim.errors import ConfigError, DataError
from workloads.data import open_dataset
from workloads.data.adapters.avazu import SPARSE as AVAZU
from workloads.data.adapters.avazu import Avazu
from workloads.data.adapters.criteo import Criteo
from workloads.data.adapters.kdd12 import Kdd12
from workloads.data.dataset import Dataset
from workloads.data.prepare import prepare

RNG = np.random.default_rng(5)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("COSEARCH_CACHE", str(tmp_path / "cache"))


def build(name: str, source: Path, lines: list[str] | None = None) -> Dataset:
    return Dataset(prepare(name, source, (lines if lines is not None else []).append))


def in_file_order(dataset: Dataset, label: list[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Dense, sparse and label of all splits, put back into the order of the file by an independent split."""
    from sklearn.model_selection import StratifiedKFold

    folds = [test for _, test in StratifiedKFold(10, shuffle=True, random_state=2018).split(label, label)]
    order = np.concatenate([np.sort(np.concatenate(folds[:8])), folds[8], folds[9]])
    splits = [dataset.split("train"), dataset.split("valid"), dataset.open_test("compare with the published code")]
    back = np.argsort(order)
    return tuple(np.concatenate(parts)[back] for parts in zip(*[(s.dense, s.sparse, s.label) for s in splits], strict=True))  # type: ignore[return-value]


def nasrec_literal(text: str) -> int:
    """autoctr_split_data_{avazu,kdd}.py, then data_pipes.py: `int(v, 16)` of the literal."""
    try:
        literal = f"{int(text, 10) % 2147483647:08x}"
    except ValueError:
        literal = f"{int(text, 16) % 2147483647:08x}"
    return int(literal, 16)


def nasrec_id(key: int, rows: int) -> int:
    """data_pipes.py: `x.fmod(num_embeddings - 1) + 1`, with -1 for a missing value."""
    return int(math.fmod(key, rows - 1)) + 1


def test_criteo_as_in_the_paper(tmp_path):
    raw = [
        [str(int(i % 4 == 0)), *(("", str(RNG.integers(-2, 900)))[int(RNG.random() < 0.9)] for _ in range(13))]
        + [("", f"{RNG.integers(2**32):08x}")[int(RNG.random() < 0.9)] for _ in range(26)]
        for i in range(400)
    ]
    (tmp_path / "train.txt").write_text("\n".join("\t".join(row) for row in raw) + "\n")
    lines: list[str] = []
    dataset = build("criteo:prep=paper", tmp_path / "train.txt", lines)
    dense, sparse, label = in_file_order(dataset, [int(row[0]) for row in raw])
    assert dataset.schema.cardinalities == Criteo.table_rows and sum(Criteo.table_rows) == pytest.approx(33.76e6, rel=1e-3)
    for i, row in enumerate(raw):
        assert label[i] == int(row[0])
        np.testing.assert_allclose(dense[i], [math.log(max(0, int(v or 0)) + 1) for v in row[1:14]], rtol=1e-6)
        want = [nasrec_id(int(v, 16) if v else -1, n) for v, n in zip(row[14:], Criteo.table_rows, strict=True)]
        assert sparse[i].tolist() == want
    report = dataset.meta["facts"]["collisions"]["C9"]  # hundreds of values in 4 rows, one of them for missing values
    assert report["rows"] == 4 and report["used_rows"] == 3 and report["values_sharing"] == report["values"] > 300
    assert any("look-ups sharing" in line for line in lines) and any(line.startswith("C26") for line in lines)
    capped = build("criteo:prep=paper,most_rows=500", tmp_path / "train.txt")
    assert max(capped.schema.cardinalities) == 500


def test_avazu_as_in_the_paper(tmp_path):
    raw = []
    for i in range(300):
        row = [str(RNG.integers(2**63, 2**64 - 1, dtype=np.uint64)), str(int(i % 5 == 0)), f"141021{RNG.integers(24):02d}"]
        row += [str(RNG.integers(1, 2000)) if name.startswith("C") or "type" in name else f"{RNG.integers(2**32):08x}" for name in AVAZU]
        row[5] = f"{RNG.integers(10**8):08d}"  # a hexadecimal token that looks decimal is read as decimal
        row[-2] = "-1" if i % 3 == 0 else row[-2]
        raw.append(row)
    (tmp_path / "train.csv").write_text("\r\n".join(",".join(r) for r in [["id", "click", "hour", *AVAZU], *raw]))
    dataset = build("avazu:prep=paper", tmp_path / "train.csv")
    dense, sparse, _ = in_file_order(dataset, [int(row[1]) for row in raw])
    assert dataset.schema.cardinalities == Avazu.table_rows and dataset.schema.sparse[:2] == ("id", "hour")
    assert dense.shape == (300, 1) and not dense.any()
    for i, row in enumerate(raw):
        tokens = [row[0], *row[2:]]
        assert sparse[i].tolist() == [nasrec_id(nasrec_literal(t), n) for t, n in zip(tokens, Avazu.table_rows, strict=True)]


def test_avazu_splits_by_the_hour(tmp_path):
    hours = RNG.permutation(np.repeat(np.arange(24), 20))
    text = "".join(f"1,{i % 2},141021{h:02d},{','.join(['5'] * len(AVAZU))}\n" for i, h in enumerate(hours))
    (tmp_path / "train.csv").write_text(",".join(["id", "click", "hour", *AVAZU]) + "\n" + text)
    dataset = build("avazu:split=temporal,min_count=1", tmp_path / "train.csv")
    assert dataset.rows == {"train": 380, "valid": 40, "test": 60}  # whole hours
    assert set(dataset.split("valid").sparse[:, 0]) == {0}  # hours never seen in training are out of vocabulary
    with pytest.raises(ConfigError, match="split"):
        build("avazu:split=tomorrow", tmp_path / "train.csv")


def _criteo_lines(rows: int) -> list[str]:
    return ["\t".join([str(i % 2), str(i), *["1"] * 12, *["0a1b2c3d"] * 26]) for i in range(rows)]


def test_broken_lines_are_counted_named_and_left_out(tmp_path):
    lines = _criteo_lines(300)
    lines[10] = lines[10].replace("0a1b2c3d", "0a1bxc3d", 1)
    lines[20] = "\t".join(lines[20].split("\t")[:12])
    lines[30] += "\t1"
    lines[40] = lines[40].replace("\t40\t", "\tforty\t")
    (tmp_path / "train.txt").write_text("\n".join(lines))
    said: list[str] = []
    dataset = build("criteo:broken=4", tmp_path / "train.txt", said)
    assert sum(dataset.rows.values()) == 296
    splits = [dataset.split("train"), dataset.split("valid"), dataset.open_test("count")]
    left = np.sort(np.concatenate([np.rint(np.expm1(s.dense[:, 0])) for s in splits]))
    assert left.tolist() == [i for i in range(300) if i not in (10, 20, 30, 40)]  # nothing else is lost
    facts = dataset.meta["facts"]["broken_lines"]
    assert facts["count"] == 4
    want = ["line 11: C1: '0a1bxc3d', expected at most 15 hex", "line 21: 12 fields, expected 40"]
    want += ["line 31: 41 fields, expected 40", "line 41: I1: 'forty', expected a number"]
    assert all(expected in text for text, expected in zip(facts["first"], want, strict=True))
    assert any("left out 4 broken lines" in line for line in said)
    with pytest.raises(DataError, match=r"line 41: I1: 'forty'.*4 broken lines so far, limit broken=3"):
        build("criteo:broken=3", tmp_path / "train.txt")
    assert not [path for path in (tmp_path / "cache").iterdir() if path.name.startswith(".building")]


def test_rows_are_shuffled_once_by_seed(tmp_path, monkeypatch):
    from workloads.data import streaming

    monkeypatch.setattr(streaming, "_BUCKET_ROWS", 400)  # four buckets
    lines = [line.replace("\t1\t", f"\t{i}\t", 1) for i, line in enumerate(_criteo_lines(2000))]
    (tmp_path / "train.txt").write_text("\n".join(lines))
    plain, one, again, other = (
        build(f"criteo{s}", tmp_path / "train.txt") for s in ("", ":shuffle=1", ":shuffle=1,broken=1", ":shuffle=2")
    )
    order = [np.rint(np.expm1(d.split("train").dense[:, 0])).astype(int) for d in (plain, one, again, other)]
    assert (np.diff(order[0]) > 0).all()
    np.testing.assert_array_equal(order[1], order[2])
    assert not np.array_equal(order[1], order[3])
    np.testing.assert_array_equal(np.sort(order[1]), order[0])
    assert abs(np.abs(np.argsort(order[1]) - np.arange(1600)).mean() / (1600 / 3) - 1) < 0.1  # a uniform permutation's displacement
    train = one.split("train")
    np.testing.assert_array_equal(train.label, order[1] % 2)  # rows stay whole
    np.testing.assert_array_equal(one.split("valid").dense, plain.split("valid").dense)
    one.verify()


def test_blocks_do_not_show(tmp_path, monkeypatch):
    """The same cache whatever the size of the blocks a file is read and worked on in; compressed or not."""
    import gzip

    from workloads.data import reading, streaming

    (tmp_path / "train.txt").write_text("\n".join(_criteo_lines(2000)) + "\n")
    whole = build("criteo:min_count=1", tmp_path / "train.txt")
    monkeypatch.setattr(reading, "_BLOCK", 5000)
    monkeypatch.setattr(streaming, "_ROWS", 333)
    with gzip.open(tmp_path / "train.txt.gz", "wb") as handle:
        handle.write((tmp_path / "train.txt").read_bytes())
    pieces = build("criteo:min_count=1", tmp_path / "train.txt.gz")
    assert pieces.folder != whole.folder and pieces.meta["files"] == whole.meta["files"]
    pieces.verify()


def test_kdd12_as_in_the_paper(tmp_path):
    """autoctr_split_data_kdd.py in Python, without its second reading's skipped line."""
    profile = {str(user): [str(RNG.integers(0, 3)), str(RNG.integers(1, 7))] for user in RNG.permutation(40)[:30]}
    raw = []
    for i in range(200):
        ids = [str(RNG.integers(2**40)), *(str(RNG.integers(10**7)) for _ in range(2)), str(RNG.integers(1, 4)), str(RNG.integers(1, 4))]
        ids += [str(RNG.integers(10**7)) for _ in range(4)]
        raw.append([str(max(0, i % 7 - 4)), str(RNG.integers(1, 50)), *ids, str(RNG.integers(40))])
    (tmp_path / "training.txt").write_text("".join("\t".join(row) + "\n" for row in raw))
    (tmp_path / "userid_profile.txt").write_text("".join("\t".join([user, *rest]) + "\n" for user, rest in profile.items()))
    dataset = build("kdd12:prep=paper", tmp_path)
    dense, sparse, label = in_file_order(dataset, [int(int(row[0]) > 0) for row in raw])
    assert dataset.schema.cardinalities == Kdd12.table_rows and sum(Kdd12.table_rows) == pytest.approx(50.67e6, rel=1e-3)
    for i, row in enumerate(raw):
        full = row + profile.get(row[-1], ["0", "0"])
        full = [full[x] for x in [0, 1, 5, 6, 2, 3, 4, 7, 8, 9, 10, 11, 12, 13]]
        assert label[i] == int(int(full[0]) > 0)
        np.testing.assert_allclose(dense[i], [math.log(max(0, int(v)) + 1) for v in full[1:4]], rtol=1e-6)
        assert sparse[i].tolist() == [nasrec_id(nasrec_literal(t), n) for t, n in zip(full[4:], Kdd12.table_rows, strict=True)]
    alone = build("kdd12:min_count=1", tmp_path / "training.txt")
    assert alone.schema.cardinalities[-2:] == (2, 2)  # nobody has a profile
    with pytest.raises(DataError, match=r"'kdd12'.*split: 'temporal': its rows have no time"):
        build("kdd12:split=temporal", tmp_path)


def test_movielens_joins_users_and_films(tmp_path):
    users = ["1::F::1::10::48067", "2::M::56::16::70072"]
    films = ["7::Toy Story (1995)::Animation|Comedy", "9::Heat (1995)::Action", "8::Alien (1979)::Action"]
    ratings = [f"{1 + i % 2}::{7 + i % 3}::{1 + i % 5}::{978300000 + i}" for i in range(60)]
    for name, lines in (("users", users), ("movies", films), ("ratings", ratings)):
        (tmp_path / f"{name}.dat").write_text("\n".join(lines) + "\n", encoding="latin-1")
    dataset = build("movielens:min_count=1,split=temporal", tmp_path)
    assert dataset.rows == {"train": 48, "valid": 6, "test": 6}
    assert dataset.schema.sparse == ("user", "movie", "gender", "age", "occupation", "zip", "genres", "year")
    assert dataset.schema.cardinalities == (3, 4, 3, 3, 3, 3, 3, 3)
    train = dataset.split("train")
    assert train.label.tolist() == [int(1 + i % 5 > 3) for i in range(48)]
    film = np.arange(48) % 3  # Toy Story, Alien, Heat
    np.testing.assert_array_equal(train.sparse[:, 6] == train.sparse[1, 6], film > 0)  # Alien and Heat: Action
    np.testing.assert_array_equal(train.sparse[:, 7] == train.sparse[0, 7], film != 1)  # Toy Story and Heat: 1995
    (tmp_path / "ratings.dat").write_text("3::7::5::978300000\n")
    with pytest.raises(DataError, match=r"no line for 3, which ratings\.dat names"):
        build("movielens", tmp_path)


def test_movielens_sample(monkeypatch):
    shared = Path(__file__).resolve().parents[2].parent / "shared" / "data"
    if not (shared / "ml_1m_part").is_dir():
        pytest.skip("no ../shared/data/ml_1m_part beside the checkout")
    monkeypatch.setenv("COSEARCH_DATA", str(shared))
    dataset = open_dataset("movielens")
    assert sum(dataset.rows.values()) == 487_650
    assert dataset.meta["splits"]["train"]["positives"] / dataset.rows["train"] == pytest.approx(0.5724, abs=1e-4)
