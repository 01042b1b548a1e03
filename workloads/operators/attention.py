"""Attention interaction of AutoInt: multi-head self-attention over fields with a residual."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field, PositiveInt

from pimsim.graph import WorkloadBuilder
from workloads.operators import torch_layers
from workloads.operators.base import (
    Operator,
    Shape,
    activate,
    linear,
    linear_shapes,
    lower_activation,
    lower_elementwise,
    lower_linear,
    lower_product,
)
from workloads.operators.layer_norm import LayerNorm

if TYPE_CHECKING:
    from torch import Tensor

    from workloads.operators.torch_training import Noise

PARTS = ("query", "key", "value")


class AttentionInteraction(Operator):
    """(fields, dim) -> (fields, heads * head_dim), one interacting layer.

    Per head: `softmax(q k^T) v` over the fields, with `q`, `k`, `v` linear in each field's vector; then `relu(heads side by side +
    residual)`, with a layer norm before the ReLU if `layer_norm`. The residual's projection is skipped if heads * head_dim equals `dim`.

    Parameters: `query.weight`, `key.weight`, `value.weight` and, unless skipped, `residual.weight`, all (heads * head_dim, dim); no biases;
    `norm.weight`, `norm.bias` (heads * head_dim,) if `layer_norm`. Training leaves attention weights out with chance `dropout`.

    Source: Song et al. 2019 (arXiv 1810.11921), equations 5 to 8; the paper does not scale the scores, `scaled` divides them by
    sqrt(head_dim), in the softmax's pass.
    """

    fields: PositiveInt
    dim: PositiveInt
    heads: PositiveInt = 2
    head_dim: PositiveInt
    scaled: bool = False
    residual: bool = True
    layer_norm: bool = False
    dropout: float = Field(0.0, ge=0, lt=1)

    @property
    def width(self) -> int:
        """heads * head_dim: coordinates of an output field."""
        return self.heads * self.head_dim

    @property
    def in_shapes(self) -> tuple[Shape, ...]:
        return ((self.fields, self.dim),)

    @property
    def out_shape(self) -> Shape:
        return (self.fields, self.width)

    @property
    def _projected(self) -> tuple[str, ...]:
        return (*PARTS, "residual") if self.residual and self.width != self.dim else PARTS

    def parameter_shapes(self) -> dict[str, Shape]:
        shapes: dict[str, Shape] = {}
        for part in self._projected:
            shapes |= linear_shapes(f"{part}.", self.width, self.dim, False)
        return shapes | ({"norm.weight": (self.width,), "norm.bias": (self.width,)} if self.layer_norm else {})

    @property
    def macs(self) -> int:
        return len(self._projected) * self.fields * self.dim * self.width + 2 * self.fields**2 * self.width

    @property
    def _scale(self) -> float:
        return 1 / math.sqrt(self.head_dim) if self.scaled else 1.0

    def lower(self, builder: WorkloadBuilder, name: str, inputs: Sequence[str]) -> str:
        (source,) = inputs
        n = self.fields
        made = {}
        for part in self._projected:
            made[part] = lower_linear(self, builder, f"{name}.{part}", source, self.width, self.dim, False, vectors=n)

        sizes, heads = (n, self.head_dim, n), self.heads
        scores = lower_product(self, builder, f"{name}.scores", sizes, made["query"], made["key"], groups=heads)
        weights = lower_elementwise(self, builder, f"{name}.softmax", "softmax", heads * n * n, scores)
        out = lower_product(self, builder, f"{name}.mix", (n, n, self.head_dim), weights, made["value"], groups=heads)
        if self.residual:
            out = lower_elementwise(self, builder, f"{name}.add", "add", n * self.width, out, made.get("residual", source))
        if self.layer_norm:
            out = lower_elementwise(self, builder, f"{name}.norm", "norm", n * self.width, out)
        return lower_activation(self, builder, name, out, "relu", n * self.width)

    def reference(self, parameters: Mapping[str, np.ndarray], *inputs: np.ndarray) -> np.ndarray:
        (x,) = inputs
        shape = (len(x), self.fields, self.heads, self.head_dim)
        q, k, v = (linear(parameters, f"{part}.", x).reshape(shape).transpose(0, 2, 1, 3) for part in PARTS)
        scores = q @ k.transpose(0, 1, 3, 2) * self._scale
        exponential = np.exp(scores - scores.max(axis=-1, keepdims=True))
        mixed = exponential / exponential.sum(axis=-1, keepdims=True) @ v
        out = mixed.transpose(0, 2, 1, 3).reshape(len(x), self.fields, self.width)
        if self.residual:
            out = out + (linear(parameters, "residual.", x) if "residual" in self._projected else x)
        if self.layer_norm:
            norm = {name: parameters[f"norm.{name}"] for name in ("weight", "bias")}
            out = LayerNorm(shape=self.out_shape).reference(norm, out)
        return activate("relu", out)

    def forward(self, parameters: Mapping[str, Tensor], *inputs: Tensor) -> Tensor:
        return self._attend(parameters, None, *inputs)

    def train_forward(self, parameters: Mapping[str, Tensor], noise: Noise, *inputs: Tensor) -> Tensor:
        return self._attend(parameters, noise, *inputs)

    def _attend(self, parameters: Mapping[str, Tensor], noise: Noise | None, x: Tensor) -> Tensor:
        q, k, v = (torch_layers.linear(parameters, f"{part}.", x).unflatten(2, (self.heads, -1)).transpose(1, 2) for part in PARTS)
        weights = (q @ k.transpose(2, 3) * self._scale).softmax(dim=3)
        if noise is not None and self.dropout:
            from workloads.operators.torch_training import drop_out

            weights = drop_out(weights, self.dropout, noise)
        out = (weights @ v).transpose(1, 2).flatten(2)
        if self.residual:
            out = out + (torch_layers.linear(parameters, "residual.", x) if "residual" in self._projected else x)
        return (torch_layers.layer_norm(parameters, "norm.", out) if self.layer_norm else out).relu()


OPERATOR = AttentionInteraction
