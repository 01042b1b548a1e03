"""Bilinear fusion of two dense tensors to one value (FinalMLP)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Self

import numpy as np
from pydantic import PositiveInt, model_validator

from pimsim.graph import WorkloadBuilder
from workloads.operators import torch_layers
from workloads.operators.base import Operator, Shape, linear, linear_shapes, lower_elementwise, lower_linear, lower_product

if TYPE_CHECKING:
    from torch import Tensor


class BilinearFusion(Operator):
    """(left_features,), (right_features,) -> (1,).

    `w . l + b + u . r + c + sum_h r_h^T W_h l_h`, with both inputs cut into `heads` equal pieces.

    Parameters: `left.weight` (1, left_features), `left.bias`, `right.weight` (1, right_features), `right.bias`, and `pair.weight`
    (heads, right_features / heads, left_features / heads).

    Cost: one matrix product a head, then one product of the two activations of length `right_features`.

    Source: Mao et al. 2023, FinalMLP (arXiv 2304.00902), equations 9 and 10.
    """

    left_features: PositiveInt
    right_features: PositiveInt
    heads: PositiveInt = 1

    @model_validator(mode="after")
    def _divides(self) -> Self:
        for side, features in (("left_features", self.left_features), ("right_features", self.right_features)):
            if features % self.heads:
                raise ValueError(f"heads: {self.heads} does not divide {side} {features}")
        return self

    @property
    def in_shapes(self) -> tuple[Shape, ...]:
        return ((self.left_features,), (self.right_features,))

    @property
    def out_shape(self) -> Shape:
        return (1,)

    @property
    def _head(self) -> tuple[int, int]:
        return self.right_features // self.heads, self.left_features // self.heads

    def parameter_shapes(self) -> dict[str, Shape]:
        left, right = linear_shapes("left.", 1, self.left_features, True), linear_shapes("right.", 1, self.right_features, True)
        return left | right | {"pair.weight": (self.heads, *self._head)}

    @property
    def macs(self) -> int:
        rows, columns = self._head
        return self.left_features + self.right_features + self.heads * rows * columns + self.right_features

    def lower(self, builder: WorkloadBuilder, name: str, inputs: Sequence[str]) -> str:
        left, right = inputs
        rows, columns = self._head
        terms = [
            lower_linear(self, builder, f"{name}.left", left, 1, self.left_features, True),
            lower_linear(self, builder, f"{name}.right", right, 1, self.right_features, True),
        ]
        heads = [lower_linear(self, builder, f"{name}.pair.{h}", left, rows, columns, False) for h in range(self.heads)]
        terms.append(lower_product(self, builder, f"{name}.product", (1, self.right_features, 1), *heads, right))
        return lower_elementwise(self, builder, f"{name}.add", "add", 1, *terms)

    def reference(self, parameters: Mapping[str, np.ndarray], *inputs: np.ndarray) -> np.ndarray:
        left, right = inputs
        rows, columns = self._head
        heads = zip(parameters["pair.weight"], left.reshape(-1, self.heads, columns).transpose(1, 0, 2), strict=True)
        seen = np.stack([piece @ weight.T for weight, piece in heads], axis=1)
        pairs = (seen * right.reshape(-1, self.heads, rows)).sum(axis=(1, 2))
        return linear(parameters, "left.", left) + linear(parameters, "right.", right) + pairs[:, None]

    def forward(self, parameters: Mapping[str, Tensor], *inputs: Tensor) -> Tensor:
        left, right = inputs
        pieces = left.unflatten(1, (self.heads, -1)).transpose(0, 1)  # (heads, batch, left / heads)
        seen = (pieces @ parameters["pair.weight"].transpose(1, 2)).transpose(0, 1).flatten(1)
        pairs = (seen.unsqueeze(1) @ right.unsqueeze(2)).squeeze(2)
        return torch_layers.linear(parameters, "left.", left) + torch_layers.linear(parameters, "right.", right) + pairs


OPERATOR = BilinearFusion
