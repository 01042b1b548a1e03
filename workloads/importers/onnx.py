"""An ONNX model as a workload: the second door. A look-up is a Gather from a stored table, with the ReduceSum or ReduceMean that follows
as one embedding bag; the Loop that PyTorch makes of its own EmbeddingBag is brought into that form first (`onnx_bags`).

Sizes come from ONNX's shape inference at two batch sizes; weights are not read.
"""

from __future__ import annotations

from functools import partial
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pimsim.errors import ConfigError
from pimsim.graph import IndexSource
from workloads.importers import lookups, pointwise, products
from workloads.importers.lowering import Imported, Lower, Lowering, NotLowered, finish
from workloads.importers.onnx_bags import unrolled
from workloads.importers.records import Call, Program, Ref, Value, growing_axis, merge

if TYPE_CHECKING:
    import onnx

BATCH = 16
"""Samples of the smaller inference where the model leaves the batch open."""
UNKNOWN = (-1,)
"""Shape of a value that ONNX's inference has none for."""

FREE = frozenset(
    f"onnx.{name}" for name in "Reshape Transpose Flatten Squeeze Unsqueeze Identity Cast CastLike Slice Split Dropout Expand".split()
)
FILLS = frozenset({"onnx.Shape", "onnx.Size", "onnx.ConstantOfShape", "onnx.Constant"})
NAMES = {
    "Gather": ("weight", "indices"),
    "MatMul": ("self", "other"),
    "Gemm": ("input", "weight", "bias"),
    "Conv": ("input", "weight", "bias"),
    "ReduceSum": ("self", "axes"),
    "ReduceMean": ("self", "axes"),
    "ReduceMax": ("self", "axes"),
    "ReduceMin": ("self", "axes"),
    "Pow": ("self", "exponent"),
}
"""Argument names that the lowerings look for; further operators' arguments are numbered."""
_FUNCTIONS = {
    "relu": "Relu LeakyRelu Clip Elu ThresholdedRelu",
    "compare": "Abs Sign Not Equal Greater GreaterOrEqual Less LessOrEqual And Or Where Max Min HardSigmoid",
    "sigmoid": "Sigmoid",
    "tanh": "Tanh",
    "gelu": "Gelu",
    "mish": "Mish",
    "hardswish": "HardSwish",
    "softplus": "Softplus",
    "prelu": "PRelu",
    "transcendental": "Exp Log Sqrt Erf Sin Cos Reciprocal",
    "neg": "Neg",
    "add": "Add",
    "sub": "Sub",
    "mul": "Mul",
    "div": "Div",
    "softmax": "Softmax",
    "log_softmax": "LogSoftmax",
    "norm": "LayerNormalization BatchNormalization InstanceNormalization GroupNormalization",
}


def _gather(low: Lowering, call: Call) -> tuple[str, ...]:
    """Rows of a stored table; from an activation a copy."""
    if not low.constant(low.value(call, "weight")):
        return pointwise.move(low, call)
    if call.arguments.get("axis", 0) != 0 or len(low.value(call, "weight").shape) != 2:
        raise NotLowered("look-up along another axis than rows")
    return lookups.rows(low, call)


