"""Element-wise sum of tensors of one shape."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field, PositiveInt

from pimsim.graph import WorkloadBuilder
from workloads.operators.base import Operator, Shape, lower_elementwise

if TYPE_CHECKING:
    from torch import Tensor


class Add(Operator):
    """`count` tensors of `shape` -> their sum. No parameters; a single input costs nothing and keeps its name."""

    shape: tuple[PositiveInt, ...] = Field(min_length=1, max_length=2)
    """(features,) or (fields, dim)."""
    count: PositiveInt

    @property
    def in_shapes(self) -> tuple[Shape, ...]:
        return (self.shape,) * self.count

    @property
    def out_shape(self) -> Shape:
        return self.shape

    def parameter_shapes(self) -> dict[str, Shape]:
        return {}

    @property
    def macs(self) -> int:
        return 0

    def lower(self, builder: WorkloadBuilder, name: str, inputs: Sequence[str]) -> str:
        if self.count == 1:
            return inputs[0]
        return lower_elementwise(self, builder, name, "add", math.prod(self.shape), *inputs, operands=self.count)

    def reference(self, parameters: Mapping[str, np.ndarray], *inputs: np.ndarray) -> np.ndarray:
        return np.sum(inputs, axis=0)

    def forward(self, parameters: Mapping[str, Tensor], *inputs: Tensor) -> Tensor:
        total = inputs[0]
        for x in inputs[1:]:
            total = total + x
        return total


OPERATOR = Add
