"""Sigmoid gating of one dense tensor by another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from pimsim.graph import WorkloadBuilder
from workloads.operators import torch_layers
from workloads.operators.base import Activation, Shape, activate, linear, linear_shapes, lower_activation, lower_elementwise, lower_linear
from workloads.operators.pair import PairOperator

if TYPE_CHECKING:
    from torch import Tensor


class SigmoidGating(PairOperator):
    """(left_features,), (right_features,) -> (out_features,).

    Both inputs get zeros appended to the wider one's width m; then `activation((sigmoid(l G^T + g) * r) O^T + o)`.
    The last projection is skipped if m equals `out_features`.

    Parameters: `gate.weight` (m, m), `gate.bias` (m,) and, unless skipped, `out.weight` (out_features, m), `out.bias`
    (out_features,); biases if `bias`.

    Source: NASRec (arXiv 2207.07187); its published code adds the m x m layer to the paper's sketch and always gives it a bias.
    """

    activation: Activation = "none"

    def parameter_shapes(self) -> dict[str, Shape]:
        return linear_shapes("gate.", self.width, self.width, self.bias) | super().parameter_shapes()

    @property
    def macs(self) -> int:
        return self.width**2 + super().macs

    def lower(self, builder: WorkloadBuilder, name: str, inputs: Sequence[str]) -> str:
        m = self.width
        left, right = self._lower_padded(builder, name, inputs)
        gate = lower_linear(self, builder, f"{name}.gate", left, m, m, self.bias)
        gate = lower_activation(self, builder, name, gate, "sigmoid", m)
        out = lower_elementwise(self, builder, f"{name}.mul", "mul", m, gate, right)
        out = self._lower_projection(builder, name, out)
        return lower_activation(self, builder, f"{name}.out", out, self.activation, self.out_features)

    def reference(self, parameters: Mapping[str, np.ndarray], *inputs: np.ndarray) -> np.ndarray:
        left, right = self._reference_padded(inputs)
        gated = activate("sigmoid", linear(parameters, "gate.", left)) * right
        return activate(self.activation, self._reference_projection(parameters, gated))

    def forward(self, parameters: Mapping[str, Tensor], *inputs: Tensor) -> Tensor:
        left, right = self._padded(inputs)
        gated = torch_layers.linear(parameters, "gate.", left).sigmoid() * right
        return torch_layers.activate(self.activation, self._projection(parameters, gated))


OPERATOR = SigmoidGating
