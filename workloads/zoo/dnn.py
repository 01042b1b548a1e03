"""DNN: one deep network on embeddings and dense features side by side."""

from __future__ import annotations

from pydantic import Field, PositiveInt

from workloads.zoo.base import DeepModel
from workloads.zoo.network import Network


class Dnn(DeepModel):
    """sigmoid(network(embeddings, dense features)), ReLU after each hidden layer."""

    hidden: tuple[PositiveInt, ...] = Field(min_length=1)
    """Widths of the hidden layers."""

    def network(self) -> Network:
        network, embedding = self._embedded()
        return self._logit(network, [self._deep(network, self._features(network, embedding), self.hidden)])


MODEL = Dnn
