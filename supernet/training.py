"""Trains a supernet: one sampled network a step, row-sparse table updates, resumable to the bit.

Single-operator any-connection sampling (NASRec): every step draws one network from the space, with the distribution that the
search uses (or another of `supernet.sampling`), and trains its canonical form. Over the first part of the training the widest
path (full widths, every connection) is drawn instead with a chance that falls linearly from 1 to 0. Phases and the sandwich rule change
which networks a step trains; their gradients are added up and every element is updated once. Everything random is a
function of (seed, step), so a checkpoint needs no generator states: weights, optimiser states and the step's number are all. Under
`torchrun` several processes share each batch's rows (`supernet.distributed`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from pimsim.errors import RunError
from supernet import optim
from supernet.distributed import Ranks, joined, own_device
from supernet.gradients import Piece, merged
from supernet.model import Supernet, schema_dict
from supernet.paths import NetworkPath
from supernet.quantise import Quantisation, quantised, stored_rows
from supernet.runs import Progress, claim, fixed_arithmetic, read_torch, save_atomically
from supernet.sampling import STRATEGIES, Phase, Sandwich, Strategy, phase_spaces, smallest, widest
from supernet.space import Space
from supernet.tables import Tables, widest_dims
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
    phases: tuple[Phase, ...] | None = None
    """Parts of the training that draw from a part of the space, in their order; what they leave draws from all of it."""
    sandwich: Sandwich | None = None
    """Trains the widest, the smallest and some random networks in every step; None: one network."""
    widest_share: float = Field(0.4, ge=0, le=1)
    """Share of the steps over which the chance of the widest path falls from 1 to 0."""
    seed: NonNegativeInt = 0
    threads: PositiveInt = 1
    """CPU threads; another number gives other last bits."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where to train; `cuda` and another number of processes give other last bits."""
    checkpoint_seconds: PositiveFloat = 20.0
    """Time between checkpoints; no influence on the result."""

    @model_validator(mode="after")
    def _phases_fit(self) -> Self:
        if (total := sum(phase.share for phase in self.phases or ())) > 1 + 1e-9:
            raise ValueError(f"phases: shares add up to {total:g}, allowed is 1 at most")
        return self


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
        ConfigError: a phase names what the space does not have.
    """
    space = space.for_tables(len(dataset.schema.sparse))
    device, target = own_device(settings.device), folder / "supernet.pt"
    ranks = joined(device)
    if ranks.first:
        claim(folder, _identity(space, dataset, settings))
    ranks.wait()
    if not target.exists():
        with fixed_arithmetic(settings.threads):
            _train(_Run(space, dataset, settings, device, ranks), folder, progress)
    ranks.wait()
    return target


def _train(run: _Run, folder: Path, progress: Callable[[Progress], None] | None) -> None:
    """Takes a training from its checkpoint, if there is one, to `supernet.pt`; only the first process reports and writes."""
    checkpoint = folder / "checkpoint.pt"
    if checkpoint.exists():
        run.load(read_torch(checkpoint))
    started = saved = reported = time.monotonic()
    for loss in run.steps():
        now = time.monotonic()
        if not run.ranks.first:
            continue
        if progress and (now - reported > 0.5 or run.step == run.total):
            progress(Progress(run.step, run.total, now - started, loss))
            reported = now
        if now - saved > run.settings.checkpoint_seconds and run.step < run.total:
            save_atomically(run.state(), checkpoint)
            saved = time.monotonic()
    if run.ranks.first:
        run.table.settle()
        save_atomically({name: tensor.cpu() for name, tensor in run.supernet.weights.items()}, folder / "supernet.pt")
        checkpoint.unlink(missing_ok=True)


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
        "training": settings.model_dump(mode="json", exclude={"checkpoint_seconds", "device"}),
    }


class _Run:
    """A training at some step."""

    def __init__(
        self, space: Space, dataset: Dataset, settings: TrainingSettings, device: torch.device | None = None, ranks: Ranks | None = None
    ) -> None:
        self.space, self.settings, self.device, self.ranks = space, settings, device or torch.device("cpu"), ranks or Ranks()
        self.phases = phase_spaces(space, settings.phases or (), "training.phases")
        self.split = dataset.split("train")
        self.batch = min(settings.batch, len(self.split))
        self.per_epoch = batch_count(len(self.split), self.batch, drop_last=True)
        self.total = max(1, round(settings.epochs * self.per_epoch))
        self.step = 0
        generator = torch.Generator().manual_seed(settings.seed)
        self.supernet = Supernet(space, schema_dict(dataset.schema), generator=generator)
        weights = self.supernet.weights = {name: tensor.to(self.device) for name, tensor in self.supernet.weights.items()}
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

    def paths(self) -> Iterator[NetworkPath]:
        """The networks of this step; of a sandwich the widest first."""
        settings = self.settings
        space = next((part for end, part in self.phases if self.step < end * self.total), self.space)
        sandwich = settings.sandwich
        if sandwich:
            yield widest(space, np.random.default_rng([settings.seed, 3, self.step]))
            yield smallest(space, np.random.default_rng([settings.seed, 4, self.step]))
        for number in range(sandwich.random if sandwich else 1):
            yield self._drawn(space, np.random.default_rng([settings.seed, 1, self.step, number]))

    def _drawn(self, space: Space, rng: np.random.Generator) -> NetworkPath:
        """A network as the sampling strategy draws it, or the widest with the chance of the warm-up."""
        warm = self.settings.widest_share * self.total
        if rng.random() < 1 - self.step / warm if warm else False:
            return widest(space, rng)
        return STRATEGIES[self.settings.sampling](space, rng)

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
        settings, paths = self.settings, list(self.paths())
        part = self.ranks.part(len(batch.label))
        dense, sparse, label = (torch.from_numpy(array[part]).to(self.device) for array in batch)
        looked_up = self.table.look_up(sparse, widest_dims([path.genotype.embedding_dims for path in paths]))
        embedded = looked_up.detach().requires_grad_()  # gradients of all the step's networks gather here
        loss, gradients = self._gradients(paths, dense, embedded, label.float(), len(label) / len(batch.label))
        looked_up.backward(embedded.grad)
        self.ranks.add([loss, *(gradient for _, gradient in gradients)])
        optim.clip([gradient for _, gradient in gradients], settings.clip_norm)
        share = optim.rate(self.step, self.total, settings.warm_up, settings.cosine)
        for piece, gradient in gradients:
            values, states = self.supernet.weights[piece.shared], self.states[piece.shared]
            optim.step_slice(settings.optimizer, values, states, gradient, piece.columns, share * settings.learning_rate)
        self.table.update(share * settings.embedding_learning_rate, self.ranks)
        self.step += 1
        return float(loss)

    def _gradients(
        self, paths: list[NetworkPath], dense: torch.Tensor, embedded: torch.Tensor, label: torch.Tensor, share: float = 1.0
    ) -> tuple[torch.Tensor, list[Piece]]:
        """Loss of the first of a step's networks, and the gradients of all, added up; `embedded.grad` gets those of the look-ups.

        The rows are a `share` of the batch: what all processes give adds up to the means over the batch.
        """
        found: dict[str, list[Piece]] = {}
        losses, target = [], label
        for path in paths:
            slices = self.supernet.path_slices(path)
            weights = {n: s.read(self.supernet.weights[s.shared]).detach().requires_grad_() for n, s in slices.items()}
            trained = self.settings.trains(path.genotype)
            held, vectors = quantised(weights, trained), stored_rows(embedded, trained)
            logit = self.supernet.logits(replace(path, genotype=trained), held, dense, vectors)
            loss = torch.nn.functional.binary_cross_entropy_with_logits(logit, target) * share
            loss.backward()
            # A weight whose gradient cannot exist (say, the pseudo dense column's) is not updated.
            for name, weight in weights.items():
                if weight.grad is not None:
                    found.setdefault(slices[name].shared, []).append((slices[name], weight.grad))
            losses.append(loss.detach())
            if self.settings.sandwich and self.settings.sandwich.distil and target is label:
                target = logit.detach().sigmoid()
        return losses[0], [piece for pieces in found.values() for piece in merged(pieces)]
