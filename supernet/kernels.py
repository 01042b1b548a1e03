"""Numba kernels of the training step: attention with tiny heads, LayerNorm over fields, Adagrad on slices of shared weights.

Eight heads over 16 elements leave two elements a head. As matrix products those are slow, and scores of (rows, heads, fields, fields)
are large; here a head's scores live in one row buffer and are worked out again for the gradient, as FlashAttention does (Dao et al.,
NeurIPS 2022).

Modelling decisions:
    * e^x is a polynomial of degree 6, off by at most 1e-6 of the value over the arguments that a softmax sees.
    * Samples are dealt to `torch.get_num_threads()` threads in contiguous parts. Only the gradients of LayerNorm's gain and bias are sums
      over parts: their last bits depend on the number of threads, nothing else does.

Not modelled: dropout, masks, second derivatives.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from pimsim.kernels.cache import use_cache

use_cache()

from numba import njit  # noqa: E402

OPTIONS: dict[str, Any] = {"cache": True, "nogil": True, "fastmath": True, "error_model": "numpy"}
F = np.float32
COLUMNS = 256
"""Columns that LayerNorm works on together: with tens of rows they stay in the first-level cache."""


@njit(inline="always", **OPTIONS)
def _exp(x):
    """e^x of x <= 0 (0 below -87): 2^whole times a polynomial of the rest, from the Cephes library."""
    x = max(x, F(-87.0)) * F(1.4426950408889634)
    whole = np.floor(x + F(0.5))
    rest = x - whole
    p = F(1.535336188319500e-4)
    p = p * rest + F(1.339887440266574e-3)
    p = p * rest + F(9.618437357674640e-3)
    p = p * rest + F(5.550332471162809e-2)
    p = p * rest + F(2.402264791363012e-1)
    p = p * rest + F(6.931472028550421e-1)
    p = p * rest + F(1.0)
    return p * np.int32((np.int32(whole) + np.int32(127)) << np.int32(23)).view(np.float32)


@njit(inline="always", **OPTIONS)
def _gather(tokens, start, to):
    """One head's elements, token by token in memory, as rows of their own."""
    for i in range(to.shape[1]):
        for c in range(to.shape[0]):
            to[c, i] = tokens[i, start + c]


@njit(**OPTIONS)
def _attention(qkv, heads, out, shifts, first, last):
    """Samples first to last: out (rows, fields, dim) and shifts (rows, heads, fields), the log of each softmax's denominator."""
    fields, dim = out.shape[1], out.shape[2]
    width = dim // heads
    scale = F(1.0 / np.sqrt(width))
    q, k, v = np.empty((width, fields), F), np.empty((width, fields), F), np.empty((width, fields), F)
    s = np.empty(fields, F)
    for row in range(first, last):
        for head in range(heads):
            start = head * width
            _gather(qkv[row], start, q)
            _gather(qkv[row], dim + start, k)
            _gather(qkv[row], 2 * dim + start, v)
            for i in range(fields):
                a = q[0, i] * scale
                for j in range(fields):
                    s[j] = a * k[0, j]
                for c in range(1, width):
                    a = q[c, i] * scale
                    for j in range(fields):
                        s[j] += a * k[c, j]
                top = s[0]
                for j in range(fields):
                    top = max(top, s[j])
                total = F(0.0)
                for j in range(fields):
                    e = _exp(s[j] - top)
                    total += e
                    s[j] = e
                shifts[row, head, i] = top + np.log(total)
                for c in range(width):
                    mixed = F(0.0)
                    for j in range(fields):
                        mixed += s[j] * v[c, j]
                    out[row, i, start + c] = mixed / total


@njit(**OPTIONS)
def _attention_backward(qkv, heads, out, shifts, gradient, result, first, last):
    """Samples first to last: gradient of qkv (rows, fields, 3 dim) into result."""
    fields, dim = out.shape[1], out.shape[2]
    width = dim // heads
    scale = F(1.0 / np.sqrt(width))
    q, k, v = np.empty((width, fields), F), np.empty((width, fields), F), np.empty((width, fields), F)
    dk, dv = np.empty((width, fields), F), np.empty((width, fields), F)
    p, ds = np.empty(fields, F), np.empty(fields, F)
    for row in range(first, last):
        for head in range(heads):
            start = head * width
            _gather(qkv[row], start, q)
            _gather(qkv[row], dim + start, k)
            _gather(qkv[row], 2 * dim + start, v)
            dk[:] = F(0.0)
            dv[:] = F(0.0)
            for i in range(fields):
                delta, shift = F(0.0), shifts[row, head, i]
                for c in range(width):
                    delta += gradient[row, i, start + c] * out[row, i, start + c]
                for j in range(fields):
                    p[j] = -shift
                    ds[j] = -delta
                for c in range(width):
                    a, b = q[c, i] * scale, gradient[row, i, start + c]
                    for j in range(fields):
                        p[j] += a * k[c, j]
                        ds[j] += b * v[c, j]
                for j in range(fields):
                    e = _exp(p[j])
                    p[j] = e
                    ds[j] *= e * scale
                for c in range(width):
                    a, b = q[c, i], gradient[row, i, start + c]
                    dq = F(0.0)
                    for j in range(fields):
                        dq += ds[j] * k[c, j]
                        dk[c, j] += ds[j] * a
                        dv[c, j] += p[j] * b
                    result[row, i, start + c] = dq
            for i in range(fields):
                for c in range(width):
                    result[row, i, dim + start + c] = dk[c, i]
                    result[row, i, 2 * dim + start + c] = dv[c, i]


