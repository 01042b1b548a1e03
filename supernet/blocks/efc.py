"""Embedding fully connected layer: a linear layer over the field axis of the joined fields, then ReLU."""

from __future__ import annotations

from supernet.blocks.base import BlockOperator, Limits, Place, Ranges
from workloads.operators.base import Operator
from workloads.operators.efc import EmbeddingFullyConnected


class Efc(BlockOperator):
    """sparse = relu(norm(W over fields))."""

    name = "efc"
    activation = "relu"

    def shared(self, limits: Limits, number: int) -> dict[str, tuple[int, int]]:
        return {"": (limits.sparse_dim, limits.fields_offset(number))}

    def ranges(self, part: str, limits: Limits, place: Place) -> Ranges | None:
        return place.fields_ranges(limits)

    def operator(self, place: Place, bias: bool) -> Operator:
        sizes = {"in_fields": place.fields_in, "out_fields": place.block.sparse_dim, "dim": place.dim}
        return EmbeddingFullyConnected(**sizes, bias=bias, activation="none")

    def sources(self, place: Place) -> tuple[str, ...]:
        return ("fields",)

    def width(self, limits: Limits) -> int:
        return limits.sparse_dim


BLOCK = Efc()
