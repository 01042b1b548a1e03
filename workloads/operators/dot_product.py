"""Pairwise dot products of a dense and a sparse tensor, with the projections that keep its size in balance with its output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import sqrt
from typing import TYPE_CHECKING

import numpy as np
from pydantic import PositiveInt

from pimsim.graph import Move, Product, WorkloadBuilder
from workloads.operators import torch_layers
from workloads.operators.base import (
    Activation,
    Operator,
    Shape,
    activate,
    linear,
    linear_over_fields,
    linear_shapes,
    lower_activation,
    lower_linear,
)

if TYPE_CHECKING:
    from torch import Tensor


class DotProduct(Operator):
    """(dense_features,), (sparse_fields, dim) -> (out_features,).

    1. `v = x D^T + d`: the dense tensor to `dim` values; skipped if it has them.
    2. `E = F e + f`: the field axis to `k = round(sqrt(2 out_features))` vectors; skipped if it has them.
    3. `T = [v; E]`: k + 1 vectors, the dense one first.
    4. `z`: the strict lower triangle of `T T^T`, row by row (`numpy.tril_indices(k + 1, -1)`), k (k + 1) / 2 values.
    5. `activation(z O^T + o)`; the projection is skipped if `z` has `out_features` values.

    Parameters, each only where its projection is there (biases if `bias`): `dense.weight` (dim, dense_features), `dense.bias`;
    `fields.weight` (k, sparse_fields), `fields.bias`; `out.weight` (out_features, k (k + 1) / 2), `out.bias`.

    Cost: k (k + 1) / 2 products of length `dim`. Figures published for NASRec count the whole (k + 1)^2 Gram matrix.

    Source: NASRec (arXiv 2207.07187), "operator balancing".
    """

    dense_features: PositiveInt
    sparse_fields: PositiveInt
    dim: PositiveInt
    out_features: PositiveInt
    bias: bool = True
    activation: Activation = "none"

    @property
    def vectors(self) -> int:
        """k: sparse vectors that enter the products."""
        return round(sqrt(2 * self.out_features))

    @property
    def pairs(self) -> int:
        """Number of products, k (k + 1) / 2."""
        return self.vectors * (self.vectors + 1) // 2

    @property
    def in_shapes(self) -> tuple[Shape, ...]:
        return ((self.dense_features,), (self.sparse_fields, self.dim))

    @property
    def out_shape(self) -> Shape:
        return (self.out_features,)

    def parameter_shapes(self) -> dict[str, Shape]:
        shapes: dict[str, Shape] = {}
        if self.dense_features != self.dim:
            shapes |= linear_shapes("dense.", self.dim, self.dense_features, self.bias)
        if self.sparse_fields != self.vectors:
            shapes |= linear_shapes("fields.", self.vectors, self.sparse_fields, self.bias)
        if self.pairs != self.out_features:
            shapes |= linear_shapes("out.", self.out_features, self.pairs, self.bias)
        return shapes

    @property
    def macs(self) -> int:
        macs = self.pairs * self.dim
        if self.dense_features != self.dim:
            macs += self.dense_features * self.dim
        if self.sparse_fields != self.vectors:
            macs += self.sparse_fields * self.vectors * self.dim
        if self.pairs != self.out_features:
            macs += self.pairs * self.out_features
        return macs

    def lower(self, builder: WorkloadBuilder, name: str, inputs: Sequence[str]) -> str:
        dense, sparse = inputs
        k, bits = self.vectors, self.activation_bits
        if self.dense_features != self.dim:
            dense = lower_linear(self, builder, f"{name}.dense", dense, self.dim, self.dense_features, self.bias)
        if self.sparse_fields != k:
            sparse = lower_linear(self, builder, f"{name}.fields", sparse, k, self.sparse_fields, self.bias, vectors=self.dim)
        joined = Move(name=f"{name}.append", inputs=(dense, sparse), elements=(k + 1) * self.dim, activation_bits=bits)
        gram = Product(
            name=f"{name}.gram", inputs=(builder.add(joined),), m=k + 1, k=self.dim, n=k + 1, triangle=True, activation_bits=bits
        )
        out = builder.add(gram)
        if self.pairs != self.out_features:
            out = lower_linear(self, builder, name, out, self.out_features, self.pairs, self.bias)
        return lower_activation(self, builder, name, out, self.activation, self.out_features)

    def reference(self, parameters: Mapping[str, np.ndarray], *inputs: np.ndarray) -> np.ndarray:
        dense, sparse = inputs
        if self.dense_features != self.dim:
            dense = linear(parameters, "dense.", dense)
        if self.sparse_fields != self.vectors:
            sparse = linear_over_fields(parameters, "fields.", sparse)
        t = np.concatenate([dense[:, None, :], sparse], axis=1)
        rows, columns = np.tril_indices(self.vectors + 1, -1)
        z = (t @ t.transpose(0, 2, 1))[:, rows, columns]
        if self.pairs != self.out_features:
            z = linear(parameters, "out.", z)
        return activate(self.activation, z)

    def forward(self, parameters: Mapping[str, Tensor], *inputs: Tensor) -> Tensor:
        import torch

        dense, sparse = inputs
        if self.dense_features != self.dim:
            dense = torch_layers.linear(parameters, "dense.", dense)
        if self.sparse_fields != self.vectors:
            sparse = torch_layers.linear_over_fields(parameters, "fields.", sparse)
        t = torch.cat([dense.unsqueeze(1), sparse], dim=1)
        size = self.vectors + 1
        row, column = torch.tril_indices(size, size, offset=-1, device=t.device)
        z = torch.bmm(t, t.transpose(1, 2)).flatten(1).index_select(1, row * size + column)
        if self.pairs != self.out_features:
            z = torch_layers.linear(parameters, "out.", z)
        return torch_layers.activate(self.activation, z)


OPERATOR = DotProduct
