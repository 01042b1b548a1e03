"""Numeric embedding: every dense feature scales a vector of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from pydantic import PositiveInt

from pimsim.graph import WorkloadBuilder
from workloads.operators.base import Operator, Shape, lower_elementwise

if TYPE_CHECKING:
    from torch import Tensor


class NumericEmbedding(Operator):
    """(features,) -> (features, dim): `e_i = x_i v_i`, so that dense features stand beside looked-up ones.

    Parameters: `weight` (features, dim). Cost: one element-wise product of features * dim values; the vectors are read as an operand
    and are not among the weight bytes.

    Sources: Rendle 2010, FM (real-valued features); Song et al. 2019, AutoInt (arXiv 1810.11921), equation 3.
    """

    features: PositiveInt
    dim: PositiveInt

    @property
    def in_shapes(self) -> tuple[Shape, ...]:
        return ((self.features,),)

    @property
    def out_shape(self) -> Shape:
        return (self.features, self.dim)

    def parameter_shapes(self) -> dict[str, Shape]:
        return {"weight": (self.features, self.dim)}

    @property
    def macs(self) -> int:
        return 0

    def lower(self, builder: WorkloadBuilder, name: str, inputs: Sequence[str]) -> str:
        return lower_elementwise(self, builder, name, "mul", self.features * self.dim, *inputs, operands=2)

    def reference(self, parameters: Mapping[str, np.ndarray], *inputs: np.ndarray) -> np.ndarray:
        (x,) = inputs
        return x[:, :, None] * parameters["weight"]

    def forward(self, parameters: Mapping[str, Tensor], *inputs: Tensor) -> Tensor:
        (x,) = inputs
        return x.unsqueeze(2) * parameters["weight"]


OPERATOR = NumericEmbedding
