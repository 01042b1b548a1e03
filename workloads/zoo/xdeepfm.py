"""xDeepFM: first-order weights, a compressed interaction network and a deep network on the same embeddings."""

from __future__ import annotations

from pydantic import Field, PositiveInt

from workloads.operators.cin import CompressedInteraction
from workloads.zoo.base import DeepModel
from workloads.zoo.network import Network


class XDeepFm(DeepModel):
    """Lian et al. 2018 (arXiv 1803.05170): sigmoid(first order + linear(CIN) + deep network). The CIN crosses the sparse fields."""

    crosses_fields = True
    maps: tuple[PositiveInt, ...] = Field(min_length=1)
    """Feature maps of each layer of the compressed interaction network."""
    hidden: tuple[PositiveInt, ...] = Field(min_length=1)
    """Widths of the deep network's hidden layers."""

    def network(self) -> Network:
        network, embedding = self._embedded()
        fields, dim = network.shape(embedding)
        terms = self._first_order(network)
        cin = CompressedInteraction(fields=fields, dim=dim, maps=self.maps, weight_bits=self.weight_bits)
        terms.append(self._project(network, network.add("cin", cin, embedding), "cin_linear"))
        return self._logit(network, [*terms, self._deep(network, self._features(network, embedding), self.hidden)])


MODEL = XDeepFm
