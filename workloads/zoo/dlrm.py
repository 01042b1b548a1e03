"""DLRM: embeddings and a bottom network, concatenated or crossed by dot products, and a top network."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, PositiveInt, model_validator

from workloads.operators.concat import Concat
from workloads.operators.dot_product import DotProduct
from workloads.operators.embedding import Embedding
from workloads.operators.mlp import MultiLayerPerceptron
from workloads.zoo.base import EmbeddingModel
from workloads.zoo.network import Network


class Dlrm(EmbeddingModel):
    """Naumov et al. 2019 (arXiv 1906.00091).

    Bottom network: `dense_features` -> `bottom`, ReLU after every layer; a data set without dense features gives it one of zeros.
    Interaction `cat`: bottom output and all embeddings side by side. Interaction `dot`: dot products of all pairs of these vectors,
    with the bottom output put in front (it needs `bottom[-1] == dim`). Top network: interaction -> `top`, ReLU, a sigmoid at the end.
    """

    bottom: tuple[PositiveInt, ...] = Field(min_length=1)
    """Widths of the bottom network, the input's left out."""
    top: tuple[PositiveInt, ...] = Field(min_length=1)
    """Widths of the top network, the input's left out; the last is the number of outputs."""
    interaction: Literal["cat", "dot"] = "dot"

    @model_validator(mode="after")
    def _crosses(self) -> Self:
        if self.interaction == "dot":
            dims = sorted({table.dim for table in self.embedding_tables} | {self.dim})
            if len(dims) > 1:
                raise ValueError(f"tables: dims {dims} differ; interaction 'dot' needs one dim for all tables")
            if self.bottom[-1] != self.dim:
                raise ValueError(f"interaction 'dot' needs bottom to end in dim {self.dim}, got {self.bottom[-1]}")
        return self

    def network(self) -> Network:
        network = Network(max(self.dense_features, 1))
        tables = self.embedding_tables
        embedding = network.add("embedding", Embedding(tables=tables))
        sizes = (network.dense_features, *self.bottom)
        bottom = network.add("bottom", MultiLayerPerceptron(sizes=sizes, weight_bits=self.weight_bits), "dense")
        crossed = [bottom, embedding]
        if self.interaction == "dot":
            fields = len(tables)
            pairs = fields * (fields + 1) // 2  # no projection
            dot = DotProduct(dense_features=self.dim, sparse_fields=fields, dim=self.dim, out_features=pairs)
            crossed = [bottom, network.add("interaction", dot, bottom, embedding)]
        join = Concat(shapes=tuple(network.shape(part) for part in crossed), flatten=True)
        joined = network.add("concat", join, *crossed)
        sizes = (*join.out_shape, *self.top)
        network.add("top", MultiLayerPerceptron(sizes=sizes, output_activation="none", weight_bits=self.weight_bits), joined)
        return network


MODEL = Dlrm
