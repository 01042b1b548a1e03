"""Pareto local search (Paquete, Chiarandini and Stuetzle, 2004): every one-gene neighbour of every front point, until none is new.

Genes are taken in the order of `FlatSpace.genes`: those of the hardware first, over all front points, since a neighbour with the same
network needs a simulation but no new score; whenever the front moves, the search goes on around the new one. Alone it begins with random
candidates, and draws further ones when nothing around the front is new. As the last phase of any algorithm it is the setting `polish`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Generic

from pydantic import PositiveInt

from cosearch.algorithms import Algorithm, AlgorithmSettings, FlatSpace, G, Result, Unseen, split, trial_rng
from cosearch.pareto import best_indices


class Neighbourhood(Generic[G]):
    """The front of what was told, and the genomes around it that were not asked yet."""

    def __init__(self, space: FlatSpace[G], unseen: Unseen[G]) -> None:
        self.space, self.unseen, self.genes = space, unseen, space.genes()
        self.front: list[tuple[G, Result]] = []
        self.exhausted: set[tuple[str, str]] = set()

    def learn(self, genomes: list[G], results: list[Result | None]) -> None:
        """Takes in results; the front may move."""
        known = self.front + [(genome, result) for genome, result in zip(genomes, results, strict=True) if result is not None]
        self.front = [known[i] for i in best_indices(*split(result for _, result in known))]

    def nearest(self, count: int) -> list[G]:
        """Up to `count` unseen neighbours of the front, which then count as asked."""
        found: list[G] = []
        for gene, genome in ((gene, genome) for gene in self.genes for genome, _ in self.front):
            place = (self.space.digest(genome), gene)
            if place in self.exhausted:
                continue
            for neighbour in self._around(genome, gene):
                if len(found) == count:
                    return found
                if self.unseen.claim(neighbour):
                    found.append(neighbour)
            self.exhausted.add(place)
        return found

    def _around(self, genome: G, gene: str) -> Iterator[G]:
        """The valid genomes that differ in one gene."""
        flat = self.space.to_flat(genome)
        for choice in self.genes[gene]:
            neighbour = None if choice == flat[gene] else self.space.from_flat(flat | {gene: choice})
            if neighbour is not None:
                yield neighbour


class LocalSearch(Generic[G]):
    """Local search around the front of random candidates."""

    class Settings(AlgorithmSettings):
        """How it begins."""

        population: PositiveInt = 48
        """Random candidates before the first neighbours."""

    def __init__(self, space: FlatSpace[G], settings: Settings, seed: int) -> None:
        self.settings, self.seed = settings, seed
        self.asked = 0
        self.unseen = Unseen(space)
        self.around = Neighbourhood(space, self.unseen)
        self.generation: list[G] = []

    def ask(self) -> list[G]:
        """Random candidates, then neighbours; random ones again where there are no new neighbours."""
        count = self.settings.children if self.asked else self.settings.population
        self.generation = self.around.nearest(count)
        drawn = (self.unseen.sample(trial_rng(self.seed, self.asked + i)) for i in range(len(self.generation), count))
        self.generation += [genome for genome in drawn if genome is not None]
        self.asked += count
        return list(self.generation)

    def tell(self, results: list[Result | None]) -> None:
        """The front moves."""
        self.around.learn(self.generation, results)


class Polished(Generic[G]):
    """Another algorithm for a number of candidates, then local search around the front it leaves, to the last new neighbour."""

    Settings = AlgorithmSettings

    def __init__(self, algorithm: Algorithm[G], space: FlatSpace[G], candidates: int, children: int) -> None:
        self.algorithm, self.left, self.children = algorithm, candidates, children
        self.unseen = Unseen(space)
        self.around = Neighbourhood(space, self.unseen)
        self.generation: list[G] = []

    def ask(self) -> list[G]:
        """The algorithm's generation, cut at its last candidate; then neighbours."""
        self.generation = self.algorithm.ask()[: self.left] if self.left else []
        self.left = self.left - len(self.generation) if self.generation else 0
        for genome in self.generation:
            self.unseen.claim(genome)
        self.generation = self.generation or self.around.nearest(self.children)
        return list(self.generation)

    def tell(self, results: list[Result | None]) -> None:
        """Both learn; the algorithm only while it goes on."""
        self.around.learn(self.generation, results)
        if self.left:
            self.algorithm.tell(results)


def polished(algorithm: Algorithm[G], space: Any, settings: AlgorithmSettings) -> Algorithm[G]:
    """The algorithm with the last phase that its settings ask for."""
    return Polished(algorithm, space, settings.candidates, settings.children) if settings.polish else algorithm


ALGORITHM = LocalSearch
