"""Wide & Deep: first-order weights and a deep network."""

from __future__ import annotations

from pydantic import Field, PositiveInt

from workloads.zoo.base import DeepModel
from workloads.zoo.network import Network


class WideDeep(DeepModel):
    """Cheng et al. 2016 (arXiv 1606.07792): sigmoid(first order + deep network). Hand-made feature crosses are tables of their own."""

    hidden: tuple[PositiveInt, ...] = Field(min_length=1)
    """Widths of the deep network's hidden layers."""

    def network(self) -> Network:
        network, embedding = self._embedded()
        terms = self._first_order(network)
        return self._logit(network, [*terms, self._deep(network, self._features(network, embedding), self.hidden)])


MODEL = WideDeep
