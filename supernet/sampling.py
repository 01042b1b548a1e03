"""Which network a step of the supernet's training draws.

`any_connection` is NASRec's single-operator any-connection sampling: one operator of each kind a block, any set of inputs, the very
distribution of the search. `single_path` gives every operator one input of each kind, as single-path one-shot methods do; wider sets
are never seen in training. `widest` takes full widths and every source and draws only the operators.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

from supernet.genotype import Genotype
from supernet.space import Space

Strategy = Literal["any_connection", "single_path", "widest"]


def _any_connection(space: Space, rng: np.random.Generator) -> Genotype:
    return space.sample(rng)


def _single_path(space: Space, rng: np.random.Generator) -> Genotype:
    return space.model_copy(update={"max_fan_in": 1}).sample(rng)


def _widest(space: Space, rng: np.random.Generator) -> Genotype:
    return space.widest(rng)


STRATEGIES: dict[Strategy, Callable[[Space, np.random.Generator], Genotype]] = {
    "any_connection": _any_connection,
    "single_path": _single_path,
    "widest": _widest,
}
