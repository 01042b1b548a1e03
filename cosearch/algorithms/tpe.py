"""Tree-structured Parzen estimator (Bergstra et al., 2011; with several objectives Ozaki et al., 2022), Optuna's sampler.

Every gene of the space is a parameter: an integer (the place among the choices) where the choices are numbers in order, else a category.
The genes of a network are conditional, which the sampler is not told: genes that do not matter are noise to it, and what it proposes
again under another name is known by its digest. Such a proposal, or one that makes no device, is drawn again with another seed, then
mutated until it is new. A sampler is made afresh for every candidate, seeded by (seed, index), and sees all results told so far: a run is
replayed without any state.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic

import numpy as np
from pydantic import PositiveInt

from cosearch.algorithms import AlgorithmSettings, FlatSpace, G, Result, Unseen, trial_rng


class TPE(Generic[G]):
    """Optuna's TPE on flat genomes."""

    class Settings(AlgorithmSettings):
        """The sampler's settings."""

        startup: PositiveInt = 24
        """Random candidates before the first model."""
        multivariate: bool = True
        """Model the genes jointly instead of one by one."""

    DRAWS = 4

    def __init__(self, space: FlatSpace[G], settings: Any, seed: int) -> None:
        self.space, self.settings, self.seed = space, settings, seed
        self.asked, self.told = 0, 0
        self.unseen = Unseen(space)
        self.genes = space.genes()
        self.generation: list[G] = []
        self.study: Any = None

    def ask(self) -> list[G]:
        """Random candidates first, then proposals."""
        first, self.asked = self.asked, self.asked + self.settings.children
        proposed = [self._propose(index) for index in range(first, self.asked)]
        self.generation = [genome for genome in proposed if genome is not None]
        return list(self.generation)

    def tell(self, results: list[Result | None]) -> None:
        """Adds the results to the sampler's study; what could not be evaluated is left out."""
        import optuna

        for genome, result in zip(self.generation, results, strict=True):
            if result is None:
                continue
            self.study = self.study or self._new_study(len(result.objectives))
            self.study.add_trial(
                optuna.trial.create_trial(
                    values=list(result.objectives),
                    params=self._encode(genome),
                    distributions=self._distributions(),
                    constraints={"violation": result.violation},
                )
            )
            self.told += 1

    def sampler(self, seed: int) -> Any:
        """A fresh sampler; `told` results are known, the first model needs `startup` of them."""
        import warnings

        import optuna

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return optuna.samplers.TPESampler(seed=seed, n_startup_trials=0, multivariate=self.settings.multivariate)

    def _propose(self, index: int) -> G | None:
        rng = trial_rng(self.seed, index)
        if self.told < self.settings.startup:
            return self.unseen.sample(rng)
        genome = None
        for _ in range(self.DRAWS):
            drawn = self.space.from_flat(self._sampled(int(rng.integers(2**31))))
            if drawn is not None and self.unseen.claim(drawn):
                return drawn
            genome = drawn if drawn is not None else genome
        if genome is None:
            return self.unseen.sample(rng)
        near = genome
        return self.unseen.breed(lambda: near, 0.0, rng)

    def _sampled(self, seed: int) -> dict[str, Any]:
        """One draw of a sampler, as a flat genome. The trial that the study needs for it is closed at once, as failed."""
        import optuna

        self.study.sampler = self.sampler(seed)
        trial = self.study.ask(self._distributions())
        self.study.tell(trial, state=optuna.trial.TrialState.FAIL)
        places = {name: trial.params[name] for name in self.genes}
        return {name: choices[places[name]] for name, choices in self.genes.items()}

    def _encode(self, genome: G) -> dict[str, int]:
        flat = self.space.to_flat(genome)
        return {name: choices.index(flat[name]) for name, choices in self.genes.items()}

    def _distributions(self) -> dict[str, Any]:
        from optuna.distributions import CategoricalDistribution, IntDistribution

        return {
            name: IntDistribution(0, len(choices) - 1) if in_order(choices) else CategoricalDistribution(range(len(choices)))
            for name, choices in self.genes.items()
        }

    def _new_study(self, objectives: int) -> Any:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        return optuna.create_study(directions=["minimize"] * objectives)


def in_order(choices: Sequence[Any]) -> bool:
    """True for three or more numbers that rise or fall."""
    numbers = len(choices) > 2 and all(isinstance(choice, int | float) and not isinstance(choice, bool) for choice in choices)
    return numbers and bool((np.diff(choices) > 0).all() or (np.diff(choices) < 0).all())


ALGORITHM = TPE
