"""From a traced program to the simulator's primitives: what every importer shares.

An importer brings a table {operator name: lowering}; a lowering emits primitives and returns their names. Operators are free (they only
reshape, cast or slice), folded (they read parameters only, so they are computed once when the model is loaded), lowered, or reported as
unsupported: nothing costs nothing unseen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

from pydantic import ValidationError

from pimsim.errors import ConfigError, unknown_name
from pimsim.graph import AnyPrimitive, Bits, Elementwise, IndexSource, Input, Workload, WorkloadBuilder
from workloads.importers.records import Call, Program, Ref, Value

Lower = Callable[["Lowering", Call], "Sequence[str]"]
"""Emits the primitives of one call; returns the names of those that produce its result."""

BITS: dict[str, Bits] = {"float32": 32, "float16": 16, "bfloat16": 16, "int8": 8, "uint8": 8, "bool": 8, "int32": 32, "int16": 16}


class NotLowered(Exception):  # noqa: N818 - a reason, caught and counted, never shown as an error
    """A call of a known operator whose shape has no lowering; the text says why."""


@dataclass
class ImportReport:
    """What became of each operator of the model, with counts."""

    lowered: Counter[str] = field(default_factory=Counter)
    free: Counter[str] = field(default_factory=Counter)
    """Only reshape, cast or slice: no cost."""
    folded: Counter[str] = field(default_factory=Counter)
    """Read parameters only: computed once, no cost per sample."""
    unsupported: Counter[str] = field(default_factory=Counter)
    """Not in the workload: their cost is missing."""
    notes: list[str] = field(default_factory=list)
    """Modelling decisions that this model needed."""

    def unsupported_line(self) -> str:
        """The unsupported operators and how often each stands, in one line."""
        return ", ".join(f"{name} {count}x" for name, count in sorted(self.unsupported.items()))

    def note(self, text: str) -> None:
        """Adds a note once."""
        if text not in self.notes:
            self.notes.append(text)


@dataclass(frozen=True)
class Imported:
    """An imported model."""

    workload: Workload
    report: ImportReport


class Lowering:
    """The state of one import: the graph so far, and which operators stand behind each value."""

    def __init__(self, program: Program, pooling: Mapping[str, int] | None = None) -> None:
        self.program = program
        self.pooling = dict(pooling or {})
        self.report = ImportReport()
        self.builder = WorkloadBuilder()
        self.done: dict[str, tuple[str, ...]] = {}
        """Calls that an earlier one has taken in, by their first result, with its producers."""
        self.tables: set[str] = set()
        """Names of the tables that were looked up."""
        self._behind: dict[str, tuple[str, ...]] = {}
        self._stored: dict[str, int] = {}
        self._root: dict[str, str] = {}
        self._view_of: dict[str, str] = {}
        self._taken: Counter[str] = Counter()
        for name, value in program.values.items():
            if value.kind == "parameter":
                self._stored[name], self._root[name] = value.numel, value.label

    def value(self, call: Call, argument: str) -> Value:
        """The tensor behind an argument."""
        ref = call.arguments[argument]
        if not isinstance(ref, Ref):
            raise NotLowered(f"{argument} is no tensor")
        return self.program.values[ref.name]

    def result(self, call: Call) -> Value:
        """The (first) result."""
        return self.program.values[call.results[0]]

    def constant(self, value: Value) -> bool:
        """Whether a value depends on parameters only."""
        return value.name in self._stored

    def stored(self, value: Value) -> int:
        """Distinct elements of a constant: an expanded weight is stored once."""
        return self._stored[value.name]

    def label(self, value: Value) -> str:
        """The user's name of the parameter that a constant views, else its own."""
        return self._root.get(value.name, value.name)

    def elements(self, value: Value) -> int:
        """Elements per sample.

        Raises:
            NotLowered: it does not grow in proportion with the batch.
        """
        if -1 in value.shape:
            raise NotLowered("of unknown size")
        if prod(value.grown) != 2 * value.numel:
            raise NotLowered("over the samples of a batch" if prod(value.grown) == value.numel else "not in proportion to the batch")
        if value.numel % self.program.batch:
            raise NotLowered(f"{value.numel} elements for {self.program.batch} samples")
        return value.numel // self.program.batch

    def bits(self, value: Value) -> Bits:
        """Bits of one element; wider ones are counted as 32."""
        if value.dtype not in BITS:
            kind = "indices" if value.dtype == "int64" else value.dtype
            self.report.note(f"{kind} counted as 32 bits an element" + (" (int64)" if kind == "indices" else ""))
        return BITS.get(value.dtype, 32)

    def behind(self, *values: Value) -> tuple[str, ...]:
        """Names of the operators that produce these values; constants have none, and a request's input becomes one now."""
        found: dict[str, None] = {}
        for value in (self.program.values[self._view_of.get(each.name, each.name)] for each in values):
            if value.kind == "input" and value.name not in self._behind:
                element = Input(name=self.unique(value.label or value.name), elements=self.elements(value), bits=self.bits(value))
                self._behind[value.name] = (self.builder.add(element),)
            found |= dict.fromkeys(self._behind.get(value.name, ()))
        return tuple(found)

    def computed(self, value: Value) -> bool:
        """Whether the model computes a value, rather than a request bringing it."""
        return self.program.values[self._view_of.get(value.name, value.name)].kind == "result"

    def add(self, operator: AnyPrimitive) -> tuple[str, ...]:
        """Appends one primitive; returns its name as a producer."""
        return (self.builder.add(operator),)

    def elementwise(self, name: str, function: Any, inputs: Iterable[str], elements: int, bits: Bits, operands: int = 1) -> tuple[str, ...]:
        """Appends one element-wise pass; returns its name as a producer."""
        sizes: dict[str, Any] = {"elements": elements, "operands": operands, "activation_bits": bits}
        return self.add(Elementwise(name=name, function=function, inputs=tuple(inputs), **sizes))

    def unique(self, name: str) -> str:
        """The name itself, or with a number if it is taken."""
        self._taken[name] += 1
        return name if self._taken[name] == 1 else self.unique(f"{name}_{self._taken[name]}")

    def name(self, call: Call) -> str:
        """A fresh operator name: the layer's path and the operator."""
        short = call.operator.split(".")[-1].strip("_").lower()
        return self.unique(f"{call.module}.{short}" if call.module else short)

    def run(self, table: Mapping[str, Lower], free: frozenset[str], fills: frozenset[str]) -> None:
        """Lowers every call in order."""
        for call in self.program.calls:
            reads = [self.program.values[name] for name in call.reads]
            if call.results and call.results[0] in self.done:
                self._finish(call, self.done[call.results[0]], self.report.lowered)
            elif call.operator in fills or all(self.constant(value) for value in reads):
                self._fold(call, reads, call.operator in free)
            elif call.operator in free:
                self._alias(call, reads)
            else:
                self._lower(call, reads, table)

    def _lower(self, call: Call, reads: list[Value], table: Mapping[str, Lower]) -> None:
        if call.operator not in table:
            return self._leave_out(call, reads, call.operator)
        before = len(self.builder.operators)
        try:
            self._finish(call, table[call.operator](self, call), self.report.lowered)
        except (NotLowered, ValidationError) as error:
            reason = str(error) if isinstance(error, NotLowered) else f"{error.errors()[0]['loc'][-1]}: {error.errors()[0]['input']}"
            del self.builder.operators[before:]
            self._forget({operator.name for operator in self.builder.operators})
            self._leave_out(call, reads, f"{call.operator} ({reason})")

    def _forget(self, kept: set[str]) -> None:
        """Drops producers that were taken back."""
        self._behind = {name: names for name, names in self._behind.items() if kept.issuperset(names)}

    def _leave_out(self, call: Call, reads: list[Value], line: str) -> None:
        self._finish(call, self._known(reads), Counter())
        self.report.unsupported[line] += 1

    def _known(self, reads: list[Value]) -> tuple[str, ...]:
        """Producers of those values that have a size per sample."""
        found: dict[str, None] = {}
        for value in reads:
            try:
                found |= dict.fromkeys(self.behind(value))
            except NotLowered:
                continue
        return tuple(found)

    def _finish(self, call: Call, producers: Sequence[str], count: Counter[str]) -> None:
        count[call.operator] += 1
        for result in call.results:
            self._behind[result] = tuple(producers)

    def _alias(self, call: Call, reads: list[Value]) -> None:
        """The results are views: what stands behind them is what stood behind the inputs, kept lazy for a request's inputs."""
        self.report.free[call.operator] += 1
        source = next(value for value in reads if not self.constant(value))
        root = self._view_of.get(source.name, source.name)
        for result in call.results:
            if self.program.values[root].kind == "input":
                self._view_of[result] = root
            else:
                self._behind[result] = self._behind[root]

    def _fold(self, call: Call, reads: list[Value], view: bool) -> None:
        self.report.folded[call.operator] += 1
        for result in call.results:
            value = self.program.values[result]
            smallest = min(value.numel, prod(value.grown))
            self._stored[result] = min(smallest, self._stored[reads[0].name]) if view and reads else smallest
            if view and reads:
                self._root[result] = self.label(reads[0])


def finish(lowering: Lowering, name: str, where: str, allow_unsupported: bool, indices: IndexSource | None, batch: int) -> Imported:
    """The workload, unless something is missing in it.

    Raises:
        ConfigError: unsupported operators that are not allowed, or nothing to simulate.
    """
    report = lowering.report
    if report.unsupported and not allow_unsupported:
        raise ConfigError(f"{where}: operators that cannot be lowered: {report.unsupported_line()} (--allow-unsupported leaves them out)")
    spare = sorted(set(lowering.pooling) - lowering.tables)
    if spare:
        raise ConfigError(f"{where}: pooling: {unknown_name('table', spare[0], lowering.tables)}")
    if all(isinstance(operator, Input) for operator in lowering.builder.operators):
        raise ConfigError(f"{where}: the model has no operator that costs anything")
    return Imported(lowering.builder.build(name, indices, batch), report)


def tensors(lowering: Lowering, argument: Any) -> list[Value]:
    """The tensors of a list argument."""
    return [lowering.program.values[ref.name] for ref in argument if isinstance(ref, Ref)]
