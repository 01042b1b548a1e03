"""Embedding tables with sum pooling (embedding bags)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from pimsim.graph import Gather, Table, WorkloadBuilder
from workloads.operators.base import Operator, Shape

if TYPE_CHECKING:
    from torch import Tensor


class Embedding(Operator):
    """For each table, `pooling` row numbers -> the sum of those rows; one gather-and-reduce for all tables.

    Inputs: one int array (batch, pooling) per table. Output: (tables, dim) if all tables share one dim, else (sum of dims,).
    Parameters: `<table>.weight` (rows, dim).

    The reference looks up the arrays it is given; rounding to a table's `bits` is the caller's.
    """

    tables: tuple[Table, ...] = Field(min_length=1)

    @property
    def in_shapes(self) -> tuple[Shape, ...]:
        return tuple((table.pooling,) for table in self.tables)

    @property
    def out_shape(self) -> Shape:
        dims = [table.dim for table in self.tables]
        return (len(dims), dims[0]) if len(set(dims)) == 1 else (sum(dims),)

    def parameter_shapes(self) -> dict[str, Shape]:
        return {f"{table.name}.weight": (table.rows, table.dim) for table in self.tables}

    @property
    def macs(self) -> int:
        return 0

    def lower(self, builder: WorkloadBuilder, name: str, inputs: Sequence[str] = ()) -> str:
        return builder.add(Gather(name=name, inputs=tuple(inputs), tables=self.tables, output_bits=self.activation_bits))

    def reference(self, parameters: Mapping[str, np.ndarray], *inputs: np.ndarray) -> np.ndarray:
        pooled = [parameters[f"{table.name}.weight"][ids].sum(axis=1) for table, ids in zip(self.tables, inputs, strict=True)]
        return np.concatenate(pooled, axis=1).reshape(len(inputs[0]), *self.out_shape)

    def forward(self, parameters: Mapping[str, Tensor], *inputs: Tensor) -> Tensor:
        import torch

        pooled = [parameters[f"{table.name}.weight"][ids].sum(1) for table, ids in zip(self.tables, inputs, strict=True)]
        return torch.cat(pooled, dim=1).reshape(len(inputs[0]), *self.out_shape)


OPERATOR = Embedding
