"""The operator graph: the simulator's input. A DAG of a handful of primitive operators with shapes per *sample*.

A recommender's own operators (FC, EFC, dot-product, FM ...) are lowered to these in `workloads/operators/`; the simulator never
learns a recommender's names. Sizes are per sample; the batch is given when the graph is simulated.
"""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import networkx as nx
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt, ValidationError, model_validator

from pimsim.errors import ConfigError
from pimsim.spec.base import Spec, first_problem

if TYPE_CHECKING:
    from numpy.typing import NDArray

Bits = Literal[4, 8, 16, 32]


class Primitive(Spec):
    """Base of the primitive operators. All counts are per sample."""

    name: str
    """Unique within the graph."""
    inputs: tuple[str, ...] = ()
    """Names of the operators whose outputs this one reads."""

    @property
    def macs(self) -> int:
        """Multiply-accumulates per sample."""
        return 0

    @property
    def elementary_ops(self) -> int:
        """Single additions, multiplications or comparisons per sample that are not part of a multiply-accumulate."""
        return 0

    @property
    def weight_bytes(self) -> int:
        """Bytes of stationary weights (read once a batch by a host that reuses them, once a sample by a unit that does not)."""
        return 0

    @property
    def input_bytes(self) -> int:
        """Bytes of activations read per sample."""
        return 0

    @property
    def output_bytes(self) -> int:
        """Bytes of activations produced per sample."""
        return 0


class Input(Primitive):
    """Features that arrive with the request (dense features): no work, only bytes."""

    op: Literal["input"] = "input"
    elements: NonNegativeInt
    bits: Bits = 32

    @property
    def output_bytes(self) -> int:
        return self.elements * self.bits // 8


