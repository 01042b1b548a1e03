"""DLRM: embeddings and a bottom network, concatenated or crossed by dot products, and a top network."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, PositiveInt, model_validator

from pimsim.graph import Bits, IndexSource, Input, Table, Workload, WorkloadBuilder
from pimsim.spec.base import Spec
from workloads.operators.base import Shape
from workloads.operators.concat import Concat
from workloads.operators.dot_product import DotProduct
from workloads.operators.embedding import Embedding
from workloads.operators.mlp import MultiLayerPerceptron
from workloads.zoo.tables import TableGroup, all_tables


class Dlrm(Spec):
    """Naumov et al. 2019 (arXiv 1906.00091).

    Bottom network: `dense_features` -> `bottom`, ReLU after every layer. Interaction `cat`: bottom output and all embeddings
    side by side. Interaction `dot`: dot products of all pairs of these vectors, with the bottom output put in front (it needs
    `bottom[-1] == dim`). Top
    network: interaction -> `top`, ReLU, a sigmoid at the end.
    """

    dense_features: PositiveInt
    bottom: tuple[PositiveInt, ...] = Field(min_length=1)
    """Widths of the bottom network, the input's left out."""
    top: tuple[PositiveInt, ...] = Field(min_length=1)
    """Widths of the top network, the input's left out; the last is the number of outputs."""
    tables: tuple[TableGroup, ...] = Field(min_length=1)
    dim: PositiveInt
    """Embedding dimension."""
    interaction: Literal["cat", "dot"] = "dot"
    table_bits: Bits = 32
    """Bits of one element of a table."""
    weight_bits: Bits = 32
    """Bits of one weight of the two networks."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        all_tables(self.tables, self.dim, self.table_bits)
        if self.interaction == "dot" and self.bottom[-1] != self.dim:
            raise ValueError(f"interaction 'dot' needs bottom to end in dim {self.dim}, got {self.bottom[-1]}")
        return self

    @property
    def embedding_tables(self) -> tuple[Table, ...]:
        """The embedding tables, groups unfolded."""
        return all_tables(self.tables, self.dim, self.table_bits)

    def workload(self, name: str, indices: IndexSource | None = None, batch: int = 1) -> Workload:
        """The operator graph."""
        tables, builder = self.embedding_tables, WorkloadBuilder()
        bottom = MultiLayerPerceptron(sizes=(self.dense_features, *self.bottom), weight_bits=self.weight_bits)
        dense = builder.add(Input(name="dense", elements=self.dense_features))
        sparse = Embedding(tables=tables).lower(builder, "embedding")
        dense = bottom.lower(builder, "bottom", [dense])
        fields, width = (len(tables), self.dim), self.bottom[-1]
        crossed = [dense, sparse]
        shapes: tuple[Shape, ...] = ((width,), fields)
        if self.interaction == "dot":
            pairs = len(tables) * (len(tables) + 1) // 2
            dot = DotProduct(dense_features=width, sparse_fields=len(tables), dim=self.dim, out_features=pairs)  # no projection
            crossed = [dense, dot.lower(builder, "interaction", [dense, sparse])]
            shapes = ((width,), (pairs,))
        joined = Concat(shapes=shapes, flatten=True)
        top = MultiLayerPerceptron(sizes=(*joined.out_shape, *self.top), output_activation="sigmoid", weight_bits=self.weight_bits)
        top.lower(builder, "top", [joined.lower(builder, "concat", crossed)])
        return builder.build(name, indices, batch)


MODEL = Dlrm
