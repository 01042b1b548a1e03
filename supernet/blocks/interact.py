"""Dense-to-sparse merger: the block's own dense operator, projected to eight more fields."""

from __future__ import annotations

from supernet.blocks.base import BlockOperator, Limits, Place, Ranges
from supernet.genotype import MERGER_FIELDS
from workloads.operators.base import Operator
from workloads.operators.interact import DenseToFields


class Interact(BlockOperator):
    """fields = reshape(norm(O x)). It reads the dense operator before the factorisation machine is added."""

    name = "interact"

    def shared(self, limits: Limits, number: int) -> dict[str, tuple[int, int]]:
        return {".out": (MERGER_FIELDS * limits.dim, limits.own_dense)}

    def ranges(self, part: str, limits: Limits, place: Place) -> Ranges | None:
        start = limits.made_by(place.block.dense_op)
        return ((start, start + place.block.dense_dim),)

    def operator(self, place: Place, bias: bool) -> Operator:
        width = place.block.dense_dim
        return DenseToFields(in_features=width, dim=place.dim, fields=MERGER_FIELDS, bias=bias)

    def sources(self, place: Place) -> tuple[str, ...]:
        return ("own dense",)

    def width(self, limits: Limits) -> int:
        return MERGER_FIELDS * limits.dim


BLOCK = Interact()
