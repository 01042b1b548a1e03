"""Multi-layer perceptron on a dense tensor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field, PositiveInt

from pimsim.graph import WorkloadBuilder
from workloads.operators import torch_layers
from workloads.operators.base import Activation, Operator, Shape, activate, linear, linear_shapes, lower_activation, lower_linear

if TYPE_CHECKING:
    from torch import Tensor


class MultiLayerPerceptron(Operator):
    """(sizes[0],) -> (sizes[-1],): linear layers, each but the last followed by `activation`, the last by `output_activation`.

    Parameters of layer i, counted from 0: `<i>.weight` (sizes[i + 1], sizes[i]), `<i>.bias` (sizes[i + 1],) if `bias`.
    """

    sizes: tuple[PositiveInt, ...] = Field(min_length=2)
    """Widths from the input to the output."""
    bias: bool = True
    activation: Activation = "relu"
    output_activation: Activation = "relu"

    @property
    def in_shapes(self) -> tuple[Shape, ...]:
        return ((self.sizes[0],),)

    @property
    def out_shape(self) -> Shape:
        return (self.sizes[-1],)

    def parameter_shapes(self) -> dict[str, Shape]:
        shapes: dict[str, Shape] = {}
        for i, (inputs, outputs) in enumerate(pairwise(self.sizes)):
            shapes |= linear_shapes(f"{i}.", outputs, inputs, self.bias)
        return shapes

    @property
    def macs(self) -> int:
        return sum(inputs * outputs for inputs, outputs in pairwise(self.sizes))

    def _activation_of(self, layer: int) -> Activation:
        return self.output_activation if layer == len(self.sizes) - 2 else self.activation

    def lower(self, builder: WorkloadBuilder, name: str, inputs: Sequence[str]) -> str:
        (out,) = inputs
        for i, (features, outputs) in enumerate(pairwise(self.sizes)):
            out = lower_linear(self, builder, f"{name}.{i}", out, outputs, features, self.bias)
            out = lower_activation(self, builder, f"{name}.{i}", out, self._activation_of(i), outputs)
        return out

    def reference(self, parameters: Mapping[str, np.ndarray], *inputs: np.ndarray) -> np.ndarray:
        (x,) = inputs
        for i in range(len(self.sizes) - 1):
            x = activate(self._activation_of(i), linear(parameters, f"{i}.", x))
        return x

    def forward(self, parameters: Mapping[str, Tensor], *inputs: Tensor) -> Tensor:
        (x,) = inputs
        for i in range(len(self.sizes) - 1):
            x = torch_layers.activate(self._activation_of(i), torch_layers.linear(parameters, f"{i}.", x))
        return x


OPERATOR = MultiLayerPerceptron
