"""DeepFM: a factorisation machine and a deep network on the same embeddings."""

from __future__ import annotations

from pydantic import Field, PositiveInt

from workloads.zoo.base import DeepModel
from workloads.zoo.network import Network


class DeepFm(DeepModel):
    """Guo et al. 2017 (arXiv 1703.04247): sigmoid(first order + pairwise products + deep network).

    First order: one weight per id in a second set of tables of dim 1 (`<table>.linear`), and one per dense feature. Pairwise: the
    sum of the dot products of all pairs of sparse fields. Deep: all embeddings and dense features side by side.
    """

    crosses_fields = True
    hidden: tuple[PositiveInt, ...] = Field(min_length=1)
    """Widths of the deep network's hidden layers."""

    def network(self) -> Network:
        network, embedding = self._embedded()
        terms = self._first_order(network)
        terms.append(self._pairs(network, embedding))
        return self._logit(network, [*terms, self._deep(network, self._features(network, embedding), self.hidden)])


MODEL = DeepFm
