"""Sum of two dense tensors."""

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


class Sum(Operator):
    """(left_features,), (right_features,) -> (out_features,).

    Both inputs get zeros appended to the wider one's width m; then `activation((l + r) O^T + o)`. The projection is skipped if m
    equals `out_features`.

    Parameters, unless skipped: `out.weight` (out_features, m), `out.bias` (out_features,) if `bias`.
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
        if self.width == self.out_features:
            return {}
        return linear_shapes("out.", self.out_features, self.width, self.bias)

    @property
    def macs(self) -> int:
        return 0 if self.width == self.out_features else self.width * self.out_features

    def lower(self, builder: WorkloadBuilder, name: str, inputs: Sequence[str]) -> str:
        m, bits = self.width, self.activation_bits
        sources = list(inputs)
        for side, (features,) in enumerate(self.in_shapes):
            if features != m:
                padded = Move(name=f"{name}.pad", inputs=(sources[side],), elements=m, activation_bits=bits)
                sources[side] = builder.add(padded)
        total = Elementwise(name=f"{name}.add", inputs=tuple(sources), function="add", elements=m, operands=2, activation_bits=bits)
        out = builder.add(total)
        if m != self.out_features:
            out = lower_linear(self, builder, name, out, self.out_features, m, self.bias)
        return lower_activation(self, builder, name, out, self.activation, self.out_features)

    def reference(self, parameters: Mapping[str, np.ndarray], *inputs: np.ndarray) -> np.ndarray:
        left, right = (pad(x, self.width) for x in inputs)
        out = left + right
        if self.width != self.out_features:
            out = linear(parameters, "out.", out)
        return activate(self.activation, out)

    def forward(self, parameters: Mapping[str, Tensor], *inputs: Tensor) -> Tensor:
        left, right = (torch_layers.pad(x, self.width) for x in inputs)
        out = left + right
        if self.width != self.out_features:
            out = torch_layers.linear(parameters, "out.", out)
        return torch_layers.activate(self.activation, out)


OPERATOR = Sum
