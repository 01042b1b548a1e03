"""How far supernet scores order networks as training them alone does: rank correlations with bootstrap intervals.

Intervals are percentiles of paired bootstrap draws. The ground truth is the validation log loss of networks drawn from the space and
trained from scratch, each like a search's winner.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pimsim.errors import ConfigError
from supernet.genotype import Genotype
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
        scores: supernet log loss of each network.
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
    pairs = np.array([scores, alone], float)
    return {name: _estimate(statistic, pairs, draws, seed) for name, statistic in _statistics(top_k).items()}


def tau_difference(scores: Sequence[float], others: Sequence[float], alone: Sequence[float], draws: int, seed: int) -> Estimate:
    """Kendall's tau of one way of scoring minus another's, both on the same networks in every bootstrap draw."""
    from scipy.stats import kendalltau

    def difference(one: np.ndarray, other: np.ndarray, truth: np.ndarray) -> float:
        return float(kendalltau(one, truth).statistic - kendalltau(other, truth).statistic)

    return _estimate(difference, np.array([scores, others, alone], float), draws, seed)


def _statistics(top_k: int) -> dict[str, Callable[..., float]]:
    from scipy.stats import kendalltau, pearsonr, spearmanr

    def regret(scores: np.ndarray, alone: np.ndarray) -> float:
        return float(alone[np.argsort(scores, kind="stable")[:top_k]].min() - alone.min())

    return {
        "kendall": lambda a, b: float(kendalltau(a, b).statistic),
        "spearman": lambda a, b: float(spearmanr(a, b).statistic),
        "pearson": lambda a, b: float(pearsonr(a, b).statistic),
        "top_k_regret": regret,
    }


def _estimate(statistic: Callable[..., float], rows: np.ndarray, draws: int, seed: int) -> Estimate:
    """The statistic of rows (figures, networks), and percentiles of the same over networks drawn with replacement."""
    count = rows.shape[1]
    if count < LEAST_NETWORKS:
        raise ConfigError(f"rank correlation: {count} networks, at least {LEAST_NETWORKS} are needed")
    rng = np.random.default_rng([seed, 8])
    drawn = []
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "An input array is constant")  # such a draw has no correlation and does not count
        for _ in range(draws):
            drawn.append(statistic(*rows[:, rng.integers(count, size=count)]))
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return Estimate(statistic(*rows), float(low), float(high))


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
