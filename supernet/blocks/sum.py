"""Sum of two dense inputs."""

from __future__ import annotations

from supernet.blocks.base import BlockOperator, Limits, Place, Ranges
from workloads.operators.base import Operator
from workloads.operators.sum import Sum


class SumBlock(BlockOperator):
    """dense = norm(O (left + right)), both inputs at the wider one's width."""

    name = "sum"

    def shared(self, limits: Limits, number: int) -> dict[str, tuple[int, int]]:
        return {".out": (limits.dense_dim, max(limits.dense_count, limits.dense_dim if number > 1 else 0))}

    def ranges(self, part: str, limits: Limits, place: Place) -> Ranges | None:
        return None

    def operator(self, place: Place, bias: bool) -> Operator:
        left, right = place.pair
        return Sum(left_features=left, right_features=right, out_features=place.block.dense_dim, bias=bias)

    def sources(self, place: Place) -> tuple[str, ...]:
        return ("left", "right")

    def width(self, limits: Limits) -> int:
        return limits.dense_dim


BLOCK = SumBlock()
