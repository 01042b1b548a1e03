"""Post-training quantisation of weights and tables, simulated in float: the values that the narrow format can hold."""

from __future__ import annotations

import torch


def quantise(tensor: torch.Tensor, bits: int) -> torch.Tensor:
    """A matrix at a precision: 32 unchanged; 16 through IEEE half; 8 and 4 symmetric integers, one scale a row.

    A row is an output channel of a weight (out, in) and an embedding vector of a table. Returns float32.
    """
    if bits == 32:
        return tensor
    if bits == 16:
        return tensor.half().float()
    levels = 2 ** (bits - 1) - 1
    scale = tensor.abs().amax(dim=1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny * levels) / levels
    return (tensor / scale).round_().mul_(scale)


def quantised(weights: dict[str, torch.Tensor], weight_bits: int, embedding_bits: int) -> dict[str, torch.Tensor]:
    """All weights of a network as its genotype's precisions hold them; biases and LayerNorm stay at 32 bits."""
    made = {}
    for name, tensor in weights.items():
        bits = 32 if tensor.dim() < 2 else embedding_bits if name == "embedding.weight" else weight_bits
        made[name] = quantise(tensor, bits)
    return made
