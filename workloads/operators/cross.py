"""Cross network of DCN (a vector a layer) and DCNv2 (a matrix a layer)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import PositiveInt

from pimsim.graph import WorkloadBuilder
from workloads.operators import torch_layers
from workloads.operators.base import Operator, Shape, linear, linear_shapes, lower_elementwise, lower_linear

if TYPE_CHECKING:
    from torch import Tensor


class CrossNetwork(Operator):
    """(features,) -> (features,): `layers` steps from x_0 = x.

    `vector`: `x_(l+1) = x_0 (w_l . x_l) + b_l + x_l`. `matrix`: `x_(l+1) = x_0 * (W_l x_l + b_l) + x_l`, element by element.

    Parameters of layer i, counted from 0: `<i>.weight` (1, features) or (features, features); `<i>.bias` (features,).

    Cost of `vector`: the bias is an operand of the addition, read element by element, and not among the weight bytes; the dot product
    is read as an operand as long as x_0.

    Sources: Wang et al. 2017 (arXiv 1708.05123), equation 3; Wang et al. 2021 (arXiv 2008.13535), equation 1.
    """

    features: PositiveInt
    layers: PositiveInt
    kind: Literal["vector", "matrix"] = "matrix"

    @property
    def in_shapes(self) -> tuple[Shape, ...]:
        return ((self.features,),)

    @property
    def out_shape(self) -> Shape:
        return (self.features,)

    @property
    def _rows(self) -> int:
        return 1 if self.kind == "vector" else self.features

    def parameter_shapes(self) -> dict[str, Shape]:
        shapes: dict[str, Shape] = {}
        for i in range(self.layers):
            shapes |= linear_shapes(f"{i}.", self._rows, self.features, False) | {f"{i}.bias": (self.features,)}
        return shapes

    @property
    def macs(self) -> int:
        return self.layers * self._rows * self.features

    def lower(self, builder: WorkloadBuilder, name: str, inputs: Sequence[str]) -> str:
        (start,) = inputs
        out, matrix = start, self.kind == "matrix"
        for i in range(self.layers):
            base = f"{name}.{i}"
            step = lower_linear(self, builder, base, out, self._rows, self.features, bias=matrix)
            scaled = lower_elementwise(self, builder, f"{base}.mul", "mul", self.features, start, step)
            terms = 2 if matrix else 3  # a vector layer adds its bias here
            out = lower_elementwise(self, builder, f"{base}.add", "add", self.features, scaled, out, operands=terms)
        return out

    def reference(self, parameters: Mapping[str, np.ndarray], *inputs: np.ndarray) -> np.ndarray:
        (start,) = inputs
        x = start
        for i in range(self.layers):
            if self.kind == "matrix":
                x = start * linear(parameters, f"{i}.", x) + x
            else:
                x = start * (x @ parameters[f"{i}.weight"].T) + parameters[f"{i}.bias"] + x
        return x

    def forward(self, parameters: Mapping[str, Tensor], *inputs: Tensor) -> Tensor:
        (start,) = inputs
        x = start
        for i in range(self.layers):
            if self.kind == "matrix":
                x = x.addcmul(start, torch_layers.linear(parameters, f"{i}.", x))
            else:
                x = start * (x @ parameters[f"{i}.weight"].t()) + parameters[f"{i}.bias"] + x
        return x


OPERATOR = CrossNetwork
