"""Trains a model of the zoo alone as the CTR benchmarks do: Adam, L2 over whole tables, early stop on validation AUC, one test."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch.nn import functional

from pimsim.spec.base import Spec
from supernet.metrics import Score, score_logits
from supernet.predictions import Predictions
from supernet.runs import claim, fixed_arithmetic, read_json, read_torch, save_atomically
from supernet.zoo import ZooModel
from workloads.data import Dataset, Split, iterate
from workloads.operators.torch_training import Noise
from workloads.zoo.base import CtrModel

LEAST_GAIN = 1e-6
"""Rise of the validation AUC that counts as better."""


class ZooSettings(Spec):
    """How a model of the zoo is trained. The defaults are those that all models of BARS share (FuxiCTR's)."""

    epochs: PositiveInt = 100
    """Passes over the training rows at most."""
    patience: PositiveInt = 2
    """Epochs in a row without a better validation AUC that end training; each lowers the learning rate."""
    batch: PositiveInt = 4096
    """Rows of a step; an epoch's last step takes what is left."""
    learning_rate: PositiveFloat = 0.001
    plateau_factor: float = Field(0.1, gt=0, le=1)
    """Factor on the learning rate after an epoch without a better validation AUC."""
    least_learning_rate: PositiveFloat = 1e-6
    embedding_l2: NonNegativeFloat = 0.0
    """Adds this / 2 times the sum of squares of all tables, every row of them in every step, to the loss."""
    network_l2: NonNegativeFloat = 0.0
    """The same for all other weights, biases and norms included."""
    table_std: PositiveFloat = 1e-4
    """Standard deviation of the tables' initial values."""
    clip_norm: PositiveFloat = 10.0
    """Greatest Euclidean norm of the gradient of all weights together, L2 included."""
    threads: PositiveInt = 1
    """CPU threads; another number gives other last bits."""


@dataclass(frozen=True)
class Epoch:
    """What an epoch came to."""

    number: int
    """Counted from 1."""
    loss: float
    """Mean training loss without L2, nats."""
    valid: Score
    learning_rate: float
    """While it ran."""
    cpu_seconds: float
    """Processor time of training and validation, all threads."""


@dataclass(frozen=True)
class ZooResult:
    """A trained model."""

    valid: Score
    test: Score | None
    """On the test rows, opened once; None where the test split was not asked for."""
    best_epoch: int
    """The epoch whose weights these are, counted from 1."""
    history: tuple[Epoch, ...]
    model: ZooModel
    """Ready to predict."""

    @property
    def cpu_seconds_per_epoch(self) -> float:
        """Mean processor time of an epoch's training and validation."""
        return sum(epoch.cpu_seconds for epoch in self.history) / len(self.history)


def train_zoo(
    model: CtrModel,
    dataset: Dataset,
    settings: ZooSettings,
    folder: Path,
    seed: int,
    progress: Callable[[Epoch], None] | None = None,
    open_test: bool = True,
) -> ZooResult:
    """Trains a model, or goes on after its last finished epoch, or finds it finished.

    Args:
        model: its sizes; its tables are the data set's.
        dataset: trained on its training rows, stopped on its validation rows.
        settings: how.
        folder: gets `settings.json`, `checkpoint.pt` on the way; `final.pt` and `result.json` at the end, with the test rows also
            `test_opened.log` and `test_predictions.npz`.
        seed: initial weights, order of rows, dropout.
        progress: called after every epoch.
        open_test: evaluate the test rows at the end.

    Raises:
        RunError: the folder belongs to another model, other settings, another seed or other data.
    """
    data = {"name": dataset.name, "digest": dataset.digest}
    keys = {"model": {"kind": type(model).__name__, **model.model_dump(mode="json")}, "dataset": data, "seed": seed}
    claim(folder, {**keys, "training": settings.model_dump(mode="json"), "open_test": open_test})
    module = ZooModel(model, torch.Generator().manual_seed(seed), settings.table_std)
    if not (folder / "result.json").exists():
        with fixed_arithmetic(settings.threads):
            _keep_freed_memory()
            _finish(_train(module, dataset, settings, folder, seed, progress), dataset, folder, open_test)
        (folder / "checkpoint.pt").unlink(missing_ok=True)
    tree = read_json(folder / "result.json")
    module.load_state_dict(read_torch(folder / "final.pt"))
    test = Score(**tree["test"]) if tree["test"] else None
    history = tuple(Epoch(**{**epoch, "valid": Score(**epoch["valid"])}) for epoch in tree["history"])
    return ZooResult(Score(**tree["valid"]), test, tree["best_epoch"], history, module.eval())


def evaluate(module: ZooModel, split: Split) -> Score:
    """Log loss and AUC of a model on a split, batch norm folded, no dropout."""
    return score_logits(np.asarray(split.label), predict(module, split))


def predict(module: ZooModel, split: Split, chunk: int = 4096) -> np.ndarray:
    """Logits (rows,) of a model on a split, batch norm folded, no dropout."""
    was_training = module.training
    module.eval()
    with torch.inference_mode():
        logits = [module(torch.from_numpy(rows.dense), torch.from_numpy(rows.sparse)) for rows in iterate(split, chunk)]
    module.train(was_training)
    return torch.cat(logits).numpy()


@dataclass
class _Training:
    """Where a training stands after a whole number of epochs."""

    module: ZooModel
    optimizer: torch.optim.Adam
    history: list[dict[str, Any]] = field(default_factory=list)
    best_epoch: int = 0
    best_auc: float = -1.0
    stalled: int = 0
    """Epochs in a row without a better validation AUC."""
    best: dict[str, torch.Tensor] = field(default_factory=dict)

    _PLAIN = ("history", "best_epoch", "best_auc", "stalled", "best")

    @property
    def learning_rate(self) -> float:
        return self.optimizer.param_groups[0]["lr"]

    def judge(self, auc: float, settings: ZooSettings) -> None:
        """Keeps the weights if they are the best so far; else lowers the learning rate."""
        if auc >= self.best_auc + LEAST_GAIN:
            self.best_auc, self.best_epoch, self.stalled = auc, len(self.history), 0
            self.best = {name: tensor.clone() for name, tensor in self.module.state_dict().items()}
            return
        self.stalled += 1
        for group in self.optimizer.param_groups:
            group["lr"] = max(group["lr"] * settings.plateau_factor, settings.least_learning_rate)

    def save(self, path: Path) -> None:
        """Writes the checkpoint."""
        plain = {key: getattr(self, key) for key in self._PLAIN}
        save_atomically({**plain, "module": self.module.state_dict(), "optimizer": self.optimizer.state_dict()}, path)

    def load(self, path: Path) -> None:
        """Goes on from a checkpoint."""
        saved = read_torch(path)
        self.module.load_state_dict(saved["module"])
        self.optimizer.load_state_dict(saved["optimizer"])
        for key in self._PLAIN:
            setattr(self, key, saved[key])


def _train(
    module: ZooModel,
    dataset: Dataset,
    settings: ZooSettings,
    folder: Path,
    seed: int,
    progress: Callable[[Epoch], None] | None,
) -> _Training:
    run = _Training(module, torch.optim.Adam(module.parameters(), lr=settings.learning_rate, fused=True))
    if (folder / "checkpoint.pt").exists():
        run.load(folder / "checkpoint.pt")
    train, valid = dataset.split("train"), dataset.split("valid")
    while len(run.history) < settings.epochs and run.stalled < settings.patience:
        began, rate = time.process_time(), run.learning_rate
        loss = _epoch(run, train, settings, seed)
        score = evaluate(module, valid)
        seconds = time.process_time() - began
        done = {"number": len(run.history) + 1, "loss": loss, "learning_rate": rate, "cpu_seconds": seconds}
        run.history.append({**done, "valid": score._asdict()})
        run.judge(score.auc, settings)
        run.save(folder / "checkpoint.pt")
        if progress:
            progress(Epoch(**done, valid=score))
    return run


def _epoch(run: _Training, split: Split, settings: ZooSettings, seed: int) -> float:
    """One pass over the training rows; returns the mean loss. What is random depends on (seed, epoch) alone."""
    number = len(run.history)
    module, total = run.module.train(), 0.0
    module.noise = Noise([seed, 3, number])
    parameters = list(module.parameters())
    decayed = [(list(module.tables.parameters()), settings.embedding_l2), (list(module.layers.parameters()), settings.network_l2)]
    for rows in iterate(split, settings.batch, np.random.default_rng([seed, 2, number])):
        logit = module(torch.from_numpy(rows.dense), torch.from_numpy(rows.sparse))
        loss = functional.binary_cross_entropy_with_logits(logit, torch.from_numpy(rows.label).float())
        run.optimizer.zero_grad()
        loss.backward()
        for weights, l2 in decayed:
            for weight in weights if l2 else ():
                if weight.grad is not None:  # batch norm leaves the bias in front of it out
                    weight.grad.add_(weight.detach(), alpha=l2)
        torch.nn.utils.clip_grad_norm_(parameters, settings.clip_norm, foreach=True)
        run.optimizer.step()
        total += float(loss.detach()) * len(rows.label)
    return total / len(split)


def _finish(run: _Training, dataset: Dataset, folder: Path, open_test: bool) -> None:
    """Best epoch's weights; then validation and, once, the test rows."""
    module = run.module
    module.load_state_dict(run.best)
    save_atomically(run.best, folder / "final.pt")
    result: dict[str, Any] = {
        "valid": evaluate(module, dataset.split("valid"))._asdict(),
        "test": None,
        "best_epoch": run.best_epoch,
        "history": run.history,
    }
    if open_test:
        test = dataset.open_test(f"final evaluation of {folder.name}", folder / "test_opened.log")
        predictions = Predictions(np.asarray(test.label), predict(module, test))
        predictions.save(folder)
        result["test"] = score_logits(predictions.label, predictions.logit)._asdict()
    save_atomically(result, folder / "result.json")


def _keep_freed_memory() -> None:
    """Lets glibc reuse freed buffers of a batch instead of handing their pages back and faulting them in again at every step."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for option in (-1, -3):  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD
            mallopt(option, 1 << 30)
