"""Random search: the yardstick every other algorithm has to beat."""

from __future__ import annotations

from typing import Generic

from cosearch.algorithms import AlgorithmSettings, G, GenomeSpace, Result, Unseen, trial_rng


class RandomSearch(Generic[G]):
    """Draws every candidate independently from the space's own distribution, without repeats."""

    class Settings(AlgorithmSettings):
        """Nothing of its own."""

    def __init__(self, space: GenomeSpace[G], settings: Settings, seed: int) -> None:
        self.settings, self.seed, self.asked = settings, seed, 0
        self.unseen = Unseen(space)

    def ask(self) -> list[G]:
        """The next generation."""
        first, self.asked = self.asked, self.asked + self.settings.children
        drawn = [self.unseen.sample(trial_rng(self.seed, index)) for index in range(first, self.asked)]
        return [genome for genome in drawn if genome is not None]

    def tell(self, results: list[Result | None]) -> None:
        """Random search learns nothing."""


ALGORITHM = RandomSearch