@njit(**OPTIONS)
def _norm(x, gain, bias, eps, relu, out, mean, scale, first, last):
    """Columns first to last of out = gain * (x - mean) * scale + bias, cut at 0 if `relu`; scale is one over the standard deviation."""
    rows, least = x.shape[0], F(0.0) if relu else F(-3e38)
    for begin in range(first, last, COLUMNS):
        end = min(begin + COLUMNS, last)
        m, s = mean[begin:end], scale[begin:end]
        m[:] = F(0.0)
        s[:] = F(0.0)
        for row in range(rows):
            part = x[row, begin:end]
            for i in range(len(part)):
                m[i] += part[i]
        for i in range(len(m)):
            m[i] /= F(rows)
        for row in range(rows):
            part = x[row, begin:end]
            for i in range(len(part)):
                s[i] += (part[i] - m[i]) * (part[i] - m[i])
        for i in range(len(s)):
            s[i] = F(1.0) / np.sqrt(s[i] / F(rows) + eps)
        for row in range(rows):
            g, b, part, to = gain[row], bias[row], x[row, begin:end], out[row, begin:end]
            for i in range(len(part)):
                to[i] = max((part[i] - m[i]) * s[i] * g + b, least)


@njit(**OPTIONS)
def _norm_backward(x, gain, relu, out, mean, scale, gradient, dx, dgain, dbias, first, last):
    """Columns first to last of dx, and their sums for gain and bias."""
    rows = x.shape[0]
    along, across = np.empty(COLUMNS, F), np.empty(COLUMNS, F)
    dgain[:] = F(0.0)
    dbias[:] = F(0.0)
    for begin in range(first, last, COLUMNS):
        end = min(begin + COLUMNS, last)
        m, s = mean[begin:end], scale[begin:end]
        along[:] = F(0.0)
        across[:] = F(0.0)
        for row in range(rows):
            g, to_gain, to_bias = gain[row], F(0.0), F(0.0)
            part, made, from_ = x[row, begin:end], out[row, begin:end], gradient[row, begin:end]
            for i in range(len(part)):
                d = from_[i] if made[i] > F(0.0) or not relu else F(0.0)
                unit = (part[i] - m[i]) * s[i]
                to_gain += d * unit
                to_bias += d
                along[i] += d * g * unit
                across[i] += d * g
            dgain[row] += to_gain
            dbias[row] += to_bias
        for row in range(rows):
            g, part, made, from_, to = gain[row], x[row, begin:end], out[row, begin:end], gradient[row, begin:end], dx[row, begin:end]
            for i in range(len(part)):
                d = from_[i] if made[i] > F(0.0) or not relu else F(0.0)
                to[i] = s[i] * (d * g - (across[i] + (part[i] - m[i]) * s[i] * along[i]) / F(rows))


@njit(**OPTIONS)
def _adagrad(value, squares, gradient, starts, stops, rate, eps, first, last):
    """Rows first to last of the columns [start, stop), which stand one after the other in the gradient."""
    for row in range(first, last):
        done = 0
        for part in range(len(starts)):
            start, stop = starts[part], stops[part]
            to, sums, from_ = value[row, start:stop], squares[row, start:stop], gradient[row, done : done + stop - start]
            for j in range(len(from_)):
                total = sums[j] + from_[j] * from_[j]
                sums[j] = total
                to[j] -= rate * from_[j] / (np.sqrt(total) + eps)
            done += stop - start


def _parts(rows: int) -> list[tuple[int, int]]:
    """Contiguous parts [first, last) of the rows, one a thread."""
    return list(pairwise(np.linspace(0, rows, max(1, min(torch.get_num_threads(), rows)) + 1).astype(int).tolist()))


