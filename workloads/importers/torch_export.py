"""A PyTorch module as a workload, through `torch.export`: module -> records of aten calls -> op table -> primitives.

The module is exported twice, at batch b and at 2b, to tell the samples' sizes from the model's. Operators without an entry in the op
table are decomposed by PyTorch's own rules first (einsum becomes products, in-place operators become plain ones).
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Any

from pimsim.errors import ConfigError
from pimsim.graph import IndexSource
from workloads.importers.aten import FILLS, FREE, OPERATORS
from workloads.importers.lowering import Imported, Lowering, finish
from workloads.importers.records import Call, Program, Ref, Value, growing_axis, merge

if TYPE_CHECKING:
    import torch
    from torch.export import ExportedProgram
    from torch.fx import Node

DECOMPOSITIONS = 3
"""Rounds of decomposition: what one round leaves behind may have rules of its own."""


def import_module(
    module: torch.nn.Module,
    inputs: Any,
    name: str = "model",
    doubled: Any = None,
    pooling: Mapping[str, int] | None = None,
    indices: IndexSource | None = None,
    allow_unsupported: bool = False,
    where: str | None = None,
) -> Imported:
    """A module as a workload.

    Args:
        module: the model; `torch.device("meta")` weights do, so that tables need no memory.
        inputs: example inputs of a batch: a tensor, a tuple of positional or a dict of keyword arguments.
        name: the workload's name.
        doubled: example inputs of twice the batch; made from `inputs` when None (see `double`).
        pooling: look-ups per bag by table name, in place of the example's.
        indices: source of the embedding indices.
        allow_unsupported: leave unsupported operators out instead of refusing the model.
        where: file and function, for messages.

    Raises:
        ConfigError: the model cannot be exported, or unsupported operators.
    """
    where = where or name
    batch = batch_of(inputs, where)
    first = records(export(module, inputs, where), batch)
    if doubled is None:
        doubled, twice = double(inputs, batch, where), f"{where}: with the example doubled (write build(batch) to make it yourself)"
    else:
        twice = f"{where}: at twice the batch"
    program = merge(first, records(export(module, doubled, twice), batch), where)
    _check_inputs(program, where)
    lowering = Lowering(program, pooling)
    lowering.run(OPERATORS, FREE, FILLS)
    return finish(lowering, name, where, allow_unsupported, indices, batch)


def batch_of(inputs: Any, where: str) -> int:
    """Samples of an example: the first axis of its first floating-point tensor, else the shortest first axis.

    Raises:
        ConfigError: no tensor with an axis.
    """
    from torch.utils._pytree import tree_leaves

    found = [leaf for leaf in tree_leaves(inputs) if hasattr(leaf, "dtype") and leaf.dim()]
    floating = [len(leaf) for leaf in found if leaf.is_floating_point()]
    if not found or not min(floating[:1] or [len(leaf) for leaf in found]):
        raise ConfigError(f"{where}: example inputs: no tensor with samples along its first axis")
    return floating[0] if floating else min(len(leaf) for leaf in found)


def double(inputs: Any, batch: int, where: str) -> Any:
    """The example twice: along the axis that has the batch's size, else along the first one if it is a multiple (flat look-up indices),
    else one offset more per sample (offsets that include the last).

    Raises:
        ConfigError: an input of which it is not clear how it grows.
    """
    import torch
    from torch.utils._pytree import tree_map

    def twice(leaf: Any) -> Any:
        if not isinstance(leaf, torch.Tensor):
            return leaf
        shape = tuple(leaf.shape)
        axis = growing_axis(shape, batch)
        if axis is not None:
            return torch.cat([leaf, leaf], dim=axis)
        if shape == (batch + 1,):
            return torch.cat([leaf, leaf[1:] + leaf[-1]])
        raise ConfigError(f"{where}: example inputs: shape {shape} does not show the batch of {batch}; write build(batch)")

    return tree_map(twice, inputs)


def export(module: torch.nn.Module, inputs: Any, where: str) -> ExportedProgram:
    """The exported program, with operators that the table lacks decomposed where PyTorch knows how.

    Raises:
        ConfigError: with the first line of what PyTorch says.
    """
    import torch

    positional, keywords = _arguments(_on_meta(inputs) if any(each.is_meta for each in module.parameters()) else inputs)
    quiet = logging.getLogger("torch")
    level = quiet.level
    quiet.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(sys.stderr), torch.no_grad():
            warnings.simplefilter("ignore")
            if any(torch.nn.parameter.is_lazy(each) for each in module.parameters()):
                module.eval()(*positional, **keywords)  # lazy layers take their sizes from the example
            program = torch.export.export(module.eval(), positional, keywords)
            for _ in range(DECOMPOSITIONS):
                rules = _missing_rules(program)
                if rules is None:
                    break
                program = program.run_decompositions(rules)
    except Exception as error:  # torch raises a dozen kinds; whichever it is, the model is at fault and its message says why
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConfigError(f"{where}: torch.export failed: {type(error).__name__}: {said}") from None
    finally:
        quiet.setLevel(level)
    return program


def _on_meta(inputs: Any) -> Any:
    """The example without values, for a module whose weights have none."""
    from torch.utils._pytree import tree_map

    return tree_map(lambda leaf: leaf.to("meta") if hasattr(leaf, "is_meta") else leaf, inputs)


def _arguments(inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(inputs, Mapping):
        return (), dict(inputs)
    return (tuple(inputs), {}) if isinstance(inputs, tuple | list) else ((inputs,), {})


def _missing_rules(program: ExportedProgram) -> dict[Any, Callable[..., Any]] | None:
    """PyTorch's decompositions of the operators that the table lacks; None if there is nothing to do."""
    import torch

    targets = {node.target for node in program.graph.nodes if node.op == "call_function" and isinstance(node.target, torch._ops.OpOverload)}
    missing = {target for target in targets if _operator(target) not in OPERATORS.keys() | FREE | FILLS}
    if not missing and not any(target._schema.is_mutable for target in targets):
        return None
    known = torch.export.default_decompositions()
    rules = {target: known[target] for target in missing if target in known}
    return rules if rules or any(target._schema.is_mutable for target in targets) else None


