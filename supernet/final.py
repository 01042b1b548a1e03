"""Trains one network alone: from scratch on train, early stop on validation, rounded to its precisions, tested once.

With `quantisation: trained` the forward passes of the training and the validation after each epoch are rounded already.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from supernet import optim
from supernet.genotype import Genotype
from supernet.metrics import Score, score_logits
from supernet.model import schema_dict
from supernet.predictions import Predictions
from supernet.quantise import Quantisation, quantised, stored_rows
from supernet.runs import Progress, by_chunks, claim, fixed_arithmetic, read_json, read_torch, save_atomically
from supernet.standalone import Model, features
from supernet.tables import Tables
from workloads.data import Dataset, Split, iterate
from workloads.data.batches import batch_count
from workloads.operators.torch_training import Noise, drop_out


class FinalSettings(Quantisation):
    """How a network is trained alone. The defaults suit Frappe."""

    epochs: PositiveInt = 10
    """Passes over the training rows at most; the learning rate's cosine ends with them."""
    patience: PositiveInt = 10
    """Epochs without a better validation log loss before training stops. Most is gained at the end of a cosine: do not be hasty."""
    batch: PositiveInt = 2048
    learning_rate: PositiveFloat = 0.003
    embedding_learning_rate: PositiveFloat = 0.1
    """Peak rate of the tables. It is large so that embeddings live at a scale that LayerNorm's epsilon does not swallow."""
    optimizer: optim.Name = "adam"
    warm_up: float = Field(0.05, ge=0, lt=1)
    """Share of the steps over which the learning rate rises."""
    cosine: bool = True
    clip_norm: PositiveFloat = 5.0
    """Greatest Euclidean norm of the gradient of all weights but the tables."""
    embedding_l2: NonNegativeFloat = 1.0
    """Row-wise decay of the tables: every step multiplies all rows by exp(-embedding learning rate * this)."""
    dropout: float = Field(0.3, ge=0, lt=1)
    """Chance that training leaves out an element of the last layer's input."""
    average: bool = True
    """Weights, tables included, are averaged over the steps (`optim.average_share`); the average is validated, kept and tested."""
    threads: PositiveInt = 1
    """CPU threads; another number gives other last bits."""


@dataclass(frozen=True)
class FinalResult:
    """A network trained alone."""

    valid: Score
    """On the validation rows, at the genotype's precisions."""
    valid_full_precision: Score
    """The same weights before rounding, activations at 32 bits."""
    test: Score | None
    """On the test rows, opened once, at the genotype's precisions; None where the test split was not asked for."""
    epochs: int
    """Epochs trained."""
    best_epoch: int
    """The epoch whose weights these are, counted from 1."""
    seconds: float
    """Training and validation, resumed parts included."""
    parameters: int
    """Trained values, tables included."""
    model: Model
    """Ready to predict, weights rounded to the genotype's precisions (held in float32)."""


def train_alone(
    genotype: Genotype,
    dataset: Dataset,
    settings: FinalSettings,
    folder: Path,
    seed: int,
    progress: Callable[[Progress], None] | None = None,
    open_test: bool = True,
) -> FinalResult:
    """Trains a network from scratch, or goes on after its last finished epoch, or finds it finished.

    Args:
        genotype: the network.
        dataset: trained on its training rows, stopped on its validation rows.
        settings: how.
        folder: gets `settings.json`, `checkpoint.pt` on the way; `final.pt` and `result.json` at the end, with the test rows also
            `test_opened.log` and `test_predictions.npz`.
        seed: initial weights and order of rows.
        progress: called after every epoch.
        open_test: evaluate the test rows at the end, or now if the training is finished.

    Raises:
        ConfigError: the network is one for another number of tables.
        RunError: the folder belongs to another network, other settings, another seed or other data.
    """
    canonical = genotype.canonical()
    canonical.for_tables(len(dataset.schema.sparse))
    data = {"name": dataset.name, "digest": dataset.digest}
    claim(
        folder,
        {
            "genotype": canonical.model_dump(mode="json", exclude={"space"}),
            "dataset": data,
            "final": settings.model_dump(mode="json"),
            "seed": seed,
        },
    )
    with fixed_arithmetic(settings.threads):
        if not (folder / "result.json").exists():
            _finish(_train(canonical, dataset, settings, folder, seed, progress), canonical, dataset, folder)
            (folder / "checkpoint.pt").unlink(missing_ok=True)
        tree = read_json(folder / "result.json")
        model = Model(canonical.model_dump(mode="json"), schema_dict(dataset.schema))
        model.load_state_dict(read_torch(folder / "final.pt"))
        if open_test and tree["test"] is None:
            tree["test"] = _test(model, dataset, f"final evaluation of {canonical.digest()}", folder)
            save_atomically(tree, folder / "result.json")
    scores = {key: Score(**tree.pop(key)) if tree[key] else tree.pop(key) for key in ("valid", "valid_full_precision", "test")}
    return FinalResult(**scores, **tree, model=model.eval())


