"""Multi-valued columns all the way: a file's lists, the cache, batches, a pooled embedding that learns, index traces, the simulator."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from pimsim.api import load_device, simulate
from pimsim.errors import DataError
from pimsim.graph import IndexSource
from workloads.data import Dataset, iterate, open_dataset
from workloads.data.prepare import prepare
from workloads.indices import hit_rates, load_npz, reuse, save_npz, trace_from_split
from workloads.zoo import provider
from workloads.zoo.datasets import fields_of

SCHEMA = """
label: click
dense: [price]
sparse: [user, {name: genres, values: 3}, {name: tags, values: 2, hash: 5}]
min_count: 1
shuffle: 3
"""
ROWS = 400
RNG = np.random.default_rng(11)
GENRES = [[f"g{g}" for g in RNG.choice(12, RNG.integers(5), replace=False)] for _ in range(ROWS)]
TAGS = [[f"t{t}" for t in RNG.choice(30, RNG.integers(3))] for _ in range(ROWS)]


@pytest.fixture
def schema(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("COSEARCH_CACHE", str(tmp_path / "cache"))
    lines = [f"{i % 2},{i / 8},u{i % 9},{'|'.join(GENRES[i])},{'|'.join(TAGS[i])}" for i in range(ROWS)]
    (tmp_path / "mine.csv").write_text("\n".join(["click,price,user,genres,tags", *lines]) + "\n")
    (tmp_path / "mine.yaml").write_text(SCHEMA)
    return tmp_path / "mine.yaml"


@pytest.fixture
def data(schema) -> Dataset:
    return open_dataset(str(schema), lambda line: None)


def _kept(data: Dataset, field: str) -> list[int]:
    """Look-ups of each row of every split, sorted."""
    span = data.schema.columns()[field]
    splits = [data.split("train"), data.split("valid"), data.open_test("count look-ups")]
    return sorted(np.concatenate([(split.sparse[:, span] >= 0).sum(axis=1) for split in splits]).tolist())


def test_every_value_up_to_the_limit_is_kept_and_the_others_are_counted(schema):
    lines: list[str] = []
    data = open_dataset(str(schema), lines.append)
    assert data.schema.sparse == ("user", "genres", "tags") and data.schema.lookups == (1, 3, 2)
    assert data.schema.multi_valued == ("genres", "tags")
    assert data.schema.cardinalities == (10, 13, 5)  # id 0 is everything not seen in training
    assert _kept(data, "genres") == sorted(min(3, len(genres)) for genres in GENRES)
    assert _kept(data, "tags") == sorted(len(tags) for tags in TAGS)
    longer = sum(len(genres) > 3 for genres in GENRES)
    assert data.meta["facts"]["rows_with_more_values"] == {"genres": longer, "tags": 0} and longer > 0
    assert f"genres: {longer} rows have more values than are kept; the later ones are left out" in lines
    assert 0 <= data.meta["facts"]["out_of_vocabulary"]["genres"]["test"] < 0.1
    assert data.meta["facts"]["collisions"]["tags"]["values"] == len({tag for tags in TAGS for tag in tags})
    again = Dataset(data.folder)  # memory-mapped, checksummed, and the schema comes back
    again.verify()
    assert again.schema == data.schema and not again.split("train").sparse.flags.writeable


def test_a_list_column_of_parquet_gives_the_same_cache(schema, data, tmp_path):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    columns = {"click": [i % 2 for i in range(ROWS)], "price": [i / 8 for i in range(ROWS)], "user": [f"u{i % 9}" for i in range(ROWS)]}
    parquet.write_table(pa.table({**columns, "genres": GENRES, "tags": TAGS}), tmp_path / "mine.parquet")
    other = Dataset(prepare(str(schema), tmp_path / "mine.parquet", lambda line: None))
    assert other.folder != data.folder and other.meta["files"] == data.meta["files"]


def test_batches_train_a_pooled_embedding_that_equals_the_reference(data):
    torch = pytest.importorskip("torch")
    from supernet.zoo import ZooModel

    model = provider.model("deepfm", fields_of(data.schema))
    module, network = ZooModel(model, torch.Generator().manual_seed(0)), model.network()
    batch = next(iterate(data.split("train"), 64, np.random.default_rng(5)))
    assert batch.sparse.shape == (64, 6) and (batch.sparse < 0).any()
    dense, sparse = torch.from_numpy(batch.dense), torch.from_numpy(batch.sparse)
    logits = module(dense, sparse)
    np.testing.assert_allclose(logits.detach(), network.reference(module.arrays(), batch.dense, batch.sparse)[:, 0], atol=1e-6)

    looked = module.embed(sparse)["embedding"].detach()
    weight = module.arrays()["embedding.genres.weight"]
    for row in range(64):
        present = batch.sparse[row, 1:4][batch.sparse[row, 1:4] >= 0]
        np.testing.assert_allclose(looked[row, 1], weight[present].sum(axis=0), atol=1e-6)

    torch.nn.functional.binary_cross_entropy_with_logits(logits, torch.from_numpy(batch.label).float()).backward()
    (gradient,) = [look.weights[0].grad for name, look in module._looks.items() if name == "embedding"]
    starts = np.cumsum([0, *data.schema.cardinalities])
    for field, (name, span) in enumerate(data.schema.columns().items()):
        used = np.unique(batch.sparse[:, span][batch.sparse[:, span] >= 0])
        moved = np.flatnonzero(gradient[starts[field] : starts[field + 1]].abs().sum(1))
        assert set(moved) <= set(used), name  # -1 trains no row


def test_traces_leave_missing_values_out_and_run_on_a_device(data, tmp_path):
    split = data.split("train")
    trace = trace_from_split(split, data.schema, len(split), seed=1)
    assert {name: rows.shape[1] for name, rows in trace.items()} == {"user": 1, "genres": 3, "tags": 2}
    present = {name: int((rows >= 0).sum()) for name, rows in trace.items()}
    assert {name: fact["lookups"] for name, fact in reuse(trace).items()} == present
    largest = hit_rates(trace, row_bytes=64, ways=1, sizes=[64 << 12])[0]["hit_rate"]
    touched = sum(len(np.unique(rows[rows >= 0])) for rows in trace.values())
    assert largest <= 1 - touched / sum(present.values()) + 1e-12

    save_npz(tmp_path / "ids.npz", trace)
    assert all((array == trace[name]).all() for name, array in load_npz(tmp_path / "ids.npz").items())
    model = provider.model("deepfm", fields_of(data.schema))
    drawn = model.workload("drawn", IndexSource(kind="uniform"), 64)
    traced = model.workload("traced", None, 64).model_copy(
        update={"operators": drawn.operators, "indices": IndexSource(kind="file", path="ids.npz"), "folder": str(tmp_path)}
    )
    device = load_device("ddr4_3200")
    linear = {f"{name}.linear": rows for name, rows in trace.items()}
    save_npz(tmp_path / "ids.npz", trace | linear)
    full, short = (
        next(o for o in simulate(device, w, 64, "event", "closed", seed=0).operators if o.name == "embedding") for w in (drawn, traced)
    )
    assert 0 < short.energy_uj < full.energy_uj  # absent values are not read


def test_an_id_of_minus_one_is_for_multi_valued_fields_only(data):
    from workloads.data.tables import Split, Tables

    split = data.split("train")
    sparse = split.sparse.copy()
    sparse[7, 0] = -1
    with pytest.raises(DataError, match="t: train: row 7: user -1, allowed 0 to 9"):
        Tables(data.schema, {"train": Split(split.dense, sparse, split.label)}).check("t")
    sparse[7, :2] = 0, 13
    with pytest.raises(DataError, match="t: train: row 7: genres 13, allowed -1 to 12"):
        Tables(data.schema, {"train": Split(split.dense, sparse, split.label)}).check("t")


def test_a_search_space_refuses_multi_valued_fields(data):
    pytest.importorskip("torch")
    from supernet.model import schema_dict

    with pytest.raises(DataError, match="field 'genres' is multi-valued: a search space reads one value a field"):
        schema_dict(data.schema)


def test_the_command_writes_fields_for_a_model_file(schema, tmp_path, monkeypatch):
    from cosearch.cli import app

    monkeypatch.chdir(tmp_path)
    command = ["data", str(schema), "--fields", "fields.yaml", "--trace", "ids.npz", "--samples", "50"]
    assert CliRunner().invoke(app, command).exit_code == 0
    (tmp_path / "net.yaml").write_text(
        "model: dlrm\ndataset: fields.yaml\ndim: 8\nbottom: [8]\ntop: [4, 1]\nindices: {kind: file, path: ids.npz}\n"
    )
    workload = provider.load("net.yaml")
    assert [(t.name, t.rows, t.pooling) for t in workload.gathers[0].tables] == [("user", 10, 1), ("genres", 13, 3), ("tags", 5, 2)]
    assert simulate(load_device("ddr4_3200"), workload, 16, "event", "closed", seed=0).latency_us["mean"] > 0


def test_genres_of_films_as_values(tmp_path, monkeypatch):
    from workloads.data import data_root

    if not (data_root() / "ml_1m_part" / "movies.parquet").is_file():
        pytest.skip("no ml_1m_part in ../shared/data")
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setenv("COSEARCH_CACHE", str(tmp_path))
    data = open_dataset("movielens:genres=values,split=temporal", lambda line: None)
    films = parquet.read_table(data_root() / "ml_1m_part" / "movies.parquet").to_pydict()
    count = dict(zip(films["movie"], (len(g.split("|")) for g in films["genres"]), strict=True))
    ratings = parquet.read_table(data_root() / "ml_1m_part" / "ratings_part.parquet", columns=["movie"])["movie"].to_pylist()
    expected = np.bincount([count[movie] for movie in ratings], minlength=7)
    found = np.bincount(_kept(data, "genres"), minlength=7)
    assert found.tolist() == expected.tolist() and data.schema.cardinalities[6] == 19  # 18 genres and the unknown one


def test_a_source_that_is_not_there_is_not_replaced_by_another(schema, tmp_path):
    with pytest.raises(DataError, match=r"no .*other\.csv"):
        prepare(str(schema), tmp_path / "other.csv", lambda line: None)


def test_the_published_file_names_are_found_in_a_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("COSEARCH_CACHE", str(tmp_path / "cache"))
    with pytest.raises(DataError, match=r"no .*criteo_raw\.parquet \(or train\.txt, train\.txt\.gz\)"):
        prepare("criteo", tmp_path, lambda line: None)
    row = "\t".join(["%d", *["3"] * 13, *["0a0b0c0d"] * 26])
    (tmp_path / "train.txt").write_text("\n".join(row % (i % 2) for i in range(40)) + "\n")
    assert Dataset(prepare("criteo", tmp_path, lambda line: None)).rows == {"train": 32, "valid": 4, "test": 4}