def _operator(target: Any) -> str:
    """`aten.linear` of `aten.linear.default`; other kinds of target under their own name."""
    schema = getattr(target, "_schema", None)
    return schema.name.replace("::", ".") if schema is not None else getattr(target, "__name__", str(target))


def records(exported: ExportedProgram, batch: int) -> Program:
    """An exported program as plain records; both shapes of every value are those of this export."""
    labels = {**exported.graph_signature.inputs_to_parameters, **exported.graph_signature.inputs_to_buffers}
    user = set(exported.graph_signature.user_inputs)
    values: dict[str, Value] = {}
    alias: dict[str, str] = {}
    calls = []
    for node in exported.graph.nodes:
        if node.op == "placeholder":
            if hasattr(node.meta.get("val"), "shape"):
                kind = "input" if node.name in user else "parameter"
                values[node.name] = _value(node.name, node.meta["val"], kind, labels.get(node.name, node.name))
        elif node.op == "call_function" and getattr(node.target, "__name__", "") == "getitem":
            alias[node.name] = f"{alias.get(node.args[0].name, node.args[0].name)}.{node.args[1]}"
        elif node.op == "call_function":
            calls.append(Call(_operator(node.target), _named(node, values, alias), _results(node, values), _module(node)))
    return Program(values, tuple(calls), batch)


def _value(name: str, tensor: Any, kind: Any, label: str = "") -> Value:
    shape = tuple(int(size) for size in tensor.shape)
    return Value(name, shape, shape, str(tensor.dtype).removeprefix("torch."), kind, label)


def _results(node: Node, values: dict[str, Value]) -> tuple[str, ...]:
    """Enters the results of a node; the parts of a tuple as `name.0`, `name.1` ..."""
    value = node.meta.get("val")
    parts = {f"{node.name}.{i}": part for i, part in enumerate(value)} if isinstance(value, tuple | list) else {node.name: value}
    made = {name: _value(name, part, "result") for name, part in parts.items() if hasattr(part, "shape")}
    values |= made
    return tuple(made)


def _named(node: Node, values: Mapping[str, Value], alias: Mapping[str, str]) -> dict[str, Any]:
    """The arguments by the names of the operator's schema."""
    from torch.fx import Node as FxNode

    def plain(argument: Any) -> Any:
        if isinstance(argument, FxNode):
            name = alias.get(argument.name, argument.name)
            return Ref(name) if name in values else None
        if isinstance(argument, list | tuple):
            return tuple(plain(part) for part in argument)
        return argument if isinstance(argument, int | float | bool | str | None) else str(argument)

    schema = getattr(node.target, "_schema", None)
    names = [argument.name for argument in schema.arguments] if schema is not None else [str(i) for i in range(len(node.args))]
    return {name: plain(argument) for name, argument in (dict(zip(names, node.args, strict=False)) | node.kwargs).items()}


def _module(node: Node) -> str:
    """Path of the innermost layer."""
    stack = list(node.meta.get("nn_module_stack", {}).values())
    return stack[-1][0] if stack else ""


def _check_inputs(program: Program, where: str) -> None:
    for value in program.values.values():
        if value.kind == "input" and value.shape and not value.grows:
            raise ConfigError(f"{where}: input {value.label!r} of shape {value.shape} does not grow with the batch; write build(batch)")
