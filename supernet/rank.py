"""How far supernet scores order networks as training them alone does: rank correlations with bootstrap intervals.

Intervals are percentiles of paired bootstrap draws. The ground truth is the validation log loss of networks drawn from the space and
trained from scratch, each like a search's winner.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pimsim.errors import ConfigError
from supernet.genotype import Genotype
from supernet.metrics import mean_ranks
from supernet.predictions import Estimate
from supernet.space import Space

LEAST_NETWORKS = 5
"""Fewer networks give no interval worth printing."""


def draw_networks(space: Space, count: int, seed: int) -> list[Genotype]:
    """Networks of a space with its sampling distribution, no two with one digest; a larger count begins with the same ones.

    Raises:
        ConfigError: the space has too few different networks.
    """
    rng, found = np.random.default_rng([seed, 7]), dict[str, Genotype]()
    for _ in range(100 * count):
        genotype = space.sample(rng)
        found.setdefault(genotype.digest(), genotype)
        if len(found) == count:
            return list(found.values())
    raise ConfigError(f"space {space.name}: only {len(found)} different networks in {100 * count} draws, {count} asked for")


def rank_statistics(scores: Sequence[float], alone: Sequence[float], top_k: int, draws: int, seed: int) -> dict[str, Estimate]:
    """How scores agree with networks trained alone.

    Args:
        scores: supernet log loss of each network, or anything else that is small for a good one.
        alone: log loss of each network trained alone.
        top_k: size of the short list whose regret is measured.
        draws: bootstrap draws of networks.
        seed: of the draws.

    Returns:
        `kendall` (tau-b), `spearman`, `pearson`, and `top_k_regret`: log loss of the best network among the `top_k` best-scored
        ones, trained alone, minus that of the best network of all.

    Raises:
        ConfigError: fewer than five networks.
    """
    one, truth = np.array(scores, float), np.array(alone, float)
    drawn = _drawn(len(one), draws, seed)
    statistics: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "kendall": lambda rows: _kendall(one, truth, rows),
        "spearman": lambda rows: _pearson(_ranks(one, rows), _ranks(truth, rows)),
        "pearson": lambda rows: _pearson(one[rows], truth[rows]),
        "top_k_regret": lambda rows: _regret(one[rows], truth[rows], top_k),
    }
    return {name: _estimate(statistic, drawn) for name, statistic in statistics.items()}


def tau_difference(scores: Sequence[float], others: Sequence[float], alone: Sequence[float], draws: int, seed: int) -> Estimate:
    """Kendall's tau of one way of scoring minus another's, both on the same networks in every bootstrap draw."""
    one, other, truth = (np.array(values, float) for values in (scores, others, alone))
    return _estimate(lambda rows: _kendall(one, truth, rows) - _kendall(other, truth, rows), _drawn(len(one), draws, seed))


def _drawn(count: int, draws: int, seed: int) -> np.ndarray:
    """Networks of every draw, with replacement: (1 + draws, count); the first row is every network once."""
    if count < LEAST_NETWORKS:
        raise ConfigError(f"rank correlation: {count} networks, at least {LEAST_NETWORKS} are needed")
    return np.vstack([np.arange(count), np.random.default_rng([seed, 8]).integers(count, size=(draws, count))])


def _estimate(statistic: Callable[[np.ndarray], np.ndarray], drawn: np.ndarray) -> Estimate:
    """A statistic of every draw, as its value and percentiles; a draw of equal values has no correlation and does not count."""
    with np.errstate(divide="ignore", invalid="ignore"):
        value, *found = statistic(drawn)
    known = np.array(found)[np.isfinite(found)]
    low, high = np.percentile(known, [2.5, 97.5]) if len(known) else (np.nan, np.nan)
    return Estimate(float(value), float(low), float(high))


def _kendall(one: np.ndarray, other: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Tau-b of every draw, from the signs of all pairs and how often each network is drawn."""
    times = np.stack([np.bincount(draw, minlength=len(one)) for draw in rows]).astype(float)

    def over_pairs(sign: np.ndarray) -> np.ndarray:
        return np.asarray(((times @ sign) * times).sum(1))

    first, second = (np.sign(values[:, None] - values) for values in (one, other))
    return over_pairs(first * second) / np.sqrt(over_pairs(np.abs(first)) * over_pairs(np.abs(second)))


def _ranks(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Mean ranks within every draw."""
    return np.stack([mean_ranks(values[draw]) for draw in rows])


def _pearson(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Pearson's coefficient along the last axis."""
    a, b = (values - values.mean(-1, keepdims=True) for values in (one, other))
    return np.asarray((a * b).sum(-1) / np.sqrt((a * a).sum(-1) * (b * b).sum(-1)))


def _regret(scores: np.ndarray, alone: np.ndarray, top_k: int) -> np.ndarray:
    best = np.argsort(scores, axis=1, kind="stable")[:, :top_k]
    return np.asarray(np.take_along_axis(alone, best, 1).min(1) - alone.min(1))


@dataclass(frozen=True)
class TrainAlone:
    """Makes, once in a worker, the function that trains one network alone; picklable.

    Attributes:
        dataset: name of the data set.
        settings: of `supernet.final.FinalSettings`, as a plain mapping.
        folder: gets one folder a network, named by its digest; finished ones are only read.
        seed: of the trainings.
    """

    dataset: str
    settings: dict[str, Any]
    folder: Path
    seed: int

    def __call__(self) -> Callable[[str], dict[str, float]]:
        from supernet.final import FinalSettings, train_alone
        from workloads.data import open_dataset

        dataset, settings = open_dataset(self.dataset), FinalSettings.model_validate(self.settings)

        def train(text: str) -> dict[str, float]:
            """Validation log loss and AUC, and seconds, of a genotype as JSON; the test rows stay closed."""
            genotype = Genotype.from_json(text)
            result = train_alone(genotype, dataset, settings, self.folder / genotype.digest(), self.seed, open_test=False)
            return {"logloss": result.valid.logloss, "auc": result.valid.auc, "seconds": result.seconds}

        return train
