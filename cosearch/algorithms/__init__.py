"""Search algorithms, one a file; the file's name is what a search file says under `algorithm.name`, or the path of a file elsewhere.

An algorithm is a class with a nested `Settings` model and two methods, found through the module's attribute `ALGORITHM`:

* `ask()` returns the next *generation* of genomes, none of them asked before (an empty list: nothing new can be found);
* `tell(results)` takes one `Result` per genome of that generation, in the order asked: its objectives, every one to be minimised, and
  by how much it misses the constraints (0 = feasible); None stands for a genome that could not be evaluated.

Feasible beats infeasible, and among infeasible ones the smaller violation (Deb 2000): `cosearch.pareto.ranks` and `best_indices` order so.

Genomes are opaque: all that an algorithm does with one goes through the `GenomeSpace` it was built with. How many genomes a
generation has depends on the settings alone, never on the number of workers, and genome *i* of a run draws only from
`trial_rng(seed, i)`: a run can therefore be replayed from its stored results, and gives the same trials at any number of workers.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from pydantic import NonNegativeInt, PositiveInt

from cosearch.goal import Penalty, Result
from pimsim.discovery import implementation
from pimsim.errors import ConfigError
from pimsim.spec.base import Spec

__all__ = [
    "Algorithm",
    "AlgorithmSettings",
    "FlatSpace",
    "GenomeSpace",
    "Penalty",
    "Result",
    "Unseen",
    "find_algorithm",
    "split",
    "trial_rng",
]

G = TypeVar("G")


class GenomeSpace(Protocol[G]):
    """What an algorithm may do with genomes."""

    def sample(self, rng: np.random.Generator) -> G:
        """A valid genome drawn at random."""

    def mutate(self, genome: G, rng: np.random.Generator) -> G:
        """A valid genome that differs from the given one in one gene."""

    def crossover(self, first: G, second: G, rng: np.random.Generator) -> G:
        """A valid genome that mixes the genes of two."""

    def digest(self, genome: G) -> str:
        """Equal for genomes that mean the same."""


class FlatSpace(GenomeSpace[G], Protocol[G]):
    """A space whose genomes can also be written as one value per gene: what samplers of parameters and local search need."""

    def genes(self) -> dict[str, tuple[Any, ...]]:
        """Choices of every gene, two or more, by name; genes whose change is cheap to evaluate come first."""

    def to_flat(self, genome: G) -> dict[str, Any]:
        """The value of every gene."""

    def from_flat(self, flat: dict[str, Any]) -> G | None:
        """The genome with these values, or None if they make no valid one."""


class Algorithm(Protocol[G]):
    """Ask/tell search."""

    Settings: type[AlgorithmSettings]

    def __init__(self, space: GenomeSpace[G], settings: Any, seed: int) -> None: ...

    def ask(self) -> list[G]:
        """The next generation."""

    def tell(self, results: list[Result | None]) -> None:
        """What came of the generation last asked, in the order asked."""


class AlgorithmSettings(Spec):
    """What every algorithm is told."""

    name: str
    """File name in `cosearch/algorithms/`, entry point, or path of a Python file."""
    candidates: PositiveInt = 128
    """Candidates to evaluate; a run can be taken further by raising it."""
    children: PositiveInt = 8
    """Candidates per generation; results depend on it, so it is not the number of workers."""
    polish: NonNegativeInt = 0
    """Candidates on top, at the end: unseen neighbours of the front, hardware genes first. Such a run is taken further by raising it."""
    penalty: Penalty | None = None
    """Tell the algorithm one scalar of loss and complexity instead of the objectives; the front is still that of the objectives."""

    @property
    def total(self) -> int:
        """All candidates, polishing included."""
        return self.candidates + self.polish


def find_algorithm(name: str) -> Any:
    """The algorithm that `algorithm.name` asks for: shipped, of an entry point `cosearch.algorithms`, or the path of a Python file.

    Raises:
        ConfigError: an unknown name, or a file that cannot be loaded or defines no `ALGORITHM`.
    """
    return _from_file(Path(name)) if name.endswith(".py") else implementation("cosearch.algorithms", "ALGORITHM", "algorithm", name)


@cache
def _from_file(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(f"cosearch_algorithm_{path.stem}", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ConfigError(f"algorithm file {path}: not found")
    module = importlib.util.module_from_spec(spec)
    try:
        sys.modules[module.__name__] = module
        spec.loader.exec_module(module)
    except Exception as error:
        raise ConfigError(f"algorithm file {path}: {type(error).__name__}: {error}".splitlines()[0]) from None
    kind = getattr(module, "ALGORITHM", None)
    settings = getattr(kind, "Settings", None)
    if not (isinstance(settings, type) and issubclass(settings, AlgorithmSettings)):
        raise ConfigError(f"algorithm file {path}: needs ALGORITHM = a class whose nested Settings derives from AlgorithmSettings")
    return kind


def trial_rng(seed: int, index: int) -> np.random.Generator:
    """The generator that trial `index` of a run draws from."""
    return np.random.default_rng(np.random.SeedSequence([seed, index]))


def split(results: Iterable[Result]) -> tuple[np.ndarray, np.ndarray]:
    """Objectives (points, objectives) and violations (points,) of results."""
    told = list(results)
    objectives = np.array([r.objectives for r in told], dtype=float)
    return objectives.reshape(len(told), -1 if told else 0), np.array([r.violation for r in told], dtype=float)


class Unseen(Generic[G]):
    """Finds genomes that were not asked before, within a bounded number of attempts."""

    ATTEMPTS = 64

    def __init__(self, space: GenomeSpace[G]) -> None:
        self.space = space
        self.digests: set[str] = set()

    def claim(self, genome: G) -> bool:
        """Marks a genome as asked; False if it was already."""
        digest = self.space.digest(genome)
        if digest in self.digests:
            return False
        self.digests.add(digest)
        return True

    def sample(self, rng: np.random.Generator) -> G | None:
        """A random genome not asked before, or None when none turned up."""
        for _ in range(self.ATTEMPTS):
            genome = self.space.sample(rng)
            if self.claim(genome):
                return genome
        return None

    def breed(self, parent: Callable[[], G], crossover: float, rng: np.random.Generator) -> G | None:
        """A mutated child not asked before, of one parent or with probability `crossover` of two.

        Mutates more the longer nothing new turns up, and draws at random in the end; None when not even that gives a new genome.
        """
        for attempt in range(self.ATTEMPTS):
            genome = parent()
            if rng.random() < crossover:
                genome = self.space.crossover(genome, parent(), rng)
            for _ in range(1 + attempt // 8):
                genome = self.space.mutate(genome, rng)
            if self.claim(genome):
                return genome
        return self.sample(rng)
