"""A model as recommender operators: one description for the simulator's graph, the NumPy reference and the torch module."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pimsim.graph import Elementwise, IndexSource, Input, Workload, WorkloadBuilder
from workloads.operators.base import Operator, Shape
from workloads.operators.embedding import Embedding


@dataclass(frozen=True)
class Node:
    """One operator of a model.

    Attributes:
        name: Unique within the model; the prefix of its parameters and primitives.
        operator: Shapes, cost and arithmetic.
        inputs: Names of the nodes it reads, `dense` for the dense features; empty for an embedding, which reads row numbers.
    """

    name: str
    operator: Operator
    inputs: tuple[str, ...]


class Network:
    """Operators in topological order; the last one makes the click's logit.

    Args:
        dense_features: Width of the input `dense`; 0 for none.
    """

    def __init__(self, dense_features: int) -> None:
        self.dense_features = dense_features
        self.nodes: list[Node] = []
        self._shapes: dict[str, Shape] = {"dense": (dense_features,)} if dense_features else {}

    def add(self, name: str, operator: Operator, *inputs: str) -> str:
        """Appends an operator and returns its name.

        Raises:
            ValueError: an input that is not there or has another shape than the operator expects.
        """
        given = tuple(self.shape(source) for source in inputs)
        if not isinstance(operator, Embedding) and given != operator.in_shapes:
            raise ValueError(f"{name}: inputs {', '.join(inputs)} have shapes {given}, expected {operator.in_shapes}")
        self.nodes.append(Node(name, operator, inputs))
        self._shapes[name] = operator.out_shape
        return name

    def shape(self, name: str) -> Shape:
        """Shape per sample of a node's output."""
        if name not in self._shapes:
            raise ValueError(f"no node {name!r} so far")
        return self._shapes[name]

    @property
    def embeddings(self) -> list[Node]:
        """The nodes that look rows up. All of them read the same row numbers."""
        return [node for node in self.nodes if isinstance(node.operator, Embedding)]

    @property
    def macs(self) -> int:
        """Multiply-accumulates per sample."""
        return sum(node.operator.macs for node in self.nodes)

    def parameter_shapes(self) -> dict[str, Shape]:
        """Shape of every parameter as `<node>.<parameter>`."""
        return {f"{node.name}.{name}": shape for node in self.nodes for name, shape in node.operator.parameter_shapes().items()}

    def workload(self, name: str, indices: IndexSource | None = None, batch: int = 1) -> Workload:
        """The simulator's graph, with a sigmoid behind the logit."""
        builder, made = WorkloadBuilder(), {}
        if self.dense_features:
            made["dense"] = builder.add(Input(name="dense", elements=self.dense_features))
        for node in self.nodes:
            made[node.name] = node.operator.lower(builder, node.name, [made[source] for source in node.inputs])
        last = self.nodes[-1]
        outputs = math.prod(last.operator.out_shape)
        builder.add(Elementwise(name="output", inputs=(made[last.name],), function="sigmoid", elements=outputs))
        return builder.build(name, indices, batch)

    def reference(self, parameters: Mapping[str, np.ndarray], dense: np.ndarray, sparse: np.ndarray) -> np.ndarray:
        """Logits (rows, outputs).

        Args:
            parameters: Every parameter by `<node>.<parameter>`.
            dense: (rows, dense features); a model with the pseudo feature of zeros also takes (rows, 0).
            sparse: (rows, look-ups) row numbers, table after table, as many columns a table as it has look-ups a sample.
        """
        values = {"dense": dense if dense.shape[1] else np.zeros((len(sparse), self.dense_features), dense.dtype)}
        for node in self.nodes:
            own = {key.removeprefix(f"{node.name}."): array for key, array in parameters.items() if key.startswith(f"{node.name}.")}
            if isinstance(node.operator, Embedding):
                ends = np.cumsum([table.pooling for table in node.operator.tables])
                inputs = np.split(sparse, ends[:-1], axis=1)
            else:
                inputs = [values[source] for source in node.inputs]
            values[node.name] = node.operator.reference(own, *inputs)
        return values[self.nodes[-1].name]