class Table(Spec):
    """One embedding table and how a sample looks into it."""

    name: str
    rows: PositiveInt
    dim: PositiveInt
    bits: Bits = 32
    """Bits of one stored element."""
    pooling: PositiveInt = 1
    """Pooling factor: look-ups per sample, summed to one vector."""

    @property
    def row_bytes(self) -> int:
        """Bytes of one stored row."""
        return -(-self.dim * self.bits // 8)


class Gather(Primitive):
    """Embedding gather-and-reduce: for each table, sum `pooling` rows into one vector of `dim` elements."""

    op: Literal["gather"] = "gather"
    tables: tuple[Table, ...] = Field(min_length=1)
    output_bits: Bits = 32

    @property
    def elementary_ops(self) -> int:
        return sum((t.pooling - 1) * t.dim for t in self.tables)

    @property
    def lookups(self) -> int:
        """Row look-ups per sample."""
        return sum(t.pooling for t in self.tables)

    @property
    def gathered_bytes(self) -> int:
        """Bytes of table rows read per sample."""
        return sum(t.pooling * t.row_bytes for t in self.tables)

    @property
    def table_bytes(self) -> int:
        """Bytes of all tables."""
        return sum(t.rows * t.row_bytes for t in self.tables)

    @property
    def input_bytes(self) -> int:
        return 4 * self.lookups

    @property
    def output_bytes(self) -> int:
        return sum(t.dim for t in self.tables) * self.output_bits // 8


class MatMul(Primitive):
    """Stationary weights (out x in) times `vectors` activation vectors per sample (1 for FC; the embedding dim for EFC)."""

    op: Literal["matmul"] = "matmul"
    out_features: PositiveInt
    in_features: PositiveInt
    vectors: PositiveInt = 1
    weight_bits: Bits = 32
    activation_bits: Bits = 32
    bias: bool = False

    @property
    def macs(self) -> int:
        return self.out_features * self.in_features * self.vectors

    @property
    def elementary_ops(self) -> int:
        return self.out_features * self.vectors if self.bias else 0

    @property
    def weight_bytes(self) -> int:
        bias = 4 * self.out_features if self.bias else 0
        return -(-self.out_features * self.in_features * self.weight_bits // 8) + bias

    @property
    def input_bytes(self) -> int:
        return self.in_features * self.vectors * self.activation_bits // 8

    @property
    def output_bytes(self) -> int:
        return self.out_features * self.vectors * self.activation_bits // 8


class Product(Primitive):
    """Matrix product of two activations per sample, (m x k)(k x n); `triangle`: only the strict lower part of a Gram matrix."""

    op: Literal["product"] = "product"
    m: PositiveInt
    k: PositiveInt
    n: PositiveInt
    groups: PositiveInt = 1
    """Independent products of this shape per sample (attention heads)."""
    triangle: bool = False
    activation_bits: Bits = 32

    @model_validator(mode="after")
    def _square(self) -> Self:
        if self.triangle and self.m != self.n:
            raise ValueError(f"a triangle needs m == n, got m={self.m}, n={self.n}")
        return self

    @property
    def outputs(self) -> int:
        """Output elements per sample."""
        return self.groups * (self.m * (self.m - 1) // 2 if self.triangle else self.m * self.n)

    @property
    def macs(self) -> int:
        return self.outputs * self.k

    def kept(self, full: NDArray[Any]) -> NDArray[Any]:
        """Of whole products (batch, m, n) what this one keeps: all, or (batch, pairs) of the strict lower triangle row by row."""
        import numpy as np

        return full[(slice(None), *np.tril_indices(self.m, -1))] if self.triangle else full

    @property
    def input_bytes(self) -> int:
        elements = self.m * self.k if self.triangle else (self.m + self.n) * self.k
        return self.groups * elements * self.activation_bits // 8

    @property
    def output_bytes(self) -> int:
        return self.outputs * self.activation_bits // 8


class Elementwise(Primitive):
    """One function applied element by element over `operands` inputs of equal length."""

    op: Literal["elementwise"] = "elementwise"
    function: Literal["add", "mul", "relu", "sigmoid", "tanh", "square", "sub", "norm", "softmax"]
    elements: PositiveInt
    operands: PositiveInt = 1
    activation_bits: Bits = 32

    @property
    def elementary_ops(self) -> int:
        return self.elements * max(self.operands - 1, 1)

    @property
    def input_bytes(self) -> int:
        return self.elements * self.operands * self.activation_bits // 8

    @property
    def output_bytes(self) -> int:
        return self.elements * self.activation_bits // 8


class Reduce(Primitive):
    """Sum of `elements_in` values to `elements_out`."""

    op: Literal["reduce"] = "reduce"
    elements_in: PositiveInt
    elements_out: PositiveInt
    activation_bits: Bits = 32

    @property
    def elementary_ops(self) -> int:
        return self.elements_in - self.elements_out

    @property
    def input_bytes(self) -> int:
        return self.elements_in * self.activation_bits // 8

    @property
    def output_bytes(self) -> int:
        return self.elements_out * self.activation_bits // 8


class Move(Primitive):
    """Data movement without arithmetic: concatenation, padding, reshaping."""

    op: Literal["move"] = "move"
    elements: PositiveInt
    activation_bits: Bits = 32

    @property
    def input_bytes(self) -> int:
        return self.elements * self.activation_bits // 8

    @property
    def output_bytes(self) -> int:
        return self.elements * self.activation_bits // 8


AnyPrimitive = Annotated[Input | Gather | MatMul | Product | Elementwise | Reduce | Move, Field(discriminator="op")]


class IndexSource(Spec):
    """Where the embedding indices come from."""

    kind: Literal["uniform", "zipf", "hot", "reuse", "file"] = "zipf"
    exponent: NonNegativeFloat = 1.05
    """Zipf exponent (kind `zipf`): P(rank r) ~ r^-exponent; ranks are scattered over the rows by an odd multiplier."""
    hot_rows: float = Field(default=0.051, gt=0, le=1)
    """Share of a table's rows that are hot (kind `hot`). Source: dlrm_datasets 2021, rows touched more than 16 times in a batch."""
    hot_lookups: float = Field(default=0.494, ge=0, le=1)
    """Share of the look-ups that go to hot rows (kind `hot`). Source: dlrm_datasets 2021, look-ups of those rows."""
    new_share: float = Field(default=0.1448, gt=0, le=1)
    """Share of the look-ups that touch a row for the first time (kind `reuse`). Source: 128,435,723 rows of 887,017,990 look-ups,
    dlrm_datasets 2021; 2022: 0.0785."""
    recent_share: float = Field(default=0.35, ge=0, le=1)
    """Share of the repeated look-ups that repeat a recent one; the others repeat any earlier one (kind `reuse`). Fitted to the share
    of rows touched once, 0.473 in dlrm_datasets 2021."""
    recent_distance: PositiveInt = 1000
    """Mean distance of a recent repetition in look-ups of the table (kind `reuse`). Assumed: the published figures have no order."""
    seed: int = 0
    """Seed of a drawn trace."""
    path: str | None = None
    """`.npz` file (kind `file`), relative to the workload file: one int array (samples, pooling) per table name; -1
    fills samples with fewer look-ups (variable pooling)."""


class Workload(Spec):
    """A model to be simulated: its operators in topological order, its index source and its usual batch."""

    name: str
    operators: tuple[AnyPrimitive, ...] = Field(min_length=1)
    indices: IndexSource = IndexSource()
    batch: PositiveInt = 1
    """Samples per batch unless the command says otherwise."""
    folder: str | None = Field(default=None, exclude=True)
    """Folder that `indices.path` is relative to; set when the workload is loaded."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        seen: set[str] = set()
        for operator in self.operators:
            if operator.name in seen:
                raise ValueError(f"operator name {operator.name!r} stands twice")
            for source in operator.inputs:
                if source not in seen:
                    raise ValueError(f"operator {operator.name!r} reads {source!r}, which no earlier operator produces")
            seen.add(operator.name)
        return self

    @cached_property
    def graph(self) -> nx.DiGraph:
        """The DAG; each node carries its primitive as `operator`."""
        graph = nx.DiGraph()
        for operator in self.operators:
            graph.add_node(operator.name, operator=operator)
            graph.add_edges_from((source, operator.name) for source in operator.inputs)
        return graph

    @cached_property
    def gathers(self) -> list[Gather]:
        """The embedding look-ups."""
        return [o for o in self.operators if isinstance(o, Gather)]

    @property
    def macs(self) -> int:
        """Multiply-accumulates per sample, embeddings excluded."""
        return sum(o.macs for o in self.operators)

    @property
    def weight_bytes(self) -> int:
        """Bytes of all stationary weights, embeddings excluded."""
        return sum(o.weight_bytes for o in self.operators)

    def save(self, path: Path) -> None:
        """Writes the workload as JSON."""
        path.write_text(json.dumps(self.model_dump(mode="json"), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Workload:
        """Reads a workload from JSON.

        Raises:
            ConfigError: unreadable file or invalid graph, in one line.
        """
        try:
            tree = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(f"{path}: not a readable workload: {error}") from None
        if not isinstance(tree, dict):
            raise ConfigError(f"{path}: not a workload: expected a JSON object")
        try:
            return cls.model_validate(tree | {"folder": str(path.resolve().parent)})
        except ValidationError as error:
            raise ConfigError(f"{path}: {first_problem(cls, tree, error)}") from None


class WorkloadBuilder:
    """Collects primitives in order; `add` returns the name, so that lowerings chain."""

    def __init__(self) -> None:
        self.operators: list[AnyPrimitive] = []

    def add(self, operator: AnyPrimitive) -> str:
        """Appends one primitive and returns its name."""
        self.operators.append(operator)
        return operator.name

    def build(self, name: str, indices: IndexSource | None = None, batch: int = 1) -> Workload:
        """The finished workload."""
        return Workload(name=name, operators=tuple(self.operators), indices=indices or IndexSource(), batch=batch)
