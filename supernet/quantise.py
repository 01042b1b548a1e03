"""Precisions, simulated in float: the values that the narrow format can hold. Rounded after training, or trained through."""

from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import SerializerFunctionWrapHandler, model_serializer

from pimsim.spec.base import Spec
from supernet.genotype import Genotype
from supernet.standalone import quantise

__all__ = ["Quantisation", "quantise", "quantised", "stored_rows", "table_bits"]


class Quantisation(Spec):
    """How a training meets the precisions of what it trains."""

    quantisation: Literal["after", "trained"] = "after"
    """`after`: at 32 bits, rounded once it is done. `trained`: every forward pass rounds weights, activations and table rows as the
    genotype says, gradients pass straight through (Bengio et al. 2013), and the optimiser updates values of 32 bits."""

    @model_serializer(mode="wrap")
    def _without_default(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """`after` is left out: folders of trainings from before there was a choice stay in use."""
        tree: dict[str, Any] = plain(self)
        return {key: value for key, value in tree.items() if (key, value) != ("quantisation", "after")}

    def trains(self, genotype: Genotype) -> Genotype:
        """The network that the forward passes of the training compute: at its precisions, or at 32 bits."""
        return genotype if self.quantisation == "trained" else genotype.full_precision()


def quantised(weights: dict[str, torch.Tensor], genotype: Genotype) -> dict[str, torch.Tensor]:
    """All weights of a network as its genotype's precisions hold them; biases and LayerNorm stay at 32 bits."""
    made = {}
    for name, tensor in weights.items():
        bits = table_bits(genotype, name) if name.startswith("embedding.") else genotype.weight_bits_of(name)
        made[name] = tensor if tensor.dim() < 2 else quantise(tensor, bits)
    return made


def table_bits(genotype: Genotype, name: str) -> int:
    """Precision of `embedding.weight`, or of one of `embedding.0.weight`, `embedding.1.weight` ..."""
    number = name.split(".")[1]
    return genotype.table_bits[int(number)] if genotype.table_bits and number.isdigit() else genotype.embedding_bits


def stored_rows(embedded: torch.Tensor, genotype: Genotype) -> torch.Tensor:
    """What a network's tables hold of full rows; gradients pass straight through.

    Args:
        embedded: (rows, fields, embedding_dim) vectors at the greatest dim and full precision.
        genotype: says how many elements of each field's vectors there are, and at which precision.

    Returns:
        The same shape, zeros behind the elements that are there; where tables differ, fields stand first in memory, as the forward pass
        wants them.
    """
    if genotype.embedding_dims is None and genotype.table_bits is None:
        return quantise(embedded, genotype.embedding_bits)
    rows, fields, width = embedded.shape
    made = embedded.new_zeros((fields, rows, width))
    for number, (dim, bits) in enumerate(genotype.for_tables(fields)):
        made[number, :, :dim] = quantise(embedded[:, number, :dim], bits)
    return made.transpose(0, 1)
