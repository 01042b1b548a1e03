"""Embedding look-ups: one embedding-bag node stays one gather.

Modelling decisions:
- `nn.Embedding` is a bag of one row; where a sum or mean over rows is all that reads it, it is bags of that many.
- A table that several bags of a sample read (one table for all fields, a history beside its target) is simulated as that many slices of
  its rows, one for each: the capacity and every look-up are exact, which rows a bag can meet is not.
"""

from __future__ import annotations

from math import ceil
from typing import Any

from pimsim.graph import Bits, Gather, Table
from workloads.importers.lowering import Lowering, NotLowered
from workloads.importers.records import Call, Value

SUMS = {"aten.sum", "aten.mean", "onnx.ReduceSum", "onnx.ReduceMean"}
RESHAPES = {"aten.view", "aten.reshape", "aten.unflatten", "onnx.Reshape"}


def bag(low: Lowering, call: Call) -> tuple[str, ...]:
    """One embedding-bag node: bags of one size, the mean size where the example's differ."""
    weight, result = low.value(call, "weight"), low.result(call)
    mode = call.arguments.get("mode") or 0
    bags = _bags(low, call)
    mean = low.value(call, "indices").numel / (bags * low.program.batch)
    pooling = max(ceil(mean), 1)
    if pooling != mean:
        low.report.note(f"{low.label(weight)}: bags of {mean:g} rows on average in the example, rounded up to {pooling}")
    made = gather(low, call, weight, bags, pooling)
    elements, bits = low.elements(result), low.bits(result)
    if call.arguments.get("per_sample_weights") is not None:
        low.report.note(f"{low.label(weight)}: the weights of its rows are multiplied in a pass of its own")
        made = low.elementwise(f"{made[0]}.weights", "mul", made, elements * pooling, bits, 2)
    if mode == 1:
        made = _divide(low, made, elements, bits)
    elif mode == 2:
        low.report.note(f"{low.label(weight)}: the comparisons of its maximum are counted as additions")
    return made


def _divide(low: Lowering, made: tuple[str, ...], elements: int, bits: Bits) -> tuple[str, ...]:
    """The division of a mean."""
    return low.elementwise(f"{made[0]}.mean", "mul", made, elements, bits)


def _bags(low: Lowering, call: Call) -> int:
    """Output vectors of an embedding-bag node per sample."""
    return low.elements(low.result(call)) // low.value(call, "weight").shape[-1]


def rows(low: Lowering, call: Call) -> tuple[str, ...]:
    """One `nn.Embedding`: its rows one by one, or in bags with the sum that follows."""
    weight, lookups = low.value(call, "weight"), low.elements(low.value(call, "indices"))
    follows = pooled_by(low, call)
    bags = _vectors(low, call)
    made = gather(low, call, weight, bags, lookups // bags)
    if follows is not None:
        if "mean" in follows.operator.lower():
            made = _divide(low, made, low.elements(low.result(follows)), low.bits(low.result(follows)))
        low.done[follows.results[0]] = made
    return made


def pooled_by(low: Lowering, call: Call) -> Call | None:
    """The sum or mean over rows, shape (..., rows, dim), that alone reads a look-up, with nothing but reshaping between."""
    last, width = low.result(call), low.value(call, "weight").shape[-1]
    while len(users := low.program.users(last.name)) == 1:
        axes, rank = users[0].arguments.get("dim"), len(last.shape)
        if users[0].operator in SUMS:
            whole = rank > 2 and last.shape[-1] == width and axes in ((rank - 2,), (-2,))
            return users[0] if whole and low.result(users[0]).grows else None
        if users[0].operator not in RESHAPES:
            return None
        last = low.result(users[0])
    return None


def gather(low: Lowering, call: Call, weight: Value, bags: int, pooling: int) -> tuple[str, ...]:
    """The gather of `bags` vectors per sample, each the sum of `pooling` rows."""
    if not low.constant(weight) or low.constant(low.value(call, "indices")):
        raise NotLowered("a look-up into activations")
    table = low.label(weight).removesuffix(".weight")
    low.tables.add(table)
    pooling = low.pooling.get(table, pooling)
    every = [each for each in low.program.calls if each.operator == call.operator and _reads_table(low, each, weight)]
    before = sum(_vectors(low, each) for each in every[: every.index(call)])
    slices = sum(_vectors(low, each) for each in every)
    if slices > 1:
        low.report.note(f"{table}: {slices} bags of a sample read it: simulated as {slices} slices of its rows")
    kept: dict[str, Any] = {"rows": -(-weight.shape[0] // slices), "dim": weight.shape[-1], "bits": low.bits(weight), "pooling": pooling}
    parts = [Table(name=table if slices == 1 else f"{table}.{before + part}", **kept) for part in range(bags)]
    index = low.value(call, "indices")
    name = low.unique(call.module or table)
    inputs = low.behind(index) if low.computed(index) else ()
    return low.add(Gather(name=name, inputs=inputs, tables=tuple(parts), output_bits=low.bits(low.result(call))))


def _reads_table(low: Lowering, call: Call, weight: Value) -> bool:
    other = low.value(call, "weight")
    return other.name == weight.name or (low.constant(other) and low.label(other) == low.label(weight))


def _vectors(low: Lowering, call: Call) -> int:
    """Vectors per sample that a look-up returns, after the pooling by a sum that follows."""
    if "bag" in call.operator.lower():
        return _bags(low, call)
    follows = pooled_by(low, call)
    if follows is None:
        return low.elements(low.value(call, "indices"))
    return low.elements(low.result(follows)) // low.value(call, "weight").shape[-1]
