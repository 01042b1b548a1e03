"""Transformer over fields: the joined fields, projected along the field axis, then self-attention and a feed-forward network."""

from __future__ import annotations

import math

from supernet.blocks.base import BlockOperator, Limits, Place, Ranges
from supernet.standalone import HEADS, transformer_shapes
from workloads.operators.base import Operator
from workloads.operators.transformer import Transformer


class TransformerBlock(BlockOperator):
    """sparse = transformer(norm(W over fields)). Only the projection is sliced: attention runs over the fields that are there."""

    name = "transformer"
    norm_inside = True

    def shared(self, limits: Limits, number: int) -> dict[str, tuple[int, int]]:
        return {"": (limits.sparse_dim, limits.fields_offset(number))}

    def whole(self, dim: int) -> dict[str, tuple[int, ...]]:
        return transformer_shapes(dim)

    def ranges(self, part: str, limits: Limits, place: Place) -> Ranges | None:
        return place.fields_ranges(limits)

    def operator(self, place: Place, bias: bool) -> Operator:
        sizes = {"in_fields": place.fields_in, "out_fields": place.block.sparse_dim, "dim": place.dim}
        return Transformer(**sizes, heads=math.gcd(HEADS, place.dim), layer_norm=not bias)

    def sources(self, place: Place) -> tuple[str, ...]:
        return ("fields",)

    def width(self, limits: Limits) -> int:
        return limits.sparse_dim


BLOCK = TransformerBlock()
