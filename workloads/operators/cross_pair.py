"""Cross layer of DCNv2 over two dense tensors, with a projection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from pydantic import PositiveInt

from pimsim.graph import Move, WorkloadBuilder
from workloads.operators import torch_layers
from workloads.operators.base import Operator, Shape, linear, linear_shapes, lower_elementwise, lower_linear, pad

if TYPE_CHECKING:
    from torch import Tensor


class CrossPair(Operator):
    """(left_features,), (right_features,) -> (out_features,).

    Both inputs get zeros appended to the wider one's width m; then `(l * (r W^T + b) + r) O^T + o`: one step of a cross network from
    x_l = r with x_0 = l, and a projection. The projection is skipped if m equals `out_features`.

    Parameters: `cross.weight` (m, m), `cross.bias` (m,) and, unless skipped, `out.weight` (out_features, m), `out.bias`
    (out_features,); biases if `bias`.

    Source: Wang et al. 2021 (arXiv 2008.13535), equation 1, without the projection.
    """

    left_features: PositiveInt
    right_features: PositiveInt
    out_features: PositiveInt
    bias: bool = True

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
        shapes = linear_shapes("cross.", self.width, self.width, self.bias)
        if self.width != self.out_features:
            shapes |= linear_shapes("out.", self.out_features, self.width, self.bias)
        return shapes

    @property
    def macs(self) -> int:
        return self.width**2 + (0 if self.width == self.out_features else self.width * self.out_features)

    def lower(self, builder: WorkloadBuilder, name: str, inputs: Sequence[str]) -> str:
        m, sources = self.width, list(inputs)
        for side, (features,) in enumerate(self.in_shapes):
            if features != m:
                padded = Move(name=f"{name}.pad", inputs=(sources[side],), elements=m, activation_bits=self.activation_bits)
                sources[side] = builder.add(padded)
        left, right = sources
        step = lower_linear(self, builder, f"{name}.cross", right, m, m, self.bias)
        scaled = lower_elementwise(self, builder, f"{name}.mul", "mul", m, left, step)
        out = lower_elementwise(self, builder, f"{name}.add", "add", m, scaled, right)
        if m != self.out_features:
            out = lower_linear(self, builder, name, out, self.out_features, m, self.bias)
        return out

    def reference(self, parameters: Mapping[str, np.ndarray], *inputs: np.ndarray) -> np.ndarray:
        left, right = (pad(x, self.width) for x in inputs)
        out = left * linear(parameters, "cross.", right) + right
        return out if self.width == self.out_features else linear(parameters, "out.", out)

    def forward(self, parameters: Mapping[str, Tensor], *inputs: Tensor) -> Tensor:
        left, right = (torch_layers.pad(x, self.width) for x in inputs)
        out = right.addcmul(left, torch_layers.linear(parameters, "cross.", right))
        return out if self.width == self.out_features else torch_layers.linear(parameters, "out.", out)


OPERATOR = CrossPair
