"""What the operators of a block share: the widths around them, and how a smaller weight lies inside the shared one.

A shared weight is as large as the largest choice. Its columns are laid out source by source, each source at its greatest width and
once for every operator that may have made it (where the space says so), so that "32 values of source 3, a dot-product" names the same
weights whatever else is read. A network uses `shared[:rows, its column ranges]`: no masks, no padding, every slice at its true width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from supernet.genotype import MERGER_FIELDS, Block, Genotype
from supernet.space import Space
from workloads.operators.base import Operator

Ranges = tuple[tuple[int, int], ...]
"""Column ranges [start, stop) of a shared weight, in the order of the smaller weight's columns."""


@dataclass(frozen=True)
class Limits:
    """The greatest widths in a space, for one data set."""

    dense_count: int
    """Dense fields of the data set (at least 1: a data set without any gets a pseudo column of zeros)."""
    sparse_count: int
    dense_dim: int
    sparse_dim: int
    dim: int
    """Embedding dim."""
    column_sets: tuple[str, ...]
    """Dense operators with columns of their own in what reads them; empty where one set serves all."""

    @classmethod
    def of(cls, space: Space, dense_count: int, sparse_count: int) -> Limits:
        """Limits of a space on a data set with these field counts."""
        widths = (max(space.dense_dims), max(space.sparse_dims), space.embedding_dim)
        column_sets = space.dense_operators if space.dense_columns == "operator" else ()
        return cls(max(dense_count, 1), sparse_count, *widths, column_sets)

    def dense_offset(self, source: int) -> int:
        """First column of a dense source; of source `number`: the columns of block `number` in all."""
        return 0 if source == 0 else self.dense_count + (source - 1) * self.own_dense

    @property
    def own_dense(self) -> int:
        """Columns of one block's dense output: its greatest width, for each operator or once for all."""
        return self.dense_dim * max(1, len(self.column_sets))

    def made_by(self, operator: str | None) -> int:
        """First of a block's columns that belong to an operator (None: the raw input)."""
        return self.column_sets.index(operator) * self.dense_dim if operator and self.column_sets else 0

    def fields_offset(self, source: int) -> int:
        """First column of a sparse source; its merger's fields lie behind its own at their greatest number."""
        return 0 if source == 0 else self.sparse_count + (source - 1) * (self.sparse_dim + MERGER_FIELDS)


@dataclass(frozen=True)
class Place:
    """A block of a canonical genotype with the true widths of everything it reads."""

    number: int
    """1 for the first block."""
    block: Block
    dense: tuple[int, ...]
    """Width of each dense source so far, raw input first (0 where there is none)."""
    makers: tuple[str | None, ...]
    """Dense operator of each source so far; None for the raw input."""
    fields: tuple[tuple[int, int], ...]
    """(operator's fields, merger's fields) of each sparse source so far."""
    dim: int
    shared: tuple[int, ...]
    """Block of the shared weights of each source so far, 0 for the raw input, and of this block."""

    @property
    def dense_in(self) -> int:
        """Features of the joined dense inputs."""
        return sum(self.dense[i] for i in self.block.dense_inputs)

    @property
    def fields_in(self) -> int:
        """Fields of the joined sparse inputs."""
        return sum(sum(self.fields[i]) for i in self.block.sparse_inputs)

    @property
    def pair(self) -> tuple[int, int]:
        """Widths of the left and right inputs."""
        left, right = self.block.dense_left, self.block.dense_right
        assert left is not None and right is not None  # the block's validator holds this
        return self.dense[left], self.dense[right]

    def dense_ranges(self, limits: Limits) -> Ranges:
        """Columns of the joined dense inputs."""
        ranges = []
        for i in self.block.dense_inputs:
            start = limits.dense_offset(self.shared[i]) + limits.made_by(self.makers[i])
            ranges.append((start, start + self.dense[i]))
        return tuple(ranges)

    def fields_ranges(self, limits: Limits) -> Ranges:
        """Columns of the joined sparse inputs."""
        starts = {i: limits.fields_offset(self.shared[i]) for i in self.block.sparse_inputs}
        return tuple(r for i, start in starts.items() for r in source_fields(limits, start, self.fields[i]))


def source_fields(limits: Limits, start: int, fields: tuple[int, int], each: int = 1) -> Ranges:
    """Columns of one sparse source: its operator's fields and, if there, its merger's; `each` columns a field."""
    own, merged = fields
    ranges = ((start, start + own * each),) if own else ()
    if merged:
        behind = start + limits.sparse_dim * each
        ranges += ((behind, behind + merged * each),)
    return ranges


def places(genotype: Genotype, dense_count: int, sparse_count: int, shared: Sequence[int] | None = None) -> tuple[Place, ...]:
    """Every block of a canonical genotype in its place; `shared`: block of the shared weights that each uses (None: its own)."""
    numbers = (0, *(shared or range(1, len(genotype.blocks) + 1)))
    dense, makers, fields = [max(dense_count, 1)], [None], [(sparse_count, 0)]
    found = []
    for number, block in enumerate(genotype.blocks, start=1):
        found.append(Place(number, block, tuple(dense), tuple(makers), tuple(fields), genotype.embedding_dim, numbers[: number + 1]))
        dense.append(block.dense_dim)
        makers.append(block.dense_op)
        fields.append((block.sparse_dim, MERGER_FIELDS if block.interact else 0))
    return tuple(found)


class BlockOperator(ABC):
    """One kind of operator inside a block."""

    name: ClassVar[str]
    """As in the genotype and in the names of its parameters, `blocks.<i>.<name><part>.weight`."""

    @abstractmethod
    def shared(self, limits: Limits, number: int) -> dict[str, tuple[int, int]]:
        """Greatest (out, in) of each projection by part (`""`, `.out` ...) in block `number`."""

    @abstractmethod
    def ranges(self, part: str, limits: Limits, place: Place) -> Ranges | None:
        """Columns that a projection uses; None for the first ones, as many as it has inputs."""

    @abstractmethod
    def operator(self, place: Place, bias: bool) -> Operator:
        """The matching operator of `workloads`, without its activation (LayerNorm comes between)."""

    @abstractmethod
    def sources(self, place: Place) -> Sequence[str]:
        """What the operator reads, in order: `dense`, `fields`, `left`, `right`, `own dense`, `own fields`."""

    activation: ClassVar[str] = "none"
    """Applied after LayerNorm."""
    norm_inside: ClassVar[bool] = False
    """The matching operator has its LayerNorm inside; else it comes behind."""

    def whole(self, dim: int) -> dict[str, tuple[int, ...]]:
        """Shapes of the parameters that every network uses whole, by name behind `blocks.<i>.<name>`."""
        return {}

    @abstractmethod
    def width(self, limits: Limits) -> int:
        """Greatest length of its LayerNorm."""
