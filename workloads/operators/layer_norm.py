"""Layer normalisation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, Self

import numpy as np
from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from pimsim.graph import Elementwise, WorkloadBuilder
from workloads.operators import torch_layers
from workloads.operators.base import Operator, Shape

if TYPE_CHECKING:
    from torch import Tensor


class LayerNorm(Operator):
    """`(x - mean) / sqrt(variance + eps) * gain + shift` along one axis; the variance divides by the axis' length.

    Parameters: `weight` (gain) and `bias` (shift), each of the axis' length.

    Cost: one fused element-wise pass, `norm`. Its several operations an element and its 2 x length parameters are not
    counted apart.
    """

    shape: tuple[PositiveInt, ...] = Field(min_length=1, max_length=2)
    """(features,) or (fields, dim)."""
    axis: Literal["features", "fields"] = "features"
    """The axis whose values are normalised together: the last one, or the fields of a (fields, dim) tensor (EFC's output)."""
    eps: PositiveFloat = 1e-5

    @model_validator(mode="after")
    def _has_fields(self) -> Self:
        if self.axis == "fields" and len(self.shape) == 1:
            raise ValueError(f"axis 'fields' needs a (fields, dim) shape, got {self.shape}")
        return self

    @property
    def length(self) -> int:
        """Values normalised together."""
        return self.shape[0] if self.axis == "fields" else self.shape[-1]

    @property
    def in_shapes(self) -> tuple[Shape, ...]:
        return (self.shape,)

    @property
    def out_shape(self) -> Shape:
        return self.shape

    def parameter_shapes(self) -> dict[str, Shape]:
        return {"weight": (self.length,), "bias": (self.length,)}

    @property
    def macs(self) -> int:
        return 0

    def lower(self, builder: WorkloadBuilder, name: str, inputs: Sequence[str]) -> str:
        elements = math.prod(self.shape)
        return builder.add(
            Elementwise(name=name, inputs=tuple(inputs), function="norm", elements=elements, activation_bits=self.activation_bits)
        )

    def reference(self, parameters: Mapping[str, np.ndarray], *inputs: np.ndarray) -> np.ndarray:
        (x,) = inputs
        axis = 1 if self.axis == "fields" else -1
        scaled = (x - x.mean(axis=axis, keepdims=True)) / np.sqrt(x.var(axis=axis, keepdims=True) + self.eps)
        gain, shift = parameters["weight"], parameters["bias"]
        if self.axis == "fields":
            gain, shift = gain[:, None], shift[:, None]
        return scaled * gain + shift

    def forward(self, parameters: Mapping[str, Tensor], *inputs: Tensor) -> Tensor:
        (x,) = inputs
        if self.axis == "fields":
            return torch_layers.layer_norm(parameters, "", x.transpose(1, 2), self.eps).transpose(1, 2)
        return torch_layers.layer_norm(parameters, "", x, self.eps)


OPERATOR = LayerNorm
