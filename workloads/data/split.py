"""Which rows train, validate and test: one byte per row, whatever the size."""

from __future__ import annotations

import numpy as np

from pimsim.errors import DataError
from workloads.data.tables import SPLITS

FOLDS = 10


def stratified_folds(label: np.ndarray, seed: int = 2018) -> np.ndarray:
    """The test fold of every row: exactly scikit-learn's `StratifiedKFold(10, shuffle=True, random_state=seed)`, in one byte per row.

    Args:
        label: (rows,) 0 or 1.
        seed: of the shuffle.

    Returns:
        (rows,) uint8, 0 to 9.

    Raises:
        DataError: fewer than ten rows of a class.
    """
    counts = np.bincount(label, minlength=2)
    if counts.min() < FOLDS:
        raise DataError(f"a stratified split needs ten rows of each class at least, found {counts[0]} and {counts[1]}")
    random = np.random.RandomState(seed)
    first = int(label[0])  # scikit-learn numbers classes in order of appearance
    start = 0
    folds = np.empty(len(label), np.uint8)
    for kind in (first, 1 - first):
        stop = start + int(counts[kind])
        share = [len(range(start + (fold - start) % FOLDS, stop, FOLDS)) for fold in range(FOLDS)]
        of_class = np.arange(FOLDS, dtype=np.uint8).repeat(share)
        random.shuffle(of_class)
        folds[label == kind] = of_class
        start = stop
    return folds


def stratified_split(label: np.ndarray, seed: int = 2018, ratio: tuple[int, int, int] = (8, 1, 1)) -> np.ndarray:
    """Split of every row with equal shares of positives: folds 0-7 train, 8 validates, 9 tests (AutoCTR's and NASRec's split).

    Args:
        label: (rows,) 0 or 1.
        seed: of the shuffle.
        ratio: tenths that train, validate and test.

    Returns:
        (rows,) uint8: 0 train, 1 valid, 2 test.
    """
    return np.repeat(np.arange(3, dtype=np.uint8), ratio)[stratified_folds(label, seed)]


def temporal_split(time: np.ndarray, ratio: tuple[int, int, int] = (8, 1, 1)) -> np.ndarray:
    """Split by time: the earliest rows train, the latest test; rows of one time stay together.

    Args:
        time: (rows,) int64.
        ratio: tenths that train, validate and test.

    Returns:
        (rows,) uint8: 0 train, 1 valid, 2 test.

    Raises:
        DataError: a split that would be empty, because too few different times are left for it.
    """
    ranked = np.sort(time)
    cuts = [ranked[min(len(ranked) - 1, len(ranked) * tenths // FOLDS)] for tenths in (ratio[0], ratio[0] + ratio[1])]
    split = (time >= cuts[0]).astype(np.uint8) + (time >= cuts[1])
    for name, rows in zip(SPLITS, np.bincount(split, minlength=3), strict=True):
        if not rows:
            raise DataError(f"temporal split: no rows are left for {name}: too few different times (from {ranked[0]} to {ranked[-1]})")
    return split