def evaluate(model: Model, split: Split) -> Score:
    """Log loss and AUC of a model on a split."""
    return score_logits(np.asarray(split.label), predict(model, split))


def predict(model: Model, split: Split, chunk: int = 1024) -> np.ndarray:
    """Logits (rows,) of a model on a split, by `torch.get_num_threads()` threads with chunks of their own."""
    was_training = model.training
    model.eval()

    def made(part: slice) -> torch.Tensor:
        return model(torch.from_numpy(split.dense[part].copy()), torch.from_numpy(split.sparse[part].copy()))

    logits = by_chunks(len(split), chunk, torch.get_num_threads(), made)
    model.train(was_training)
    return logits.numpy()


@dataclass
class _Training:
    """Where a training stands after a whole number of epochs."""

    model: Model
    table: Tables
    states: dict[str, optim.State]
    averages: dict[str, torch.Tensor]
    """Of all weights but the table; empty where none are kept."""
    epoch: int = 0
    best_epoch: int = 0
    best_loss: float = float("inf")
    best: dict[str, torch.Tensor] | None = None
    seconds: float = 0.0

    def save(self, path: Path) -> None:
        """Writes the checkpoint."""
        plain = {key: getattr(self, key) for key in ("states", "averages", "epoch", "best_epoch", "best_loss", "best", "seconds")}
        weights = {name: p.detach() for name, p in _dense(self.model).items()}
        save_atomically({**plain, "weights": weights, "table": self.table.state_dict()}, path)

    def load(self, path: Path) -> None:
        """Goes on from a checkpoint."""
        saved = read_torch(path)
        self.table.load_state_dict(saved.pop("table"))
        with torch.no_grad():
            for name, tensor in saved.pop("weights").items():
                self.model.get_parameter(name).copy_(tensor)
        for key, value in saved.items():
            setattr(self, key, value)


def _dense(model: Model) -> dict[str, torch.nn.Parameter]:
    return {name: p for name, p in model.named_parameters() if not name.startswith("embedding.")}


def _begin(genotype: Genotype, dataset: Dataset, settings: FinalSettings, seed: int) -> _Training:
    """A training before its first epoch."""
    generator = torch.Generator().manual_seed(seed)
    model = Model(genotype.model_dump(mode="json"), schema_dict(dataset.schema), generator=generator)
    model.embedding.requires_grad_(False)
    weights, rows = [parameter.data for parameter in model.embedding.parameters()], model.schema["cardinalities"]
    table = Tables(weights, rows, genotype.embedding_dim, settings.optimizer, settings.embedding_l2, averaged=settings.average)
    states = {name: optim.new_state(settings.optimizer, p.data, count="tensor") for name, p in _dense(model).items()}
    averages = {name: p.detach().clone() for name, p in _dense(model).items()} if settings.average else {}
    return _Training(model, table, states, averages)


def _train(
    genotype: Genotype,
    dataset: Dataset,
    settings: FinalSettings,
    folder: Path,
    seed: int,
    progress: Callable[[Progress], None] | None,
) -> _Training:
    trained = settings.trains(genotype)
    run = _begin(trained, dataset, settings, seed)
    if (folder / "checkpoint.pt").exists():
        run.load(folder / "checkpoint.pt")
    valid, began = dataset.split("valid"), time.monotonic()
    while run.epoch < settings.epochs and run.epoch - run.best_epoch < settings.patience:
        started = time.monotonic()
        _epoch(run, trained, dataset.split("train"), settings, seed)
        run.table.settle()
        loss = _validate(run, trained, valid)
        run.seconds += time.monotonic() - started
        run.save(folder / "checkpoint.pt")
        if progress:
            progress(Progress(run.epoch, settings.epochs, time.monotonic() - began, loss))
    return run


