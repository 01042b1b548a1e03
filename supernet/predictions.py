"""Predictions on the test rows, kept so that figures get confidence intervals and models can be compared row by row.

All intervals are normal, 95 %, over the test rows: they say how much a figure would move on other rows of the same kind, for the models
as they are. What another seed of training changes is a matter of its own; figures of several seeds are means over them, row by row.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pimsim.errors import RunError
from supernet.metrics import mean_ranks, row_losses

FILE = "test_predictions.npz"
"""Name in the folder of a training."""
Z = 1.959963984540054
"""Standard normal quantile of 97.5 %."""


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Predictions:
    """What one trained model says of the test rows.

    Attributes:
        label: (rows,) clicks.
        logit: (rows,) float32.
    """

    label: np.ndarray
    logit: np.ndarray

    def save(self, folder: Path) -> None:
        """Writes `test_predictions.npz` in one step."""
        draft = folder / f".{FILE}.{os.getpid()}"
        with draft.open("wb") as handle:
            np.savez(handle, label=np.asarray(self.label, np.uint8), logit=np.asarray(self.logit, np.float32))
        draft.replace(folder / FILE)

    @classmethod
    def load(cls, folder: Path) -> Predictions:
        """Reads what `save` wrote.

        Raises:
            RunError: missing (an older version trained there) or damaged.
        """
        path = folder / FILE
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return cls(arrays["label"], arrays["logit"])
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise RunError(f"{path}: cannot be read: {error}; remove the folder to train there again") from None


def figures(seeds: Sequence[Predictions]) -> dict[str, Estimate]:
    """`auc` and `logloss` of one model trained with one or more seeds (means over them), with intervals over the test rows."""
    return {"auc": _auc(_placements(seeds)), "logloss": _mean(_losses(seeds))}


def paired_difference(ours: Sequence[Predictions], theirs: Sequence[Predictions]) -> dict[str, Estimate]:
    """`auc` and `logloss` of one model minus another's on the same rows, with intervals of the difference.

    Raises:
        RunError: the models were tested on different rows.
    """
    if not np.array_equal(ours[0].label, theirs[0].label):
        raise RunError("paired difference: the two models were tested on different rows")
    one, other = _placements(ours), _placements(theirs)
    return {"auc": _auc((one[0] - other[0], one[1] - other[1])), "logloss": _mean(_losses(ours) - _losses(theirs))}


def _losses(seeds: Sequence[Predictions]) -> np.ndarray:
    """Loss of every row, mean over the seeds."""
    return np.mean([row_losses(one.label, one.logit) for one in seeds], axis=0)


def _placements(seeds: Sequence[Predictions]) -> tuple[np.ndarray, np.ndarray]:
    """DeLong's structural components, means over the seeds: of every positive row the share of negatives that it outranks, of every
    negative row the share of positives that outrank it. Each mean is the AUC."""
    found = [_components(one.label.astype(bool), np.asarray(one.logit, np.float64)) for one in seeds]
    return np.mean([positive for positive, _ in found], axis=0), np.mean([negative for _, negative in found], axis=0)


def _components(positive: np.ndarray, logit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    ranks, above, below = mean_ranks(logit), logit[positive], logit[~positive]
    if not len(above) or not len(below):
        return np.full(len(above), np.nan), np.full(len(below), np.nan)
    outranked = (ranks[positive] - mean_ranks(above)) / len(below)
    outranking = 1 - (ranks[~positive] - mean_ranks(below)) / len(above)
    return outranked, outranking


def _auc(components: tuple[np.ndarray, np.ndarray]) -> Estimate:
    """DeLong, DeLong and Clarke-Pearson (1988), by ranks as Sun and Xu (2014) compute it."""
    variance = sum(part.var(ddof=1) / len(part) if len(part) > 1 else np.nan for part in components)
    return _estimate(float(components[0].mean()) if len(components[0]) else float("nan"), float(variance))


def _mean(values: np.ndarray) -> Estimate:
    return _estimate(float(values.mean()), float(values.var(ddof=1) / len(values)) if len(values) > 1 else float("nan"))


def _estimate(value: float, variance: float) -> Estimate:
    half = Z * variance**0.5
    return Estimate(value, value - half, value + half)
