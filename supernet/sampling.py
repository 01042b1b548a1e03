"""Which networks a step of the supernet's training draws.

`any_connection` is NASRec's single-operator any-connection sampling: one operator of each kind a block, any set of inputs, the very
distribution of the search. `single_path` gives every operator one input of each kind, as single-path one-shot methods do; wider sets
are never seen in training. `widest` takes full widths and every source and draws only the operators. `any_path` and `full_path` are
NASRec's further ways: a set of operators of each block at once (its size uniform; see `supernet.paths`) with the inputs and widths
of `any_connection`, and all operators, all inputs, full widths. Source: facebookresearch/NasRec, `nasrec/supernet/supernet.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any, Literal

import numpy as np
from pydantic import Field, NonNegativeInt

from pimsim.errors import ConfigError, unknown_name
from pimsim.spec.base import Spec
from supernet.genotype import Genotype
from supernet.paths import NetworkPath, join
from supernet.space import Space

Strategy = Literal["any_connection", "single_path", "widest", "any_path", "full_path"]


class Phase(Spec):
    """A part of the training, from the beginning on, that draws from a part of the space only.

    H4H-NAS (Zhao et al., ASP-DAC 2025) trains a supernet in two incremental phases, lest networks of different kinds of blocks pull the
    shared weights apart; its abstract is all that was open to us, so which phase trains what is the user's choice here.
    """

    share: float = Field(gt=0, le=1)
    """Share of all steps."""
    only: dict[str, tuple[Any, ...]] = Field(min_length=1)
    """Values that are left of some of the space's lists: `{dense_dims: [64, 128]}` for large networks, `{dense_operators: [fc]}` for one
    kind of operator."""


class Sandwich(Spec):
    """Several networks a step on the same rows: the widest, the smallest and random ones; their gradients are added up.

    Source: the sandwich rule and in-place distillation of Yu & Huang, "Universally Slimmable Networks", ICCV 2019, as BigNAS (Yu et al.,
    ECCV 2020) trains its supernet, with two random networks.
    """

    random: NonNegativeInt = 2
    """Random networks a step, each drawn as an ordinary step draws its one."""
    distil: bool = True
    """All but the widest learn the widest's probabilities instead of the labels."""


def _any_connection(space: Space, rng: np.random.Generator) -> NetworkPath:
    return NetworkPath.of(space.sample(rng), space.blocks)


def _single_path(space: Space, rng: np.random.Generator) -> NetworkPath:
    return NetworkPath.of(space.model_copy(update={"max_fan_in": 1}).sample(rng), space.blocks)


def widest(space: Space, rng: np.random.Generator) -> NetworkPath:
    """Full widths and every source; the operators are drawn."""
    return NetworkPath.of(space.widest(rng), space.blocks)


def smallest(space: Space, rng: np.random.Generator) -> NetworkPath:
    """Least widths, one source an operator, no merger that can be left out; operators and sources are drawn."""
    least = {
        gene: (min(values),) for gene in ("dense_dims", "sparse_dims", "interact", "fm", "table_dims") if (values := getattr(space, gene))
    }
    return NetworkPath.of(space.model_copy(update={"max_fan_in": 1, **least}).sample(rng), space.blocks)


def _any_path(space: Space, rng: np.random.Generator) -> NetworkPath:
    return _with_operators(space, space.sample(rng), rng, lambda names: int(rng.integers(1, len(names) + 1)))


def _full_path(space: Space, rng: np.random.Generator) -> NetworkPath:
    return _with_operators(space, space.widest(rng), rng, len)


def _with_operators(space: Space, genotype: Genotype, rng: np.random.Generator, count: Callable[[tuple[str, ...]], int]) -> NetworkPath:
    """The genotype with so many operators of each kind in every block, in random order."""
    dense, sparse = (
        [[names[i] for i in rng.choice(len(names), count(names), replace=False)] for _ in genotype.blocks]
        for names in (space.dense_operators, space.sparse_operators)
    )
    return join(genotype, dense, sparse, space.blocks, rng)


STRATEGIES: dict[Strategy, Callable[[Space, np.random.Generator], NetworkPath]] = {
    "any_connection": _any_connection,
    "single_path": _single_path,
    "widest": widest,
    "any_path": _any_path,
    "full_path": _full_path,
}


def narrowed(space: Space, only: dict[str, tuple[Any, ...]], where: str) -> Space:
    """The part of a space that has only these values.

    Raises:
        ConfigError: not a list of the space, or a value that it does not have; the line starts with `where`.
    """
    lists = {name: value for name, value in space if isinstance(value, tuple)}
    kept = {}
    for name, values in only.items():
        if name not in lists:
            raise ConfigError(f"{where}.{name}: {unknown_name('list of values of the space', name, lists)}")
        for value in values or (None,):
            if value not in lists[name]:
                raise ConfigError(f"{where}.{name}: {value}, allowed: {', '.join(str(v) for v in lists[name])}")
        kept[name] = tuple(value for value in lists[name] if value in values)
    return space.model_copy(update=kept)


def phase_spaces(space: Space, phases: Sequence[Phase], where: str) -> tuple[tuple[float, Space], ...]:
    """The end of each phase, as a share of the training, and the part of the space that it draws from.

    Raises:
        ConfigError: see `narrowed`.
    """
    ends = accumulate(phase.share for phase in phases)
    spaces = [narrowed(space, phase.only, f"{where}.{i}.only") for i, phase in enumerate(phases)]
    return tuple(zip(ends, spaces, strict=True))
