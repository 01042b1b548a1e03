"""Bayesian optimisation with Gaussian processes, Optuna's sampler: for small budgets.

One process an objective (Matern 5/2, distances of categories by equality), the next candidate where the logarithm of the expected
improvement (several objectives: of the hypervolume's) is greatest, and constraints as processes of their own. Its cost grows with the cube
of the candidates and with the genes: seconds a candidate for some hundreds; take `tpe` or `evolution` beyond. Genomes, repeats and
replay are as for `tpe`.
"""

from __future__ import annotations

from typing import Any

from pydantic import PositiveInt

from cosearch.algorithms import AlgorithmSettings, G
from cosearch.algorithms.tpe import TPE


class GaussianProcess(TPE[G]):
    """Optuna's GP sampler on flat genomes."""

    class Settings(AlgorithmSettings):
        """The sampler's settings."""

        candidates: PositiveInt = 64
        """A small budget."""
        children: PositiveInt = 2
        """Few, for every candidate counts."""
        startup: PositiveInt = 16
        """Random candidates before the first process is fitted."""

    DRAWS = 2

    def sampler(self, seed: int) -> Any:
        """A fresh sampler that believes its results: they hold no noise."""
        import warnings

        import optuna

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return optuna.samplers.GPSampler(seed=seed, n_startup_trials=0, deterministic_objective=True)

    def _sampled(self, seed: int) -> dict[str, Any]:
        """On one thread, so that the fit does not depend on the machine's cores."""
        from cosearch.pool import one_thread

        with one_thread():
            return super()._sampled(seed)


ALGORITHM = GaussianProcess
