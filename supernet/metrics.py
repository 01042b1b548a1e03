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
    z, y = logit.astype(np.float64), label.astype(np.float64)
    loss = np.maximum(z, 0) - z * y + np.log1p(np.exp(-np.abs(z)))
    return Score(float(loss.mean()), auc(label, z))


def auc(label: np.ndarray, value: np.ndarray) -> float:
    """Chance that a positive row outranks a negative one, ties counted half (Mann-Whitney U / (positives * negatives))."""
    positive = label.astype(bool)
    positives, negatives = int(positive.sum()), int((~positive).sum())
    if not positives or not negatives:
        return float("nan")
    order = np.argsort(value, kind="stable")
    ordered = value[order]
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
    lengths = np.diff(np.append(starts, len(ordered)))
    mean_rank = np.repeat(starts + (lengths + 1) / 2, lengths)
    ranks = float(mean_rank[positive[order]].sum())
    return (ranks - positives * (positives + 1) / 2) / (positives * negatives)
