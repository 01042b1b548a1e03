"""The values that DPUs compute: C integers that wrap around, IEEE FP32, and the order of additions of the kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pimsim.graph import Elementwise, MatMul, Product
from pimsim.units.dpu_products import SumWork
from pimsim.units.dpu_programs import column_chunk, row_share

Array = NDArray[Any]


def stored(values: Array, dtype: str) -> Array:
    """Values in a type of the DPU: rounded to whole numbers and wrapped for integers, rounded to FP32."""
    if dtype == "fp32":
        return np.asarray(values, np.float32)
    whole = np.asarray(values) if np.issubdtype(np.asarray(values).dtype, np.integer) else np.rint(values)
    wide = whole.astype(np.int64)
    if dtype == "int4":
        return np.asarray(((wide + 8) & 15) - 8, np.int8)
    return wide.astype(dtype)


def _summed(values: Array, dtype: str) -> Array:
    """Values as they enter a sum: FP32, or promoted to 32 bits."""
    return values if dtype == "fp32" else values.astype(np.int32)


def matvec(item: MatMul, dtype: str, dpus: int, tasklets: int, weights: Array, vectors: Array) -> Array:
    """Product of weights (out, in) and vectors (batch, in) as (batch, out); column by column, then over tasklets that share a row."""
    matrix = _summed(stored(weights, dtype), dtype)
    inputs = _summed(stored(vectors, "int8" if dtype == "int4" else dtype), dtype)
    rows = -(-item.out_features // min(item.out_features, dpus))
    chunk = column_chunk(item.in_features, item.weight_bits, row_share(rows, tasklets))
    total = None
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, item.in_features, chunk):
            part = np.zeros((len(inputs), len(matrix)), matrix.dtype)
            for column in range(start, min(start + chunk, item.in_features)):
                part += inputs[:, column, None] * matrix[None, :, column]
            total = part if total is None else total + part
    assert total is not None
    return total


def elementwise(item: Elementwise, dtype: str, *operands: Array) -> Array:
    """One function of equally long arrays, stored back in their type."""
    first, *rest = (stored(operand, dtype) for operand in operands)
    if item.function == "relu":
        negative = np.signbit(first) if dtype == "fp32" else first < 0
        return np.where(negative, np.zeros_like(first), first)
    functions = {"add": np.add, "sub": np.subtract, "mul": np.multiply}
    with np.errstate(over="ignore", invalid="ignore"):
        if item.function == "square":
            return np.asarray(first * first)
        for operand in rest:
            first = functions[item.function](first, operand)
    return first


def gather(dtype: str, dpus: int, rows: Array, indices: Array, weights: Array | None = None) -> Array:
    """Sums (batch, dim) of rows (rows, dim) at indices (batch, pooling): each DPU adds its own rows, the host adds the DPUs' sums."""
    table = _summed(stored(rows, dtype), dtype)
    scale = None if weights is None else _summed(stored(weights, "int32" if dtype != "fp32" else dtype), dtype)
    result = np.zeros((len(indices), table.shape[1]), table.dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        for sample, looked_up in enumerate(np.asarray(indices)):
            sums: dict[int, Array] = {}
            for position, row in enumerate(looked_up):
                value = table[row] if scale is None else table[row] * scale[sample, position]
                dpu = int(row) % dpus
                sums[dpu] = sums.get(dpu, np.zeros_like(value)) + value
            for number, dpu in enumerate(sorted(sums)):
                result[sample] = sums[dpu] if number == 0 else result[sample] + sums[dpu]
    return result


def product(item: Product, dtype: str, operands: list[Array]) -> Array:
    """Products of (batch, m, k) with (batch, n, k), or of the first with itself; element by element in order."""
    first, second = (_summed(stored(operand, dtype), dtype) for operand in (operands[0], operands[-1]))
    sums = np.zeros((len(first), item.m, item.n), first.dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        for element in range(item.k):
            sums += first[:, :, None, element] * second[:, None, :, element]
    return np.asarray(item.kept(sums))


def reduction(work: SumWork, dtype: str, tile_bytes: int, tasklets: int, vectors: Array) -> Array:
    """Sums (batch, outputs) of vectors (batch, k, outputs): tasklets by tiles of a DPU's elements, then tasklets, then DPUs in order."""
    batch, count, outputs = vectors.shape
    values = _summed(stored(vectors, dtype), dtype).transpose(1, 0, 2).reshape(count, -1)
    sums = np.arange(batch * outputs)
    part, per_tile = work.elements // work.columns, tile_bytes * 8 // work.bits
    total = np.zeros(len(sums), values.dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, count, part):
            own = np.zeros((tasklets, len(sums)), values.dtype)
            for vector in range(min(part, count - start)):
                tasklet = (vector * work.columns + sums % work.columns) // per_tile % tasklets
                own[tasklet, sums] += values[start + vector]
            for number in range(1, tasklets):
                own[0] += own[number]
            total += own[0]
    return total.reshape(batch, outputs)
