"""Post-training quantisation of weights and tables, simulated in float: the values that the narrow format can hold."""

from __future__ import annotations

import torch

from supernet.genotype import Genotype


def quantise(tensor: torch.Tensor, bits: int) -> torch.Tensor:
    """A tensor at a precision: 32 unchanged; 16 through IEEE half; 8 and 4 symmetric integers, one scale for each vector of its last axis.

    Such a vector is an output channel of a weight (out, in) and an embedding vector of a table. Returns float32.
    """
    if bits == 32:
        return tensor
    if bits == 16:
        return tensor.half().float()
    levels = 2 ** (bits - 1) - 1
    scale = tensor.abs().amax(dim=-1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny * levels) / levels
    return (tensor / scale).round_().mul_(scale)


def quantised(weights: dict[str, torch.Tensor], genotype: Genotype) -> dict[str, torch.Tensor]:
    """All weights of a network as its genotype's precisions hold them; biases and LayerNorm stay at 32 bits."""
    made = {}
    for name, tensor in weights.items():
        bits = table_bits(genotype, name) if name.startswith("embedding.") else genotype.weight_bits
        made[name] = quantise(tensor, 32 if tensor.dim() < 2 else bits)
    return made


def table_bits(genotype: Genotype, name: str) -> int:
    """Precision of `embedding.weight`, or of one of `embedding.0.weight`, `embedding.1.weight` ..."""
    number = name.split(".")[1]
    return genotype.table_bits[int(number)] if genotype.table_bits and number.isdigit() else genotype.embedding_bits


def stored_rows(embedded: torch.Tensor, genotype: Genotype) -> torch.Tensor:
    """What a network's tables hold of full rows.

    Args:
        embedded: (rows, fields, embedding_dim) vectors at the greatest dim and full precision.
        genotype: says how many elements of each field's vectors there are, and at which precision.

    Returns:
        The same shape, zeros behind the elements that are there; fields stand first in memory, as the forward pass wants them.
    """
    rows, fields, width = embedded.shape
    made = embedded.new_zeros((fields, rows, width))
    for number, (dim, bits) in enumerate(genotype.for_tables(fields)):
        made[number, :, :dim] = quantise(embedded[:, number, :dim], bits)
    return made.transpose(0, 1)
