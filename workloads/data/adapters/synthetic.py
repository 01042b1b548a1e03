"""A seeded synthetic click log with planted feature interactions and a known best possible log loss."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Self

import numpy as np
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt, model_validator

from pimsim.mapping.indices import zipf_ranks
from workloads.data.adapters.base import TableAdapter
from workloads.data.tables import Schema, Split, Tables

RANK = 4
"""Length of the latent vectors whose dot products are the planted pairwise interactions."""


class Synthetic(TableAdapter):
    """Independent bounded-Zipf ids and log-normal dense values; a click is drawn with probability sigmoid(logit).

    The logit is a constant plus four parts, each scaled to its stated standard deviation over all rows:

    - *first order*: a weight per id, and a weight per dense value;
    - *pairs*: dot products of latent vectors of `pairs` pairs of fields, `u[id] . v[id']`;
    - *triples*: products of +-1 traits of `triples` triples of fields, invisible to first- and second-order models.

    Ids are popularity ranks (0 is the most popular). Rows are independent, so the 80/10/10 split is by position. `facts` holds
    the planted interactions and, per split, the Bayes log loss (the mean entropy of the true click probability), the log loss
    and AUC of the true probability on the labels drawn, and the log losses of the planted first-order part and of first order
    and pairs together (each with a fitted scale and offset): what a model that has learnt only those would reach.
    """

    name: ClassVar[str] = "synthetic"

    rows: int = Field(default=200_000, ge=1000)
    """Rows of the three splits together."""
    fields: int = Field(default=12, ge=3)
    """Sparse fields; cardinalities spaced geometrically."""
    dense: NonNegativeInt = 4
    """Dense fields."""
    smallest: int = Field(default=4, ge=2)
    """Cardinality of the first sparse field."""
    largest: PositiveInt = 2000
    """Cardinality of the last sparse field."""
    exponent: NonNegativeFloat = 1.1
    """Zipf exponent of the ids."""
    pairs: NonNegativeInt = 5
    """Planted pairwise interactions."""
    triples: NonNegativeInt = 2
    """Planted third-order interactions."""
    first_order_std: NonNegativeFloat = 0.7
    """Standard deviation of the logit's first-order part."""
    pairs_std: NonNegativeFloat = 1.2
    """Standard deviation of the logit's pairwise part."""
    triples_std: NonNegativeFloat = 0.8
    """Standard deviation of the logit's third-order part."""
    positive_rate: float = Field(default=0.25, gt=0, lt=1)
    """Expected share of clicks."""
    seed: NonNegativeInt = 0
    """Seed of everything."""

    @model_validator(mode="after")
    def _enough(self) -> Self:
        if self.largest < self.smallest:
            raise ValueError(f"largest {self.largest} is below smallest {self.smallest}")
        if self.pairs > self.fields * (self.fields - 1) // 2:
            raise ValueError(f"pairs {self.pairs} is more than {self.fields} fields have")
        if self.triples > self.fields * (self.fields - 1) * (self.fields - 2) // 6:
            raise ValueError(f"triples {self.triples} is more than {self.fields} fields have")
        return self

    def read(self, source: Path) -> Tables:
        streams = [np.random.default_rng(s) for s in np.random.SeedSequence(self.seed).spawn(5)]
        ids_rng, dense_rng, choice_rng, weights_rng, label_rng = streams
        sizes = np.rint(np.geomspace(self.smallest, self.largest, self.fields)).astype(int)
        ids = np.stack([zipf_ranks(ids_rng.random(self.rows), int(n), self.exponent) for n in sizes], axis=1)
        dense = np.log1p(np.exp(dense_rng.standard_normal((self.rows, self.dense)))).astype(np.float32)
        pairs, triples = _choose(self.fields, 2, self.pairs, choice_rng), _choose(self.fields, 3, self.triples, choice_rng)
        first = sum(weights_rng.standard_normal(n)[ids[:, f]] for f, n in enumerate(sizes))
        first = first + dense @ weights_rng.standard_normal(self.dense)
        second, third = np.zeros(self.rows), np.zeros(self.rows)
        for f, g in pairs:
            left, right = (weights_rng.standard_normal((sizes[i], RANK))[ids[:, i]] for i in (f, g))
            second += (left * right).sum(axis=1)
        for triple in triples:
            traits = [weights_rng.choice([-1.0, 1.0], sizes[i])[ids[:, i]] for i in triple]
            third += np.prod(traits, axis=0)
        parts = [_scaled(first, self.first_order_std), _scaled(second, self.pairs_std), _scaled(third, self.triples_std)]
        logit = np.sum(parts, axis=0)
        probability = _sigmoid(logit + _offset(logit, self.positive_rate))
        label = (label_rng.random(self.rows) < probability).astype(np.uint8)
        names = tuple(f"s{i}" for i in range(self.fields))
        schema = Schema(dense=tuple(f"d{i}" for i in range(self.dense)), sparse=names, cardinalities=tuple(int(n) for n in sizes))
        bounds = {"train": (0, self.rows * 8 // 10), "valid": (self.rows * 8 // 10, self.rows * 9 // 10)}
        bounds["test"] = (self.rows * 9 // 10, self.rows)
        ids = ids.astype(np.int32)
        splits = {n: Split(dense[a:b], ids[a:b], label[a:b]) for n, (a, b) in bounds.items()}
        facts = {
            "pairs": [[names[i] for i in pair] for pair in pairs],
            "triples": [[names[i] for i in triple] for triple in triples],
            "splits": {n: _facts(slice(a, b), slice(*bounds["train"]), probability, label, parts) for n, (a, b) in bounds.items()},
        }
        return Tables(schema, splits, facts)


def _choose(fields: int, order: int, count: int, rng: np.random.Generator) -> list[tuple[int, ...]]:
    """Different sets of `order` fields, drawn at random."""
    chosen: list[tuple[int, ...]] = []
    while len(chosen) < count:
        fresh = tuple(sorted(int(i) for i in rng.choice(fields, order, replace=False)))
        if fresh not in chosen:
            chosen.append(fresh)
    return chosen


def _scaled(part: np.ndarray, std: float) -> np.ndarray:
    spread = part.std()
    return (part - part.mean()) * (std / spread if spread > 0 else 0.0)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * (np.tanh(0.5 * x) + 1)


def _offset(logit: np.ndarray, rate: float) -> float:
    """The constant that gives a mean probability of `rate`, by bisection."""
    low, high = -50.0, 50.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _sigmoid(logit + middle).mean() < rate else (low, middle)
    return (low + high) / 2


def _log_loss(probability: np.ndarray, label: np.ndarray) -> float:
    p = np.clip(probability, 1e-12, 1 - 1e-12)
    return float(-np.mean(np.where(label == 1, np.log(p), np.log1p(-p))))


def _auc(score: np.ndarray, label: np.ndarray) -> float:
    """Area under the ROC curve by ranks (scores are continuous: no ties to speak of)."""
    rank = np.empty(len(score))
    rank[np.argsort(score, kind="stable")] = np.arange(1, len(score) + 1)
    positives = int(label.sum())
    return float((rank[label == 1].sum() - positives * (positives + 1) / 2) / (positives * (len(label) - positives)))


def _calibrated(score: np.ndarray, label: np.ndarray, train: slice) -> np.ndarray:
    """Probabilities of a logistic model of one score, its scale and offset fitted on the training rows by Newton's method."""
    features = np.stack([score, np.ones_like(score)], axis=1)
    x, y, beta = features[train], label[train], np.zeros(2)
    for _ in range(20):
        p = _sigmoid(x @ beta)
        hessian = (x * (p * (1 - p))[:, None]).T @ x + 1e-9 * np.eye(2)
        beta += np.linalg.solve(hessian, x.T @ (y - p))
    return _sigmoid(features @ beta)


def _facts(rows: slice, train: slice, probability: np.ndarray, label: np.ndarray, parts: list[np.ndarray]) -> dict[str, float]:
    """What the best predictors reach on one split; see the class."""
    p, y = np.clip(probability[rows], 1e-12, 1 - 1e-12), label[rows]
    prior = np.full(len(y), label[train].mean())
    first, second = _calibrated(parts[0], label, train), _calibrated(parts[0] + parts[1], label, train)
    return {
        "bayes_logloss": float(np.mean(-p * np.log(p) - (1 - p) * np.log1p(-p))),
        "true_probability_logloss": _log_loss(p, y),
        "true_probability_auc": _auc(p, y),
        "second_order_logloss": _log_loss(second[rows], y),
        "first_order_logloss": _log_loss(first[rows], y),
        "constant_logloss": _log_loss(prior, y),
    }


ADAPTER = Synthetic
