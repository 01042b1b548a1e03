"""DeepFM: a factorisation machine and a deep network on the same embeddings."""

from __future__ import annotations

from typing import Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from pimsim.graph import Bits, Elementwise, IndexSource, Input, Reduce, Table, Workload, WorkloadBuilder
from pimsim.spec.base import Spec
from workloads.operators.base import Shape
from workloads.operators.concat import Concat
from workloads.operators.embedding import Embedding
from workloads.operators.fc import FullyConnected
from workloads.operators.fm import FactorizationMachine
from workloads.operators.mlp import MultiLayerPerceptron
from workloads.zoo.tables import TableGroup, all_tables


class DeepFm(Spec):
    """Guo et al. 2017 (arXiv 1703.04247): sigmoid(first order + pairwise products + deep network).

    First order: one weight per id in a second set of tables of dim 1 (`<table>.linear`), and one per dense feature. Pairwise:
    the sum over coordinates of (sum e)^2 - sum e^2 (the factor one half is left to the embeddings). Deep: all embeddings and
    dense features side by side.

    With drawn indices the two sets of tables are looked up independently of each other; a file can give both the same ids.
    """

    tables: tuple[TableGroup, ...] = Field(min_length=1)
    dim: PositiveInt
    """Embedding dimension."""
    hidden: tuple[PositiveInt, ...] = Field(min_length=1)
    """Widths of the deep network's hidden layers."""
    dense_features: NonNegativeInt = 0
    table_bits: Bits = 32
    """Bits of one element of a table."""
    weight_bits: Bits = 32
    """Bits of one weight of the deep network."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        all_tables(self.tables, self.dim, self.table_bits)
        return self

    @property
    def embedding_tables(self) -> tuple[Table, ...]:
        """The embedding tables, groups unfolded."""
        return all_tables(self.tables, self.dim, self.table_bits)

    def workload(self, name: str, indices: IndexSource | None = None, batch: int = 1) -> Workload:
        """The operator graph."""
        tables, builder = self.embedding_tables, WorkloadBuilder()
        linear = tuple(table.model_copy(update={"name": f"{table.name}.linear", "dim": 1}) for table in tables)
        fields = len(tables)
        embeddings = Embedding(tables=tables).lower(builder, "embedding")
        weights = Embedding(tables=linear).lower(builder, "linear")
        terms = [builder.add(Reduce(name="linear.sum", inputs=(weights,), elements_in=fields, elements_out=1))]
        deep_inputs = [embeddings]
        shapes: list[Shape] = [(fields, self.dim)]
        if self.dense_features:
            dense = builder.add(Input(name="dense", elements=self.dense_features))
            first_order = FullyConnected(in_features=self.dense_features, out_features=1, activation="none")
            terms.append(first_order.lower(builder, "dense_linear", [dense]))
            deep_inputs.append(dense)
            shapes.append((self.dense_features,))
        products = FactorizationMachine(fields=fields, dim=self.dim, out_features=self.dim).lower(builder, "fm", [embeddings])
        terms.append(builder.add(Reduce(name="fm.total", inputs=(products,), elements_in=self.dim, elements_out=1)))
        joined = Concat(shapes=tuple(shapes), flatten=True)
        sizes = (*joined.out_shape, *self.hidden, 1)
        deep = MultiLayerPerceptron(sizes=sizes, output_activation="none", weight_bits=self.weight_bits)
        terms.append(deep.lower(builder, "deep", [joined.lower(builder, "concat", deep_inputs)]))
        logit = Elementwise(name="logit", inputs=tuple(terms), function="add", elements=1, operands=len(terms))
        builder.add(Elementwise(name="output", inputs=(builder.add(logit),), function="sigmoid", elements=1))
        return builder.build(name, indices, batch)


MODEL = DeepFm
