"""Factorisation machine on a sparse tensor (the sparse-to-dense merger)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from pydantic import PositiveInt

from pimsim.graph import WorkloadBuilder
from workloads.operators import torch_layers
from workloads.operators.base import (
    Activation,
    Operator,
    Shape,
    activate,
    linear,
    linear_shapes,
    lower_activation,
    lower_elementwise,
    lower_linear,
    lower_reduce,
)

if TYPE_CHECKING:
    from torch import Tensor


class FactorizationMachine(Operator):
    """(fields, dim) -> (out_features,).

    `s = (sum_i e_i)^2 - sum_i e_i^2` per embedding coordinate (without the one half of Rendle's form), then
    `activation(s O^T + o)`; the projection is skipped if `dim` equals `out_features`.

    Parameters, unless skipped: `out.weight` (out_features, dim), `out.bias` (out_features,) if `bias`.
    """

    fields: PositiveInt
    dim: PositiveInt
    out_features: PositiveInt
    bias: bool = True
    activation: Activation = "none"

    @property
    def in_shapes(self) -> tuple[Shape, ...]:
        return ((self.fields, self.dim),)

    @property
    def out_shape(self) -> Shape:
        return (self.out_features,)

    def parameter_shapes(self) -> dict[str, Shape]:
        if self.dim == self.out_features:
            return {}
        return linear_shapes("out.", self.out_features, self.dim, self.bias)

    @property
    def macs(self) -> int:
        return 0 if self.dim == self.out_features else self.dim * self.out_features

    def lower(self, builder: WorkloadBuilder, name: str, inputs: Sequence[str]) -> str:
        (source,) = inputs
        out = lower_pairs(self, builder, name, source, self.fields, self.dim)
        if self.dim != self.out_features:
            out = lower_linear(self, builder, name, out, self.out_features, self.dim, self.bias)
        return lower_activation(self, builder, name, out, self.activation, self.out_features)

    def reference(self, parameters: Mapping[str, np.ndarray], *inputs: np.ndarray) -> np.ndarray:
        (e,) = inputs
        s = e.sum(axis=1) ** 2 - (e**2).sum(axis=1)
        if self.dim != self.out_features:
            s = linear(parameters, "out.", s)
        return activate(self.activation, s)

    def forward(self, parameters: Mapping[str, Tensor], *inputs: Tensor) -> Tensor:
        (e,) = inputs
        s = e.sum(1).square() - e.square().sum(1)
        if self.dim != self.out_features:
            s = torch_layers.linear(parameters, "out.", s)
        return torch_layers.activate(self.activation, s)


def lower_pairs(operator: Operator, builder: WorkloadBuilder, name: str, source: str, fields: int, dim: int) -> str:
    """Adds (sum e)^2 - sum e^2 of `fields` vectors, twice the sum of all pairwise products; returns `name.sub`."""
    elements = fields * dim
    total = lower_reduce(operator, builder, f"{name}.sum", source, elements, dim)
    square_of_sum = lower_elementwise(operator, builder, f"{name}.square_of_sum", "square", dim, total)
    squares = lower_elementwise(operator, builder, f"{name}.squares", "square", elements, source)
    sum_of_squares = lower_reduce(operator, builder, f"{name}.sum_of_squares", squares, elements, dim)
    return lower_elementwise(operator, builder, f"{name}.sub", "sub", dim, square_of_sum, sum_of_squares)


OPERATOR = FactorizationMachine
