"""Trains a supernet: one sampled network a step, row-sparse table updates, resumable to the bit.

Single-operator any-connection sampling (NASRec): every step draws one network from the space, with the distribution that the
search uses (or another of `supernet.sampling`), and trains its canonical form. Over the first part of the training the widest
path (full widths, every connection) is drawn instead with a chance that falls linearly from 1 to 0. Everything random is a
function of (seed, step), so a checkpoint needs no generator states: weights, optimiser states and the step's number are all.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from pimsim.errors import RunError
from supernet import optim
from supernet.genotype import Genotype
from supernet.model import Supernet, schema_dict
from supernet.quantise import Quantisation, quantised, stored_rows
from supernet.runs import Progress, claim, fixed_arithmetic, read_torch, save_atomically
from supernet.sampling import STRATEGIES, Strategy
from supernet.space import Space
from supernet.standalone import features
from supernet.tables import Tables
from workloads.data import Dataset, iterate
from workloads.data.batches import batch_count


class TrainingSettings(Quantisation):
    """How a supernet is trained. The defaults suit Frappe and the `quickstart` space."""

    epochs: PositiveFloat = 10.0
    """Passes over the training rows."""
    batch: PositiveInt = 512
    """Rows of a step."""
    learning_rate: PositiveFloat = 0.0015
    embedding_learning_rate: PositiveFloat = 0.03
    """Peak rate of the tables. It is large so that embeddings live at a scale that LayerNorm's epsilon does not swallow."""
    optimizer: optim.Name = "adam"
    embedding_optimizer: optim.TableName | None = None
    """Optimiser of the tables; None: the same. `rowwise_adagrad` keeps one number a row."""
    warm_up: float = Field(0.05, ge=0, lt=1)
    """Share of the steps over which the learning rate rises."""
    cosine: bool = True
    """The learning rate then falls along a cosine to 1 % of its peak; else it stays."""
    clip_norm: PositiveFloat = 5.0
    """Greatest Euclidean norm of the gradient of all weights but the tables."""
    embedding_l2: NonNegativeFloat = 0.6
    """Row-wise decay of the tables: every step multiplies all rows by exp(-embedding learning rate * this)."""
    sampling: Strategy = "any_connection"
    """Which network a step draws once the warm-up with the widest path is over."""
    widest_share: float = Field(0.4, ge=0, le=1)
    """Share of the steps over which the chance of the widest path falls from 1 to 0."""
    seed: NonNegativeInt = 0
    threads: PositiveInt = 1
    """CPU threads; another number gives other last bits."""
    checkpoint_seconds: PositiveFloat = 20.0
    """Time between checkpoints; no influence on the result."""


def train_supernet(
    space: Space,
    dataset: Dataset,
    settings: TrainingSettings,
    folder: Path,
    progress: Callable[[Progress], None] | None = None,
) -> Path:
    """Trains a supernet, or goes on with one, or finds it finished.

    Args:
        space: the search space.
        dataset: its training rows are used, nothing else.
        settings: how.
        folder: gets `settings.json`, `checkpoint.pt` on the way and `supernet.pt` at the end.
        progress: called about twice a second.

    Returns:
        Path of `supernet.pt`, to be opened with `open_supernet` or `Scorer`.

    Raises:
        RunError: the folder belongs to other settings, another space or other data.
    """
    space = space.for_tables(len(dataset.schema.sparse))
    claim(folder, _identity(space, dataset, settings))
    target, checkpoint = folder / "supernet.pt", folder / "checkpoint.pt"
    if target.exists():
        return target
    with fixed_arithmetic(settings.threads):
        run = _Run(space, dataset, settings)
        if checkpoint.exists():
            run.load(read_torch(checkpoint))
        started = saved = reported = time.monotonic()
        for loss in run.steps():
            now = time.monotonic()
            if progress and (now - reported > 0.5 or run.step == run.total):
                progress(Progress(run.step, run.total, now - started, loss))
                reported = now
            if now - saved > settings.checkpoint_seconds and run.step < run.total:
                save_atomically(run.state(), checkpoint)
                saved = time.monotonic()
        run.table.settle()
        save_atomically(run.supernet.weights, target)
    checkpoint.unlink(missing_ok=True)
    return target


def open_supernet(folder: Path, dataset: Dataset) -> Supernet:
    """A finished supernet; its weights are mapped from the file, so processes that open it share them.

    Raises:
        RunError: no finished supernet there, or one of other data.
    """
    from supernet.runs import read_json

    identity = read_json(folder / "settings.json")
    if not (folder / "supernet.pt").exists():
        raise RunError(f"{folder}: the supernet there is not finished; train it first")
    if identity["dataset"] != _data_identity(dataset):
        raise RunError(f"{folder}: trained on {identity['dataset']}, not on {_data_identity(dataset)}")
    weights = read_torch(folder / "supernet.pt", mmap=True)
    return Supernet(Space.model_validate(identity["space"]), schema_dict(dataset.schema), weights)


