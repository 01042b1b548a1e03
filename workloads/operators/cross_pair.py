"""Cross layer of DCNv2 over two dense tensors, with a projection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from pimsim.graph import WorkloadBuilder
from workloads.operators import torch_layers
from workloads.operators.base import Shape, linear, linear_shapes, lower_elementwise, lower_linear
from workloads.operators.pair import PairOperator

if TYPE_CHECKING:
    from torch import Tensor


class CrossPair(PairOperator):
    """(left_features,), (right_features,) -> (out_features,).

    Both inputs get zeros appended to the wider one's width m; then `(l * (r W^T + b) + r) O^T + o`: one step of a cross network from
    x_l = r with x_0 = l, and a projection. The projection is skipped if m equals `out_features`.

    Parameters: `cross.weight` (m, m), `cross.bias` (m,) and, unless skipped, `out.weight` (out_features, m), `out.bias`
    (out_features,); biases if `bias`.

    Source: Wang et al. 2021 (arXiv 2008.13535), equation 1, without the projection.
    """

    def parameter_shapes(self) -> dict[str, Shape]:
        return linear_shapes("cross.", self.width, self.width, self.bias) | super().parameter_shapes()

    @property
    def macs(self) -> int:
        return self.width**2 + super().macs

    def lower(self, builder: WorkloadBuilder, name: str, inputs: Sequence[str]) -> str:
        m = self.width
        left, right = self._lower_padded(builder, name, inputs)
        step = lower_linear(self, builder, f"{name}.cross", right, m, m, self.bias)
        scaled = lower_elementwise(self, builder, f"{name}.mul", "mul", m, left, step)
        out = lower_elementwise(self, builder, f"{name}.add", "add", m, scaled, right)
        return self._lower_projection(builder, name, out)

    def reference(self, parameters: Mapping[str, np.ndarray], *inputs: np.ndarray) -> np.ndarray:
        left, right = self._reference_padded(inputs)
        return self._reference_projection(parameters, left * linear(parameters, "cross.", right) + right)

    def forward(self, parameters: Mapping[str, Tensor], *inputs: Tensor) -> Tensor:
        left, right = self._padded(inputs)
        return self._projection(parameters, right.addcmul(left, torch_layers.linear(parameters, "cross.", right)))


OPERATOR = CrossPair
