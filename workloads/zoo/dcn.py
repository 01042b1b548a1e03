"""DCN: a cross network, one vector a layer, beside or below a deep network."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import PositiveInt

from workloads.operators.concat import Concat
from workloads.operators.cross import CrossNetwork
from workloads.zoo.base import DeepModel
from workloads.zoo.network import Network


class Dcn(DeepModel):
    """Wang et al. 2017 (arXiv 1708.05123).

    `parallel`: cross and deep network both read embeddings and dense features; one linear layer over their outputs side by side.
    `stacked`: the deep network reads the cross network's output. Without hidden layers only the cross network is left.
    """

    kind: ClassVar[Literal["vector", "matrix"]] = "vector"
    cross_layers: PositiveInt
    hidden: tuple[PositiveInt, ...] = ()
    """Widths of the deep network's hidden layers."""
    structure: Literal["parallel", "stacked"] = "parallel"

    def network(self) -> Network:
        network, embedding = self._embedded()
        features = self._features(network, embedding)
        (width,) = network.shape(features)
        cross = CrossNetwork(features=width, layers=self.cross_layers, kind=self.kind, weight_bits=self.weight_bits)
        joined = network.add("cross", cross, features)
        if self.hidden:
            below = features if self.structure == "parallel" else joined
            deep = self._deep(network, below, self.hidden, head=False)
            sides = (joined, deep)
            join = Concat(shapes=tuple(network.shape(side) for side in sides))
            joined = network.add("join", join, *sides) if self.structure == "parallel" else deep
        self._project(network, joined, "logit")
        return network


MODEL = Dcn
