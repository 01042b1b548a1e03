"""The model zoo: shapes against published figures, counts worked out by hand, errors of model files."""

from __future__ import annotations

import json
from importlib.metadata import entry_points
from itertools import pairwise
from pathlib import Path

import pytest

from pimsim.errors import ConfigError
from pimsim.graph import Gather, MatMul, Product, Workload
from workloads.zoo import provider

SHARED = Path(__file__).resolve().parents[2].parent / "shared"


def test_names_and_entry_point():
    assert {"rm1", "rm2", "rm3", "dlrm_criteo", "deepfm_criteo"} <= set(provider.names())
    (entry,) = [e for e in entry_points(group="pimsim.workloads") if e.name == "zoo"]
    assert entry.load() is provider


@pytest.mark.parametrize(("name", "gathered"), [("rm1", 8 * 80 * 32 * 4), ("rm2", 32 * 120 * 64 * 4), ("rm3", 10 * 20 * 32 * 4)])
def test_bytes_gathered_by_the_deployment_shapes(name, gathered):
    (gather,) = provider.load(name).gathers
    assert gather.gathered_bytes == gathered


@pytest.mark.parametrize("name", ["rm1", "rm2", "rm3"])
def test_deployment_shapes_against_their_published_files(name):
    path = SHARED / "golden" / "pim" / f"dlrm_{name}.json"
    if not path.is_file():
        pytest.skip("no ../shared/golden beside the checkout")
    published = json.loads(path.read_text())
    workload = provider.load(name)
    (gather,) = workload.gathers
    assert [t.rows for t in gather.tables] == [int(r) for r in published["arch_embedding_size"].split("-")]
    assert {t.dim for t in gather.tables} == {published["arch_sparse_feature_size"]}
    assert {t.pooling for t in gather.tables} == {published["num_indices_per_lookup"]}
    bottom = [int(w) for w in published["arch_mlp_bot"].split("-")]
    joined = bottom[-1] + len(gather.tables) * published["arch_sparse_feature_size"]
    top = [joined, *(int(w) for w in published["arch_mlp_top"].split("-"))]
    layers = [(o.in_features, o.out_features) for o in workload.operators if isinstance(o, MatMul)]
    assert layers == [*pairwise(bottom), *pairwise(top)]
    assert workload.macs == sum(a * b for a, b in layers)


def test_dlrm_criteo_by_hand():
    workload = provider.load("dlrm_criteo")
    (gather,) = workload.gathers
    assert len(gather.tables) == 26 and sum(t.rows for t in gather.tables) == 33_762_577
    assert gather.gathered_bytes == 26 * 64
    pairs = 27 * 26 // 2
    bottom = 13 * 512 + 512 * 256 + 256 * 64 + 64 * 16
    top = (16 + pairs) * 512 + 512 * 256 + 256
    assert workload.macs == bottom + pairs * 16 + top
    (product,) = [o for o in workload.operators if isinstance(o, Product)]
    assert (product.m, product.k, product.outputs) == (27, 16, pairs)


def test_deepfm_criteo_by_hand():
    workload = provider.load("deepfm_criteo")
    embedding, linear = workload.gathers
    assert (embedding.gathered_bytes, linear.gathered_bytes) == (26 * 64, 26 * 4)
    assert workload.macs == 13 + (26 * 16 + 13) * 400 + 400 * 400 * 2 + 400
    output = workload.operators[-1]
    assert output.output_bytes == 4
    assert [n for n, readers in workload.graph.out_degree() if not readers] == [output.name]


@pytest.mark.parametrize("name", ["rm1", "rm3", "dlrm_criteo", "deepfm_criteo"])
def test_every_operator_is_used_and_survives_a_file(name, tmp_path):
    workload = provider.load(name)
    assert len([n for n, readers in workload.graph.out_degree() if not readers]) == 1
    workload.save(tmp_path / "saved.json")
    assert provider.load(tmp_path / "saved.json").operators == workload.operators


MODEL = """
model: dlrm
dense_features: 4
bottom: [8, 4]
top: [8, 1]
dim: 4
tables: [{name: user, rows: 100}, {name: item, rows: 50, pooling: 3}]
table_bits: 8
batch: 16
indices: {kind: file, path: ids.npz}
"""


def test_a_users_own_file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(MODEL)
    workload = provider.load(str(path))
    assert isinstance(workload, Workload) and workload.name == "mine" and workload.batch == 16
    assert workload.folder == str(tmp_path) and workload.indices.path == "ids.npz"
    gather = workload.operators[1]
    assert isinstance(gather, Gather) and gather.gathered_bytes == 4 * 4


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("model: dlrm", "model: dlrn", r"mine\.yaml: model: unknown model 'dlrn'; did you mean 'dlrm'"),
        ("model: dlrm", "", r"mine\.yaml: model: unknown model None"),
        ("table_bits: 8", "table_bit: 8", r"mine\.yaml: table_bit: unknown key; did you mean 'table_bits'"),
        ("table_bits: 8", "table_bits: 7", r"mine\.yaml: table_bits: 7: "),
        ("bottom: [8, 4]", "bottom: [8, 5]", "needs bottom to end in dim 4, got 5"),
        ("rows: 100", "rows: -100", r"tables\.0\.rows: -100: "),
        ("name: item", "name: user", "table name 'user' stands twice"),
        ("batch: 16", "batch: 0", r"mine\.yaml: batch: 0: "),
        ("kind: file", "kind: fil", r"mine\.yaml: indices: kind: 'fil': "),
        ("{kind: file, path: ids.npz}", "5", r"mine\.yaml: indices: 5: expected a section"),
        ("dim: 4", "", r"mine\.yaml: dim: missing"),
    ],
)
def test_bad_model_files_are_one_line(tmp_path, old, new, message):
    path = tmp_path / "mine.yaml"
    path.write_text(MODEL.replace(old, new))
    with pytest.raises(ConfigError, match=message) as caught:
        provider.load(path)
    assert "\n" not in str(caught.value)


def test_unknown_workload_names_the_nearest():
    with pytest.raises(ConfigError, match="unknown workload 'rm4'; did you mean 'rm"):
        provider.load("rm4")
    with pytest.raises(ConfigError, match="no such file"):
        provider.load("nowhere/mine.yaml")
