"""Transformer over the fields of a sparse tensor: projection, multi-head self-attention, feed-forward network."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Self

import numpy as np
from pydantic import PositiveFloat, PositiveInt, model_validator

from pimsim.graph import WorkloadBuilder
from workloads.operators import torch_layers
from workloads.operators.base import (
    Function,
    Operator,
    Shape,
    linear,
    linear_over_fields,
    linear_shapes,
    lower_elementwise,
    lower_linear,
    lower_product,
)

if TYPE_CHECKING:
    from torch import Tensor


class Transformer(Operator):
    """(in_fields, dim) -> (out_fields, dim).

    1. `p = W x + b` over the field axis, as EFC without ReLU; with `layer_norm` instead of b a layer norm over the fields.
    2. `q, k, v` = three linear layers dim -> dim of each field's vector, cut into `heads` of dim / heads each.
    3. `a = norm(p + out(softmax(q k^T / sqrt(dim / heads)) v))`.
    4. `norm(a + outer(relu(inner(a))))`, both layers dim -> dim.

    Norms of 3 and 4 are always there; they are over the `dim` coordinates of each field.

    Parameters: `weight` (out_fields, in_fields), `bias` or `norm.weight`, `norm.bias` (out_fields,); `qkv.weight` (3 dim, dim)
    with the rows of q first; `out`, `inner`, `outer` (dim, dim); each with its bias; `attention_norm`, `output_norm` (dim,).

    Cost: the scaling by 1 / sqrt goes with the softmax, one fused element-wise pass; n^2 products of both attention matrices.

    Source: NASRec (arXiv 2207.07187) and its published code: 8 heads, post-norm, no mask, no dropout.
    """

    in_fields: PositiveInt
    out_fields: PositiveInt
    dim: PositiveInt
    heads: PositiveInt = 8
    layer_norm: bool = False
    """Layer norm after the projection, in place of its bias."""
    eps: PositiveFloat = 1e-5

    @model_validator(mode="after")
    def _divides(self) -> Self:
        if self.dim % self.heads:
            raise ValueError(f"heads: {self.heads} does not divide dim {self.dim}")
        return self

    @property
    def in_shapes(self) -> tuple[Shape, ...]:
        return ((self.in_fields, self.dim),)

    @property
    def out_shape(self) -> Shape:
        return (self.out_fields, self.dim)

    def parameter_shapes(self) -> dict[str, Shape]:
        d = self.dim
        shapes = linear_shapes("", self.out_fields, self.in_fields, not self.layer_norm)
        if self.layer_norm:
            shapes |= {"norm.weight": (self.out_fields,), "norm.bias": (self.out_fields,)}
        shapes |= linear_shapes("qkv.", 3 * d, d, True)
        for part in ("out.", "inner.", "outer."):
            shapes |= linear_shapes(part, d, d, True)
        for part in ("attention_norm.", "output_norm."):
            shapes |= {f"{part}weight": (d,), f"{part}bias": (d,)}
        return shapes

    @property
    def macs(self) -> int:
        n, d = self.out_fields, self.dim
        return self.in_fields * n * d + 6 * n * d * d + 2 * n * n * d

    def lower(self, builder: WorkloadBuilder, name: str, inputs: Sequence[str]) -> str:
        (source,) = inputs
        n, d = self.out_fields, self.dim

        def pointwise(part: str, function: Function, elements: int, *origins: str) -> str:
            return lower_elementwise(self, builder, f"{name}.{part}", function, elements, *origins)

        def per_field(part: str, origin: str, width: int) -> str:
            return lower_linear(self, builder, f"{name}.{part}", origin, width, d, True, vectors=n)

        def attend(part: str, k: int, columns: int, *origins: str) -> str:
            return lower_product(self, builder, f"{name}.{part}", (n, k, columns), *origins, groups=self.heads)

        project = lower_linear(self, builder, f"{name}.project", source, n, self.in_fields, not self.layer_norm, vectors=d)
        if self.layer_norm:
            project = pointwise("norm", "norm", n * d, project)
        qkv = per_field("qkv", project, 3 * d)
        weights = pointwise("softmax", "softmax", self.heads * n * n, attend("scores", d // self.heads, n, qkv))
        attended = per_field("out", attend("mix", n, d // self.heads, weights, qkv), d)
        a = pointwise("attention_norm", "norm", n * d, pointwise("attention_add", "add", n * d, project, attended))
        outer = per_field("outer", pointwise("inner.relu", "relu", n * d, per_field("inner", a, d)), d)
        return pointwise("output_norm", "norm", n * d, pointwise("output_add", "add", n * d, a, outer))

    def reference(self, parameters: Mapping[str, np.ndarray], *inputs: np.ndarray) -> np.ndarray:
        (x,) = inputs
        p = linear_over_fields(parameters, "", x)
        if self.layer_norm:
            p = self._norm(parameters, "norm.", p.transpose(0, 2, 1)).transpose(0, 2, 1)
        shape = (len(x), self.out_fields, 3, self.heads, self.dim // self.heads)
        q, k, v = linear(parameters, "qkv.", p).reshape(shape).transpose(2, 0, 3, 1, 4)  # each (batch, heads, fields, dim / heads)
        scores = q @ k.transpose(0, 1, 3, 2) / math.sqrt(self.dim // self.heads)
        exponential = np.exp(scores - scores.max(axis=-1, keepdims=True))
        mixed = exponential / exponential.sum(axis=-1, keepdims=True) @ v
        attended = linear(parameters, "out.", mixed.transpose(0, 2, 1, 3).reshape(p.shape))
        a = self._norm(parameters, "attention_norm.", p + attended)
        outer = linear(parameters, "outer.", np.maximum(linear(parameters, "inner.", a), 0))
        return self._norm(parameters, "output_norm.", a + outer)

    def _norm(self, parameters: Mapping[str, np.ndarray], prefix: str, x: np.ndarray) -> np.ndarray:
        scaled = (x - x.mean(axis=-1, keepdims=True)) / np.sqrt(x.var(axis=-1, keepdims=True) + self.eps)
        return scaled * parameters[f"{prefix}weight"] + parameters[f"{prefix}bias"]

    def forward(self, parameters: Mapping[str, Tensor], *inputs: Tensor) -> Tensor:
        (x,) = inputs
        p = torch_layers.linear_over_fields(parameters, "", x)
        if self.layer_norm:
            p = torch_layers.layer_norm(parameters, "norm.", p.transpose(1, 2), self.eps).transpose(1, 2)
        qkv = torch_layers.linear(parameters, "qkv.", p).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        scores = qkv[0] @ qkv[1].transpose(2, 3) / math.sqrt(self.dim // self.heads)
        mixed = (scores.softmax(dim=3) @ qkv[2]).transpose(1, 2).flatten(2)
        attended = torch_layers.linear(parameters, "out.", mixed)
        a = torch_layers.layer_norm(parameters, "attention_norm.", p + attended, self.eps)
        outer = torch_layers.linear(parameters, "outer.", torch_layers.linear(parameters, "inner.", a).relu())
        return torch_layers.layer_norm(parameters, "output_norm.", a + outer, self.eps)


OPERATOR = Transformer