def _data_identity(dataset: Dataset) -> dict[str, Any]:
    return {"name": dataset.name, "digest": dataset.digest}


def _identity(space: Space, dataset: Dataset, settings: TrainingSettings) -> dict[str, Any]:
    return {
        "space": space.model_dump(mode="json"),
        "dataset": _data_identity(dataset),
        "training": settings.model_dump(mode="json", exclude={"checkpoint_seconds"}),
    }


class _Run:
    """A training at some step."""

    def __init__(self, space: Space, dataset: Dataset, settings: TrainingSettings) -> None:
        self.space, self.settings = space, settings
        self.split = dataset.split("train")
        self.batch = min(settings.batch, len(self.split))
        self.per_epoch = batch_count(len(self.split), self.batch, drop_last=True)
        self.total = max(1, round(settings.epochs * self.per_epoch))
        self.step = 0
        generator = torch.Generator().manual_seed(settings.seed)
        self.supernet = Supernet(space, schema_dict(dataset.schema), generator=generator)
        weights = self.supernet.weights
        rows, table, varied = self.supernet.schema["cardinalities"], weights["embedding.weight"], len(space.table_dims or ()) > 1
        pieces = table.split(rows) if space.table_dims else (table,)
        table_optimizer = settings.embedding_optimizer or settings.optimizer
        self.table = Tables(pieces, rows, space.embedding_dim, table_optimizer, settings.embedding_l2, varied)
        self.states = {n: optim.new_state(settings.optimizer, w) for n, w in weights.items() if n != "embedding.weight"}

    def state(self) -> dict[str, Any]:
        """Everything a resumed run needs."""
        weights = {name: tensor for name, tensor in self.supernet.weights.items() if name != "embedding.weight"}
        return {"step": self.step, "weights": weights, "states": self.states, "table": self.table.state_dict()}

    def load(self, saved: dict[str, Any]) -> None:
        """Goes on from `state`."""
        self.step = saved["step"]
        self.table.load_state_dict(saved["table"])
        for name, tensor in saved["weights"].items():
            self.supernet.weights[name].copy_(tensor)
            for key, value in saved["states"][name].items():
                self.states[name][key].copy_(value)

    def path(self) -> Genotype:
        """The canonical network of this step."""
        rng = np.random.default_rng([self.settings.seed, 1, self.step])
        warm = self.settings.widest_share * self.total
        if rng.random() < 1 - self.step / warm if warm else False:
            return self.space.widest(rng).canonical()
        return STRATEGIES[self.settings.sampling](self.space, rng).canonical()

    def steps(self) -> Iterator[float]:
        """Runs the remaining steps, yielding each one's loss."""
        while self.step < self.total:
            epoch, first = divmod(self.step, self.per_epoch)
            rng = np.random.default_rng([self.settings.seed, 2, epoch])
            for batch in iterate(self.split, self.batch, rng, start=first, drop_last=True):
                yield self._one(batch)
                if self.step == self.total:
                    return

    def _one(self, batch: Any) -> float:
        settings, genotype = self.settings, self.path()
        slices = self.supernet.slices(genotype)
        weights = {n: s.read(self.supernet.weights[s.shared]).detach().requires_grad_() for n, s in slices.items()}
        trained = settings.trains(genotype)
        embedded = self.table.look_up(torch.from_numpy(batch.sparse), genotype.embedding_dims)
        held = quantised(weights, trained)
        head_input = features(trained.model_dump(mode="json"), held, torch.from_numpy(batch.dense), stored_rows(embedded, trained))
        logit = torch.nn.functional.linear(head_input, held["head.weight"], held["head.bias"]).squeeze(1)
        label = torch.from_numpy(batch.label).float()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logit, label)
        loss.backward()
        # A weight whose gradient cannot exist (say, the pseudo dense column's) is not updated.
        used = {name: tensor.grad for name, tensor in weights.items() if tensor.grad is not None}
        optim.clip(list(used.values()), settings.clip_norm)
        share = optim.rate(self.step, self.total, settings.warm_up, settings.cosine)
        for name, gradient in used.items():
            piece, rate = slices[name], share * settings.learning_rate
            values, states = self.supernet.weights[piece.shared], self.states[piece.shared]
            optim.step_slice(settings.optimizer, values, states, gradient, piece.columns, rate)
        self.table.update(share * settings.embedding_learning_rate)
        self.step += 1
        return float(loss.detach())
