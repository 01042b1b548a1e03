"""Dense-to-sparse merger: a dense tensor becomes extra fields of a sparse one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from pydantic import PositiveInt

from pimsim.graph import WorkloadBuilder
from workloads.operators import torch_layers
from workloads.operators.base import Activation, Operator, Shape, activate, linear, linear_shapes, lower_activation, lower_linear

if TYPE_CHECKING:
    from torch import Tensor


class DenseToFields(Operator):
    """(in_features,) -> (fields, dim), by default 8 fields.

    `activation(x O^T + o)` with fields x dim outputs, reshaped row-major (output j is field j // dim, coordinate j % dim); the
    projection is skipped if `in_features` equals fields x dim. Appending the fields to a sparse tensor is a `concat`.

    Parameters, unless skipped: `out.weight` (fields * dim, in_features), `out.bias` (fields * dim,) if `bias`.
    """

    in_features: PositiveInt
    dim: PositiveInt
    fields: PositiveInt = 8
    bias: bool = True
    activation: Activation = "none"

    @property
    def in_shapes(self) -> tuple[Shape, ...]:
        return ((self.in_features,),)

    @property
    def out_shape(self) -> Shape:
        return (self.fields, self.dim)

    @property
    def _width(self) -> int:
        return self.fields * self.dim

    def parameter_shapes(self) -> dict[str, Shape]:
        if self.in_features == self._width:
            return {}
        return linear_shapes("out.", self._width, self.in_features, self.bias)

    @property
    def macs(self) -> int:
        return 0 if self.in_features == self._width else self.in_features * self._width

    def lower(self, builder: WorkloadBuilder, name: str, inputs: Sequence[str]) -> str:
        (out,) = inputs
        if self.in_features != self._width:
            out = lower_linear(self, builder, name, out, self._width, self.in_features, self.bias)
        return lower_activation(self, builder, name, out, self.activation, self._width)

    def reference(self, parameters: Mapping[str, np.ndarray], *inputs: np.ndarray) -> np.ndarray:
        (x,) = inputs
        if self.in_features != self._width:
            x = linear(parameters, "out.", x)
        return activate(self.activation, x).reshape(-1, self.fields, self.dim)

    def forward(self, parameters: Mapping[str, Tensor], *inputs: Tensor) -> Tensor:
        (x,) = inputs
        if self.in_features != self._width:
            x = torch_layers.linear(parameters, "out.", x)
        return torch_layers.activate(self.activation, x).reshape(-1, self.fields, self.dim)


OPERATOR = DenseToFields