def _validate(run: _Training, genotype: Genotype, valid: Split) -> float:
    """Validation log loss, as a genotype rounds them, of the weights that would be kept; keeps them if it is the best so far."""
    own = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}
    kept = own | run.averages
    if run.averages:
        tables = zip(run.model.embedding.state_dict(prefix="embedding."), run.table.parts, strict=True)
        kept |= {name: table.average for name, table in tables}
    run.model.load_state_dict(quantised(kept, genotype))
    loss = evaluate(run.model, valid).logloss
    if loss < run.best_loss:
        run.best_loss, run.best_epoch = loss, run.epoch
        run.best = {name: tensor.clone() for name, tensor in kept.items()}
    run.model.load_state_dict(own)
    return loss


def _epoch(run: _Training, genotype: Genotype, split: Split, settings: FinalSettings, seed: int) -> None:
    batch = min(settings.batch, len(split))
    per_epoch = batch_count(len(split), batch, drop_last=True)
    parameters = _dense(run.model)
    run.model.train()
    rng, noise = np.random.default_rng([seed, 2, run.epoch]), Noise([seed, 3, run.epoch])
    for index, rows in enumerate(iterate(split, batch, rng, drop_last=True)):
        step = run.epoch * per_epoch + index
        share = optim.rate(step, settings.epochs * per_epoch, settings.warm_up, settings.cosine)
        embedded = run.table.look_up(torch.from_numpy(rows.sparse))
        held = quantised(dict(parameters), genotype)
        head_input = features(run.model.genotype, held, torch.from_numpy(rows.dense), stored_rows(embedded, genotype))
        head_input = drop_out(head_input, settings.dropout, noise)
        logit = torch.nn.functional.linear(head_input, held["head.weight"], held["head.bias"]).squeeze(1)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logit, torch.from_numpy(rows.label).float())
        run.model.zero_grad()
        loss.backward()
        used = {name: p.grad for name, p in parameters.items() if p.grad is not None}
        optim.clip(list(used.values()), settings.clip_norm)
        values, states = [parameters[name].data for name in used], [run.states[name] for name in used]
        optim.step_all(settings.optimizer, values, states, list(used.values()), share * settings.learning_rate)
        run.table.update(share * settings.embedding_learning_rate)
        for name, average in run.averages.items():
            average.lerp_(parameters[name].data, optim.average_share(step + 1))
    run.epoch += 1


def _finish(run: _Training, genotype: Genotype, dataset: Dataset, folder: Path) -> None:
    """Best epoch's weights, rounded, and their validation."""
    model, valid = run.model, dataset.split("valid")
    assert run.best is not None  # at least one epoch has run
    model.load_state_dict(run.best)
    model.genotype = genotype.full_precision().model_dump(mode="json")
    before = evaluate(model, valid)
    model.genotype = genotype.model_dump(mode="json")
    model.load_state_dict(quantised(run.best, genotype))
    save_atomically({name: tensor.clone() for name, tensor in model.state_dict().items()}, folder / "final.pt")
    result: dict[str, Any] = {
        "valid": evaluate(model, valid)._asdict(),
        "valid_full_precision": before._asdict(),
        "test": None,
        "epochs": run.epoch,
        "best_epoch": run.best_epoch,
        "seconds": run.seconds,
        "parameters": sum(tensor.numel() for tensor in run.best.values()),
    }
    save_atomically(result, folder / "result.json")


def _test(model: Model, dataset: Dataset, reason: str, folder: Path) -> dict[str, float]:
    """Opens the test rows; keeps what the model says of them."""
    test = dataset.open_test(reason, folder / "test_opened.log")
    predictions = Predictions(np.asarray(test.label), predict(model, test))
    predictions.save(folder)
    return score_logits(predictions.label, predictions.logit)._asdict()
