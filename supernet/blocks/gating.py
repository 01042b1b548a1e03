"""Sigmoid gating of one dense input by another."""

from __future__ import annotations

from supernet.blocks.base import BlockOperator, Limits, Place, Ranges
from workloads.operators.base import Operator
from workloads.operators.gating import SigmoidGating


class Gating(BlockOperator):
    """dense = norm(O (sigmoid(G left) * right)), both inputs at the wider one's width."""

    name = "gating"

    def shared(self, limits: Limits, number: int) -> dict[str, tuple[int, int]]:
        width = max(limits.dense_count, limits.dense_dim if number > 1 else 0)
        return {".gate": (width, width), ".out": (limits.dense_dim, width)}

    def ranges(self, part: str, limits: Limits, place: Place) -> Ranges | None:
        return None

    def operator(self, place: Place, bias: bool) -> Operator:
        left, right = place.pair
        width = place.block.dense_dim
        return SigmoidGating(left_features=left, right_features=right, out_features=width, bias=bias)

    def sources(self, place: Place) -> tuple[str, ...]:
        return ("left", "right")

    def width(self, limits: Limits) -> int:
        return limits.dense_dim


BLOCK = Gating()
