"""Compressed interaction network (CIN) of xDeepFM."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field, PositiveInt

from pimsim.graph import Move, WorkloadBuilder
from workloads.operators import torch_layers
from workloads.operators.base import (
    Activation,
    Operator,
    Shape,
    activate,
    linear_shapes,
    lower_activation,
    lower_elementwise,
    lower_linear,
    lower_reduce,
)

if TYPE_CHECKING:
    from torch import Tensor


class CompressedInteraction(Operator):
    """(fields, dim) -> (sum of maps,).

    `x^k_h = activation(sum_ij W^k_h,ij (x^(k-1)_i * x^0_j) + b^k_h)`, products element by element; the output is the sum of every
    feature map x^k_h over its `dim` coordinates, layer after layer.

    Parameters of layer k, counted from 0: `<k>.weight` (maps[k], maps[k - 1] * fields), pair (i, j) in column i * fields + j (maps[-1]
    stands for `fields`); `<k>.bias` (maps[k],) if `bias`.

    Cost: the outer products are an element-wise pass over maps[k - 1] * fields * dim values, whose operands are read as if written
    out at that length; then one matrix product with `dim` vectors.

    Source: Lian et al. 2018 (arXiv 1803.05170), equation 6; no halving of the maps between layers; no activation by default, which
    the paper found best.
    """

    fields: PositiveInt
    dim: PositiveInt
    maps: tuple[PositiveInt, ...] = Field(min_length=1)
    """Feature maps of each layer."""
    bias: bool = True
    activation: Activation = "none"

    @property
    def in_shapes(self) -> tuple[Shape, ...]:
        return ((self.fields, self.dim),)

    @property
    def out_shape(self) -> Shape:
        return (sum(self.maps),)

    @property
    def _pairs(self) -> list[int]:
        """Outer products of each layer."""
        return [before * self.fields for before in (self.fields, *self.maps[:-1])]

    def parameter_shapes(self) -> dict[str, Shape]:
        shapes: dict[str, Shape] = {}
        for k, (maps, pairs) in enumerate(zip(self.maps, self._pairs, strict=True)):
            shapes |= linear_shapes(f"{k}.", maps, pairs, self.bias)
        return shapes

    @property
    def macs(self) -> int:
        return sum(maps * pairs for maps, pairs in zip(self.maps, self._pairs, strict=True)) * self.dim

    def lower(self, builder: WorkloadBuilder, name: str, inputs: Sequence[str]) -> str:
        (start,) = inputs
        x, pooled = start, []
        for k, (maps, pairs) in enumerate(zip(self.maps, self._pairs, strict=True)):
            base, sources = f"{name}.{k}", dict.fromkeys((x, start))  # the first layer reads one tensor twice
            outer = lower_elementwise(self, builder, f"{base}.outer", "mul", pairs * self.dim, *sources, operands=2)
            x = lower_linear(self, builder, base, outer, maps, pairs, self.bias, vectors=self.dim)
            x = lower_activation(self, builder, base, x, self.activation, maps * self.dim)
            pooled.append(lower_reduce(self, builder, f"{base}.pool", x, maps * self.dim, maps))
        if len(pooled) == 1:
            return pooled[0]
        return builder.add(Move(name=f"{name}.concat", inputs=tuple(pooled), elements=sum(self.maps), activation_bits=self.activation_bits))

    def reference(self, parameters: Mapping[str, np.ndarray], *inputs: np.ndarray) -> np.ndarray:
        (start,) = inputs
        x, pooled = start, []
        for k, pairs in enumerate(self._pairs):
            outer = (x[:, :, None, :] * start[:, None, :, :]).reshape(len(start), pairs, self.dim)
            x = parameters[f"{k}.weight"] @ outer
            if self.bias:
                x = x + parameters[f"{k}.bias"][:, None]
            x = activate(self.activation, x)
            pooled.append(x.sum(axis=2))
        return np.concatenate(pooled, axis=1)

    def forward(self, parameters: Mapping[str, Tensor], *inputs: Tensor) -> Tensor:
        import torch

        (start,) = inputs
        x, pooled = start, []
        for k in range(len(self.maps)):
            outer = (x.unsqueeze(2) * start.unsqueeze(1)).flatten(1, 2)
            x = torch_layers.activate(self.activation, torch_layers.linear_over_fields(parameters, f"{k}.", outer))
            pooled.append(x.sum(2))
        return torch.cat(pooled, dim=1)


OPERATOR = CompressedInteraction
