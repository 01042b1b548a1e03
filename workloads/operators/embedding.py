"""Embedding tables with sum pooling (embedding bags)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Self

import numpy as np
from pydantic import Field, PositiveInt, model_validator

from pimsim.graph import Gather, Table, WorkloadBuilder
from workloads.operators.base import Operator, Shape

if TYPE_CHECKING:
    from torch import Tensor


class Embedding(Operator):
    """For each table, `pooling` row numbers -> the sum of those rows; one gather-and-reduce for all tables.

    Inputs: one int array (batch, pooling) per table; in a table with a pooling factor above 1, -1 is no look-up.
    Output: (tables, dim) if all tables share one dim, else (sum of dims,); (tables, width) with a `width`.
    Parameters: `<table>.weight` (rows, dim).

    The reference looks up the arrays it is given; rounding to a table's `bits` is the caller's.
    """

    tables: tuple[Table, ...] = Field(min_length=1)
    width: PositiveInt | None = None
    """Each vector lies at the start of so many elements, zeros behind it. The zeros stay where they are from batch to batch: what is
    gathered and written are the vectors alone, what the next operator reads and multiplies is the whole width."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for table in self.tables:
            if self.width is not None and table.dim > self.width:
                raise ValueError(f"width: {self.width}: narrower than table {table.name!r} of dim {table.dim}")
        return self

    @property
    def in_shapes(self) -> tuple[Shape, ...]:
        return tuple((table.pooling,) for table in self.tables)

    @property
    def out_shape(self) -> Shape:
        dims = [self.width or table.dim for table in self.tables]
        return (len(dims), dims[0]) if len(set(dims)) == 1 else (sum(dims),)

    def parameter_shapes(self) -> dict[str, Shape]:
        return {f"{table.name}.weight": (table.rows, table.dim) for table in self.tables}

    @property
    def macs(self) -> int:
        return 0

    def lower(self, builder: WorkloadBuilder, name: str, inputs: Sequence[str] = ()) -> str:
        return builder.add(Gather(name=name, inputs=tuple(inputs), tables=self.tables, output_bits=self.activation_bits))

    def reference(self, parameters: Mapping[str, np.ndarray], *inputs: np.ndarray) -> np.ndarray:
        pooled = []
        for table, ids in zip(self.tables, inputs, strict=True):
            rows = parameters[f"{table.name}.weight"][ids]
            vectors = (np.where(ids[..., None] < 0, 0, rows) if table.pooling > 1 else rows).sum(axis=1)
            pooled.append(np.pad(vectors, ((0, 0), (0, (self.width or table.dim) - table.dim))))
        return np.concatenate(pooled, axis=1).reshape(len(inputs[0]), *self.out_shape)

    def forward(self, parameters: Mapping[str, Tensor], *inputs: Tensor) -> Tensor:
        import torch

        tables = zip(self.tables, inputs, strict=True)
        pooled = []
        for table, ids in tables:
            vectors = pooled_rows(parameters[f"{table.name}.weight"], ids)
            pooled.append(torch.nn.functional.pad(vectors, (0, (self.width or table.dim) - table.dim)))
        return torch.cat(pooled, dim=1).reshape(len(inputs[0]), *self.out_shape)


def pooled_rows(weight: Tensor, ids: Tensor) -> Tensor:
    """(batch, dim) sums of the rows (rows, dim) that ids (batch, pooling) name; with pooling above 1, those of -1 count nothing."""
    from torch.nn import functional

    if ids.shape[1] == 1:
        return functional.embedding(ids[:, 0], weight)
    return functional.embedding_bag(ids.clamp(min=0), weight, mode="sum", per_sample_weights=(ids >= 0).to(weight.dtype))


OPERATOR = Embedding
