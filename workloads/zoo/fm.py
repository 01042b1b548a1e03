"""FM: factorisation machine."""

from __future__ import annotations

from workloads.zoo.base import EmbeddingModel
from workloads.zoo.network import Network


class FactorizationMachine(EmbeddingModel):
    """Rendle 2010: sigmoid(first order + sum of all pairwise dot products). A dense feature scales a vector of its own."""

    crosses_fields = True

    def network(self) -> Network:
        network, embedding = self._embedded()
        terms = self._first_order(network, bias=True)
        return self._logit(network, [*terms, self._pairs(network, self._fields(network, embedding))])


MODEL = FactorizationMachine
