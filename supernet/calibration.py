"""Calibration: from a supernet score to the log loss that the network would reach when trained alone, with an error estimate.

Ridge regression on standardised features over the networks of a rank check. The score is always a feature; zero-cost proxies, the size of
the network among them, join one by one while each lowers the leave-one-out error by `LEAST_GAIN`; the penalty is chosen likewise. What is
reported as the error is that of *nested* leave-one-out: for every network the whole choice is made again without it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from pimsim.errors import RunError
from supernet.runs import save_atomically

PENALTIES = (0.01, 0.1, 1.0, 10.0)
"""Ridge penalties per network, on standardised features."""
LEAST_GAIN = 0.02
"""Share by which a further feature must lower the leave-one-out root mean square error."""
SCORE = "score"
"""The feature that is always there: the supernet's log loss."""


@dataclass(frozen=True)
class Feature:
    """One input of a calibration.

    Attributes:
        name: Of the feature.
        mean: Over the networks fitted on.
        scale: Standard deviation over them.
        coefficient: Nats for one standard deviation.
        low: Least value fitted on.
        high: Greatest value fitted on.
    """

    name: str
    mean: float
    scale: float
    coefficient: float
    low: float
    high: float


@dataclass(frozen=True)
class Expected:
    """What a calibration says of one network.

    Attributes:
        logloss: Expected log loss alone, on validation rows.
        error: Root mean square error of such expectations, by nested leave-one-out.
        inside: Whether every feature lies within the range that was fitted on; else the error may be larger.
    """

    logloss: float
    error: float
    inside: bool


@dataclass(frozen=True)
class Calibration:
    """A fitted calibration.

    Attributes:
        features: What it reads.
        intercept: Mean log loss alone, nats.
        penalty: Of the ridge.
        networks: How many it is fitted on.
        loo_rmse: Nested leave-one-out root mean square error, nats.
        spread: Standard deviation of the networks' log losses alone: the error of always saying their mean.
        proxy_seed: Of the proxies among the features.
    """

    features: tuple[Feature, ...]
    intercept: float
    penalty: float
    networks: int
    loo_rmse: float
    spread: float
    proxy_seed: int

    @property
    def proxies(self) -> tuple[str, ...]:
        """The proxies it reads."""
        return tuple(feature.name for feature in self.features if feature.name != SCORE)

    def expect(self, values: Mapping[str, float]) -> Expected:
        """The expected log loss of a network with these feature values."""
        parts = [f.coefficient * (values[f.name] - f.mean) / f.scale for f in self.features]
        inside = all(f.low <= values[f.name] <= f.high for f in self.features)
        return Expected(self.intercept + sum(parts), self.loo_rmse, inside)

    def save(self, path: Path) -> None:
        """Writes a versioned JSON file."""
        save_atomically({"version": 1, **asdict(self)}, path)

    @classmethod
    def load(cls, path: Path) -> Calibration:
        """Reads what `save` wrote.

        Raises:
            RunError: unreadable, or of another version.
        """
        try:
            tree = json.loads(path.read_text(encoding="utf-8"))
            if tree.pop("version") != 1:
                raise ValueError("another version wrote it")
            features = tuple(Feature(**feature) for feature in tree.pop("features"))
            return cls(features=features, **tree)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise RunError(f"{path}: not a readable calibration: {error}; run `cosearch rank-check` again") from None


def feature_values(score: float, proxies: Mapping[str, float]) -> dict[str, float]:
    """Features of one network: its score, and of every proxy sign(v) * log(1 + |v|), since several span decades."""
    return {SCORE: score} | {name: math.copysign(math.log1p(abs(value)), value) for name, value in proxies.items()}


def fit_calibration(rows: Sequence[Mapping[str, float]], alone: Sequence[float], proxy_seed: int) -> tuple[Calibration, list[float]]:
    """Fits a calibration.

    Args:
        rows: features (`feature_values`) of each network.
        alone: log loss of each network trained alone.
        proxy_seed: of the proxies among them.

    Returns:
        The calibration, and for each network what one fitted without it (its choice of features and penalty included) says.
    """
    names = [SCORE, *(name for name in rows[0] if name != SCORE)]
    x, y = np.array([[row[name] for name in names] for row in rows], float), np.array(alone, float)
    held_out = []
    for left in range(len(y)):
        others = np.arange(len(y)) != left
        chosen, penalty = _choose(x[others], y[others])
        mean, scale, weights = _ridge(x[others][:, chosen], y[others], penalty)
        held_out.append(float(y[others].mean() + ((x[left, chosen] - mean) / scale) @ weights))
    chosen, penalty = _choose(x, y)
    mean, scale, weights = _ridge(x[:, chosen], y, penalty)
    features = tuple(
        Feature(names[i], float(m), float(s), float(w), float(x[:, i].min()), float(x[:, i].max()))
        for i, m, s, w in zip(chosen, mean, scale, weights, strict=True)
    )
    error = float(np.sqrt(np.mean((np.array(held_out) - y) ** 2)))
    return Calibration(features, float(y.mean()), penalty, len(y), error, float(y.std(ddof=1)), proxy_seed), held_out


def _choose(x: np.ndarray, y: np.ndarray) -> tuple[list[int], float]:
    """Columns and penalty by forward selection on the leave-one-out error, beginning with column 0."""
    chosen = [0]
    error, penalty = _best_penalty(x[:, chosen], y)
    while len(chosen) < x.shape[1]:
        tried = [(*_best_penalty(x[:, [*chosen, i]], y), i) for i in range(x.shape[1]) if i not in chosen]
        least = min(tried)
        if least[0] > (1 - LEAST_GAIN) * error:
            break
        error, penalty = least[:2]
        chosen.append(least[2])
    return chosen, penalty


def _best_penalty(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Least leave-one-out root mean square error, and its penalty."""
    return min((_loo_error(x, y, penalty), penalty) for penalty in PENALTIES)


def _loo_error(x: np.ndarray, y: np.ndarray, penalty: float) -> float:
    """In closed form: a residual divided by one minus its leverage."""
    z = (x - x.mean(0)) / _scale(x)
    hat = z @ np.linalg.solve(z.T @ z + penalty * len(y) * np.eye(z.shape[1]), z.T) + 1 / len(y)
    residual = (y - hat @ y) / (1 - np.diagonal(hat))
    return float(np.sqrt(np.mean(residual**2)))


def _ridge(x: np.ndarray, y: np.ndarray, penalty: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Means, scales, and weights of the standardised columns."""
    mean, scale = x.mean(0), _scale(x)
    z = (x - mean) / scale
    return mean, scale, np.linalg.solve(z.T @ z + penalty * len(y) * np.eye(z.shape[1]), z.T @ (y - y.mean()))


def _scale(x: np.ndarray) -> np.ndarray:
    """Standard deviations; 1 for a column without any spread."""
    scale = x.std(0)
    return np.where(scale > 0, scale, 1.0)
