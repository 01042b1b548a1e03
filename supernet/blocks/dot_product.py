"""Pairwise dot products of the joined dense inputs, projected to one vector, and the joined fields, projected to a few."""

from __future__ import annotations

import math

from supernet.blocks.base import BlockOperator, Limits, Place, Ranges
from workloads.operators.base import Operator
from workloads.operators.dot_product import DotProduct


class DotProductBlock(BlockOperator):
    """dense = norm(O tril(T T^T)). Pairs stand row by row, so fewer vectors use the first columns of the shared O."""

    name = "dot_product"

    def shared(self, limits: Limits, number: int) -> dict[str, tuple[int, int]]:
        vectors = round(math.sqrt(2 * limits.dense_dim))
        return {
            ".dense": (limits.dim, limits.dense_offset(number)),
            ".fields": (vectors, limits.fields_offset(number)),
            ".out": (limits.dense_dim, vectors * (vectors + 1) // 2),
        }

    def ranges(self, part: str, limits: Limits, place: Place) -> Ranges | None:
        if part == ".dense":
            return place.dense_ranges(limits)
        return place.fields_ranges(limits) if part == ".fields" else None

    def operator(self, place: Place, bias: bool) -> Operator:
        return DotProduct(
            dense_features=place.dense_in,
            sparse_fields=place.fields_in,
            dim=place.dim,
            out_features=place.block.dense_dim,
            bias=bias,
        )

    def sources(self, place: Place) -> tuple[str, ...]:
        return ("dense", "fields")

    def width(self, limits: Limits) -> int:
        return limits.dense_dim


BLOCK = DotProductBlock()
