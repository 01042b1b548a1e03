"""The linear layers and activations of `workloads.operators.base` in PyTorch, which is imported when they are called."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from workloads.operators.base import Activation

if TYPE_CHECKING:
    from torch import Tensor


def linear(parameters: Mapping[str, Tensor], prefix: str, x: Tensor) -> Tensor:
    """`x W^T + b` over the last axis; no bias where `<prefix>bias` is absent."""
    from torch.nn import functional

    return functional.linear(x, parameters[f"{prefix}weight"], parameters.get(f"{prefix}bias"))


def linear_over_fields(parameters: Mapping[str, Tensor], prefix: str, x: Tensor) -> Tensor:
    """A linear layer over the field axis of `(batch, fields, dim)`, the same weights for each of the `dim` coordinates."""
    return linear(parameters, prefix, x.transpose(1, 2)).transpose(1, 2)


def activate(activation: Activation, x: Tensor) -> Tensor:
    """ReLU, logistic sigmoid or nothing."""
    if activation == "relu":
        return x.relu()
    return x.sigmoid() if activation == "sigmoid" else x


def pad(x: Tensor, width: int) -> Tensor:
    """Zeros appended to the last axis of `(batch, features)` up to `width`."""
    from torch.nn import functional

    return x if x.shape[1] == width else functional.pad(x, (0, width - x.shape[1]))


def layer_norm(parameters: Mapping[str, Tensor], prefix: str, x: Tensor, eps: float = 1e-5) -> Tensor:
    """Normalisation over the last axis with `<prefix>weight` (gain) and `<prefix>bias` (shift)."""
    from torch.nn import functional

    gain = parameters[f"{prefix}weight"]
    return functional.layer_norm(x, gain.shape, gain, parameters[f"{prefix}bias"], eps)
