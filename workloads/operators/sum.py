"""Sum of two dense tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from pimsim.graph import WorkloadBuilder
from workloads.operators import torch_layers
from workloads.operators.base import Activation, activate, lower_activation, lower_elementwise
from workloads.operators.pair import PairOperator

if TYPE_CHECKING:
    from torch import Tensor


class Sum(PairOperator):
    """(left_features,), (right_features,) -> (out_features,).

    Both inputs get zeros appended to the wider one's width m; then `activation((l + r) O^T + o)`. The projection is skipped if m
    equals `out_features`.

    Parameters, unless skipped: `out.weight` (out_features, m), `out.bias` (out_features,) if `bias`.
    """

    activation: Activation = "none"

    def lower(self, builder: WorkloadBuilder, name: str, inputs: Sequence[str]) -> str:
        left, right = self._lower_padded(builder, name, inputs)
        out = lower_elementwise(self, builder, f"{name}.add", "add", self.width, left, right)
        out = self._lower_projection(builder, name, out)
        return lower_activation(self, builder, name, out, self.activation, self.out_features)

    def reference(self, parameters: Mapping[str, np.ndarray], *inputs: np.ndarray) -> np.ndarray:
        left, right = self._reference_padded(inputs)
        return activate(self.activation, self._reference_projection(parameters, left + right))

    def forward(self, parameters: Mapping[str, Tensor], *inputs: Tensor) -> Tensor:
        left, right = self._padded(inputs)
        return torch_layers.activate(self.activation, self._projection(parameters, left + right))


OPERATOR = Sum
