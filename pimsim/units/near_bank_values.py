"""The values that a near-bank SIMD unit computes: its formats, its order of additions, its roundings.

16 bits are FP16: a multiply-accumulate keeps product and sum in FP32 and rounds once to FP16, as the vendor's simulator does. 32 bits are
FP32, rounded after the product and after the sum. 8 and 4 bits are integers with 32-bit sums; element-wise results saturate.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pimsim.errors import ConfigError
from pimsim.graph import Product

Array = NDArray[Any]


def to_format(values: Array, bits: int) -> Array:
    """Values in the unit's format of `bits` bits: FP32, FP16, or integers rounded and saturated."""
    if bits >= 16:
        return np.asarray(values).astype(np.float32 if bits == 32 else np.float16)
    limit = 1 << (bits - 1)
    return np.clip(np.rint(values), -limit, limit - 1).astype(np.int32)


def multiply_add(total: Array, a: Array, b: Array) -> Array:
    """`total + a * b` in the format of `total`."""
    if total.dtype == np.float16:
        return (total.astype(np.float32) + a.astype(np.float32) * b.astype(np.float32)).astype(np.float16)
    return np.asarray(total + a * b)


def matvec(weights: Array, vectors: Array, bits: int, per_burst: int, registers: int, banks: int, tree: bool) -> Array:
    """Products of a matrix with vectors, as lanes accumulate them.

    Element `k` of a vector goes to lane `k % per_burst`; each lane adds its products burst after burst, the input tiles of the unit's first
    bank before those of the next. Lanes are added one after another by the host, or pairwise in FP32 by the unit's adder tree.

    Args:
        weights: (out, in).
        vectors: (batch, in).
        bits: Format of both.
        per_burst: Elements of a burst.
        registers: Bursts of an input tile.
        banks: Banks of a unit.
        tree: Lanes are added by the unit.

    Returns:
        (batch, out).
    """
    pad = -weights.shape[1] % per_burst
    w = np.pad(to_format(weights, bits), ((0, 0), (0, pad))).reshape(len(weights), -1, per_burst)
    x = np.pad(to_format(vectors, bits), ((0, 0), (0, pad))).reshape(len(vectors), -1, per_burst)
    lanes = np.zeros((len(x), len(w), per_burst), w.dtype)
    bursts = np.arange(w.shape[1])
    for burst in bursts[np.argsort(bursts // registers % banks, kind="stable")]:
        lanes = multiply_add(lanes, w[None, :, burst], x[:, None, burst])
    return _tree(lanes) if tree else _in_turn(lanes)


def _in_turn(lanes: Array) -> Array:
    total = np.zeros(lanes.shape[:-1], lanes.dtype)
    for lane in range(lanes.shape[-1]):
        total = total + lanes[..., lane]
    return total


def _tree(lanes: Array) -> Array:
    sums = lanes if lanes.dtype.kind == "i" else lanes.astype(np.float32)
    while sums.shape[-1] > 1:
        sums = np.pad(sums, [(0, 0)] * (sums.ndim - 1) + [(0, sums.shape[-1] % 2)])
        sums = sums[..., 0::2] + sums[..., 1::2]
    return np.asarray(sums[..., 0])


def elementwise(function: str, operands: list[Array], bits: int) -> Array:
    """`add`, `mul` or `relu`, element by element, one operand after the other.

    Raises:
        ConfigError: another function.
    """
    result = to_format(operands[0], bits)
    for operand in operands[1:]:
        other = to_format(operand, bits)
        result = to_format(result + other if function == "add" else result * other, bits)
    if function == "relu":
        result = np.where(result > 0, result, np.zeros_like(result))
    elif function not in ("add", "mul"):
        raise ConfigError(f"kernel {function}: near-bank units do not run it (allowed: add, mul, relu)")
    return result


def gather(rows: Array, indices: Array, weights: Array | None, bits: int) -> Array:
    """Sums of rows in the order of the look-ups, weighted or not, as one unit that holds all rows of a bag adds them.

    Args:
        rows: (rows, dim).
        indices: (batch, pooling).
        weights: (batch, pooling) or None.
        bits: Format of the rows; sums of 8 and 4 bits are kept in 32 bits.

    Returns:
        (batch, dim).
    """
    table = to_format(rows, bits)
    factors = np.ones(indices.shape, table.dtype) if weights is None else to_format(weights, bits)
    total = np.zeros((len(indices), table.shape[1]), table.dtype)
    for place in range(indices.shape[1]):
        total = multiply_add(total, table[indices[:, place]], factors[:, place, None])
    return total


def product(item: Product, operands: list[Array], per_burst: int, registers: int, banks: int, tree: bool) -> Array:
    """Products of two activations: each vector of the first operand with the matrix of the second one, as `matvec` adds them.

    Args:
        item: The product.
        operands: (batch, m, k) and (batch, n, k), or the first alone for its Gram matrix.
        per_burst: Elements of a burst.
        registers: Bursts of an input tile.
        banks: Banks of a unit.
        tree: Lanes are added by the unit.

    Returns:
        (batch, m, n), or (batch, pairs) row by row for a strict lower triangle.
    """
    pairs = zip(operands[0], operands[-1], strict=True)
    full = np.stack([matvec(second, first, item.activation_bits, per_burst, registers, banks, tree) for first, second in pairs])
    return item.kept(full)


def reduction(vectors: Array, bits: int, parts: int, fold: int, deep: int, tree: bool) -> Array:
    """Sums of vectors (batch, k, outputs) to (batch, outputs).

    `fold` vectors lie side by side in a burst, `deep` bursts one behind the other in each of the `parts` units that share a sum. A unit
    adds burst after burst; the host adds the units one after another, then the vectors side by side, or pairwise in FP32 the unit's tree.
    """
    batch, count, outputs = vectors.shape
    padded = np.pad(to_format(vectors, bits), ((0, 0), (0, parts * deep * fold - count), (0, 0)))
    bursts = padded.reshape(batch, parts, deep, fold, outputs)
    total = bursts[:, :, 0]
    for burst in range(1, deep):
        total = total + bursts[:, :, burst]
    if tree:
        return _in_turn(np.moveaxis(_tree(np.moveaxis(total, 2, -1)), 1, -1))
    return _in_turn(np.moveaxis(_in_turn(np.moveaxis(total, 1, -1)), 1, -1))