def deal(rows: int, call: Callable[[int, int], None]) -> None:
    """Calls with each of the `_parts`, one a thread. Threads are new: a fork would lose a pool's."""
    parts = _parts(rows)
    others = [threading.Thread(target=call, args=part) for part in parts[1:]]
    for other in others:
        other.start()
    call(*parts[0])
    for other in others:
        other.join()


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, qkv: torch.Tensor, heads: int) -> torch.Tensor:  # type: ignore[override]
        qkv = qkv.detach().contiguous()
        rows, fields, width = qkv.shape
        out, shifts = qkv.new_empty(rows, fields, width // 3), qkv.new_empty(rows, heads, fields)
        arrays = qkv.numpy(), heads, out.numpy(), shifts.numpy()
        deal(rows, lambda first, last: _attention(*arrays, first, last))
        ctx.heads = heads
        ctx.save_for_backward(qkv, out, shifts)
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:  # type: ignore[override]
        qkv, out, shifts = ctx.saved_tensors
        result = torch.empty_like(qkv)
        arrays = qkv.numpy(), ctx.heads, out.numpy(), shifts.numpy(), gradient.contiguous().numpy(), result.numpy()
        deal(len(qkv), lambda first, last: _attention_backward(*arrays, first, last))
        return result, None


def attention(qkv: torch.Tensor, heads: int) -> torch.Tensor:
    """Self-attention of every sample's fields, float32 on the CPU.

    Args:
        qkv: (rows, fields, 3 * dim): queries, keys and values, each head by head.
        heads: divides dim.

    Returns:
        (rows, fields, dim), heads joined.
    """
    return _Attention.apply(qkv, heads)


def adagrad(
    value: torch.Tensor,
    squares: torch.Tensor,
    gradient: torch.Tensor,
    columns: tuple[tuple[int, int], ...],
    rate: float,
    eps: float,
) -> None:
    """Adagrad in place on the first rows of some columns, float32 on the CPU: one pass over what the gradient covers.

    Args:
        value: (greatest rows, greatest columns) or (greatest length,), contiguous.
        squares: sums of squared gradients, as value.
        gradient: (rows, columns in all) or (length,).
        columns: ranges [start, stop) of the value's columns, in the gradient's order; empty for a vector.
        rate: learning rate.
        eps: added to the root.
    """
    matrices = [t.reshape(-1, t.shape[-1]) for t in (value, squares, gradient.contiguous())]
    ranges = columns or ((0, gradient.shape[-1]),)
    starts, stops = np.array(ranges, dtype=np.int64).T.copy()
    arrays = (*(m.numpy() for m in matrices), starts, stops, F(rate), F(eps))
    rows = len(matrices[2])
    if gradient.numel() < 1 << 16:
        _adagrad(*arrays, 0, rows)
    else:
        deal(rows, lambda first, last: _adagrad(*arrays, first, last))


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, gain: torch.Tensor, bias: torch.Tensor, relu: bool) -> torch.Tensor:  # type: ignore[override]
        x, gain = x.detach().contiguous(), gain.detach().contiguous()
        flat, out = x.flatten(1), torch.empty_like(x)
        mean, scale = flat.new_empty(flat.shape[1]), flat.new_empty(flat.shape[1])
        arrays = flat.numpy(), gain.numpy(), bias.detach().contiguous().numpy(), F(1e-5), relu
        results = out.flatten(1).numpy(), mean.numpy(), scale.numpy()
        deal(flat.shape[1], lambda first, last: _norm(*arrays, *results, first, last))
        ctx.relu = relu
        ctx.save_for_backward(x, gain, out, mean, scale)
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # type: ignore[override]
        x, gain, out, mean, scale = ctx.saved_tensors
        dx = torch.empty_like(x)
        arrays = (x.flatten(1).numpy(), gain.numpy(), ctx.relu, out.flatten(1).numpy(), mean.numpy(), scale.numpy())
        results = gradient.contiguous().flatten(1).numpy(), dx.flatten(1).numpy()
        starts = [first for first, _ in _parts(len(mean))]
        sums = x.new_empty(2, len(starts), len(x))
        dgain, dbias = sums.numpy()

        def part(first: int, last: int) -> None:
            place = starts.index(first)
            _norm_backward(*arrays, *results, dgain[place], dbias[place], first, last)

        deal(len(mean), part)
        return dx, sums[0].sum(0), sums[1].sum(0), None


def norm(x: torch.Tensor, gain: torch.Tensor, bias: torch.Tensor, relu: bool) -> torch.Tensor:
    """LayerNorm over the first axis, then ReLU where asked, float32 on the CPU.

    Args:
        x: (fields, ...).
        gain: (fields,).
        bias: (fields,).
        relu: cut at 0.
    """
    return _Norm.apply(x, gain, bias, relu)
