"""Matrix products, convolutions and attention as primitives: with stationary weights, or of two activations."""

from __future__ import annotations

from math import prod
from typing import Any

from pimsim.graph import MatMul, Product
from workloads.importers.lowering import Lowering, NotLowered
from workloads.importers.records import Call, Value


def stationary(
    low: Lowering, name: str, x: Value, weight: Value, out: int, inner: int, vectors: int, bias: bool = False
) -> tuple[str, ...]:
    """`vectors` activation vectors per sample through weights of (out, inner), or of several such matrices, each with its share.

    Several matrices (weights per field, convolution groups) become one matmul each.
    """
    groups, rest = divmod(low.stored(weight), out * inner)
    if rest or groups < 1 or vectors % groups:
        raise NotLowered(f"weights of {low.stored(weight)} elements for {vectors} vectors of {inner} to {out}")
    bits: dict[str, Any] = {"weight_bits": low.bits(weight), "activation_bits": low.bits(x)}
    found: tuple[str, ...] = ()
    for group in range(groups):
        part = name if groups == 1 else f"{name}.{group}"
        shape: dict[str, Any] = {"out_features": out, "in_features": inner, "vectors": vectors // groups, "bias": bias}
        found += low.add(MatMul(name=part, inputs=low.behind(x), **shape, **bits))
    return found


def linear(low: Lowering, call: Call) -> tuple[str, ...]:
    """`x W^T + b` over the last axis."""
    x, weight = low.value(call, "input"), low.value(call, "weight")
    if not low.constant(weight):
        raise NotLowered("the weight is an activation")
    out, inner = (weight.shape[0] if len(weight.shape) == 2 else 1), weight.shape[-1]
    vectors, bias = low.elements(x) // inner, call.arguments.get("bias") is not None
    return stationary(low, low.unique(call.module) if call.module else low.name(call), x, weight, out, inner, vectors, bias)


def matmul(low: Lowering, call: Call, left: str, right: str) -> tuple[str, ...]:
    """(..., m, k) times (..., k, n); a vector is one row or one column."""
    a, b = low.value(call, left), low.value(call, right)
    return _matmul(low, low.name(call), a, b, low.result(call))


def _matmul(low: Lowering, name: str, a: Value, b: Value, result: Value, bias: bool = False) -> tuple[str, ...]:
    m, k = (a.shape[-2] if len(a.shape) > 1 else 1), a.shape[-1]
    n = b.shape[-1] if len(b.shape) > 1 else 1
    if low.constant(b):
        return stationary(low, name, a, b, n, k, low.elements(result) // n, bias)
    if low.constant(a):
        return stationary(low, name, b, a, m, k, low.elements(result) // m, bias)
    groups, rest = divmod(low.elements(result), m * n)
    if rest or k != a.grown[-1] or not groups:
        raise NotLowered("mixes the samples of a batch")
    sizes: dict[str, Any] = {"m": m, "k": k, "n": n, "groups": groups, "activation_bits": low.bits(result)}
    return low.add(Product(name=name, inputs=low.behind(a, b), **sizes))


def add_matmul(low: Lowering, call: Call, added: str, left: str, right: str) -> tuple[str, ...]:
    """`c + a b`: a constant `c` is a bias, another one an addition of its own."""
    a, b, c, result = low.value(call, left), low.value(call, right), low.value(call, added), low.result(call)
    bias = low.constant(c) and low.constant(b)
    name = low.name(call)
    made = _matmul(low, name, a, b, result, bias)
    if bias:
        return made
    inputs = (*made, *low.behind(c))
    operands = 1 if low.constant(c) else 2
    return low.elementwise(f"{name}.add", "add", inputs, low.elements(result), low.bits(result), operands)


def convolution(low: Lowering, call: Call) -> tuple[str, ...]:
    """A convolution as a matrix product: out channels x (in channels x kernel), one vector an output position; groups apart."""
    x, weight, result = low.value(call, "input"), low.value(call, "weight"), low.result(call)
    if call.arguments.get("transposed") or not low.constant(weight):
        raise NotLowered("transposed, or its weight is an activation")
    groups = int(call.arguments.get("groups") or 1)
    channels, inner = weight.shape[0] // groups, prod(weight.shape[1:])
    positions = low.elements(result) // weight.shape[0]
    if inner > weight.shape[1]:
        low.report.note("convolutions are counted as matrix products that read each input once per kernel position")
    bias = call.arguments.get("bias") is not None
    return stationary(low, low.name(call), x, weight, channels, inner, positions * groups, bias)


def attention(low: Lowering, call: Call) -> tuple[str, ...]:
    """`softmax(q k^T) v` per head: two products with a softmax between; the scaling goes with the softmax. Causal: all pairs counted."""
    q, k, v = (low.value(call, part) for part in ("query", "key", "value"))
    rows, width, columns, out = q.shape[-2], q.shape[-1], k.shape[-2], v.shape[-1]
    groups, rest = divmod(low.elements(q), rows * width)
    if rest or rows != q.grown[-2] or columns != k.grown[-2] or any(low.constant(part) for part in (k, v)):
        raise NotLowered("attention over the samples of a batch, or over parameters")
    if call.arguments.get("is_causal"):
        low.report.note("causal attention counts all pairs")
    name, bits = low.name(call), low.bits(q)
    sizes: dict[str, Any] = {"groups": groups, "activation_bits": bits}
    made = low.add(Product(name=f"{name}.scores", inputs=low.behind(q, k), m=rows, k=width, n=columns, **sizes))
    elements = groups * rows * columns
    if call.arguments.get("attn_mask") is not None:
        mask = low.value(call, "attn_mask")
        operands = 1 if low.constant(mask) else 2
        made = low.elementwise(f"{name}.mask", "add", made + low.behind(mask), elements, bits, operands)
    made = low.elementwise(f"{name}.softmax", "softmax", made, elements, bits)
    return low.add(Product(name=f"{name}.mix", inputs=made + low.behind(v), m=rows, k=columns, n=out, **sizes))
