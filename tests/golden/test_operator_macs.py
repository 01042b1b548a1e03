"""Published NASRecNets: multiply-accumulates and parameters against published figures, dead blocks, workloads, a training step."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from pimsim import configs
from pimsim.errors import ConfigError
from supernet.genotype import Genotype
from supernet.provider import provider, schema_of
from workloads.operators.dot_product import DotProduct
from workloads.operators.efc import EmbeddingFullyConnected
from workloads.operators.fc import FullyConnected
from workloads.operators.fm import FactorizationMachine
from workloads.operators.gating import SigmoidGating
from workloads.operators.interact import DenseToFields
from workloads.operators.sum import Sum
from workloads.operators.transformer import Transformer
from workloads.zoo.datasets import dataset_fields

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "golden" / "nasrec"
GENOTYPES = configs.config_root() / "genotypes"
DIM = 16
# name: data set, published MACs, an earlier count of ours (live, executed), live and held parameters, dead blocks
PUBLISHED = {
    "nasrecnet_criteo_small": ("criteo", 2.20e6, 2.208e6, 2.42e6, 1.74e6, 1.78e6, (6,)),
    "nasrecnet_criteo_full": ("criteo", 1.45e6, 1.448e6, 3.16e6, 0.75e6, 2.22e6, (4, 5, 6)),
    "nasrecnet_kdd12_full": ("kdd12", 1.09e6, 1.080e6, 1.18e6, 0.40e6, 0.44e6, (6,)),
}
FIELDS = {"criteo": (13, 26), "kdd12": (3, 10)}


def _live_operators(genotype: Genotype, dense: int, sparse: int):
    """Every operator of the live network with its shapes."""
    width, fields = [dense], [sparse]
    for block in genotype.canonical().blocks:
        features = sum(width[i] for i in block.dense_inputs)
        inputs = sum(fields[i] for i in block.sparse_inputs)
        out = {"out_features": block.dense_dim}
        if block.dense_op == "fc":
            yield FullyConnected(in_features=features, **out)
        elif block.dense_op == "dot_product":
            yield DotProduct(dense_features=features, sparse_fields=inputs, dim=DIM, **out)
        elif block.dense_op:
            kind = {"gating": SigmoidGating, "sum": Sum}[block.dense_op]
            yield kind(left_features=width[block.dense_left], right_features=width[block.dense_right], **out)
        if block.sparse_op:
            kind = {"efc": EmbeddingFullyConnected, "transformer": Transformer}[block.sparse_op]
            yield kind(in_fields=inputs, out_fields=block.sparse_dim, dim=DIM)
        if block.fm:
            yield FactorizationMachine(fields=block.sparse_dim, dim=DIM, out_features=block.dense_dim)
        if block.interact:
            yield DenseToFields(in_features=block.dense_dim, dim=DIM)
        width.append(block.dense_dim)
        fields.append(block.sparse_dim + (8 if block.interact else 0))
    yield FullyConnected(in_features=width[-1] + fields[-1] * DIM, out_features=1, activation="none")


@pytest.mark.parametrize("name", PUBLISHED)
def test_macs_and_parameters_of_the_published_networks(name):
    """The published figures count whole Gram matrices, as a batched product computes them; the operators, strict lower triangles."""
    from supernet.lowering import count, count_executed

    dataset, published, live, executed, live_parameters, held_parameters, dead = PUBLISHED[name]
    genotype, fields = Genotype.load(GENOTYPES / f"{name}.json"), FIELDS[dataset]
    macs, parameters = count(genotype, *fields)
    assert macs == pytest.approx(published, rel=0.01)
    assert macs == pytest.approx(live, abs=500)
    all_macs, all_parameters = count_executed(genotype, *fields)
    assert all_macs == pytest.approx(executed, abs=6000)
    assert (parameters, all_parameters) == (pytest.approx(live_parameters, abs=8000), pytest.approx(held_parameters, abs=6000))
    assert genotype.dead_blocks() == dead and len(genotype.canonical().blocks) == 7 - len(dead)
    operators = list(_live_operators(genotype, *fields))
    whole = sum(((o.vectors + 1) ** 2 - o.pairs) * DIM for o in operators if isinstance(o, DotProduct))
    assert sum(o.macs for o in operators) + whole == macs
    assert sum(o.macs for o in operators) == provider.load(name).macs


@pytest.mark.parametrize("name", PUBLISHED)
def test_shipped_genotypes_are_the_published_files(name):
    published = SHARED / f"{name.removeprefix('nasrecnet_').replace('kdd12', 'kdd')}.json"
    if not published.is_file():
        pytest.skip("no ../shared/golden/nasrec beside the checkout")
    assert json.loads(published.read_text()) == json.loads((GENOTYPES / f"{name}.json").read_text())


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_network_is_a_workload(name):
    assert name in provider.names()
    workload, fields = provider.load(name), dataset_fields(PUBLISHED[name][0])
    (gather,) = workload.gathers
    assert len(gather.tables) == FIELDS[PUBLISHED[name][0]][1] and gather.gathered_bytes == len(gather.tables) * 64
    assert [t.rows for t in gather.tables] == [group.rows for group in fields.tables]
    assert [n for n, readers in workload.graph.out_degree() if not readers] == ["head"]


def test_the_simulator_finds_published_networks_through_its_door(monkeypatch, tmp_path):
    """As with an entry point of the group `pimsim.workloads` that names `supernet.provider:provider`, before or behind the zoo's."""
    from pimsim.api import load_workload
    from workloads.zoo import provider as zoo

    (tmp_path / "mine.yaml").write_text("model: lr\ndataset: frappe\n")
    for providers in ((provider, zoo), (zoo, provider)):
        entries = [SimpleNamespace(load=lambda found=found: found) for found in providers]
        monkeypatch.setattr("importlib.metadata.entry_points", lambda group, entries=entries: entries)
        assert load_workload("nasrecnet_criteo_full") == provider.load("nasrecnet_criteo_full")
        assert load_workload(str(tmp_path / "mine.yaml")).name == "mine"
        assert load_workload("deepfm_avazu").name == "deepfm_avazu"


