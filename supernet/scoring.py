"""Scores a candidate with the supernet's weights: refit the last layer on training rows, then log loss and AUC on validation.

The candidate's weights and tables are first rounded to its precisions, so the score feels them. Looked-up embeddings of the
scoring rows are kept, one copy for each precision that all tables share; where tables differ in dim or precision, their vectors are cut
and rounded out of the unrounded copy, chunk by chunk. A candidate then costs one forward pass and a small logistic regression.
A score is a function of (supernet, candidate's digest, settings): no order, no worker count, no other candidate plays a part.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

from pimsim.spec.base import Spec
from supernet.genotype import Genotype
from supernet.metrics import Score, score_logits
from supernet.quantise import quantise, quantised, stored_rows
from supernet.runs import by_chunks, fixed_arithmetic
from supernet.standalone import features
from supernet.training import open_supernet
from workloads.data import Dataset, Split

__all__ = ["Score", "Scorer", "ScoringSettings", "fit_head"]


class ScoringSettings(Spec):
    """How candidates are scored."""

    head_rows: NonNegativeInt = 4096
    """Training rows that the last layer is refitted on, drawn with the seed; 0 keeps the supernet's own last layer."""
    head_steps: PositiveInt = 1
    """Newton steps of the refit."""
    head_l2: PositiveFloat = 1e-3
    """Pull of the refit towards the supernet's last layer: half of this times the squared distance, beside the mean log loss."""
    valid_rows: PositiveInt | None = 20_000
    """Validation rows, drawn with the seed; all if None."""
    chunk: PositiveInt = 2048
    """Rows of a forward pass."""
    seed: NonNegativeInt = 0
    threads: PositiveInt = 1
    """CPU threads, each with chunks of its own."""


class Scorer:
    """Scores candidates of one finished supernet.

    Args:
        folder: of `train_supernet`.
        dataset: the data it was trained on.
        settings: how.

    Raises:
        RunError: the folder holds no finished supernet, or one of other data.
    """

    def __init__(self, folder: Path, dataset: Dataset, settings: ScoringSettings | None = None) -> None:
        self.settings = settings or ScoringSettings()
        self.supernet = open_supernet(folder, dataset)
        train, valid = dataset.split("train"), dataset.split("valid")
        rng = np.random.default_rng([self.settings.seed, 3])
        fit_rows = _draw(rng, len(train), self.settings.head_rows)
        self._fit = _Rows(train, fit_rows)
        self._valid = _Rows(valid, _draw(rng, len(valid), self.settings.valid_rows))
        self._embedded: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def score(self, genotype: Genotype) -> Score:
        """Validation log loss and AUC of a genotype of the supernet's space (or of its canonical form)."""
        with fixed_arithmetic(self.settings.threads), torch.inference_mode():
            canonical = genotype.canonical()
            weights = quantised(self.supernet.parameters(canonical), canonical)
            weight, bias = weights["head.weight"][0], weights["head.bias"][0]
            if self.settings.head_rows:
                original = self.supernet.parameters(canonical)["head.weight"][0]
                head_input = self._features(canonical, weights, 0)
                weight, bias = fit_head(head_input, self._fit.label, original, bias, self.settings.head_l2, self.settings.head_steps)
                weight = quantise(weight, canonical.weight_bits)
            logit = self._features(canonical, weights, 1, (weight, bias))
            return score_logits(self._valid.label.numpy(), logit.numpy())

    def _embeddings(self, bits: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Looked-up rows (rows, fields, dim) at a table precision, stored with the fields first as the forward pass wants them."""
        if bits not in self._embedded:
            table = quantise(self.supernet.weights["embedding.weight"], bits)
            offsets = np.concatenate([[0], np.cumsum(self.supernet.schema["cardinalities"])[:-1]])
            self._embedded[bits] = tuple(
                table[torch.from_numpy(rows.sparse + offsets)].transpose(0, 1).contiguous() for rows in (self._fit, self._valid)
            )
        fit, valid = self._embedded[bits]
        return fit.transpose(0, 1), valid.transpose(0, 1)

    def _features(
        self,
        genotype: Genotype,
        weights: dict[str, torch.Tensor],
        rows_number: int,
        head: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """The head's input, or its logits, of the rows to fit on (0) or of the validation rows (1)."""
        rows, tree = (self._fit, self._valid)[rows_number], genotype.model_dump(mode="json")
        own = genotype.embedding_dims is not None or genotype.table_bits is not None
        embedded = self._embeddings(32 if own else genotype.embedding_bits)[rows_number]

        def made(part: slice) -> torch.Tensor:
            looked_up = stored_rows(embedded[part], genotype) if own else embedded[part]
            x = features(tree, weights, rows.dense[part], looked_up)
            return x if head is None else torch.addmv(head[1], x, head[0])

        return by_chunks(len(rows.label), self.settings.chunk, self.settings.threads, made)


class _Rows:
    """Some rows of a split, in memory."""

    def __init__(self, split: Split, rows: np.ndarray) -> None:
        self.dense = torch.from_numpy(np.asarray(split.dense)[rows])
        self.sparse = np.asarray(split.sparse)[rows].astype(np.int64)
        self.label = torch.from_numpy(np.asarray(split.label)[rows]).float()


def _draw(rng: np.random.Generator, count: int, wanted: int | None) -> np.ndarray:
    if wanted is None or wanted >= count:
        return np.arange(count)
    return np.sort(rng.choice(count, wanted, replace=False))


def fit_head(
    x: torch.Tensor, label: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, l2: float, steps: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logistic regression by Newton's method: mean log loss + l2 / 2 * squared distance of the weight from the one given.

    Args:
        x: (rows, width) float32.
        label: (rows,) 0 or 1.
        weight: (width,), where it starts and what it is pulled to.
        bias: (), where it starts; it is free.
        l2: pull.
        steps: Newton steps; each is halved until the objective falls, and not taken if it does not after eight halvings.

    Returns:
        The refitted weight and bias.
    """
    ones = x.new_ones(x.shape[0], 1)
    x = torch.cat([x, ones], dim=1)
    pull = x.new_full((x.shape[1],), l2)
    pull[-1] = 0.0
    origin = torch.cat([weight, bias.reshape(1)])

    def objective(logit: torch.Tensor, w: torch.Tensor) -> float:
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logit.double(), label.double())
        return float(loss) + 0.5 * float((pull * (w - origin).square()).double().sum())

    current, logit = origin, x @ origin
    value = objective(logit, current)
    for _ in range(steps):
        p = logit.sigmoid()
        gradient = x.T @ (p - label) / len(label) + pull * (current - origin)
        hessian = (x * (p * (1 - p) / len(label)).unsqueeze(1)).T @ x
        hessian.diagonal().add_(pull + 1e-7)
        direction = torch.linalg.solve(hessian.double(), gradient.double()).float()
        for halving in range(8):
            trial = current - direction * 0.5**halving
            trial_logit = x @ trial
            trial_value = objective(trial_logit, trial)
            if trial_value < value:
                current, logit, value = trial, trial_logit, trial_value
                break
        else:
            break
    return current[:-1], current[-1]
