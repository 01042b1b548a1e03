"""Element-wise passes, reductions and movement as primitives.

Modelling decisions:
- The simulator knows add, sub, mul, square, relu (compare and select), sigmoid, tanh (any one transcendental), norm and softmax; other
  functions are chains of these (`PASSES`), each pass reading and writing its values.
- A constant operand (scalar or parameter) is not counted as traffic of the pass.
- A mean is a sum and one multiplication per output.
"""

from __future__ import annotations

from pimsim.graph import Move, Reduce
from workloads.importers.lowering import Lowering, tensors
from workloads.importers.records import Call, Value, references

PASSES: dict[str, tuple[str, ...]] = {
    "add": ("add",),
    "sub": ("sub",),
    "mul": ("mul",),
    "div": ("mul",),
    "relu": ("relu",),
    "compare": ("relu",),
    "neg": ("mul",),
    "sigmoid": ("sigmoid",),
    "tanh": ("tanh",),
    "transcendental": ("tanh",),
    "square": ("square",),
    "gelu": ("tanh", "mul"),
    "silu": ("sigmoid", "mul"),
    "softplus": ("tanh", "tanh"),
    "mish": ("tanh", "tanh", "tanh", "mul"),
    "hardswish": ("relu", "mul"),
    "prelu": ("relu", "mul"),
    "softmax": ("softmax",),
    "log_softmax": ("softmax", "tanh"),
    "norm": ("norm",),
    "lerp": ("sub", "mul", "add"),
    "addcmul": ("mul", "add"),
}
"""The passes of each function; the second and later ones of gelu, silu and mish multiply by the input again."""
INEXACT = {"transcendental", "gelu", "softplus", "mish", "hardswish", "prelu", "log_softmax", "lerp", "addcmul", "div", "neg"}


def passes(low: Lowering, call: Call, function: str) -> tuple[str, ...]:
    """The passes of one element-wise function over its activations."""
    operands = [value for value in _operands(low, call) if not low.constant(value)]
    return chain(low, low.name(call), call.operator, function, low.result(call), operands)


def chain(low: Lowering, name: str, operator: str, function: str, result: Value, operands: list[Value]) -> tuple[str, ...]:
    """Emits the passes of `function` on `operands`, sized by the result."""
    steps = PASSES[function]
    if function in INEXACT:
        low.report.note(f"{operator}: counted as {', '.join(steps)} (passes that the simulator knows)")
    elements, bits, first = low.elements(result), low.bits(result), low.behind(*operands)
    made = low.elementwise(name, steps[0], first, elements, bits, max(len(operands), 1))
    for number, step in enumerate(steps[1:], start=1):
        both = step == "mul"
        made = low.elementwise(f"{name}.{number}", step, dict.fromkeys(made + first) if both else made, elements, bits, 2 if both else 1)
    return made


def _operands(low: Lowering, call: Call) -> list[Value]:
    return [low.program.values[ref.name] for argument in call.arguments.values() for ref in references(argument)]


def power(low: Lowering, call: Call) -> tuple[str, ...]:
    """x^n: a square, n - 1 multiplications for whole n up to 8, else one transcendental."""
    exponent = call.arguments.get("exponent")
    if exponent == 2:
        return passes(low, call, "square")
    if not isinstance(exponent, int | float) or exponent not in range(3, 9):
        return passes(low, call, "transcendental")
    result, name, x = low.result(call), low.name(call), low.behind(low.value(call, "self"))
    elements, bits = low.elements(result), low.bits(result)
    made = low.elementwise(name, "square", x, elements, bits)
    for number in range(1, int(exponent) - 1):
        made = low.elementwise(f"{name}.{number}", "mul", dict.fromkeys(made + x), elements, bits, 2)
    return made


def add_scaled(low: Lowering, call: Call, function: str) -> tuple[str, ...]:
    """`a + alpha b`: one more pass where alpha is not 1."""
    made = passes(low, call, function)
    if call.arguments.get("alpha") in (None, 1):
        return made
    result = low.result(call)
    return low.elementwise(f"{made[0]}.alpha", "mul", made, low.elements(result), low.bits(result))


def reduce(low: Lowering, call: Call, argument: str = "self", before: str = "", after: str = "") -> tuple[str, ...]:
    """Sum, maximum or minimum of values; `before` and `after` name passes over the inputs and the outputs."""
    x, result, name = low.value(call, argument), low.result(call), low.name(call)
    inner, outer, bits = low.elements(x), low.elements(result), low.bits(x)
    made = low.behind(x)
    if before:
        made = low.elementwise(f"{name}.{before}", before, made, inner, bits)
    if inner != outer:
        made = low.add(Reduce(name=name, inputs=made, elements_in=inner, elements_out=outer, activation_bits=bits))
    if after and inner != outer:
        made = low.elementwise(f"{name}.{after}", after, made, outer, bits)
    return made


def move(low: Lowering, call: Call) -> tuple[str, ...]:
    """Copies into the result, constants with them."""
    result = low.result(call)
    operands = [value for value in _operands(low, call) if not low.constant(value)]
    inputs, elements = low.behind(*operands), low.elements(result)
    return low.add(Move(name=low.name(call), inputs=inputs, elements=elements, activation_bits=low.bits(result)))


def join(low: Lowering, call: Call, argument: str = "tensors") -> tuple[str, ...]:
    """Concatenation; of one tensor it is the tensor."""
    parts = tensors(low, call.arguments[argument])
    return low.behind(*parts) if len(parts) == 1 else move(low, call)
