"""Sum of all values of a tensor."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field, PositiveInt

from pimsim.graph import WorkloadBuilder
from workloads.operators.base import Operator, Shape, lower_reduce

if TYPE_CHECKING:
    from torch import Tensor


class Total(Operator):
    """(features,) or (fields, dim) -> (1,). A single value costs nothing and keeps its name; a bias is where the sum begins."""

    shape: tuple[PositiveInt, ...] = Field(min_length=1, max_length=2)
    bias: bool = False
    """Adds one trained value."""

    @property
    def in_shapes(self) -> tuple[Shape, ...]:
        return (self.shape,)

    @property
    def out_shape(self) -> Shape:
        return (1,)

    def parameter_shapes(self) -> dict[str, Shape]:
        return {"bias": (1,)} if self.bias else {}

    @property
    def macs(self) -> int:
        return 0

    def lower(self, builder: WorkloadBuilder, name: str, inputs: Sequence[str]) -> str:
        elements = math.prod(self.shape)
        if elements == 1:
            return inputs[0]
        return lower_reduce(self, builder, name, inputs[0], elements, 1)

    def reference(self, parameters: Mapping[str, np.ndarray], *inputs: np.ndarray) -> np.ndarray:
        (x,) = inputs
        total = x.reshape(len(x), -1).sum(axis=1, keepdims=True)
        return total + parameters["bias"] if self.bias else total

    def forward(self, parameters: Mapping[str, Tensor], *inputs: Tensor) -> Tensor:
        (x,) = inputs
        total = x.flatten(1).sum(1, keepdim=True)
        return total + parameters["bias"] if self.bias else total


OPERATOR = Total
