"""Conformance suite of search algorithms, on a small tabulated problem whose every point is known.

A new algorithm inherits it in three lines:

```python
class TestMine(AlgorithmConformance):
    name = "mine"
```
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

from cosearch.algorithms import AlgorithmSettings, Result, find_algorithm
from cosearch.pareto import front_indices

Genome = tuple[int, ...]


class TabulatedSpace:
    """Genomes of `genes` digits in base `choices`; two smooth, conflicting objectives with a little seeded roughness."""

    def __init__(self, genes: int = 6, choices: int = 5, seed: int = 11) -> None:
        self.genes_count, self.choices = genes, choices
        points = np.array(list(itertools.product(range(choices), repeat=genes)), dtype=float) / (choices - 1)
        rng = np.random.default_rng(seed)
        towards, away = rng.uniform(0, 1, genes), rng.uniform(0, 1, genes)
        rough = rng.normal(0, 0.01, (len(points), 2))
        self.table = np.stack([((points - towards) ** 2).sum(1), ((points - away) ** 2).sum(1)], axis=1) + rough

    def result(self, genome: Genome, bound: float = math.inf, scalar: bool = False) -> Result:
        """The two objectives of one genome (or their sum alone), and by how much the first exceeds a bound."""
        row = self.table[int(np.ravel_multi_index(genome, (self.choices,) * self.genes_count))]
        first, second = float(row[0]), float(row[1])
        return Result((first + second,) if scalar else (first, second), max(0.0, first - bound))

    def front(self) -> list[int]:
        """Indices of the true Pareto front in the table."""
        return front_indices(self.table)

    def sample(self, rng: np.random.Generator) -> Genome:
        """Uniform."""
        return tuple(int(g) for g in rng.integers(self.choices, size=self.genes_count))

    def mutate(self, genome: Genome, rng: np.random.Generator) -> Genome:
        """One digit becomes another."""
        place = int(rng.integers(self.genes_count))
        digit = (genome[place] + 1 + int(rng.integers(self.choices - 1))) % self.choices
        return (*genome[:place], digit, *genome[place + 1 :])

    def crossover(self, first: Genome, second: Genome, rng: np.random.Generator) -> Genome:
        """Every digit from either parent."""
        return tuple(a if keep else b for a, b, keep in zip(first, second, rng.random(self.genes_count) < 0.5, strict=True))

    def genes(self) -> dict[str, tuple[int, ...]]:
        """Every digit is a gene."""
        return {f"g{place}": tuple(range(self.choices)) for place in range(self.genes_count)}

    def to_flat(self, genome: Genome) -> dict[str, int]:
        """The digits by name."""
        return dict(zip(self.genes(), genome, strict=True))

    def from_flat(self, flat: dict[str, int]) -> Genome:
        """The digits in order."""
        return tuple(flat[name] for name in self.genes())

    def digest(self, genome: Genome) -> str:
        """The digits."""
        return "-".join(map(str, genome))


class AlgorithmConformance:
    """What every algorithm of `cosearch.algorithms` keeps."""

    name: str
    settings: dict[str, Any] = {}  # noqa: RUF012 - subclasses replace it, nothing writes to it
    candidates: int = 120
    """How far a test drives the algorithm; less for one that takes long over a candidate, but beyond its random beginning."""

    def make(self, space: TabulatedSpace, seed: int = 3) -> Any:
        """A fresh instance with small settings."""
        kind = find_algorithm(self.name)
        return kind(space, kind.Settings(name=self.name, **self.settings), seed)

    def drive(self, algorithm: Any, space: TabulatedSpace, candidates: int, fail: int = 0, **told: Any) -> list[Genome]:
        """Runs ask/tell for at least `candidates` genomes; with `fail` every fail-th genome cannot be evaluated.

        `told` goes to `TabulatedSpace.result`.
        """
        asked: list[Genome] = []
        while len(asked) < candidates:
            generation = algorithm.ask()
            if not generation:
                break
            results = [None if fail and (len(asked) + i) % fail == 0 else space.result(g, **told) for i, g in enumerate(generation)]
            asked += generation
            algorithm.tell(results)
        return asked

    def test_settings_model_is_complete(self) -> None:
        """The settings model is an AlgorithmSettings that can be built from its defaults."""
        kind = find_algorithm(self.name)
        assert isinstance(kind.Settings(name=self.name), AlgorithmSettings)

    def test_same_seed_asks_the_same(self) -> None:
        """A run can be replayed."""
        space = TabulatedSpace()
        assert self.drive(self.make(space), space, self.candidates) == self.drive(self.make(space), space, self.candidates)

    def test_other_seed_asks_something_else(self) -> None:
        """The seed matters."""
        space = TabulatedSpace()
        assert self.drive(self.make(space, 1), space, 10) != self.drive(self.make(space, 2), space, 10)

    def test_never_asks_twice(self) -> None:
        """No digest comes back."""
        space = TabulatedSpace()
        asked = self.drive(self.make(space), space, self.candidates)
        assert len({space.digest(g) for g in asked}) == len(asked) >= self.candidates

    def test_small_space_ends(self) -> None:
        """When the space is used up, `ask` says so by an empty list instead of spinning; most of the space was found before."""
        space = TabulatedSpace(genes=2, choices=3)
        asked = self.drive(self.make(space), space, 1000)
        assert len(set(asked)) == len(asked) == 9

    def test_failures_are_survived(self) -> None:
        """Genomes without values, even all of a first generation, stop nothing."""
        space = TabulatedSpace()
        for fail in (2, 1):
            assert len(self.drive(self.make(space), space, self.candidates, fail=fail)) >= self.candidates

    def test_infeasible_genomes_are_survived(self) -> None:
        """Constraints that some genomes break, or all of them, stop nothing and are replayed."""
        space = TabulatedSpace()
        for bound in (float(np.quantile(space.table[:, 0], 0.05)), -1.0):
            asked = self.drive(self.make(space), space, self.candidates, bound=bound)
            assert len(asked) >= self.candidates
            assert asked == self.drive(self.make(space), space, self.candidates, bound=bound)

    def test_one_objective_is_enough(self) -> None:
        """A search with a penalty tells one scalar."""
        space = TabulatedSpace()
        assert len(self.drive(self.make(space), space, self.candidates, scalar=True)) >= self.candidates
