"""Gradients of slices of the shared weights: added up where several slices overlap, so that each element is updated once a step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import torch

from supernet.model import Slice

Piece = tuple[Slice, torch.Tensor]
"""A slice and its gradient."""


def merged(pieces: Sequence[Piece]) -> list[Piece]:
    """The sum of gradients of slices of one shared weight, as disjoint slices that cover exactly what any of them covers.

    Slices begin at the first row. So between two neighbouring ends of column ranges what is covered is a rectangle, as high as the highest
    slice there. One slice without overlapping columns comes back as it is.
    """
    if len(pieces) == 1 and _apart(pieces[0][0]):
        return list(pieces)
    spans = [(start, stop, len(gradient)) for piece, gradient in pieces for start, stop in _columns(piece, gradient)]
    ends = sorted({end for start, stop, _ in spans for end in (start, stop)})
    total = pieces[0][1].new_zeros(max(len(gradient) for _, gradient in pieces), ends[-1])
    for piece, gradient in pieces:
        flat, done = gradient.reshape(len(gradient), -1), 0
        for start, stop in _columns(piece, gradient):
            total[: len(flat), start:stop] += flat[:, done : done + stop - start]
            done += stop - start
    heights: dict[int, list[tuple[int, int]]] = {}
    for start, stop in pairwise(ends):
        if height := max((rows for first, last, rows in spans if first <= start and stop <= last), default=0):
            heights.setdefault(height, []).append((start, stop))
    return [_part(pieces[0], total, height, tuple(columns)) for height, columns in heights.items()]


def _columns(piece: Slice, gradient: torch.Tensor) -> tuple[tuple[int, int], ...]:
    """Column ranges; a vector counts as one column."""
    return piece.columns or ((0, gradient[0].numel()),)


def _apart(piece: Slice) -> bool:
    """True when no two column ranges overlap."""
    return all(stop <= start for (_, stop), (start, _) in pairwise(sorted(piece.columns)))


def _part(like: Piece, total: torch.Tensor, height: int, columns: tuple[tuple[int, int], ...]) -> Piece:
    piece, gradient = like
    if gradient.dim() == 1:
        return replace(piece, rows=height), total[:height, 0]
    found = torch.cat([total[:height, start:stop] for start, stop in columns], dim=1)
    return replace(piece, rows=height, columns=columns), found
