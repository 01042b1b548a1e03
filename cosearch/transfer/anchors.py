"""How similar two tasks are: a fixed list of anchor designs is evaluated on both, and the two orders are compared.

After AutoTransfer (Cao et al., ICLR 2023), whose ground truth for the similarity of tasks is Kendall's tau of the ranking of all designs,
and whose task embedding comes from a dozen anchor designs. Here the embedding is the ranks of the anchors in every objective, scored
as all candidates are, and the similarity of two tasks is Kendall's tau in the objective in which they agree least: devices order
designs alike on most data, which says nothing about whether networks do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from cosearch.algorithms import AlgorithmSettings, FlatSpace, G, Result, trial_rng
from cosearch.goal import Goal
from cosearch.pool import Metrics

ANCHORS = 16
"""Designs that a task is known by. Of unrelated orders of 16, one in twenty has a tau above 0.31."""

ATTEMPTS = 1000


def anchor_genomes(space: FlatSpace[G]) -> list[G]:
    """The anchors of a space, the same whenever they are asked for.

    Every gene's value lies at a place among its choices that depends on the anchor's number and the gene's name alone, so that the
    anchors of spaces which share genes agree in these.
    """
    return [_anchor(space, number) for number in range(ANCHORS)]


def _anchor(space: FlatSpace[G], number: int) -> G:
    """One anchor; where no place gives a valid genome, one that the space draws."""
    for attempt in range(ATTEMPTS):
        places = {gene: _share(number, attempt, gene) for gene in space.genes()}
        genome = space.from_flat({gene: choices[int(places[gene] * len(choices))] for gene, choices in space.genes().items()})
        if genome is not None:
            return genome
    return space.sample(trial_rng(0, number))


def _share(number: int, attempt: int, gene: str) -> float:
    """A number in [0, 1) from a digest of its arguments."""
    digest = hashlib.sha256(f"{number}/{attempt}/{gene}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


class AnchorsOnly:
    """The algorithm that asks the anchors and nothing more: they are evaluated and kept as the trials of a search are."""

    Settings = AlgorithmSettings

    def __init__(self, genomes: Sequence[Any]) -> None:
        self.genomes = list(genomes)

    def ask(self) -> list[Any]:
        """All of them, the first time."""
        asked, self.genomes = self.genomes, []
        return asked

    def tell(self, results: list[Result | None]) -> None:
        """Nothing is learnt."""


def results_of(figures: Sequence[Metrics], goal: Goal) -> list[Result | None]:
    """What a goal makes of figures; None where one that it needs is missing."""
    return [_result(metrics, goal) for metrics in figures]


def _result(metrics: Metrics, goal: Goal) -> Result | None:
    try:
        return goal.result(metrics)
    except ValueError:
        return None


def similarity(own: Sequence[Result | None], other: Sequence[Result | None]) -> float:
    """Kendall's tau-b of two tasks' anchors in the objective in which they agree least, -1 to 1.

    An objective that is the same for all anchors of either task orders nothing and does not count; 0 when none is left.
    """
    from pimsim.analytic.compare import kendall_tau

    both = [(a.objectives, b.objectives) for a, b in zip(own, other, strict=False) if a is not None and b is not None]
    if not both:
        return 0.0
    first, second = (np.array(side, dtype=float).T for side in zip(*both, strict=True))
    return min((kendall_tau(a, b) for a, b in zip(first, second, strict=True) if np.ptp(a) > 0 and np.ptp(b) > 0), default=0.0)
