"""The design prior: the best designs of similar tasks, weighted by similarity, from which a search draws instead of from the whole space.

A draw takes one of these designs, and every one of its genes with probability 1 - `uniform`; the others, and genes or values that
the design's own space had and this one has not, are as the space draws them. AutoTransfer (Cao et al., ICLR 2023) draws every gene from a
histogram of its own; the best designs of a joint search are a front, cheap ones beside accurate ones, and such histograms mix the
genes of both. The constants are AutoTransfer's: the three nearest tasks, the best sixteen designs of each.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic

import numpy as np

from cosearch.algorithms import FlatSpace, G, split
from cosearch.goal import Goal
from cosearch.pareto import crowding, ranks
from cosearch.pool import Metrics
from cosearch.transfer.anchors import results_of, similarity
from cosearch.transfer.bank import Task

TASKS = 3
BEST = 16


@dataclass(frozen=True)
class Similar:
    """A task of the bank beside the one that is searched.

    Attributes:
        task: The task.
        similarity: See `cosearch.transfer.anchors.similarity`.
        weight: Its share of the prior; 0 = not used.
    """

    task: Task
    similarity: float
    weight: float


def compare(tasks: Sequence[Task], anchors: Sequence[Metrics], goal: Goal, least: float) -> list[Similar]:
    """How alike every task of a bank is, the most similar first; the nearest three that reach `least` share the weight by similarity."""
    own = results_of(anchors, goal)
    found = [(similarity(own, results_of(task.anchors, goal)), task) for task in tasks]
    found.sort(key=lambda pair: (-pair[0], pair[1].digest))
    used = {task.digest: tau for tau, task in found if tau >= least and best_designs(task, goal)}
    nearest = dict(list(used.items())[:TASKS])
    return [Similar(task, tau, nearest.get(task.digest, 0.0) / (sum(nearest.values()) or 1.0)) for tau, task in found]


def best_designs(task: Task, goal: Goal) -> list[dict[str, Any]]:
    """Genes of a task's best trials by a goal: lowest Pareto rank first, feasible before infeasible, the least crowded of equal ones."""
    results = results_of([metrics for _, metrics in task.trials], goal)
    known = [(genes, result) for (genes, _), result in zip(task.trials, results, strict=True) if result is not None]
    if not known:
        return []
    values, violation = split(result for _, result in known)
    rank = ranks(values, violation)
    order = np.lexsort((-crowding(values, rank), rank))
    return [known[i][0] for i in order[:BEST]]


def designs_of(similar: Sequence[Similar], goal: Goal) -> list[tuple[float, dict[str, Any]]]:
    """The designs that a search starts from, with their weights, which sum to 1; none when no task is similar enough."""
    best = [(one.weight, best_designs(one.task, goal)) for one in similar if one.weight]
    return [(weight / len(designs), genes) for weight, designs in best for genes in designs]


class Primed(Generic[G]):
    """A space that draws near given designs. Any algorithm's random candidates, its first ones above all, are therefore such.

    Args:
        space: The space.
        designs: Weights and genes by name; see `designs_of`.
        uniform: Probability that a gene is drawn from the space.
    """

    ATTEMPTS = 64

    def __init__(self, space: FlatSpace[G], designs: Sequence[tuple[float, dict[str, Any]]], uniform: float) -> None:
        self.space, self.uniform = space, uniform
        self.weights = np.cumsum([weight for weight, _ in designs])
        self.designs = [_shared(space, genes) for _, genes in designs]

    def sample(self, rng: np.random.Generator) -> G:
        """A genome near a design; a random one if none near it is valid."""
        for _ in range(self.ATTEMPTS):
            flat = self.space.to_flat(self.space.sample(rng))
            design = self.designs[min(int(np.searchsorted(self.weights, rng.random(), side="right")), len(self.designs) - 1)]
            kept = rng.random(len(design)) >= self.uniform
            genome = self.space.from_flat(flat | {name: value for (name, value), keep in zip(design.items(), kept, strict=True) if keep})
            if genome is not None:
                return genome
        return self.space.sample(rng)

    def mutate(self, genome: G, rng: np.random.Generator) -> G:
        """As the space does."""
        return self.space.mutate(genome, rng)

    def crossover(self, first: G, second: G, rng: np.random.Generator) -> G:
        """As the space does."""
        return self.space.crossover(first, second, rng)

    def digest(self, genome: G) -> str:
        """As the space does."""
        return self.space.digest(genome)

    def genes(self) -> dict[str, tuple[Any, ...]]:
        """The space's."""
        return self.space.genes()

    def to_flat(self, genome: G) -> dict[str, Any]:
        """As the space does."""
        return self.space.to_flat(genome)

    def from_flat(self, flat: dict[str, Any]) -> G | None:
        """As the space does."""
        return self.space.from_flat(flat)


def _shared(space: FlatSpace[Any], genes: dict[str, Any]) -> dict[str, Any]:
    """The genes of a design that the space has with the same value; JSON makes tuples lists, and keeps true apart from 1."""
    known = {name: {json.dumps(choice): choice for choice in choices} for name, choices in space.genes().items()}
    told = {name: (known[name], json.dumps(value)) for name, value in genes.items() if name in known}
    return {name: choices[text] for name, (choices, text) in told.items() if text in choices}
