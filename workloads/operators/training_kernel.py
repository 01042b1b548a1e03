"""Numba loops of training: column moments of hidden values (rows, features), ReLU with dropout behind a per-feature scale, and
the gradients of both and of table look-ups.

Each is one pass over memory. Column sums are taken over `BLOCK` rows in the arrays' own precision, then in float64.
"""

from __future__ import annotations

import numpy as np
from numba import njit

import pimsim.kernels  # noqa: F401  (sets the place of the disk cache)

BLOCK = 64


@njit(cache=True, nogil=True, fastmath=True)
def moments(x):
    """Mean and variance (divided by the rows) of every column, float64."""
    rows, columns = x.shape
    sums, squares = np.zeros(columns), np.zeros(columns)
    part, part_squares = np.empty(columns, x.dtype), np.empty(columns, x.dtype)
    for first in range(0, rows, BLOCK):
        part[:] = 0
        part_squares[:] = 0
        for i in range(first, min(rows, first + BLOCK)):
            for j in range(columns):
                value = x[i, j]
                part[j] += value
                part_squares[j] += value * value
        for j in range(columns):
            sums[j] += part[j]
            squares[j] += part_squares[j]
    mean = sums / rows
    return mean, np.maximum(squares / rows - mean * mean, 0.0)


@njit(cache=True, nogil=True)
def _mixed(counter, key, other):
    """32 bits that look random: the mixing of MurmurHash3 (Appleby, public domain) over a counter and two keys."""
    value = np.uint32(np.uint32(counter) * np.uint32(0x9E3779B1) + key)
    value = np.uint32(np.uint32(value ^ (value >> np.uint32(16))) * np.uint32(0x85EBCA6B)) ^ other
    value = np.uint32(np.uint32(value ^ (value >> np.uint32(13))) * np.uint32(0xC2B2AE35))
    return np.uint32(value ^ (value >> np.uint32(16)))


@njit(cache=True, nogil=True)
def keep_factors(keys, threshold, factor, out):
    """`out` (values,): 0 where the value's random bits are below the threshold, `factor` elsewhere."""
    zero = out.dtype.type(0)
    for i in range(len(out)):
        out[i] = factor if _mixed(i, keys[0], keys[1]) >= threshold else zero


@njit(cache=True, nogil=True, fastmath=True)
def affine_relu_drop(x, scale, offset, keys, threshold, out):
    """`out = relu(x scale + offset)`, 0 where the value's random bits are below the threshold."""
    rows, columns = x.shape
    zero, key, other = x.dtype.type(0), keys[0], keys[1]
    for i in range(rows):
        first = i * columns
        for j in range(columns):
            value = max(x[i, j] * scale[j] + offset[j], zero)
            out[i, j] = value if _mixed(first + j, key, other) >= threshold else zero


@njit(cache=True, nogil=True)
def scatter_add(gradient, rows, table):
    """Adds `gradient` (batch, look-ups, dim) to the table's rows that `rows` (batch, look-ups) name, in order."""
    for i in range(rows.shape[0]):
        for k in range(rows.shape[1]):
            row = rows[i, k]
            for j in range(gradient.shape[2]):
                table[row, j] += gradient[i, k, j]


@njit(cache=True, nogil=True, fastmath=True)
def gradient_sums(gradient, out, x):
    """Column sums of the gradient where `out` is positive, and of that times x, float64."""
    rows, columns = x.shape
    sums, products = np.zeros(columns), np.zeros(columns)
    part, part_products = np.empty(columns, x.dtype), np.empty(columns, x.dtype)
    zero = x.dtype.type(0)
    for first in range(0, rows, BLOCK):
        part[:] = 0
        part_products[:] = 0
        for i in range(first, min(rows, first + BLOCK)):
            for j in range(columns):
                value = gradient[i, j] if out[i, j] > zero else zero
                part[j] += value
                part_products[j] += value * x[i, j]
        for j in range(columns):
            sums[j] += part[j]
            products[j] += part_products[j]
    return sums, products


@njit(cache=True, nogil=True, fastmath=True)
def input_gradient(gradient, out, x, scale, slope, level):
    """`x = gradient scale (where out is positive) + x slope + level`, in place."""
    rows, columns = x.shape
    zero = x.dtype.type(0)
    for i in range(rows):
        for j in range(columns):
            value = gradient[i, j] * scale[j] if out[i, j] > zero else zero
            x[i, j] = value + x[i, j] * slope[j] + level[j]
