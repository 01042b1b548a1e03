"""Fully connected layer over the joined dense inputs, then ReLU."""

from __future__ import annotations

from supernet.blocks.base import BlockOperator, Limits, Place, Ranges
from workloads.operators.base import Operator
from workloads.operators.fc import FullyConnected


class Fc(BlockOperator):
    """dense = relu(norm(W x))."""

    name = "fc"
    activation = "relu"

    def shared(self, limits: Limits, number: int) -> dict[str, tuple[int, int]]:
        return {"": (limits.dense_dim, limits.dense_offset(number))}

    def ranges(self, part: str, limits: Limits, place: Place) -> Ranges | None:
        return place.dense_ranges(limits)

    def operator(self, place: Place, bias: bool) -> Operator:
        return FullyConnected(in_features=place.dense_in, out_features=place.block.dense_dim, bias=bias, activation="none")

    def sources(self, place: Place) -> tuple[str, ...]:
        return ("dense",)

    def width(self, limits: Limits) -> int:
        return limits.dense_dim


BLOCK = Fc()
