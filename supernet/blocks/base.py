"""What the operators of a block share: the widths around them, and how a smaller weight lies inside the shared one.

A shared weight is as large as the largest choice. Its columns are laid out source by source, each source at its greatest width,
so that "source 3 at width 32" names the same weights whatever else is read. A network uses `shared[:rows, its column ranges]`:
no masks, no padding, every slice at its true width.
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

    @classmethod
    def of(cls, space: Space, dense_count: int, sparse_count: int) -> Limits:
        """Limits of a space on a data set with these field counts."""
        return cls(max(dense_count, 1), sparse_count, max(space.dense_dims), max(space.sparse_dims), space.embedding_dim)

    def dense_offset(self, source: int) -> int:
        """First column of a dense source; of source `number`: the columns of block `number` in all."""
        return 0 if source == 0 else self.dense_count + (source - 1) * self.dense_dim

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
    fields: tuple[tuple[int, int], ...]
    """(operator's fields, merger's fields) of each sparse source so far."""
    dim: int

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
        starts = ((limits.dense_offset(i), self.dense[i]) for i in self.block.dense_inputs)
        return tuple((start, start + width) for start, width in starts)

    def fields_ranges(self, limits: Limits) -> Ranges:
        """Columns of the joined sparse inputs."""
        return tuple(r for i in self.block.sparse_inputs for r in source_fields(limits, limits.fields_offset(i), self.fields[i]))


def source_fields(limits: Limits, start: int, fields: tuple[int, int], each: int = 1) -> Ranges:
    """Columns of one sparse source: its operator's fields and, if there, its merger's; `each` columns a field."""
    own, merged = fields
    ranges = ((start, start + own * each),)
    if merged:
        behind = start + limits.sparse_dim * each
        ranges += ((behind, behind + merged * each),)
    return ranges


def places(genotype: Genotype, dense_count: int, sparse_count: int) -> tuple[Place, ...]:
    """Every block of a canonical genotype in its place."""
    dense, fields = [max(dense_count, 1)], [(sparse_count, 0)]
    found = []
    for number, block in enumerate(genotype.blocks, start=1):
        found.append(Place(number, block, tuple(dense), tuple(fields), genotype.embedding_dim))
        dense.append(block.dense_dim)
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
    def operator(self, place: Place, bits: int, bias: bool) -> Operator:
        """The matching operator of `workloads`, without its activation (LayerNorm comes between)."""

    @abstractmethod
    def sources(self, place: Place) -> Sequence[str]:
        """What the operator reads, in order: `dense`, `fields`, `left`, `right`, `own dense`, `own fields`."""

    activation: ClassVar[str] = "none"
    """Applied after LayerNorm."""

    @abstractmethod
    def width(self, limits: Limits) -> int:
        """Greatest length of its LayerNorm."""
