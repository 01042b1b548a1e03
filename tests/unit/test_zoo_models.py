"""Models of the zoo: closed formulas of their multiply-accumulates, torch against the NumPy reference, a training step, a run."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from pimsim.errors import ConfigError
from supernet.zoo import ZooModel
from workloads.testing.operators import unused_gram_macs
from workloads.zoo import provider
from workloads.zoo.base import CtrModel
from workloads.zoo.datasets import DatasetFields, dataset_fields, dataset_names
from workloads.zoo.tables import TableGroup

D = 16
RM = {"rm1": (8, 32), "rm2": (32, 64), "rm3": (10, 32)}
MODELS = ["autoint_plus", "dcn", "dcnv2", "deepfm", "dlrm", "dnn", "finalmlp", "fm", "lr", "wide_deep", "xdeepfm", *RM]


@pytest.fixture(autouse=True)
def _one_thread():
    """Small matrices: more threads only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def mlp(*widths: int) -> int:
    return sum(a * b for a, b in pairwise(widths))


def autoint_macs(x: int, s: int, n: int) -> int:
    fields, width = s + n, 64
    first, later = 4 * fields * D * width, 3 * fields * width * width  # query, key, value; a residual projection in the first layer
    return first + 2 * later + 3 * 2 * fields**2 * width + fields * width + mlp(x, 400, 400, 1)


MACS = {
    "lr": lambda x, s, n: n,
    "fm": lambda x, s, n: n,
    "dnn": lambda x, s, n: mlp(x, 400, 400, 400, 1),
    "wide_deep": lambda x, s, n: n + mlp(x, 1024, 512, 256, 1),
    "deepfm": lambda x, s, n: n + mlp(x, 400, 400, 400, 1),
    "xdeepfm": lambda x, s, n: n + D * s * (s + 2 * 200) * 200 + 600 + mlp(x, 400, 400, 1),
    "dcn": lambda x, s, n: 6 * x + mlp(x, 1024, 1024) + x + 1024,
    "dcnv2": lambda x, s, n: 3 * x**2 + mlp(x, 400, 400, 400) + x + 400,
    "autoint_plus": autoint_macs,
    "finalmlp": lambda x, s, n: 2 * mlp(x, 400, 400, 400) + 10 * 40 * 40 + 3 * 400,
    "dlrm": lambda x, s, n: mlp(max(n, 1), 512, 256, 64, D) + s * (s + 1) // 2 * D + mlp(D + s * (s + 1) // 2, 512, 256, 1),
}  # x: width of embeddings and dense features side by side; s, n: sparse and dense fields


@pytest.mark.parametrize("dataset", ["criteo", "avazu", "kdd12", "frappe"])
@pytest.mark.parametrize("name", MACS)
def test_macs_by_closed_formula(name, dataset):
    fields = dataset_fields(dataset)
    s, n = len(fields.tables), fields.dense_features
    workload = provider.load(f"{name}_{dataset}")
    assert workload.name == f"{name}_{dataset}"
    assert workload.macs == MACS[name](s * D + n, s, n) == provider.model(f"{name}_{dataset}").network().macs
    assert len([node for node, readers in workload.graph.out_degree() if not readers]) == 1
    assert sum(len(gather.tables) for gather in workload.gathers) % s == 0


def test_criteo_is_the_usual_data_set():
    assert {f"{name}_{dataset}" for name in MACS for dataset in dataset_names()} | set(MODELS) == set(provider.names())
    assert provider.load("deepfm").operators == provider.load("deepfm_criteo").operators
    assert sum(table.rows for table in provider.load("fm").gathers[0].tables) == 33_762_577


def test_parameters_by_closed_formula():
    """DCNv2 on Criteo: tables, three cross layers with biases, the deep network, the last layer; and LR."""
    rows, x = 33_762_577, 26 * D + 13
    deep = mlp(x, 400, 400, 400) + 3 * 400
    assert _parameters(provider.model("dcnv2")) == rows * D + 3 * (x * x + x) + deep + x + 400 + 1
    assert _parameters(provider.model("lr")) == rows + 13 + 1
    assert _parameters(provider.model("autoint_plus_frappe")) == 5382 * D + (4 * D + 6 * 64) * 64 + 641 + mlp(160, 400, 400, 1) + 801


def _parameters(model: CtrModel) -> int:
    return sum(math.prod(shape) for shape in model.network().parameter_shapes().values())


def small_fields(dense: int = 3, **last) -> DatasetFields:
    tables = (TableGroup(name="u", rows=7), TableGroup(name="i", rows=11, pooling=3), TableGroup(name="c", rows=5, count=2, **last))
    return DatasetFields(summary="", source="", dense_features=dense, tables=tables)


def rows_of(module: ZooModel, model: CtrModel, rows: int, dtype=torch.float64):
    rng = np.random.default_rng(1)
    tables = module.network.embeddings[0].operator.tables
    sparse = np.concatenate([rng.integers(table.rows, size=(rows, table.pooling)) for table in tables], axis=1)
    return torch.from_numpy(rng.standard_normal((rows, model.dense_features))).to(dtype), torch.from_numpy(sparse)


CASES = [(name, small_fields(dense)) for name in MODELS for dense in (3, 0)] + [("dnn", small_fields(dim=5)), ("dcn", small_fields(dim=5))]