def _gemm(low: Lowering, call: Call) -> tuple[str, ...]:
    """`alpha A B + beta C` with a stored B."""
    x, weight = low.value(call, "input"), low.value(call, "weight")
    if not low.constant(weight) or call.arguments.get("transA"):
        raise NotLowered("of two activations, or transposed samples")
    out, inner = weight.shape if call.arguments.get("transB") else weight.shape[::-1]
    bias = call.arguments.get("bias") is not None
    return products.stationary(low, low.name(call), x, weight, out, inner, low.elements(x) // inner, bias)


def _conv(low: Lowering, call: Call) -> tuple[str, ...]:
    return products.convolution(
        low, Call(call.operator, {"groups": call.arguments.get("group"), **call.arguments}, call.results, call.module)
    )


OPERATORS: dict[str, Lower] = {
    "onnx.Gather": _gather,
    "onnx.Gemm": _gemm,
    "onnx.MatMul": partial(products.matmul, left="self", right="other"),
    "onnx.Conv": _conv,
    "onnx.Pow": pointwise.power,
    "onnx.ReduceSum": pointwise.reduce,
    "onnx.ReduceMax": pointwise.reduce,
    "onnx.ReduceMin": pointwise.reduce,
    "onnx.ReduceMean": partial(pointwise.reduce, after="mul"),
    **{f"onnx.{name}": pointwise.move for name in ("Concat", "Pad", "Tile", "GatherElements", "GatherND", "Trilu")},
    **{f"onnx.{name}": partial(pointwise.passes, function=kind) for kind, names in _FUNCTIONS.items() for name in names.split()},
}


def import_onnx(path: Path, allow_unsupported: bool = False, indices: IndexSource | None = None) -> Imported:
    """An ONNX file as a workload.

    Args:
        path: the model.
        allow_unsupported: leave unsupported operators out instead of refusing the model.
        indices: source of the embedding indices.

    Raises:
        ConfigError: unreadable file, open axes besides the batch, or operators that cannot be lowered.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: no such file")
    try:
        import onnx
    except ImportError:
        raise ConfigError(f"{path}: needs the package onnx (pip install onnx)") from None
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf's own error types
        raise ConfigError(f"{path}: not a readable ONNX model: {str(error).splitlines()[0] if str(error) else error!r}") from None
    batch = _batch(model, path)
    first, second = (_records(_inferred(model, batch, factor, path), batch) for factor in (1, 2))
    for name, value in first.values.items():
        if value.shape != UNKNOWN and second.values[name].shape == UNKNOWN:
            raise ConfigError(f"{path}: {name}: reshaped to a fixed batch of {batch}: export the model with an open batch axis")
    lowering = Lowering(merge(first, second, str(path)))
    lowering.run(OPERATORS, FREE, FILLS)
    return finish(lowering, path.stem, str(path), allow_unsupported, indices, batch)


def _inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """The inputs of a request: those that are no stored weights."""
    stored = {each.name for each in model.graph.initializer}
    return [each for each in model.graph.input if each.name not in stored]


def _batch(model: onnx.ModelProto, path: Path) -> int:
    """The model's own batch, or `BATCH` if its first axis is open."""
    dims = [each.type.tensor_type.shape.dim for each in _inputs(model)]
    if not dims or not dims[0]:
        raise ConfigError(f"{path}: no input with samples along its first axis")
    return dims[0][0].dim_value or BATCH


def _inferred(model: onnx.ModelProto, batch: int, factor: int, path: Path) -> onnx.ModelProto:
    """The model with all shapes at `factor` times the batch."""
    import onnx

    sized = onnx.ModelProto()
    sized.CopyFrom(model)
    inputs = _inputs(sized)
    symbol = inputs[0].type.tensor_type.shape.dim[0].dim_param
    for each in inputs:
        dims = each.type.tensor_type.shape.dim
        open_axes = [axis for axis, dim in enumerate(dims) if not dim.HasField("dim_value")]
        for axis in open_axes:
            if (axis or (dims[0].dim_param and symbol)) and dims[axis].dim_param != symbol:
                name = dims[axis].dim_param or "unnamed"
                raise ConfigError(f"{path}: input {each.name!r}: axis {axis} ({name}) has no size: export the model with one")
            dims[axis].dim_value = batch * factor
        if not open_axes:
            grows = growing_axis(tuple(dim.dim_value for dim in dims), batch)
            if grows is None:
                raise ConfigError(f"{path}: input {each.name!r} does not show the batch of {batch}: export it with an open first axis")
            dims[grows].dim_value *= factor
    for output in sized.graph.output:
        output.type.tensor_type.ClearField("shape")
    del sized.graph.value_info[:]
    try:
        return onnx.shape_inference.infer_shapes(unrolled(sized), data_prop=True)
    except Exception as error:
        raise ConfigError(f"{path}: ONNX shape inference: {str(error).splitlines()[0]}") from None


def _records(model: onnx.ModelProto, batch: int) -> Program:
    """The graph as plain records."""
    from onnx import helper, numpy_helper

    graph, values, small = model.graph, {}, {}
    constants = [(each.name, each) for each in graph.initializer]
    constants += [(n.output[0], a.t) for n in graph.node if n.op_type == "Constant" for a in n.attribute if a.name == "value"]
    for name, tensor in constants:
        dtype = str(helper.tensor_dtype_to_np_dtype(tensor.data_type))
        values[name] = Value(name, tuple(tensor.dims), tuple(tensor.dims), dtype, "parameter", name)
        if prod(tensor.dims) <= 8 and tensor.data_location != tensor.EXTERNAL:
            small[name] = tuple(numpy_helper.to_array(tensor).reshape(-1).tolist())
    for each in _inputs(model):
        values[each.name] = _value(each, "input")
    known = {each.name: each for each in (*graph.value_info, *graph.output)}
    for node in graph.node:
        for name in node.output:
            if name and name not in values:
                found = known.get(name)
                values[name] = _value(found, "result") if found is not None else Value(name, UNKNOWN, UNKNOWN, "float32", "result")
    calls = [_call(node, values, small) for node in graph.node if node.output[0] not in dict(constants)]
    return Program(values, tuple(calls), batch)


def _value(info: onnx.ValueInfoProto, kind: Any) -> Value:
    from onnx import helper

    tensor = info.type.tensor_type
    sized = tensor.HasField("shape") and all(dim.HasField("dim_value") for dim in tensor.shape.dim)
    shape = tuple(dim.dim_value for dim in tensor.shape.dim) if sized else UNKNOWN
    dtype = str(helper.tensor_dtype_to_np_dtype(tensor.elem_type)) if tensor.elem_type else "float32"
    return Value(info.name, shape, shape, dtype, kind, info.name)


def _call(node: onnx.NodeProto, values: dict[str, Value], small: dict[str, tuple[Any, ...]]) -> Call:
    """A node with its arguments by the lowerings' names; axes and exponents by value."""
    from onnx import helper

    arguments: dict[str, Any] = {a.name: helper.get_attribute_value(a) for a in node.attribute if not a.HasField("g")}
    names = NAMES.get(node.op_type, ())
    for number, name in enumerate(node.input):
        if name in values:
            arguments[names[number] if number < len(names) else str(number)] = Ref(name)
        elif name:
            arguments[str(number)] = None
    for attribute in node.attribute:  # a loop's body reads values of the graph around it
        if attribute.HasField("g"):
            arguments[attribute.name] = tuple(Ref(name) for name in captured(attribute.g) if name in values)
    for key in ("axes", "exponent"):
        if isinstance(arguments.get(key), Ref) and arguments[key].name in small:
            found = small[arguments[key].name]
            arguments[key] = found if key == "axes" else found[0]
    if arguments.get("axes") is not None:
        arguments["dim"] = tuple(arguments["axes"]) if not isinstance(arguments["axes"], Ref) else None
    domain = "onnx" if node.domain in ("", "ai.onnx") else node.domain
    return Call(f"{domain}.{node.op_type}", arguments, tuple(name for name in node.output if name), _path(node.name))


def captured(graph: onnx.GraphProto) -> list[str]:
    """Every name that the nodes of a subgraph read, those of its own values too."""
    names = [name for node in graph.node for name in node.input]
    return names + [name for node in graph.node for a in node.attribute if a.HasField("g") for name in captured(a.g)]


def _path(name: str) -> str:
    """`/bottom/0/Gemm` as `bottom.0`."""
    return ".".join(part for part in name.split("/")[:-1] if part)
