"""Bi-interaction pooling: all pairwise products of the fields' vectors, summed to one vector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from pydantic import PositiveInt

from pimsim.graph import WorkloadBuilder
from workloads.operators.base import Operator, Shape, lower_elementwise
from workloads.operators.fm import lower_pairs

if TYPE_CHECKING:
    from torch import Tensor


class BiInteraction(Operator):
    """(fields, dim) -> (dim,): `sum_(i<j) e_i * e_j = ((sum_i e_i)^2 - sum_i e_i^2) / 2`, per coordinate. No parameters.

    Summed over its coordinates it is the second-order term of a factorisation machine.

    Sources: He and Chua 2017, NFM (arXiv 1708.05027), equation 4; Rendle 2010, FM.
    """

    fields: PositiveInt
    dim: PositiveInt

    @property
    def in_shapes(self) -> tuple[Shape, ...]:
        return ((self.fields, self.dim),)

    @property
    def out_shape(self) -> Shape:
        return (self.dim,)

    def parameter_shapes(self) -> dict[str, Shape]:
        return {}

    @property
    def macs(self) -> int:
        return 0

    def lower(self, builder: WorkloadBuilder, name: str, inputs: Sequence[str]) -> str:
        (source,) = inputs
        twice = lower_pairs(self, builder, name, source, self.fields, self.dim)
        return lower_elementwise(self, builder, name, "mul", self.dim, twice)

    def reference(self, parameters: Mapping[str, np.ndarray], *inputs: np.ndarray) -> np.ndarray:
        (e,) = inputs
        return (e.sum(axis=1) ** 2 - (e**2).sum(axis=1)) / 2

    def forward(self, parameters: Mapping[str, Tensor], *inputs: Tensor) -> Tensor:
        (e,) = inputs
        return (e.sum(1).square() - e.square().sum(1)) / 2


OPERATOR = BiInteraction
