"""What the models of the zoo share: tables, dense features, precisions, and the parts that several are made of."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from pimsim.graph import Bits, IndexSource, Table, Workload
from pimsim.spec.base import Spec
from workloads.operators.add import Add
from workloads.operators.bi_interaction import BiInteraction
from workloads.operators.concat import Concat
from workloads.operators.embedding import Embedding
from workloads.operators.fc import FullyConnected
from workloads.operators.mlp import MultiLayerPerceptron
from workloads.operators.numeric import NumericEmbedding
from workloads.operators.total import Total
from workloads.zoo.network import Network
from workloads.zoo.tables import TableGroup, all_tables


class CtrModel(Spec, ABC):
    """A click-through-rate model: sizes in, operators out."""

    tables: tuple[TableGroup, ...] = Field(min_length=1)
    dense_features: NonNegativeInt = 0
    table_bits: Bits = 32
    """Bits of one element of a table."""
    weight_bits: Bits = 32
    """Bits of one weight of the layers."""

    @abstractmethod
    def network(self) -> Network:
        """The operators."""

    def workload(self, name: str, indices: IndexSource | None = None, batch: int = 1) -> Workload:
        """The simulator's graph. With drawn indices, tables of embeddings and of first-order weights are looked up apart."""
        return self.network().workload(name, indices, batch)

    def _linear_tables(self) -> tuple[Table, ...]:
        """A table of one weight a row for every table, `<table>.linear`."""
        tables = all_tables(self.tables, 1, self.table_bits)
        return tuple(table.model_copy(update={"name": f"{table.name}.linear", "dim": 1}) for table in tables)

    def _first_order(self, network: Network, bias: bool = False) -> list[str]:
        """Adds one weight an id and one a dense feature; returns the terms of the logit. The dense features bring a bias of their own."""
        tables = self._linear_tables()
        weights = network.add("linear", Embedding(tables=tables))
        terms = [network.add("linear.sum", Total(shape=(len(tables), 1), bias=bias and not self.dense_features), weights)]
        if self.dense_features:
            layer = FullyConnected(in_features=self.dense_features, out_features=1, activation="none")
            terms.append(network.add("dense_linear", layer, "dense"))
        return terms

    def _logit(self, network: Network, terms: list[str]) -> Network:
        """Adds the sum of the terms and returns the finished network."""
        network.add("logit", Add(shape=(1,), count=len(terms)), *terms)
        return network


class EmbeddingModel(CtrModel):
    """A model of embeddings of dimension `dim`."""

    dim: PositiveInt
    """Embedding dimension of the tables that name none of their own."""
    crosses_fields: ClassVar[bool] = False
    """Fields meet coordinate by coordinate, so that all tables need one dimension."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        dims = sorted({table.dim for table in self.embedding_tables})
        if self.crosses_fields and len(dims) > 1:
            raise ValueError(f"tables: dims {dims} differ; this model needs one dim for all tables")
        return self

    @property
    def embedding_tables(self) -> tuple[Table, ...]:
        """The embedding tables, groups unfolded."""
        return all_tables(self.tables, self.dim, self.table_bits)

    def _embedded(self) -> tuple[Network, str]:
        """A new network and its look-up."""
        network = Network(self.dense_features)
        return network, network.add("embedding", Embedding(tables=self.embedding_tables))

    def _features(self, network: Network, embedding: str, name: str = "concat") -> str:
        """Adds the look-up and the dense features side by side, flattened."""
        parts = [embedding, "dense"] if self.dense_features else [embedding]
        return network.add(name, Concat(shapes=tuple(network.shape(part) for part in parts), flatten=True), *parts)

    def _fields(self, network: Network, embedding: str) -> str:
        """Adds one vector a sparse field and, scaled by its value, one a dense feature: (fields, dim)."""
        if not self.dense_features:
            return embedding
        numbers = network.add("numeric", NumericEmbedding(features=self.dense_features, dim=self.dim), "dense")
        shapes = network.shape(embedding), network.shape(numbers)
        return network.add("fields", Concat(shapes=shapes), embedding, numbers)

    def _pairs(self, network: Network, fields: str) -> str:
        """Adds the sum of all pairwise dot products of fields: the second order of a factorisation machine."""
        count, dim = network.shape(fields)
        return network.add("fm.total", Total(shape=(dim,)), network.add("fm", BiInteraction(fields=count, dim=dim), fields))

    def _project(self, network: Network, source: str, name: str) -> str:
        """Adds a linear layer from all values of a node to one."""
        flat = source
        if len(network.shape(source)) > 1:
            flat = network.add(f"{name}.flatten", Concat(shapes=(network.shape(source),), flatten=True), source)
        (width,) = network.shape(flat)
        layer = FullyConnected(in_features=width, out_features=1, activation="none", weight_bits=self.weight_bits)
        return network.add(name, layer, flat)


class DeepModel(EmbeddingModel):
    """A model with deep networks. Batch norm and dropout are training's: they change neither the graph nor its size."""

    batch_norm: bool = False
    """Batch norm in front of every ReLU of the deep networks while training, folded into the weights afterwards."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Chance that training leaves a hidden value (in AutoInt, also an attention weight) out."""

    def _deep(self, network: Network, source: str, hidden: tuple[int, ...], name: str = "deep", head: bool = True) -> str:
        """Adds a network with ReLU after each hidden layer and, with `head`, a last layer to one value."""
        layers = MultiLayerPerceptron(
            sizes=(*network.shape(source), *hidden, *((1,) if head else ())),
            output_activation="none" if head else "relu",
            weight_bits=self.weight_bits,
            batch_norm=self.batch_norm,
            dropout=self.dropout,
        )
        return network.add(name, layers, source)
