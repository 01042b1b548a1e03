"""Zoo models trained alone: batch norm and dropout against PyTorch's, folding, L2, plateaus, resume, the command, real clicks."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.nn import functional

from cosearch.train import load_job, load_preset, train
from pimsim.errors import ConfigError, RunError
from supernet.runs import read_json, read_torch
from supernet.zoo import ZooModel
from supernet.zoo_training import ZooSettings, evaluate, train_zoo
from workloads.data import data_root, open_dataset
from workloads.operators.attention import AttentionInteraction
from workloads.operators.mlp import MultiLayerPerceptron
from workloads.operators.torch_training import Noise, norm_relu_drop
from workloads.testing.operators import OperatorConformance
from workloads.zoo import provider
from workloads.zoo.datasets import dataset_fields, fields_of

DATA = "synthetic:rows=6000,seed=3,fields=4,largest=20,first_order_std=2"
DEEP = {"dim": 4, "hidden": [16, 8], "batch_norm": True, "dropout": 0.3}


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("COSEARCH_CACHE", str(folder))
        yield folder
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def data():
    return open_dataset(DATA, progress=lambda line: None)


def deepfm(data, **changes):
    return provider.model("deepfm", fields_of(data.schema), DEEP | changes)


class TestNormalisedMlp(OperatorConformance):
    cases = (
        MultiLayerPerceptron(sizes=(5, 7, 3), batch_norm=True, dropout=0.4),
        MultiLayerPerceptron(sizes=(4, 6, 1), batch_norm=True, output_activation="none"),
    )


class TestNormalisedAttention(OperatorConformance):
    cases = (AttentionInteraction(fields=4, dim=6, heads=2, head_dim=3, layer_norm=True, dropout=0.2),)
    element_wise = ("norm.*",)


def norm_parameters(features, rng):
    norm = {"weight": rng.normal(1, 0.2, features), "bias": rng.normal(0, 1, features)}
    return {name: torch.tensor(value, requires_grad=True) for name, value in norm.items()} | {
        "mean": torch.zeros(features).double(),
        "variance": torch.ones(features).double(),
    }


@pytest.mark.parametrize("rows", [2, 64, 333])
def test_batch_norm_and_relu_are_those_of_pytorch(rows):
    rng = np.random.default_rng(rows)
    ours = norm_parameters(9, rng)
    theirs = torch.nn.BatchNorm1d(9).double()
    theirs.load_state_dict({"weight": ours["weight"], "bias": ours["bias"]}, strict=False)
    x, gradient = torch.tensor(rng.normal(3, 2, (rows, 9))), torch.tensor(rng.normal(size=(rows, 9)))
    one, other = x.clone().requires_grad_(), x.clone().requires_grad_()
    got, expected = norm_relu_drop(one * 1, ours, "", 0.0, Noise([0])), theirs(other).relu()
    torch.testing.assert_close(got, expected)
    got.backward(gradient.clone())
    expected.backward(gradient)
    torch.testing.assert_close(one.grad, other.grad)
    torch.testing.assert_close(ours["weight"].grad, theirs.weight.grad)
    torch.testing.assert_close(ours["bias"].grad, theirs.bias.grad)
    torch.testing.assert_close(ours["mean"], theirs.running_mean)
    torch.testing.assert_close(ours["variance"], theirs.running_var)


def test_dropout_leaves_out_its_share_scales_the_rest_and_repeats():
    rng = np.random.default_rng(0)
    x, norm = torch.tensor(rng.normal(size=(4000, 50))), norm_parameters(50, rng)
    whole = norm_relu_drop(x * 1, norm, "", 0.0, Noise([1]))
    leaf = x.clone().requires_grad_()
    dropped = norm_relu_drop(leaf * 1, norm, "", 0.3, Noise([1]))
    alive = whole > 1e-9
    kept = (dropped > 0) & alive
    assert float(kept.sum() / alive.sum()) == pytest.approx(0.7, abs=0.005)
    torch.testing.assert_close(dropped[kept], whole[kept] / 0.7)
    assert torch.equal(dropped, norm_relu_drop(x * 1, norm, "", 0.3, Noise([1])))
    assert not torch.equal(dropped, norm_relu_drop(x * 1, norm, "", 0.3, Noise([2])))
    mask, reference = kept / 0.7, x.clone().requires_grad_()
    standard = (reference - reference.mean(0)) / (reference.var(0, correction=0) + 1e-5).sqrt()
    expected = (standard * norm["weight"].detach() + norm["bias"].detach()).relu() * mask
    weight = torch.tensor(rng.normal(size=x.shape))
    dropped.backward(weight.clone())
    expected.backward(weight)
    torch.testing.assert_close(leaf.grad, reference.grad)


def test_batch_norm_folds_and_leaves_the_graph_alone(data):
    """After some training the module, its NumPy reference and an unfolded computation give the same logits."""
    model = deepfm(data)
    module = ZooModel(model, torch.Generator().manual_seed(0), 0.1).double()
    rng = np.random.default_rng(0)
    sparse = torch.from_numpy(rng.integers(2, size=(64, 4)))
    dense = torch.from_numpy(rng.normal(size=(64, model.dense_features)))
    optimizer = torch.optim.Adam(module.parameters(), lr=0.05)
    for _ in range(5):
        optimizer.zero_grad()
        module(dense, sparse).square().sum().backward()
        optimizer.step()
    module.eval()
    logits = module(dense, sparse).detach()
    expected = module.network.reference(module.arrays(), dense.numpy(), sparse.numpy())[:, 0]
    np.testing.assert_allclose(logits.numpy(), expected, rtol=1e-9, atol=1e-10)
    deep = {name.removeprefix("layers.deep."): value for name, value in module.state_dict().items() if name.startswith("layers.deep.")}
    x = torch.cat([module.embed(sparse)["embedding"].flatten(1), dense], 1).detach()
    for i in range(2):
        norm = {part: deep[f"{i}_norm_{part}"] for part in ("mean", "variance", "weight", "bias")}
        x = functional.batch_norm(x @ deep[f"{i}_weight"].t(), *norm.values()).relu()
    x = x @ deep["2_weight"].t() + deep["2_bias"]
    arrays = module.arrays()
    plain = {key.removeprefix("deep."): torch.from_numpy(value) for key, value in arrays.items() if key.startswith("deep.")}
    inputs = torch.cat([module.embed(sparse)["embedding"].flatten(1), dense], 1)
    (node,) = [node for node in module.network.nodes if node.name == "deep"]
    torch.testing.assert_close(node.operator.forward(plain, inputs).detach(), x)
    bare = deepfm(data, batch_norm=False, dropout=0.0).network()
    assert module.network.workload("x").operators == bare.workload("x").operators
    assert module.network.macs == bare.macs and module.network.parameter_shapes() == bare.parameter_shapes()


def test_l2_is_a_term_of_the_loss_over_whole_tables(data, tmp_path):
    model, settings = deepfm(data, dropout=0.0), ZooSettings(epochs=1, batch=10**6, embedding_l2=0.3, network_l2=0.2, clip_norm=0.05)
    trained = train_zoo(model, data, settings, tmp_path, seed=5, open_test=False).model
    module = ZooModel(model, torch.Generator().manual_seed(5), settings.table_std)
    split = data.split("train")
    logit = module(torch.from_numpy(split.dense.copy()), torch.from_numpy(split.sparse.copy()))
    loss = functional.binary_cross_entropy_with_logits(logit, torch.from_numpy(split.label.copy()).float())
    loss = loss + 0.15 * sum(p.square().sum() for p in module.tables.parameters())
    loss = loss + 0.1 * sum(p.square().sum() for p in module.layers.parameters())
    loss.backward()
    torch.nn.utils.clip_grad_norm_(module.parameters(), 0.05)
    torch.optim.Adam(module.parameters(), lr=1e-3).step()
    for (name, got), expected in zip(trained.named_parameters(), module.parameters(), strict=True):
        close = torch.isclose(got, expected, atol=2e-5)
        assert close.float().mean() > 0.98, name  # Adam's first step is the gradient's sign: one of about zero may fall either way


def test_a_model_learns_stops_on_a_plateau_and_keeps_its_best_epoch(data, tmp_path):
    settings = ZooSettings(epochs=60, batch=256, learning_rate=0.02, patience=2)
    result = train_zoo(deepfm(data), data, settings, tmp_path, seed=1)
    aucs = [epoch.valid.auc for epoch in result.history]
    best = result.best_epoch - 1
    assert result.valid.auc == max(aucs) == aucs[best] > 0.7
    assert len(aucs) < 60 and len(aucs) == result.best_epoch + 2, "stops two epochs after the best"
    rate, top = 0.02, -1.0
    for epoch in result.history:
        assert epoch.learning_rate == pytest.approx(rate)
        rate, top = (rate, epoch.valid.auc) if epoch.valid.auc >= top + 1e-6 else (max(rate * 0.1, 1e-6), top)
    assert evaluate(result.model, data.split("valid")) == result.valid
    assert result.test is not None and abs(result.test.auc - result.valid.auc) < 0.1
    train_zoo(deepfm(data), data, settings, tmp_path, seed=1)
    assert len((tmp_path / "test_opened.log").read_text().splitlines()) == 1


def same(one, two):
    weights = [read_torch(folder / "final.pt") for folder in (one, two)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    trees = [read_json(folder / "result.json") for folder in (one, two)]
    for tree in trees:
        for epoch in tree["history"]:
            del epoch["cpu_seconds"]
    assert trees[0] == trees[1]


def test_a_stopped_training_ends_as_an_undisturbed_one(data, tmp_path):
    settings = ZooSettings(epochs=5, batch=512, learning_rate=0.01, embedding_l2=0.001)
    train_zoo(deepfm(data), data, settings, tmp_path / "whole", seed=2)

    def stop(epoch):
        if epoch.number in (1, 3):
            raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            train_zoo(deepfm(data), data, settings, tmp_path / "stopped", 2, stop)
    train_zoo(deepfm(data), data, settings, tmp_path / "stopped", 2, stop)
    same(tmp_path / "whole", tmp_path / "stopped")
    with pytest.raises(RunError, match=r"training\.batch is 512 there, 256 here"):
        train_zoo(deepfm(data), data, settings.model_copy(update={"batch": 256}), tmp_path / "whole", 2)


def test_seeds_are_summed_up_and_runs_are_found_finished(tmp_path, cache):
    job = load_job("wide_deep", DATA, None, {"epochs": 1, "model.dim": 4, "model.hidden": [8], "batch": 512})
    lines = []
    result = train(job, 2, tmp_path, lines.append)
    aucs = [run["test"]["auc"] for run in result["runs"]]
    assert aucs[0] != aucs[1] and result["auc"] == {"mean": np.mean(aucs), "std": pytest.approx(np.std(aucs, ddof=1))}
    assert len(lines) == 2 and lines[0].startswith("wide_deep, seed 0: epoch 1, validation AUC 0.")
    assert train(job, 2, tmp_path, lines.append) == result and len(lines) == 2
    assert result["macs"] == job.network.network().macs and result["published_auc"] is None
    head, *rows = (tmp_path / "runs.csv").read_text().splitlines()
    assert head.startswith("seed,valid_logloss,valid_auc,test_logloss,test_auc,epochs") and len(rows) == 2
    assert train(job, 1, tmp_path, lines.append)["auc"]["std"] is None


def test_a_genotype_trains_by_the_same_door(tmp_path):
    job = load_job("nasrecnet_kdd12_full", DATA, None, {"epochs": 1, "batch": 2048})
    result = train(job, 1, tmp_path, lambda line: None)
    assert 0.4 < result["auc"]["mean"] < 1 and result["macs"] > 1e5
    with pytest.raises(ConfigError, match=r"--set model\.dim: a genotype has no such keys"):
        load_job("nasrecnet_kdd12_full", DATA, None, {"model.dim": 4})


def test_every_model_of_the_bars_preset_is_valid():
    path, preset = load_preset("bars", "frappe")
    fields = dataset_fields("frappe")
    macs = {}
    for name, chosen in preset.models.items():
        ZooSettings.model_validate(preset.training | chosen.training)
        macs[name] = provider.model(name, fields, chosen.model).network().macs
        assert chosen.published_auc is not None and "frappe_x1" in chosen.source
    assert macs["deepfm"] == 100 * 400 + 2 * 400 * 400 + 400 and macs["lr"] == 0
    assert macs["dcnv2"] == 4 * 100 * 100 + 100 * 400 + 2 * 400 * 400 + 500
    with pytest.raises(ConfigError, match=r"dataset: 'frappe': the preset of another data set"):
        load_preset(str(path), "avazu")


def command(*arguments):
    return subprocess.run([sys.executable, "-m", "cosearch.cli", "train", *arguments], capture_output=True, text=True, check=False)


def test_the_command_writes_one_json_object(tmp_path):
    done = command("fm", "--data", DATA, "--seeds", "2", "--set", "epochs=2", "--set", "model.dim=4", "--out", str(tmp_path), "--json", "-")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert {"auc", "logloss", "macs", "parameters", "seconds_per_epoch"} <= result.keys()
    assert result["auc"].keys() == {"mean", "std"} and result["seconds_per_epoch"] > 0
    assert "fm, seed 1: epoch 2, validation AUC" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["deepfn", "--data", DATA], "did you mean 'deepfm'"),
        (["deepfm", "--data", "sinthetic"], "unknown data set 'sinthetic'"),
        (["fm", "--data", DATA, "--preset", "bars"], "unknown training 'bars'"),
        (["fm", "--data", DATA, "--set", "epoch=1"], "training settings: epoch: unknown key; did you mean 'epochs'"),
        (["fm", "--data", DATA, "--set", "dropout"], "expected KEY=VALUE"),
    ],
)
def test_bad_input_is_one_line(arguments, message):
    from typer.testing import CliRunner

    from cosearch.cli import app

    done = CliRunner().invoke(app, ["train", *arguments])
    assert isinstance(done.exception, ConfigError) or "DataError" in type(done.exception).__name__
    assert message in str(done.exception) and "\n" not in str(done.exception)


def test_lr_learns_real_clicks_as_bars_does(tmp_path):
    """BARS' own log of LR on Frappe_x1: validation AUC 0.9025, 0.9108, 0.9162 after the first three epochs."""
    if not (data_root() / "frappe_x1" / "train.parquet").is_file():
        pytest.skip("no ../shared/data/frappe_x1 beside the checkout")
    job = load_job("lr", "frappe", "bars", {"epochs": 3})
    result = train_zoo(job.network, job.dataset, job.settings, tmp_path, seed=0, open_test=False)
    assert [epoch.valid.auc for epoch in result.history] == pytest.approx([0.9025, 0.9108, 0.9162], abs=0.004)
