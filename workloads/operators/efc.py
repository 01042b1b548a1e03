"""Embedding fully connected layer (EFC): a linear layer over the field axis of a sparse tensor."""

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
    linear_over_fields,
    linear_shapes,
    lower_activation,
    lower_linear,
)

if TYPE_CHECKING:
    from torch import Tensor


class EmbeddingFullyConnected(Operator):
    """`y[o, d] = activation(sum_i W[o, i] x[i, d] + b[o])`: (in_fields, dim) -> (out_fields, dim).

    Parameters: `weight` (out_fields, in_fields), `bias` (out_fields,) if `bias`. One matrix product with `dim` vectors.
    """

    in_fields: PositiveInt
    out_fields: PositiveInt
    dim: PositiveInt
    bias: bool = True
    activation: Activation = "relu"

    @property
    def in_shapes(self) -> tuple[Shape, ...]:
        return ((self.in_fields, self.dim),)

    @property
    def out_shape(self) -> Shape:
        return (self.out_fields, self.dim)

    def parameter_shapes(self) -> dict[str, Shape]:
        return linear_shapes("", self.out_fields, self.in_fields, self.bias)

    @property
    def macs(self) -> int:
        return self.in_fields * self.out_fields * self.dim

    def lower(self, builder: WorkloadBuilder, name: str, inputs: Sequence[str]) -> str:
        (source,) = inputs
        out = lower_linear(self, builder, name, source, self.out_fields, self.in_fields, self.bias, vectors=self.dim)
        return lower_activation(self, builder, name, out, self.activation, self.out_fields * self.dim)

    def reference(self, parameters: Mapping[str, np.ndarray], *inputs: np.ndarray) -> np.ndarray:
        (x,) = inputs
        return activate(self.activation, linear_over_fields(parameters, "", x))

    def forward(self, parameters: Mapping[str, Tensor], *inputs: Tensor) -> Tensor:
        (x,) = inputs
        return torch_layers.activate(self.activation, torch_layers.linear_over_fields(parameters, "", x))


OPERATOR = EmbeddingFullyConnected
