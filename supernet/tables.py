"""The embedding tables of a training, of which a step touches only the rows in the batch: all in one, or each with a dim of its own."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch

from supernet.distributed import Ranks
from supernet.optim import RowSparseTable, TableName


def widest_dims(genes: Sequence[tuple[int, ...] | None]) -> tuple[int, ...] | None:
    """Elements of a row of each table that networks with these `embedding_dims` read in all; None for whole rows."""
    known = [dims for dims in genes if dims is not None]
    return tuple(map(max, zip(*known, strict=True))) if len(known) == len(genes) else None


class Tables:
    """Tables that are read and updated together.

    Args:
        weights: one tensor (all rows, dim) with the tables below each other, or a tensor (rows, at most `dim`) for each.
        rows: rows of each table.
        dim: elements of a looked-up vector; zeros follow a shorter row.
        name: the optimiser.
        l2: see `RowSparseTable`.
        varied: steps read rows at different widths, so that Adam counts the updates of every element.
        averaged: see `RowSparseTable`.
    """

    def __init__(
        self,
        weights: Sequence[torch.Tensor],
        rows: Sequence[int],
        dim: int,
        name: TableName,
        l2: float,
        varied: bool = False,
        averaged: bool = False,
    ) -> None:
        self.dim = dim
        self.parts = [RowSparseTable(weight, name, l2, "element" if varied else "row", averaged) for weight in weights]
        starts = [0, *accumulate(rows)][:-1]
        self._offsets = torch.tensor(starts if len(weights) == 1 else [0] * len(rows), dtype=torch.long, device=weights[0].device)
        self._leaves: list[torch.Tensor] = []

    def look_up(self, sparse: torch.Tensor, dims: Sequence[int] | None = None) -> torch.Tensor:
        """Vectors (rows, fields, dim) of field-local indices (rows, fields).

        Args:
            sparse: the indices.
            dims: elements of a row that each table gives; None for all that it has.
        """
        ids = sparse.long() + self._offsets
        each = ids.shape[1] // len(self.parts)
        found, self._leaves = [], []
        for number, part in enumerate(self.parts):
            embedded, leaf = part.look_up(ids[:, number * each : (number + 1) * each], dims[number] if dims else None)
            self._leaves.append(leaf)
            short = self.dim - embedded.shape[2]
            found.append(torch.nn.functional.pad(embedded, (0, short)) if short else embedded)
        return found[0] if len(found) == 1 else torch.cat(found, dim=1)

    def update(self, rate: float, ranks: Ranks | None = None) -> None:
        """Applies the gradients of what `look_up` gave; with `ranks` of what it gave to any process."""
        for part, leaf in zip(self.parts, self._leaves, strict=True):
            part.update(leaf, rate, ranks)

    def settle(self) -> None:
        """Brings every row's decay up to date."""
        for part in self.parts:
            part.settle()

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on; tensors are not copied."""
        states = [part.state_dict() for part in self.parts]
        return states[0] if len(states) == 1 else {str(number): state for number, state in enumerate(states)}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Goes on from `state_dict`."""
        for number, part in enumerate(self.parts):
            part.load_state_dict(saved if len(self.parts) == 1 else saved[str(number)])
