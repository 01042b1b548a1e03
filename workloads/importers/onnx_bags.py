"""Embedding bags in an ONNX graph, before it is lowered: PyTorch's exporter writes one as a Loop over its bags, here it becomes a Gather
of all rows and one sum.

Modelling decisions: a Loop is a bag if its body looks up, in a stored table, a slice of the indices and returns the sum or mean of these
rows (times a slice of weights), and nothing is carried from bag to bag. Bags of the example are taken to be of one size; rows with weights
are read one by one, multiplied and added behind the look-up. What only the Loop needed, the arithmetic on offsets, goes with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

AXES_AS_INPUT = {"ReduceSum": 13, "ReduceMean": 18}
"""Opset from which the axes of a reduction are an input."""


@dataclass(frozen=True)
class Bag:
    """A Loop that is an embedding bag, in names of the graph around it.

    Attributes:
        loop: The node.
        reduce: `ReduceSum` or `ReduceMean`.
        table: Stored rows.
        indices: Flat look-ups.
        ends: Values of which there is one a bag.
        weights: Flat factors of the rows, if any.
    """

    loop: onnx.NodeProto
    reduce: str
    table: str
    indices: str
    ends: str
    weights: str | None


def unrolled(model: onnx.ModelProto) -> onnx.ModelProto:
    """A model with all sizes known, in which embedding bags are a Gather and a sum; the same model if it has none."""
    import onnx

    bags = [bag for node in model.graph.node if (bag := _bag(node, model.graph)) is not None]
    if not bags:
        return model
    shapes = _shapes(onnx.shape_inference.infer_shapes(model, data_prop=True).graph)
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    opset = next(each.version for each in model.opset_import if each.domain in ("", "ai.onnx"))
    for bag in bags:
        count = _count(bag, model.graph, shapes)
        looked_up = prod(shapes.get(bag.indices) or (0,))
        if count and looked_up and looked_up % count == 0:
            _replace(changed.graph, bag, count, looked_up // count, opset)
    _drop_unread(changed.graph)
    return changed


def _bag(node: onnx.NodeProto, graph: onnx.GraphProto) -> Bag | None:
    """The embedding bag that a node is."""
    if node.op_type != "Loop" or len(node.output) != 1:
        return None
    body = node.attribute[0].g
    made = {name: each for each in body.node for name in each.output}
    reduce = made.get(body.output[-1].name)
    if reduce is None or reduce.op_type not in AXES_AS_INPUT:
        return None
    rows, weights = made.get(reduce.input[0]), None
    if rows is not None and rows.op_type == "Mul":
        sources = [_source(made, name) for name in rows.input]
        weights = next((name for kind, name in sources if kind == "Slice"), None)
        rows = next((made[name] for name, (kind, _) in zip(rows.input, sources, strict=True) if kind == "Gather"), None)
        if weights is None:
            return None
    stored = {each.name for each in graph.initializer}
    if rows is None or rows.op_type != "Gather" or rows.input[0] not in stored:
        return None
    part = made.get(rows.input[1])
    if part is None or part.op_type != "Slice" or part.input[0] in made:
        return None
    ends = made.get(made[part.input[2]].input[0]) if part.input[2] in made else None
    if ends is None or ends.op_type != "Gather" or ends.input[0] in made:
        return None
    return Bag(node, reduce.op_type, rows.input[0], part.input[0], ends.input[0], weights)


def _source(made: dict[str, onnx.NodeProto], name: str) -> tuple[str, str]:
    """The first node behind a value that does not only reshape, and what that node reads."""
    node = made.get(name)
    while node is not None and node.op_type in ("Unsqueeze", "Reshape", "Cast", "Expand"):
        node = made.get(node.input[0])
    return (node.op_type, node.input[0]) if node is not None else ("", name)


def _shapes(graph: onnx.GraphProto) -> dict[str, tuple[int, ...]]:
    """Every shape that is known."""
    found = {}
    for each in (*graph.value_info, *graph.input, *graph.output):
        tensor = each.type.tensor_type
        if tensor.HasField("shape") and all(dim.HasField("dim_value") for dim in tensor.shape.dim):
            found[each.name] = tuple(dim.dim_value for dim in tensor.shape.dim)
    return found


def _count(bag: Bag, graph: onnx.GraphProto, shapes: dict[str, tuple[int, ...]]) -> int:
    """Bags: of offsets in a request one each, of a matrix of indices (samples, look-ups) one a row; 0 if it is not known."""
    made = {name: node for node in graph.node for name in node.output}
    if _requested(bag.ends, made, {each.name for each in graph.input} - {each.name for each in graph.initializer}):
        return shapes.get(bag.ends, (0,))[0]
    flat = made.get(bag.indices)
    matrix = shapes.get(flat.input[0], ()) if flat is not None and flat.op_type == "Reshape" else ()
    return matrix[0] if len(matrix) == 2 else 0


def _requested(name: str, made: dict[str, onnx.NodeProto], inputs: set[str]) -> bool:
    """Whether a value depends on the values of a request, and not on their sizes alone."""
    if name in inputs:
        return True
    node = made.get(name)
    return node is not None and node.op_type not in ("Shape", "Size") and any(_requested(each, made, inputs) for each in node.input)


def _replace(graph: onnx.GraphProto, bag: Bag, count: int, pooling: int, opset: int) -> None:
    """Puts the look-up of (bags, look-ups) rows and their sum in the place of a Loop."""
    import numpy as np
    from onnx import helper, numpy_helper

    path, result = bag.loop.name.rpartition("/")[0], bag.loop.output[0]

    def stored(name: str, values: list[int]) -> str:
        graph.initializer.append(numpy_helper.from_array(np.array(values, np.int64), f"{result}.{name}"))
        return f"{result}.{name}"

    def node(kind: str, inputs: list[str], output: str, **attributes: object) -> onnx.NodeProto:
        return helper.make_node(kind, inputs, [output], name=f"{path}/{kind}", **attributes)

    rows = f"{result}.rows"
    nodes = [
        node("Reshape", [bag.indices, stored("shape", [count, pooling])], f"{result}.indices"),
        node("Gather", [bag.table, f"{result}.indices"], rows, axis=0),
    ]
    if bag.weights is not None:
        nodes.append(node("Reshape", [bag.weights, stored("each", [count, pooling, 1])], f"{result}.weights"))
        nodes.append(node("Mul", [rows, f"{result}.weights"], f"{result}.weighted"))
        rows = f"{result}.weighted"
    if opset >= AXES_AS_INPUT[bag.reduce]:
        nodes.append(node(bag.reduce, [rows, stored("axis", [1])], result, keepdims=0))
    else:
        nodes.append(node(bag.reduce, [rows], result, axes=[1], keepdims=0))
    place = next(i for i, each in enumerate(graph.node) if each.output[:] == bag.loop.output[:])
    kept = [*graph.node[:place], *nodes, *graph.node[place + 1 :]]
    del graph.node[:]
    graph.node.extend(kept)


def _drop_unread(graph: onnx.GraphProto) -> None:
    """Removes the nodes that no output of the model depends on."""
    from workloads.importers.onnx import captured

    needed = {each.name for each in graph.output}
    kept = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(node.input)
            needed.update(name for a in node.attribute if a.HasField("g") for name in captured(a.g))
    del graph.node[:]
    graph.node.extend(reversed(kept))
