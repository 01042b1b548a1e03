"""FinalMLP: two deep networks, each behind its own feature gate, and a bilinear fusion of their outputs."""

from __future__ import annotations

from typing import Self

from pydantic import Field, PositiveInt, model_validator

from workloads.operators.bilinear import BilinearFusion
from workloads.operators.feature_gate import FeatureGate
from workloads.zoo.base import DeepModel
from workloads.zoo.network import Network


class FinalMlp(DeepModel):
    """Mao et al. 2023 (arXiv 2304.00902): sigmoid(bilinear(network 1, network 2)).

    A stream's gate depends on the embeddings of its context fields; without context fields a stream has no gate. Dense features
    join without gates: both streams read them as they are.
    """

    crosses_fields = True
    hidden1: tuple[PositiveInt, ...] = Field(min_length=1)
    """Widths of the first network, ReLU after each layer."""
    hidden2: tuple[PositiveInt, ...] = Field(min_length=1)
    heads: PositiveInt = 1
    """Heads of the fusion; they divide the last width of both networks."""
    context1: tuple[str, ...] = ()
    """Fields (tables) that the first stream's gate depends on."""
    context2: tuple[str, ...] = ()
    gate_hidden: tuple[PositiveInt, ...] = ()
    """Widths of the hidden layers of each gate's network."""

    @model_validator(mode="after")
    def _contexts_exist(self) -> Self:
        names = [table.name for table in self.embedding_tables]
        for field in (*self.context1, *self.context2):
            if field not in names:
                raise ValueError(f"context: no field {field!r}, there are {', '.join(names)}")
        for widths in (self.hidden1, self.hidden2):
            if widths[-1] % self.heads:
                raise ValueError(f"heads: {self.heads} does not divide the last width {widths[-1]}")
        return self

    def network(self) -> Network:
        network, embedding = self._embedded()
        plain = None
        streams = []
        for number, (context, hidden) in enumerate(((self.context1, self.hidden1), (self.context2, self.hidden2)), start=1):
            if context:
                source = self._features(network, self._gate(network, embedding, number, context), f"concat{number}")
            else:
                source = plain = plain or self._features(network, embedding)
            streams.append(self._deep(network, source, hidden, name=f"deep{number}", head=False))
        left, right = (network.shape(stream)[0] for stream in streams)
        fusion = BilinearFusion(left_features=left, right_features=right, heads=self.heads, weight_bits=self.weight_bits)
        network.add("logit", fusion, *streams)
        return network

    def _gate(self, network: Network, embedding: str, number: int, context: tuple[str, ...]) -> str:
        fields, dim = network.shape(embedding)
        names = [table.name for table in self.embedding_tables]
        places = tuple(names.index(field) for field in context)
        gate = FeatureGate(fields=fields, dim=dim, context=places, hidden=self.gate_hidden, weight_bits=self.weight_bits)
        return network.add(f"gate{number}", gate, embedding)


MODEL = FinalMlp
