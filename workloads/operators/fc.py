"""Fully connected layer on a dense tensor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from pydantic import PositiveInt

from pimsim.graph import WorkloadBuilder
from workloads.operators import torch_layers
from workloads.operators.base import Activation, Operator, Shape, activate, linear, linear_shapes, lower_activation, lower_linear

if TYPE_CHECKING:
    from torch import Tensor


class FullyConnected(Operator):
    """`activation(x W^T + b)`: (in_features,) -> (out_features,).

    Parameters: `weight` (out_features, in_features), `bias` (out_features,) if `bias`.
    """

    in_features: PositiveInt
    out_features: PositiveInt
    bias: bool = True
    activation: Activation = "relu"

    @property
    def in_shapes(self) -> tuple[Shape, ...]:
        return ((self.in_features,),)

    @property
    def out_shape(self) -> Shape:
        return (self.out_features,)

    def parameter_shapes(self) -> dict[str, Shape]:
        return linear_shapes("", self.out_features, self.in_features, self.bias)

    @property
    def macs(self) -> int:
        return self.in_features * self.out_features

    def lower(self, builder: WorkloadBuilder, name: str, inputs: Sequence[str]) -> str:
        (source,) = inputs
        out = lower_linear(self, builder, name, source, self.out_features, self.in_features, self.bias)
        return lower_activation(self, builder, name, out, self.activation, self.out_features)

    def reference(self, parameters: Mapping[str, np.ndarray], *inputs: np.ndarray) -> np.ndarray:
        (x,) = inputs
        return activate(self.activation, linear(parameters, "", x))

    def forward(self, parameters: Mapping[str, Tensor], *inputs: Tensor) -> Tensor:
        (x,) = inputs
        return torch_layers.activate(self.activation, torch_layers.linear(parameters, "", x))


OPERATOR = FullyConnected
