"""Embedding look-ups: one embedding-bag node stays one gather.

Modelling decisions:
- `nn.Embedding` is a bag of one row; where a sum or mean over all its rows of a sample is all that reads it, it is a bag of that many.
- A table that several bags of a sample read (one table for all fields, a history beside its target) is simulated as that many slices of
  its rows, one for each: the capacity and every look-up are exact, which rows a bag can meet is not.
"""

from __future__ import annotations

from math import ceil
from typing import Any

from pimsim.graph import Bits, Gather, Table
from workloads.importers.lowering import Lowering, NotLowered
from workloads.importers.records import Call, Value


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
    """One `nn.Embedding`: its rows one by one, or as one bag with the sum that follows."""
    weight, lookups = low.value(call, "weight"), low.elements(low.value(call, "indices"))
    follows = pooled_by(low, call)
    if follows is None:
        return gather(low, call, weight, lookups, 1)
    made = gather(low, call, weight, 1, lookups)
    if "mean" in follows.operator.lower():
        made = _divide(low, made, low.elements(low.result(follows)), low.bits(low.result(follows)))
    low.done[follows.results[0]] = made
    return made


def pooled_by(low: Lowering, call: Call) -> Call | None:
    """The sum or mean over all rows of a sample that alone reads a look-up of shape (batch, rows, dim)."""
    users, result = low.program.users(call.results[0]), low.result(call)
    if len(users) != 1 or users[0].operator not in {"aten.sum", "aten.mean", "onnx.ReduceSum", "onnx.ReduceMean"}:
        return None
    axes = users[0].arguments.get("dim")
    whole = len(result.shape) == 3 and result.shape[0] != result.grown[0] and result.shape[1] == result.grown[1]
    return users[0] if whole and axes in ((1,), (-2,)) else None


def gather(low: Lowering, call: Call, weight: Value, bags: int, pooling: int) -> tuple[str, ...]:
    """The gather of `bags` vectors per sample, each the sum of `pooling` rows."""
    if not low.constant(weight) or low.constant(low.value(call, "indices")):
        raise NotLowered("a look-up into activations")
    table = low.label(weight).removesuffix(".weight")
    if table in low.pooling:
        low.used_tables.add(table)
        pooling = low.pooling[table]
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
    return 1 if pooled_by(low, call) else low.elements(low.value(call, "indices"))
