"""NSGA-II (Deb et al., IEEE Trans. Evolutionary Computation, 2002): survival by rank and crowding, elitist over all generations.

Survival is pymoo's; variation is the space's own mutation and crossover, so that every child is a valid design.
Parents are the winners of binary tournaments. The published algorithm makes as many children as its population has members; here the
number is the setting `children`, and fewer of them in a generation learn sooner at the same number of candidates.
"""

from __future__ import annotations

from typing import Any, Generic

import numpy as np
from pydantic import Field, PositiveInt

from cosearch.algorithms import AlgorithmSettings, G, GenomeSpace, Result, Unseen, split, trial_rng
from cosearch.pareto import crowding, ranks


class NSGA2(Generic[G]):
    """Elitist genetic search with a survival of pymoo's."""

    class Settings(AlgorithmSettings):
        """Population and variation."""

        population: PositiveInt = 24
        """Size of the first generation, and of the survivors: small, since a candidate costs a simulation."""
        crossover: float = Field(default=0.9, ge=0, le=1)
        """Probability that a child mixes two parents before it is mutated."""

    def __init__(self, space: GenomeSpace[G], settings: Settings, seed: int) -> None:
        self.settings, self.seed = settings, seed
        self.asked = 0
        self.unseen = Unseen(space)
        self.generation: list[G] = []
        self.survivors: list[tuple[G, Result]] = []
        self.order = np.empty((0, 2))

    def ask(self) -> list[G]:
        """The first population, then one generation of children at a time."""
        first = self.asked
        self.asked += self.settings.children if first else self.settings.population
        born = (self._child(trial_rng(self.seed, index)) for index in range(first, self.asked))
        self.generation = [genome for genome in born if genome is not None]
        return list(self.generation)

    def tell(self, results: list[Result | None]) -> None:
        """The best of survivors and children survive."""
        self.survivors += [(genome, result) for genome, result in zip(self.generation, results, strict=True) if result is not None]
        if not self.survivors:
            return
        values, violation = split(result for _, result in self.survivors)
        low, high = values.min(axis=0), values.max(axis=0)
        kept = self.survive((values - low) / np.where(high > low, high - low, 1.0), violation)
        self.survivors = [self.survivors[i] for i in kept]

    def survive(self, values: np.ndarray, violation: np.ndarray) -> list[int]:
        """Indices of the survivors; sets `order`, what tournaments compare, in the same order.

        Args:
            values: (points, objectives), scaled to 0..1.
            violation: (points,), 0 = feasible.
        """
        from pymoo.operators.survival.rank_and_crowding import RankAndCrowding

        kept = self._with_pymoo(RankAndCrowding(), values, violation)
        rank = ranks(values[kept], violation[kept])
        self.order = np.stack([rank, -crowding(values[kept], rank)], axis=1)
        return kept

    def _with_pymoo(self, survival: Any, values: np.ndarray, violation: np.ndarray) -> list[int]:
        """Indices that a survival operator of pymoo keeps; feasible ones first, the others by violation."""
        import warnings

        from pymoo.core.population import Population
        from pymoo.core.problem import Problem

        problem = Problem(n_var=1, n_obj=values.shape[1], n_ieq_constr=1)
        population = Population.new(X=np.arange(len(values))[:, None], F=values, G=violation[:, None])
        rng = np.random.default_rng(np.random.SeedSequence([self.seed, self.asked, 1]))
        with warnings.catch_warnings():
            kept = survival.do(problem, population, n_survive=self.settings.population, random_state=rng)
        return [int(i) for i in kept.get("X")[:, 0]]

    def _parent(self, rng: np.random.Generator) -> G:
        one, two = (int(i) for i in rng.integers(len(self.survivors), size=2))
        return self.survivors[one if tuple(self.order[one]) <= tuple(self.order[two]) else two][0]

    def _child(self, rng: np.random.Generator) -> G | None:
        if not self.survivors:
            return self.unseen.sample(rng)
        return self.unseen.breed(lambda: self._parent(rng), self.settings.crossover, rng)


ALGORITHM = NSGA2
