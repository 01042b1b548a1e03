"""Embedding tables of a model file: single ones, or groups of equal ones."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import PositiveInt

from pimsim.graph import Bits, Table
from pimsim.spec.base import Spec


class TableGroup(Spec):
    """`count` equal tables, named `name` (one) or `name0`, `name1` ... (several)."""

    name: str
    rows: PositiveInt
    count: PositiveInt = 1
    pooling: PositiveInt = 1
    """Look-ups per sample and table, summed."""
    dim: PositiveInt | None = None
    """Embedding dimension; None for the model's."""
    bits: Bits | None = None
    """Bits of one element; None for the model's."""

    def tables(self, dim: int, bits: Bits) -> list[Table]:
        """The group's tables, where it says nothing with the model's dim and bits."""
        names = [self.name] if self.count == 1 else [f"{self.name}{i}" for i in range(self.count)]
        dim, bits = self.dim or dim, self.bits or bits
        return [Table(name=name, rows=self.rows, dim=dim, bits=bits, pooling=self.pooling) for name in names]


def all_tables(groups: Iterable[TableGroup], dim: int, bits: Bits) -> tuple[Table, ...]:
    """The tables of all groups, in order.

    Raises:
        ValueError: two tables of one name.
    """
    tables = tuple(table for group in groups for table in group.tables(dim, bits))
    names = [table.name for table in tables]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"table name {name!r} stands twice")
    return tables
