"""Sparse-to-dense merger: a factorisation machine over the block's own fields, added to its dense output."""

from __future__ import annotations

from supernet.blocks.base import BlockOperator, Limits, Place, Ranges
from workloads.operators.base import Operator
from workloads.operators.fm import FactorizationMachine


class Fm(BlockOperator):
    """dense += norm(O ((sum e)^2 - sum e^2))."""

    name = "fm"

    def shared(self, limits: Limits, number: int) -> dict[str, tuple[int, int]]:
        return {".out": (limits.dense_dim, limits.dim)}

    def ranges(self, part: str, limits: Limits, place: Place) -> Ranges | None:
        return None

    def operator(self, place: Place, bias: bool) -> Operator:
        block = place.block
        return FactorizationMachine(fields=block.sparse_dim, dim=place.dim, out_features=block.dense_dim, bias=bias)

    def sources(self, place: Place) -> tuple[str, ...]:
        return ("own fields",)

    def width(self, limits: Limits) -> int:
        return limits.dense_dim


BLOCK = Fm()
