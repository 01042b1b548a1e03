"""What operators on a pair of dense tensors share: inputs of one width, and a projection behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from pydantic import PositiveInt

from pimsim.graph import Move, WorkloadBuilder
from workloads.operators import torch_layers
from workloads.operators.base import Operator, Shape, linear, linear_shapes, lower_linear, pad

if TYPE_CHECKING:
    from torch import Tensor


class PairOperator(Operator):
    """(left_features,), (right_features,) -> (out_features,).

    Both inputs get zeros appended to the wider one's width m; a subclass makes one tensor of m elements of them, which is projected by
    `out.weight` (out_features, m) and, if `bias`, `out.bias` (out_features,). The projection is skipped if m equals `out_features`.
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
    def projected(self) -> bool:
        """False where the projection is skipped."""
        return self.width != self.out_features

    @property
    def in_shapes(self) -> tuple[Shape, ...]:
        return ((self.left_features,), (self.right_features,))

    @property
    def out_shape(self) -> Shape:
        return (self.out_features,)

    def parameter_shapes(self) -> dict[str, Shape]:
        return linear_shapes("out.", self.out_features, self.width, self.bias) if self.projected else {}

    @property
    def macs(self) -> int:
        return self.width * self.out_features if self.projected else 0

    def _lower_padded(self, builder: WorkloadBuilder, name: str, inputs: Sequence[str]) -> list[str]:
        """Both inputs at width m."""
        sources = list(inputs)
        for side, (features,) in enumerate(self.in_shapes):
            if features != self.width:
                padded = Move(name=f"{name}.pad", inputs=(sources[side],), elements=self.width, activation_bits=self.activation_bits)
                sources[side] = builder.add(padded)
        return sources

    def _lower_projection(self, builder: WorkloadBuilder, name: str, source: str) -> str:
        return lower_linear(self, builder, name, source, self.out_features, self.width, self.bias) if self.projected else source

    def _reference_padded(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [pad(x, self.width) for x in inputs]

    def _reference_projection(self, parameters: Mapping[str, np.ndarray], x: np.ndarray) -> np.ndarray:
        return linear(parameters, "out.", x) if self.projected else x

    def _padded(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        return [torch_layers.pad(x, self.width) for x in inputs]

    def _projection(self, parameters: Mapping[str, Tensor], x: Tensor) -> Tensor:
        return torch_layers.linear(parameters, "out.", x) if self.projected else x
