"""Training, scoring and final training: determinism, resume after SIGKILL, precision, metrics, export."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss, roc_auc_score

from pimsim.errors import RunError
from supernet.export import export_model
from supernet.final import FinalSettings, evaluate, train_alone
from supernet.metrics import auc, score_logits
from supernet.model import schema_dict
from supernet.optim import RowSparseTable, new_state, step, step_slice
from supernet.quantise import quantise
from supernet.runs import read_torch
from supernet.scoring import Scorer, ScoringSettings, fit_head
from supernet.space import load_space
from supernet.training import TrainingSettings, train_supernet
from workloads.data import open_dataset

DATA = "synthetic:rows=6000,seed=3,fields=4,largest=20,first_order_std=2"
SPACE = load_space("tiny")
TRAINING = TrainingSettings(epochs=4, batch=256, threads=1, checkpoint_seconds=0.01)
SCORING = ScoringSettings(head_rows=600, valid_rows=None)
FINAL = FinalSettings(epochs=3, batch=256, threads=1)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COSEARCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield open_dataset(DATA, progress=lambda line: None)


@pytest.fixture(scope="module")
def folder(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("supernet")
    train_supernet(SPACE, data, TRAINING, folder)
    return folder


def equal(one, two):
    return one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)


def test_training_lowers_the_loss_and_is_a_function_of_its_settings(data, folder, tmp_path):
    losses = []
    train_supernet(SPACE, data, TRAINING, tmp_path, lambda p: losses.append(p.loss))
    assert equal(read_torch(folder / "supernet.pt"), read_torch(tmp_path / "supernet.pt"))
    assert losses[-1] < 0.69
    assert not (tmp_path / "checkpoint.pt").exists()


KILLED = """
import os, sys, time
from pathlib import Path
import supernet.training as t
from supernet.space import load_space
from workloads.data import open_dataset
settings = t.TrainingSettings.model_validate_json(sys.argv[2])
one = t._Run._one
def slow(self, batch):
    time.sleep(0.02)
    return one(self, batch)
