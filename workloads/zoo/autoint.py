"""AutoInt and AutoInt+: self-attention over fields, in the latter with a deep network."""

from __future__ import annotations

from pydantic import PositiveInt

from workloads.operators.attention import AttentionInteraction
from workloads.zoo.base import DeepModel
from workloads.zoo.network import Network


class AutoInt(DeepModel):
    """Song et al. 2019 (arXiv 1810.11921): sigmoid(linear(interacting layers) + deep network); AutoInt+ is the one with `hidden`.

    A dense feature is a field of its own, its value times a vector. The deep network reads embeddings and dense features.
    """

    crosses_fields = True
    layers: PositiveInt
    """Interacting layers."""
    heads: PositiveInt
    head_dim: PositiveInt
    """Coordinates of a head's output."""
    scaled: bool = False
    """Scores divided by sqrt(head_dim); the paper does not."""
    hidden: tuple[PositiveInt, ...] = ()
    """Widths of the deep network's hidden layers."""
    layer_norm: bool = False
    """A layer norm in front of each interacting layer's ReLU; the paper has none."""

    def network(self) -> Network:
        network, embedding = self._embedded()
        fields = self._fields(network, embedding)
        for i in range(self.layers):
            count, dim = network.shape(fields)
            layer = AttentionInteraction(
                fields=count,
                dim=dim,
                heads=self.heads,
                head_dim=self.head_dim,
                scaled=self.scaled,
                layer_norm=self.layer_norm,
                dropout=self.dropout,
                weight_bits=self.weight_bits,
            )
            fields = network.add(f"attention{i}", layer, fields)
        terms = [self._project(network, fields, "attention_linear")]
        if self.hidden:
            terms.append(self._deep(network, self._features(network, embedding), self.hidden))
        return self._logit(network, terms)


MODEL = AutoInt
