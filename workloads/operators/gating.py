"""Sigmoid gating of one dense tensor by another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from pydantic import PositiveInt

from pimsim.graph import Elementwise, Move, WorkloadBuilder
from workloads.operators import torch_layers
from workloads.operators.base import (
    Activation,
    Operator,
    Shape,
    activate,
    linear,
    linear_shapes,
    lower_activation,
    lower_linear,
    pad,
)

if TYPE_CHECKING:
    from torch import Tensor


class SigmoidGating(Operator):
    """(left_features,), (right_features,) -> (out_features,).

    Both inputs get zeros appended to the wider one's width m; then `activation((sigmoid(l G^T + g) * r) O^T + o)`.
    The last projection is skipped if m equals `out_features`.

    Parameters: `gate.weight` (m, m), `gate.bias` (m,) and, unless skipped, `out.weight` (out_features, m), `out.bias`
    (out_features,); biases if `bias`.

    Source: NASRec (arXiv 2207.07187); its published code adds the m x m layer to the paper's sketch and always gives it a bias.
    """

    left_features: PositiveInt
    right_features: PositiveInt
    out_features: PositiveInt
    bias: bool = True
    activation: Activation = "none"

    @property
    def width(self) -> int:
        """m: the wider input."""
        return max(self.left_features, self.right_features)

    @property
    def in_shapes(self) -> tuple[Shape, ...]:
        return ((self.left_features,), (self.right_features,))

    @property
    def out_shape(self) -> Shape:
        return (self.out_features,)

    def parameter_shapes(self) -> dict[str, Shape]:
        shapes = linear_shapes("gate.", self.width, self.width, self.bias)
        if self.width != self.out_features:
            shapes |= linear_shapes("out.", self.out_features, self.width, self.bias)
        return shapes

    @property
    def macs(self) -> int:
        return self.width**2 + (0 if self.width == self.out_features else self.width * self.out_features)

    def lower(self, builder: WorkloadBuilder, name: str, inputs: Sequence[str]) -> str:
        left, right = inputs
        m, bits = self.width, self.activation_bits
        if self.left_features != m:
            left = builder.add(Move(name=f"{name}.pad", inputs=(left,), elements=m, activation_bits=bits))
        if self.right_features != m:
            right = builder.add(Move(name=f"{name}.pad", inputs=(right,), elements=m, activation_bits=bits))
        gate = lower_linear(self, builder, f"{name}.gate", left, m, m, self.bias)
        gate = lower_activation(self, builder, name, gate, "sigmoid", m)
        product = Elementwise(name=f"{name}.mul", inputs=(gate, right), function="mul", elements=m, operands=2, activation_bits=bits)
        out = builder.add(product)
        if m != self.out_features:
            out = lower_linear(self, builder, name, out, self.out_features, m, self.bias)
        return lower_activation(self, builder, f"{name}.out", out, self.activation, self.out_features)

    def reference(self, parameters: Mapping[str, np.ndarray], *inputs: np.ndarray) -> np.ndarray:
        left, right = (pad(x, self.width) for x in inputs)
        out = activate("sigmoid", linear(parameters, "gate.", left)) * right
        if self.width != self.out_features:
            out = linear(parameters, "out.", out)
        return activate(self.activation, out)

    def forward(self, parameters: Mapping[str, Tensor], *inputs: Tensor) -> Tensor:
        left, right = (torch_layers.pad(x, self.width) for x in inputs)
        out = torch_layers.linear(parameters, "gate.", left).sigmoid() * right
        if self.width != self.out_features:
            out = torch_layers.linear(parameters, "out.", out)
        return torch_layers.activate(self.activation, out)


OPERATOR = SigmoidGating
