"""A traced model as plain frozen records: values with their shapes at two batch sizes, and calls in order. No torch, no ONNX.

The same model is traced at batch b and at 2b. What doubles belongs to the samples, what does not is the model's: no size has to be
guessed from its place in a shape.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, Literal

from pimsim.errors import ConfigError


@dataclass(frozen=True)
class Ref:
    """A call's argument that is a value, by name."""

    name: str


@dataclass(frozen=True)
class Value:
    """One tensor."""

    name: str
    shape: tuple[int, ...]
    """At batch b; (-1,) if it is not known."""
    grown: tuple[int, ...]
    """At batch 2b."""
    dtype: str
    """`float32`, `int64` ..."""
    kind: Literal["parameter", "input", "result"]
    label: str = ""
    """The user's own name of a parameter (`bottom.0.weight`) or an input."""

    @property
    def numel(self) -> int:
        """Elements at batch b."""
        return prod(self.shape)

    @property
    def grows(self) -> bool:
        """Whether it depends on the batch."""
        return self.shape != self.grown


@dataclass(frozen=True)
class Call:
    """One operator of the traced graph."""

    operator: str
    """`aten.linear`, `onnx.Gemm` ... without overload."""
    arguments: Mapping[str, Any]
    """By the operator's own argument names: `Ref`, number, text, None, or tuples of these."""
    results: tuple[str, ...]
    """Names of the values that it makes."""
    module: str = ""
    """Path of the layer that it belongs to."""

    @property
    def reads(self) -> tuple[str, ...]:
        """Names of the values among its arguments."""
        return tuple(ref.name for argument in self.arguments.values() for ref in references(argument))


@dataclass(frozen=True)
class Program:
    """A traced model."""

    values: Mapping[str, Value]
    calls: tuple[Call, ...]
    batch: int
    """b: samples of the smaller of the two traces."""

    def users(self, name: str) -> list[Call]:
        """The calls that read a value."""
        return [call for call in self.calls if name in call.reads]


def references(argument: Any) -> list[Ref]:
    """Every `Ref` inside an argument."""
    if isinstance(argument, Ref):
        return [argument]
    return [ref for part in argument for ref in references(part)] if isinstance(argument, tuple) else []


def merge(first: Program, second: Program, where: str) -> Program:
    """Two traces of one model, at batch b and 2b, as one program.

    Raises:
        ConfigError: the traces differ in more than their sizes.
    """
    if [call.operator for call in first.calls] != [call.operator for call in second.calls]:
        raise ConfigError(f"{where}: the model runs other operators at batch {2 * first.batch} than at batch {first.batch}")
    other: dict[str, str] = {}
    for one, two in zip(first.calls, second.calls, strict=True):
        other |= dict(zip(one.results, two.results, strict=True))
    values = {}
    for name, value in first.values.items():
        twin = second.values[other.get(name, name)]
        if len(twin.shape) != len(value.shape) and -1 not in value.shape + twin.shape:
            raise ConfigError(f"{where}: {name}: shape {value.shape} at batch {first.batch} is {twin.shape} at twice the batch")
        unknown = value.shape if -1 in value.shape else twin.shape
        shapes = (unknown, unknown) if -1 in unknown else (value.shape, twin.shape)
        values[name] = Value(name, *shapes, value.dtype, value.kind, value.label)
    return Program(values, first.calls, first.batch)


def growing_axis(shape: tuple[int, ...], batch: int) -> int | None:
    """The axis of an example input that grows with the batch: one of the batch's size, else the first if it is a multiple of it (flat
    look-up indices); None if neither."""
    if batch in shape:
        return shape.index(batch)
    return 0 if shape and shape[0] and shape[0] % batch == 0 else None