def test_a_genotype_file_on_another_data_set():
    workload = provider.load(GENOTYPES / "nasrecnet_kdd12_full.json", dataset="avazu")
    assert len(workload.gathers[0].tables) == 23
    with pytest.raises(ConfigError, match="unknown dataset 'avasu'; did you mean 'avazu'"):
        provider.load(GENOTYPES / "nasrecnet_kdd12_full.json", dataset="avasu")
    with pytest.raises(ConfigError, match="unknown genotype 'nasrecnet_criteo'; did you mean 'nasrecnet_criteo_"):
        provider.load("nasrecnet_criteo")


def test_a_published_network_runs_on_a_device():
    from pimsim.api import load_device, simulate

    report = simulate(load_device("ddr4_3200", {}), provider.load("nasrecnet_kdd12_full"), 2, "event", "closed", seed=0)
    assert report.latency_us["mean"] > 0 and {row.kind for row in report.operators} >= {"gather", "matmul", "product"}


@pytest.fixture
def one_thread():
    """Small matrices: more threads only wait for each other."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_network_learns(name, one_thread):
    """Five steps on one batch of random clicks lower its loss, and every parameter takes part."""
    import torch

    from supernet.standalone import Model

    schema = schema_of(dataset_fields(PUBLISHED[name][0]))
    schema["cardinalities"] = [min(rows, 50) for rows in schema["cardinalities"]]
    genotype = Genotype.load(GENOTYPES / f"{name}.json")
    model = Model(genotype.canonical().model_dump(mode="json"), schema, generator=torch.Generator().manual_seed(0))
    rng = np.random.default_rng(1)
    dense = torch.from_numpy(rng.standard_normal((16, len(schema["dense"]))).astype(np.float32))
    sparse = torch.from_numpy(np.stack([rng.integers(n, size=16) for n in schema["cardinalities"]], axis=1))
    label = torch.from_numpy((rng.random(16) < 0.3).astype(np.float32))
    optimizer, losses, moved = torch.optim.Adam(model.parameters(), lr=0.003), [], set()
    for _ in range(5):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(model(dense, sparse), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        moved |= {key for key, parameter in model.named_parameters() if parameter.grad.abs().sum() > 0}
    assert losses[0] == pytest.approx(math.log(2)) and losses[-1] < 0.9 * losses[0]
    assert moved == {key for key, _ in model.named_parameters()}


def test_a_published_file_runs_as_it_is_with_the_fields_of_a_data_set(tmp_path):
    from pimsim.api import load_workload
    from pimsim.graph import Workload

    path = GENOTYPES / "nasrecnet_kdd12_full.json"
    assert load_workload(f"{path}:kdd12").operators == provider.load("nasrecnet_kdd12_full").operators
    assert len(load_workload(f"{path}:avazu").gathers[0].tables) == 23
    with pytest.raises(ConfigError, match=r"full\.json: a genotype has no fields of its own: .*full\.json:DATASET \(avazu, criteo"):
        load_workload(str(path))
    load_workload(f"{path}:kdd12").save(tmp_path / "graph.json")  # a graph in a file is no genotype
    assert isinstance(load_workload(str(tmp_path / "graph.json")), Workload)
    (tmp_path / "no.json").write_text("{")
    with pytest.raises(ConfigError, match=r"no\.json: not a readable workload"):
        load_workload(str(tmp_path / "no.json"))
