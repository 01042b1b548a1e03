"""Numba kernel of a dot-product interaction: the strict lower triangle of a sample's Gram matrix, and its gradient.

A sample's vectors are few and short (tens of 16 elements), so a batched matrix product spends its time around them: the vectors are
gathered first, the whole square is made, half of it picked out, and the gradient goes the same way back. Here they are read where
they lie, each pair is multiplied once, and the pairs are written where the next layer reads them.

Modelling decisions: samples are dealt to `torch.get_num_threads()` threads; no bit depends on the number of threads.

Not modelled: second derivatives.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import njit

from supernet.kernels import OPTIONS, F, deal

BLOCK = 32
"""Samples that are multiplied together, side by side in vector registers."""


@njit(**OPTIONS)
def _gather(vector, fields, first, last, to):
    """A block's vectors as (vectors, dim, samples); what lies behind the last sample and the last element stays as it is."""
    for row in range(first, last):
        for c in range(vector.shape[1]):
            to[0, c, row - first] = vector[row, c]
    for i in range(len(fields)):
        for row in range(first, last):
            for c in range(vector.shape[1]):
                to[i + 1, c, row - first] = fields[i, row, c]


@njit(**OPTIONS)
def _scatter(from_, vector, fields, first, last):
    """The way back of `_gather`."""
    for row in range(first, last):
        for c in range(vector.shape[1]):
            vector[row, c] = from_[0, c, row - first]
    for i in range(len(fields)):
        for row in range(first, last):
            for c in range(vector.shape[1]):
                fields[i, row, c] = from_[i + 1, c, row - first]


@njit(**OPTIONS)
def _pairs(vector, fields, out, first, last):
    """Samples first to last of out (rows, pairs). Elements are padded with zeros to a multiple of 8, which are added up together."""
    t = np.zeros((len(fields) + 1, (vector.shape[1] + 7) // 8 * 8, BLOCK), F)
    products = np.empty((out.shape[1], BLOCK), F)
    for begin in range(first, last, BLOCK):
        end = min(begin + BLOCK, last)
        _gather(vector, fields, begin, end, t)
        place = 0
        for i in range(1, len(t)):
            a = t[i]
            for j in range(i):
                b, total = t[j], products[place]
                total[:] = F(0.0)
                for c in range(0, t.shape[1], 8):
                    for x in range(BLOCK):
                        first_four = a[c, x] * b[c, x] + a[c + 1, x] * b[c + 1, x] + a[c + 2, x] * b[c + 2, x] + a[c + 3, x] * b[c + 3, x]
                        last_four = (
                            a[c + 4, x] * b[c + 4, x] + a[c + 5, x] * b[c + 5, x] + a[c + 6, x] * b[c + 6, x] + a[c + 7, x] * b[c + 7, x]
                        )
                        total[x] += first_four + last_four
                place += 1
        for row in range(begin, end):
            to = out[row]
            for place in range(len(products)):
                to[place] = products[place, row - begin]


@njit(**OPTIONS)
def _pairs_backward(vector, fields, gradient, dvector, dfields, first, last):
    """Samples first to last of dvector (rows, dim) and dfields (fields, rows, dim)."""
    dim = vector.shape[1]
    t = np.zeros((len(fields) + 1, dim, BLOCK), F)
    d, weights = np.empty_like(t), np.zeros((gradient.shape[1], BLOCK), F)
    for begin in range(first, last, BLOCK):
        end = min(begin + BLOCK, last)
        _gather(vector, fields, begin, end, t)
        d[:] = F(0.0)
        for row in range(begin, end):
            from_ = gradient[row]
            for place in range(len(weights)):
                weights[place, row - begin] = from_[place]
        place = 0
        for i in range(1, len(t)):
            for j in range(i):
                w = weights[place]
                for c in range(dim):
                    for x in range(BLOCK):
                        d[i, c, x] += w[x] * t[j, c, x]
                        d[j, c, x] += w[x] * t[i, c, x]
                place += 1
        _scatter(d, dvector, dfields, begin, end)


class _Pairs(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, vector: torch.Tensor, fields: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        vector, fields = vector.detach().contiguous(), fields.detach().contiguous()
        rows, count = len(vector), len(fields)
        out = vector.new_empty(rows, count * (count + 1) // 2)
        arrays = vector.numpy(), fields.numpy(), out.numpy()
        deal(rows, lambda first, last: _pairs(*arrays, first, last))
        ctx.save_for_backward(vector, fields)
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:  # type: ignore[override]
        vector, fields = ctx.saved_tensors
        results = torch.empty_like(vector), torch.empty_like(fields)
        arrays = (vector.numpy(), fields.numpy(), gradient.contiguous().numpy(), *(r.numpy() for r in results))
        deal(len(vector), lambda first, last: _pairs_backward(*arrays, first, last))
        return results


def pairs(vector: torch.Tensor, fields: torch.Tensor) -> torch.Tensor:
    """Dot products of every two of a sample's vectors, float32 on the CPU.

    Args:
        vector: (rows, dim), the first one.
        fields: (fields, rows, dim), the others.

    Returns:
        (rows, fields * (fields + 1) / 2): the second with the first, the third with the first and the second, and so on.
    """
    return _Pairs.apply(vector, fields)
