"""Concatenation of dense tensors, of sparse tensors, or of both flattened."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Self

import numpy as np
from pydantic import Field, PositiveInt, model_validator

from pimsim.graph import Move, WorkloadBuilder
from workloads.operators.base import Operator, Shape

if TYPE_CHECKING:
    from torch import Tensor


class Concat(Operator):
    """Dense tensors joined on the features, sparse ones on the fields; with `flatten` all are flattened row-major first.

    No parameters. Cost: one move of all elements; a single input costs nothing and keeps its name.
    """

    shapes: tuple[tuple[PositiveInt, ...], ...] = Field(min_length=1)
    """Shape of each input: (features,) or (fields, dim)."""
    flatten: bool = False
    """Output (elements,) whatever the inputs."""

    @model_validator(mode="after")
    def _joinable(self) -> Self:
        if not self.flatten and len({shape[1:] for shape in self.shapes}) > 1:
            raise ValueError(f"shapes {self.shapes} differ beyond the first axis (flatten: true joins any shapes)")
        return self

    @property
    def in_shapes(self) -> tuple[Shape, ...]:
        return self.shapes

    @property
    def out_shape(self) -> Shape:
        if self.flatten:
            return (sum(math.prod(shape) for shape in self.shapes),)
        return (sum(shape[0] for shape in self.shapes), *self.shapes[0][1:])

    def parameter_shapes(self) -> dict[str, Shape]:
        return {}

    @property
    def macs(self) -> int:
        return 0

    def lower(self, builder: WorkloadBuilder, name: str, inputs: Sequence[str]) -> str:
        if len(inputs) == 1:
            return inputs[0]
        elements = math.prod(self.out_shape)
        return builder.add(Move(name=name, inputs=tuple(inputs), elements=elements, activation_bits=self.activation_bits))

    def reference(self, parameters: Mapping[str, np.ndarray], *inputs: np.ndarray) -> np.ndarray:
        parts = [x.reshape(x.shape[0], -1) for x in inputs] if self.flatten else list(inputs)
        return np.concatenate(parts, axis=1)

    def forward(self, parameters: Mapping[str, Tensor], *inputs: Tensor) -> Tensor:
        import torch

        parts = [x.flatten(1) for x in inputs] if self.flatten else list(inputs)
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


OPERATOR = Concat