t._Run._one = slow
t.train_supernet(load_space("tiny"), open_dataset(sys.argv[3]), settings, Path(sys.argv[1]))
"""


def test_killed_and_resumed_equals_uninterrupted(data, folder, tmp_path):
    arguments = [sys.executable, "-c", KILLED, str(tmp_path), TRAINING.model_dump_json(), DATA]
    for _ in range(2):
        process = subprocess.Popen(arguments)
        before = (tmp_path / "checkpoint.pt").stat().st_mtime_ns if (tmp_path / "checkpoint.pt").exists() else 0
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and process.poll() is None:
            path = tmp_path / "checkpoint.pt"
            if path.exists() and path.stat().st_mtime_ns != before:
                break
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert not (tmp_path / "supernet.pt").exists()
        assert 0 < read_torch(tmp_path / "checkpoint.pt")["step"] < 4 * (4800 // 256)
    train_supernet(SPACE, data, TRAINING, tmp_path)
    assert equal(read_torch(folder / "supernet.pt"), read_torch(tmp_path / "supernet.pt"))


def test_finished_folder_returns_at_once_and_refuses_other_settings(data, folder):
    before = (folder / "supernet.pt").stat().st_mtime_ns
    train_supernet(SPACE, data, TRAINING.model_copy(update={"checkpoint_seconds": 9.0}), folder)
    assert (folder / "supernet.pt").stat().st_mtime_ns == before
    with pytest.raises(RunError, match=r"training\.seed is 0 there, 1 here"):
        train_supernet(SPACE, data, TRAINING.model_copy(update={"seed": 1}), folder)
    with pytest.raises(RunError, match="cannot be read"):
        Scorer(folder / "absent", data)


def test_scores_do_not_depend_on_order_or_on_dead_genes(data, folder):
    rng = np.random.default_rng(0)
    genotypes = [SPACE.sample(rng) for _ in range(6)]
    first, second = Scorer(folder, data, SCORING), Scorer(folder, data, SCORING)
    scores = [first.score(g) for g in genotypes]
    assert [second.score(g) for g in reversed(genotypes)] == scores[::-1]
    assert [first.score(g.canonical()) for g in genotypes] == scores
    assert all(s.logloss < 0.75 and s.auc > 0.5 for s in scores)


def test_unfitted_score_is_the_extracted_network(data, folder):
    scorer = Scorer(folder, data, ScoringSettings(head_rows=0))
    rng = np.random.default_rng(1)
    for _ in range(8):
        genotype = SPACE.sample(rng).model_copy(update={"weight_bits": 32, "embedding_bits": 32})
        alone = evaluate(scorer.supernet.extract(genotype), data.split("valid"))
        assert scorer.score(genotype) == pytest.approx(alone, abs=1e-6)


def test_refit_lowers_training_loss_and_four_bits_hurt(data, folder):
    scorer = Scorer(folder, data, SCORING)
    genotype = SPACE.sample(np.random.default_rng(2)).model_copy(update={"weight_bits": 32, "embedding_bits": 32})
    whole, coarse = scorer.score(genotype), scorer.score(genotype.model_copy(update={"weight_bits": 4, "embedding_bits": 4}))
    assert coarse.logloss != whole.logloss
    fine = scorer.score(genotype.model_copy(update={"weight_bits": 16, "embedding_bits": 16}))
    assert abs(fine.logloss - whole.logloss) < 0.1 * abs(coarse.logloss - whole.logloss)


def test_fit_head_is_regularised_logistic_regression():
    from scipy.optimize import minimize

    rng = np.random.default_rng(0)
    x, truth = rng.standard_normal((400, 5)), np.array([1.0, -2.0, 0.0, 0.5, 0.0])
    y = (rng.random(400) < 1 / (1 + np.exp(-(x @ truth)))).astype(float)
    origin, l2 = np.full(5, 0.3), 0.05

    def objective(w):
        z = x @ w[:5] + w[5]
        return np.mean(np.logaddexp(0, z) - y * z) + l2 / 2 * np.sum((w[:5] - origin) ** 2)

    best = minimize(objective, np.append(origin, 0.1)).x
    tensors = [torch.tensor(v, dtype=torch.float32) for v in (x, y, origin)]
    weight, bias = fit_head(*tensors, torch.tensor(0.1), l2, steps=8)
    np.testing.assert_allclose(np.append(weight.numpy(), bias.numpy()), best, atol=2e-4)


def test_final_training_resumes_after_any_epoch(data, tmp_path):
    genotype = SPACE.sample(np.random.default_rng(4))
    whole = train_alone(genotype, data, FINAL, tmp_path / "whole", seed=5)

    class StopError(Exception):
        pass

    def stop(progress):
        raise StopError

    for _ in range(2):
        with pytest.raises(StopError):
            train_alone(genotype, data, FINAL, tmp_path / "parts", seed=5, progress=stop)
    parts = train_alone(genotype, data, FINAL, tmp_path / "parts", seed=5)
    assert (parts.valid, parts.test, parts.best_epoch) == (whole.valid, whole.test, whole.best_epoch)
    assert equal(parts.model.state_dict(), whole.model.state_dict())
    again = train_alone(genotype, data, FINAL, tmp_path / "whole", seed=5)
    assert again.test == whole.test
    assert len((tmp_path / "whole" / "test_opened.log").read_text().splitlines()) == 1
    assert whole.valid.auc > 0.6
    with pytest.raises(RunError, match="seed is 5 there, 6 here"):
        train_alone(genotype, data, FINAL, tmp_path / "whole", seed=6)


def test_export_loads_without_this_package(data, tmp_path):
    genotype = SPACE.sample(np.random.default_rng(6))
    result = train_alone(genotype, data, FINAL.model_copy(update={"epochs": 1}), tmp_path / "run", seed=0, open_test=False)
    export_model(genotype, schema_dict(data.schema), result.model, tmp_path / "export")
    (tmp_path / "elsewhere").mkdir()
    shutil.move(tmp_path / "export", tmp_path / "elsewhere" / "export")
    valid = data.split("valid")
    np.savez(tmp_path / "rows.npz", dense=valid.dense[:50], sparse=valid.sparse[:50])
    script = f"""
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("supernet", "workloads", "pimsim", "cosearch"):
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
sys.path.insert(0, {str(tmp_path / "elsewhere" / "export")!r})
import json, numpy, torch
from model import load
rows = numpy.load({str(tmp_path / "rows.npz")!r})
logits = load({str(tmp_path / "elsewhere" / "export")!r})(torch.from_numpy(rows["dense"]), torch.from_numpy(rows["sparse"]))
print(json.dumps(logits.tolist()))
"""
    done = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with torch.inference_mode():
        expected = result.model(torch.from_numpy(valid.dense[:50].copy()), torch.from_numpy(valid.sparse[:50].copy()))
    np.testing.assert_allclose(json.loads(done.stdout), expected.numpy(), rtol=1e-6)


def test_metrics_equal_scikit_learn():
    rng = np.random.default_rng(0)
    label = rng.integers(2, size=3000)
    logit = np.round(rng.standard_normal(3000) + label, 1)  # many ties
    score = score_logits(label, logit)
    assert score.auc == pytest.approx(roc_auc_score(label, logit), abs=1e-12)
    assert score.logloss == pytest.approx(log_loss(label, 1 / (1 + np.exp(-logit))), abs=1e-12)
    assert np.isnan(auc(np.ones(3), np.arange(3.0)))


def test_quantise_by_hand():
    rows = torch.tensor([[1.27, -0.64, 0.004], [0.0, 0.0, 0.0]])
    torch.testing.assert_close(quantise(rows, 8), torch.tensor([[1.27, -0.64, 0.0], [0.0, 0.0, 0.0]]))
    torch.testing.assert_close(quantise(rows, 4)[0], torch.tensor([7.0, -4.0, 0.0]) * 1.27 / 7)
    assert torch.equal(quantise(rows, 16), rows.half().float())


@pytest.mark.parametrize("name", ["adagrad", "adam"])
def test_row_sparse_table_equals_torch(name):
    # Every row in every step: the same as torch's dense optimiser.
    weight = torch.linspace(-1, 1, 12).reshape(4, 3)
    table, dense = RowSparseTable(weight.clone(), name, 0.0), torch.nn.Parameter(weight.clone())
    other = torch.optim.Adam([dense], lr=0.1) if name == "adam" else torch.optim.Adagrad([dense], lr=0.1, eps=1e-7)
    for i in range(5):
        ids = torch.tensor([[3, 1], [0, 2], [i % 4, 0]])
        embedded, leaf = table.look_up(ids)
        (embedded.square().sum() + embedded[0, 0, 1]).backward()
        table.update(leaf, 0.1)
        other.zero_grad()
        (dense[ids].square().sum() + dense[ids][0, 0, 1]).backward()
        other.step()
    torch.testing.assert_close(table.weight, dense.data, rtol=1e-5, atol=1e-6)


def test_untouched_rows_keep_their_state_and_decay_lazily():
    table = RowSparseTable(torch.ones(3, 2), "adam", l2=0.5)
    for _ in range(4):
        embedded, leaf = table.look_up(torch.tensor([[0]]))
        embedded.sum().backward()
        table.update(leaf, 0.1)
    assert torch.equal(table.weight[1], torch.ones(2)) and float(table.state["count"][1]) == 0
    embedded, _ = table.look_up(torch.tensor([[1]]))
    torch.testing.assert_close(embedded[0, 0], torch.full((2,), float(np.exp(-4 * 0.1 * 0.5))))
    torch.testing.assert_close(table.settle()[2], torch.full((2,), float(np.exp(-4 * 0.1 * 0.5))))


def test_adam_on_slices_counts_each_element():
    value, state = torch.zeros(2, 2), new_state("adam", torch.zeros(2, 2))
    step("adam", value[:1], {k: v[:1] for k, v in state.items()}, torch.ones(1, 2), 0.1)
    step("adam", value, state, torch.ones(2, 2), 0.1)
    torch.testing.assert_close(value, torch.tensor([[-0.2, -0.2], [-0.1, -0.1]]), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["adagrad", "adam"])
def test_step_on_slices_equals_a_step_of_each_view(name):
    generator = torch.Generator().manual_seed(0)
    value, columns = torch.randn(6, 40, generator=generator), ((2, 9), (20, 21), (30, 40))
    expected = value.clone()
    state, other = new_state(name, value), new_state(name, value)
    for rows in (4, 6, 5):
        gradient = torch.randn(rows, 18, generator=generator)
        step_slice(name, value, state, gradient, columns, 0.1)
        done = 0
        for start, stop in columns:
            part = gradient[:, done : done + stop - start]
            step(name, expected[:rows, start:stop], {k: v[:rows, start:stop] for k, v in other.items()}, part, 0.1)
            done += stop - start
    torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(state["squares"], other["squares"], rtol=1e-6, atol=1e-6)
    vector, gradient = torch.ones(5), torch.full((3,), 2.0)
    step_slice(name, vector, new_state(name, vector), gradient, (), 0.1)
    torch.testing.assert_close(vector, torch.tensor([0.9, 0.9, 0.9, 1.0, 1.0]))


def test_large_slices_are_stepped_alike_by_any_number_of_threads():
    generator, before, found = torch.Generator().manual_seed(0), torch.get_num_threads(), []
    gradient = torch.randn(300, 300, generator=generator)
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        value = torch.ones(400, 500)
        step_slice("adagrad", value, new_state("adagrad", value), gradient, ((5, 105), (200, 400)), 0.1)
        found.append(value)
    torch.set_num_threads(before)
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])
    change = 0.1 * gradient / (gradient.abs() + 1e-7)
    expected = torch.ones(400, 500)
    expected[:300, 5:105] -= change[:, :100]
    expected[:300, 200:400] -= change[:, 100:]
    torch.testing.assert_close(found[0], expected, rtol=1e-5, atol=1e-5)


def test_rowwise_adagrad_keeps_the_mean_square_of_each_row():
    table = RowSparseTable(torch.zeros(3, 2), "rowwise_adagrad", l2=0.0)
    for _ in range(2):
        embedded, leaf = table.look_up(torch.tensor([[1]]))
        (embedded * torch.tensor([3.0, 4.0])).sum().backward()
        table.update(leaf, 0.1)
    assert table.state["squares"].shape == (3, 1)
    torch.testing.assert_close(table.state["squares"][:, 0], torch.tensor([0.0, 25.0, 0.0]))
    torch.testing.assert_close(table.weight[1], -0.1 * torch.tensor([3.0, 4.0]) * (1 / 12.5**0.5 + 1 / 25**0.5))
