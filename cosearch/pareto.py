"""Pareto fronts of minimised objectives: front, ranks, crowding, hypervolume, knee. Sorting and volume are moocore's."""

from __future__ import annotations

import numpy as np


def not_dominated(values: np.ndarray) -> np.ndarray:
    """True for every row that no other row dominates; equal rows do not dominate each other."""
    import moocore

    return np.asarray(moocore.is_nondominated(values, keep_weakly=True), dtype=bool)


def front_indices(values: np.ndarray) -> list[int]:
    """Indices of the non-dominated rows, lowest index first; of rows that are equal only the first.

    Args:
        values: (points, objectives), minimised.
    """
    if not len(values):
        return []
    import moocore

    keep = moocore.is_nondominated(values, keep_weakly=False)
    return [int(i) for i in np.flatnonzero(keep)]


def best_indices(values: np.ndarray, violation: np.ndarray) -> list[int]:
    """Indices of the front of the feasible rows; while there are none, of the rows with the smallest violation.

    Args:
        values: (points, objectives), minimised.
        violation: (points,), 0 = feasible.
    """
    if not len(values):
        return []
    least = np.flatnonzero(violation == violation.min())
    return [int(i) for i in least[front_indices(values[least])]]


def ranks(values: np.ndarray, violation: np.ndarray) -> np.ndarray:
    """Rank of every row, 0 = best: feasible rows by non-domination, then the others by violation (Deb's constrained domination).

    Args:
        values: (points, objectives), minimised.
        violation: (points,), 0 = feasible.
    """
    import moocore

    rank, first = np.zeros(len(values), dtype=np.int64), 0
    for level in np.unique(violation):
        members = np.flatnonzero(violation == level)
        rank[members] = first + np.asarray(moocore.pareto_rank(values[members]), dtype=np.int64)
        first = int(rank[members].max()) + 1
    return rank


def crowding(values: np.ndarray, rank: np.ndarray) -> np.ndarray:
    """Crowding distance of every row within its rank (NSGA-II, Deb et al. 2002); infinite at the ends of an objective's range."""
    distance = np.zeros(len(values))
    for level in np.unique(rank):
        members = np.flatnonzero(rank == level)
        for column in values[members].T:
            order = members[np.argsort(column, kind="stable")]
            sorted_values = np.sort(column, kind="stable")
            distance[order[[0, -1]]] = np.inf
            width = sorted_values[-1] - sorted_values[0]
            if width > 0:
                distance[order[1:-1]] += (sorted_values[2:] - sorted_values[:-2]) / width
    return distance


def normalise(values: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Rows scaled so that `low` is 0 and `high` is 1 in every objective (a flat objective is 0 everywhere)."""
    width = np.where(high > low, high - low, 1.0)
    return (values - low) / width


def hypervolume(values: np.ndarray, low: np.ndarray, high: np.ndarray) -> float:
    """Share of the box [low, high] that the points dominate, 0 to 1.

    Args:
        values: (points, objectives), minimised; points outside the box count as far as they dominate a part of it.
        low: best value of every objective.
        high: reference point.
    """
    if not len(values):
        return 0.0
    import moocore

    scaled = np.maximum(normalise(values, low, high), 0.0)
    return float(moocore.hypervolume(scaled, ref=np.ones(values.shape[1])))


def knee(values: np.ndarray) -> int:
    """Index of the row nearest to the ideal point, every objective scaled to 0..1 over the rows (lowest index on a tie)."""
    scaled = normalise(values, values.min(axis=0), values.max(axis=0))
    return int(np.argmin(np.square(scaled).sum(axis=1)))