@pytest.mark.parametrize(("name", "fields"), CASES)
def test_torch_equals_the_reference_and_the_graph(name, fields):
    model = provider.model(name, fields)
    check(model)


def check(model: CtrModel) -> None:
    module = ZooModel(model, torch.Generator().manual_seed(0)).double()
    with torch.no_grad():
        for weight in module.parameters():
            weight.normal_(0.0, 0.3, generator=torch.Generator().manual_seed(weight.numel()))
    network, (dense, sparse) = module.network, rows_of(module, model, 6)
    arrays = module.arrays()
    assert {key: array.shape for key, array in arrays.items()} == network.parameter_shapes()
    expected = network.reference(arrays, dense.numpy(), sparse.numpy())
    np.testing.assert_allclose(module(dense, sparse).detach().numpy(), expected[:, 0], rtol=1e-8, atol=1e-9)
    with FlopCounterMode(display=False) as counter:
        module(dense[:1], sparse[:1])
    workload = network.workload("small")
    assert counter.get_total_flops() // 2 == workload.macs + unused_gram_macs(workload)


def test_variants_of_the_models():
    fields = {"dense_features": 2, "tables": small_fields().tables, "dim": 4}
    from workloads.zoo.autoint import AutoInt
    from workloads.zoo.dcnv2 import DcnV2
    from workloads.zoo.finalmlp import FinalMlp

    check(DcnV2(**fields, cross_layers=2, hidden=(8, 4), structure="stacked"))
    check(DcnV2(**fields, cross_layers=2))
    check(AutoInt(**fields, layers=2, heads=1, head_dim=4, scaled=True))
    gated = FinalMlp(**fields, hidden1=(8, 6), hidden2=(9,), heads=3, context1=("u",), context2=("i", "c1"), gate_hidden=(5,))
    check(gated)
    check(gated.model_copy(update={"context1": ()}))


@pytest.mark.parametrize("name", MODELS)
def test_every_model_learns(name):
    """Twelve steps on one batch of random clicks lower its loss, and every weight of a layer takes part."""
    model = provider.model(name, small_fields())
    module = ZooModel(model, torch.Generator().manual_seed(0))
    dense, sparse = rows_of(module, model, 16, torch.float32)
    label = torch.from_numpy((np.random.default_rng(2).random(16) < 0.4).astype(np.float32))
    optimizer, losses, moved = torch.optim.Adam(module.parameters(), lr=0.02), [], set()
    for _ in range(12):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(module(dense, sparse), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        moved |= {key for key, weight in module.named_parameters() if weight.grad is not None and weight.grad.abs().sum() > 0}
    assert losses[-1] < 0.95 * losses[0]
    assert moved == {key for key, _ in module.named_parameters()}


@pytest.mark.parametrize("name", ["fm_frappe", "xdeepfm_frappe", "autoint_plus_frappe", "finalmlp_avazu", "dcnv2_kdd12"])
def test_a_model_runs_on_a_device(name):
    from pimsim.api import load_device, load_workload, simulate

    report = simulate(load_device("hbm_pim", {}), load_workload(name), 2, "event", "closed", seed=0)
    assert report.workload == name and report.latency_us["mean"] > 0


def test_tables_of_their_own_dim_precision_and_pooling(tmp_path):
    path = tmp_path / "mine.yaml"
    tables = "[{name: user, rows: 100, dim: 32, bits: 8}, {name: item, rows: 50, pooling: 4, bits: 16}, {name: tag, rows: 9}]"
    path.write_text(f"model: dnn\ndim: 8\nhidden: [4]\ntables: {tables}\n")
    workload = provider.load(path)
    assert workload.gathers[0].gathered_bytes == 32 + 4 * 16 + 32
    assert workload.macs == 48 * 4 + 4
    path.write_text(f"model: fm\ndim: 8\ntables: {tables}\n")
    with pytest.raises(ConfigError, match=r"mine\.yaml: .*dims \[8, 32\] differ"):
        provider.load(path)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("model: lr\ndataset: criteo\ntables: []", "tables: stands beside dataset 'criteo'"),
        ("model: lr\ndataset: cirteo", r"mine\.yaml: dataset: unknown dataset 'cirteo'; did you mean 'criteo'"),
        ("model: finalmlp\ndataset: frappe\ndim: 4\nhidden1: [8]\nhidden2: [9]\nheads: 2", "heads: 2 does not divide the last width 9"),
        ("model: finalmlp\ndataset: frappe\ndim: 4\nhidden1: [8]\nhidden2: [8]\ncontext1: [users]", "no field 'users'"),
        ("model: dcn\ndataset: frappe\ndim: 4\ncross_layers: 2\nkind: matrix", "kind: unknown key"),
        ("model: dlrm\ndim: 4\nbottom: [4]\ntop: [1]\ntables: [{name: a, rows: 3, dim: 8}]", "dims .4, 8. differ"),
    ],
)
def test_bad_model_files_are_one_line(tmp_path, keys, message):
    path = tmp_path / "mine.yaml"
    path.write_text(keys + "\n")
    with pytest.raises(ConfigError, match=message) as caught:
        provider.load(path)
    assert "\n" not in str(caught.value)
