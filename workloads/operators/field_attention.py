"""AutoInt's interacting layer behind a projection over the field axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Self

import numpy as np
from pydantic import PositiveInt, model_validator

from pimsim.graph import WorkloadBuilder
from workloads.operators.attention import AttentionInteraction
from workloads.operators.base import Operator, Shape
from workloads.operators.efc import EmbeddingFullyConnected
from workloads.operators.layer_norm import LayerNorm

if TYPE_CHECKING:
    from torch import Tensor


class FieldAttention(Operator):
    """(in_fields, dim) -> (out_fields, dim).

    1. `p = W x + b` over the field axis, as EFC without ReLU; with `layer_norm` instead of b a layer norm over the fields.
    2. `relu(attention(p) + p)`: AutoInt's interacting layer of `heads` heads of dim / heads each, scores scaled, residual as it is.

    Parameters: `weight` (out_fields, in_fields), `bias` or `norm.weight`, `norm.bias` (out_fields,); `query.weight`, `key.weight`,
    `value.weight` (dim, dim) without biases.

    Source: Song et al. 2019 (arXiv 1810.11921), equations 5 to 8, which has no projection and does not scale the scores.
    """

    in_fields: PositiveInt
    out_fields: PositiveInt
    dim: PositiveInt
    heads: PositiveInt = 2
    layer_norm: bool = False
    """Layer norm after the projection, in place of its bias."""

    @model_validator(mode="after")
    def _divides(self) -> Self:
        if self.dim % self.heads:
            raise ValueError(f"heads: {self.heads} does not divide dim {self.dim}")
        return self

    @property
    def _parts(self) -> dict[str, Operator]:
        """The operators that this one is made of, in order, by the prefix of their parameters and primitives."""
        bits = {"weight_bits": self.weight_bits, "activation_bits": self.activation_bits}
        n, d, norm = self.out_fields, self.dim, self.layer_norm
        project = EmbeddingFullyConnected(in_fields=self.in_fields, out_fields=n, dim=d, bias=not norm, activation="none", **bits)
        normalise = {"norm": LayerNorm(shape=(n, d), axis="fields", **bits)} if norm else {}
        attend = AttentionInteraction(fields=n, dim=d, heads=self.heads, head_dim=d // self.heads, scaled=True, **bits)
        return {"project": project, **normalise, "attend": attend}

    @property
    def in_shapes(self) -> tuple[Shape, ...]:
        return ((self.in_fields, self.dim),)

    @property
    def out_shape(self) -> Shape:
        return (self.out_fields, self.dim)

    def parameter_shapes(self) -> dict[str, Shape]:
        return {_prefix(part) + key: shape for part, operator in self._parts.items() for key, shape in operator.parameter_shapes().items()}

    @property
    def macs(self) -> int:
        return sum(operator.macs for operator in self._parts.values())

    def lower(self, builder: WorkloadBuilder, name: str, inputs: Sequence[str]) -> str:
        (out,) = inputs
        for part, operator in self._parts.items():
            out = operator.lower(builder, f"{name}.{part}" if part != "attend" else name, (out,))
        return out

    def reference(self, parameters: Mapping[str, np.ndarray], *inputs: np.ndarray) -> np.ndarray:
        (x,) = inputs
        for part, operator in self._parts.items():
            own = {key: parameters[_prefix(part) + key] for key in operator.parameter_shapes()}
            x = operator.reference(own, x)
        return x

    def forward(self, parameters: Mapping[str, Tensor], *inputs: Tensor) -> Tensor:
        (x,) = inputs
        for part, operator in self._parts.items():
            own = {key: parameters[_prefix(part) + key] for key in operator.parameter_shapes()}
            x = operator.forward(own, x)
        return x


def _prefix(part: str) -> str:
    return "norm." if part == "norm" else ""


OPERATOR = FieldAttention
