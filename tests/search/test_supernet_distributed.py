"""Data-parallel training: two processes started by torchrun equal one process with the same batches."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from pimsim.errors import ConfigError
from supernet.distributed import Ranks
from supernet.runs import read_torch
from supernet.space import load_space
from supernet.training import TrainingSettings, train_supernet
from workloads.data import open_dataset

DATA = "synthetic:rows=3000,seed=3,fields=4,largest=20,first_order_std=2"
SPACE = load_space("tiny")
SETTINGS = {
    "plain": TrainingSettings(epochs=0.4, batch=128),
    # Parts of 63 and 64 rows; several networks of several operators; other optimisers.
    "sandwich": TrainingSettings.model_validate(
        {
            "epochs": 0.25,
            "batch": 127,
            "sampling": "any_path",
            "sandwich": {"random": 1},
            "optimizer": "adagrad",
            "embedding_optimizer": "rowwise_adagrad",
        }
    ),
}
SCRIPT = """
import json, os, sys
from pathlib import Path
from supernet.space import load_space
from supernet.training import TrainingSettings, train_supernet
from workloads.data import open_dataset
dataset = open_dataset(sys.argv[2], progress=lambda line: None)
for name, settings in json.loads(sys.argv[3]).items():
    reported = []
    folder = Path(sys.argv[1]) / name
    path = train_supernet(load_space("tiny"), dataset, TrainingSettings.model_validate(settings), folder, reported.append)
    assert path.exists()
    (Path(sys.argv[1]) / f"{name}-{os.environ['RANK']}").write_text(str(len(reported)))
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COSEARCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield open_dataset(DATA, progress=lambda line: None)


def torchrun(folder, settings):
    import json

    (folder / "script.py").write_text(SCRIPT)
    texts = json.dumps({name: one.model_dump(mode="json") for name, one in settings.items()})
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    arguments = [*launcher, str(folder / "script.py"), str(folder), DATA, texts]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    return subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=600)


@pytest.fixture(scope="module")
def two_processes(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    done = torchrun(folder, SETTINGS)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("name", SETTINGS)
def test_two_processes_equal_one_with_the_same_batches(data, two_processes, tmp_path, name):
    alone = read_torch(train_supernet(SPACE, data, SETTINGS[name], tmp_path))
    together = read_torch(two_processes / name / "supernet.pt")
    begun = read_torch(train_supernet(SPACE, data, SETTINGS[name].model_copy(update={"epochs": 1e-9}), tmp_path / "one-step"))
    assert alone.keys() == together.keys()
    for key, tensor in alone.items():
        torch.testing.assert_close(together[key], tensor, rtol=0, atol=1e-4, msg=lambda text, key=key: f"{key}: {text}")
    assert max(float((alone[key] - begun[key]).abs().max()) for key in alone) > 1e-3  # training moved them
    assert (two_processes / f"{name}-0").read_text() != "0" and (two_processes / f"{name}-1").read_text() == "0"
    assert sorted(path.name for path in (two_processes / name).iterdir()) == ["settings.json", "supernet.pt"]


def test_a_batch_smaller_than_the_number_of_processes_is_refused():
    assert [Ranks(rank, 3).part(8) for rank in range(3)] == [slice(0, 2), slice(2, 5), slice(5, 8)]
    with pytest.raises(ConfigError, match=r"training\.batch: 2 rows, allowed: 3"):
        Ranks(0, 3).part(2)


def test_a_device_that_is_not_there_is_one_line(data, tmp_path):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(ConfigError, match=r"training\.device: cuda, but torch finds no GPU here"):
        train_supernet(SPACE, data, SETTINGS["plain"].model_copy(update={"device": "cuda"}), tmp_path)


@pytest.mark.parametrize("name", SETTINGS)
def test_training_on_a_gpu_equals_the_cpu(data, tmp_path, name):
    if not torch.cuda.is_available():
        pytest.skip("no GPU here")
    short = SETTINGS[name].model_copy(update={"epochs": 0.2})
    cpu = read_torch(train_supernet(SPACE, data, short, tmp_path / "cpu"))
    gpu = read_torch(train_supernet(SPACE, data, short.model_copy(update={"device": "cuda"}), tmp_path / "gpu"))
    for key, tensor in cpu.items():
        torch.testing.assert_close(gpu[key], tensor, rtol=0, atol=1e-3, msg=lambda text, key=key: f"{key}: {text}")
