"""AutoInt's interacting layer: the joined fields, projected along the field axis, then self-attention with a residual and ReLU."""

from __future__ import annotations

import math

from supernet.blocks.base import BlockOperator, Limits, Place, Ranges
from supernet.standalone import INTERACTION_HEADS, attention_shapes
from workloads.operators.base import Operator
from workloads.operators.field_attention import FieldAttention


class Attention(BlockOperator):
    """sparse = relu(p + attention(p)) of p = norm(W over fields). Only the projection is sliced, as in the transformer."""

    name = "attention"
    norm_inside = True

    def shared(self, limits: Limits, number: int) -> dict[str, tuple[int, int]]:
        return {"": (limits.sparse_dim, limits.fields_offset(number))}

    def whole(self, dim: int) -> dict[str, tuple[int, ...]]:
        return attention_shapes(dim)

    def ranges(self, part: str, limits: Limits, place: Place) -> Ranges | None:
        return place.fields_ranges(limits)

    def operator(self, place: Place, bias: bool) -> Operator:
        sizes = {"in_fields": place.fields_in, "out_fields": place.block.sparse_dim, "dim": place.dim}
        return FieldAttention(**sizes, heads=math.gcd(INTERACTION_HEADS, place.dim), layer_norm=not bias)

    def sources(self, place: Place) -> tuple[str, ...]:
        return ("fields",)

    def width(self, limits: Limits) -> int:
        return limits.sparse_dim


BLOCK = Attention()
