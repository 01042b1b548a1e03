"""Log loss and area under the ROC curve, equal to scikit-learn's and fast enough to be called for every candidate."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Score(NamedTuple):
    """Quality of predictions on one split."""

    logloss: float
    """Mean binary cross-entropy, nats."""
    auc: float
    """Area under the ROC curve; not a number when only one class is there."""


def score_logits(label: np.ndarray, logit: np.ndarray) -> Score:
    """Log loss and AUC of logits, (rows,) each."""
    return Score(float(row_losses(label, logit).mean()), auc(label, logit.astype(np.float64)))


def row_losses(label: np.ndarray, logit: np.ndarray) -> np.ndarray:
    """Binary cross-entropy of every row, nats."""
    z, y = logit.astype(np.float64), label.astype(np.float64)
    return np.maximum(z, 0) - z * y + np.log1p(np.exp(-np.abs(z)))


def auc(label: np.ndarray, value: np.ndarray) -> float:
    """Chance that a positive row outranks a negative one, ties counted half (Mann-Whitney U / (positives * negatives))."""
    positive = label.astype(bool)
    positives, negatives = int(positive.sum()), int((~positive).sum())
    if not positives or not negatives:
        return float("nan")
    order, rank = _ranks_in_order(value)
    ranks = float(rank[positive[order]].sum())
    return (ranks - positives * (positives + 1) / 2) / (positives * negatives)


def mean_ranks(value: np.ndarray) -> np.ndarray:
    """Place of every value from 1 in rising order; equal values share the mean of their places."""
    order, rank = _ranks_in_order(value)
    ranks = np.empty(len(value))
    ranks[order] = rank
    return ranks


def _ranks_in_order(value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What sorts the values, and the mean rank of each in that order."""
    order = np.argsort(value, kind="stable")
    ordered = value[order]
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
    lengths = np.diff(np.append(starts, len(ordered)))
    return order, np.repeat(starts + (lengths + 1) / 2, lengths)
