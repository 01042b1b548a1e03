"""Batch norm and dropout of a network while it trains, and batch norm folded into weights. Imported by training alone."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from workloads.operators import hidden_kernel

if TYPE_CHECKING:
    from torch import Tensor

EPS = 1e-5
"""Added to the variance, as in `torch.nn.BatchNorm1d`."""
MOMENTUM = 0.1
"""Share of the batch in the running statistics, as in `torch.nn.BatchNorm1d`."""


class Noise:
    """What dropout leaves out.

    Args:
        seed: Entropy of the generator; the same seed and the same calls give the same values.
    """

    def __init__(self, seed: list[int]) -> None:
        self._generator = np.random.Generator(np.random.SFC64(np.random.SeedSequence(seed)))

    def bits(self, count: int) -> np.ndarray:
        """`count` uniform 16-bit numbers, uint16."""
        words = self._generator.integers(0, 2**64, size=-(-count // 4), dtype=np.uint64)
        return words.view(np.uint16)[:count]


def drop_out(x: Tensor, rate: float, noise: Noise) -> Tensor:
    """Values left out with chance `rate` (to 1/65536), the others divided by 1 - `rate`."""
    import torch

    if not rate:
        return x
    keep = noise.bits(x.numel()) >= _threshold(rate)
    return x * torch.from_numpy(np.multiply(keep, 1 / (1 - rate), dtype=np.float32)).view(x.shape).to(x.dtype)


def norm_relu_drop(z: Tensor, parameters: Mapping[str, Tensor], prefix: str, rate: float, noise: Noise) -> Tensor:
    """Batch norm, ReLU and dropout of (rows, features), float32, in three passes over memory; the gradient in two.

    Args:
        z: the linear map's output; its storage is reused when the gradient is worked out.
        parameters: `<prefix>weight`, `<prefix>bias` and, updated in place, the running `<prefix>mean`, `<prefix>variance`.
        prefix: of the batch norm's parameters.
        rate: of the dropout.
        noise: of the dropout.
    """
    norm = [parameters[prefix + name] for name in ("weight", "bias", "mean", "variance")]
    return _norm_relu_drop().apply(z, *norm, rate, noise)


def fold_norm(weight: Tensor, norm: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Weight (out, in) and bias (out,) of the one linear layer that equals a layer without bias and the batch norm behind it."""
    factor = norm["weight"] / (norm["variance"] + EPS).sqrt()
    return weight * factor[:, None], norm["bias"] - norm["mean"] * factor


def _threshold(rate: float) -> np.uint16:
    """16-bit numbers below it are left out."""
    return np.uint16(round(rate * 65536))


@cache
def _norm_relu_drop() -> Any:
    import torch

    class NormReluDrop(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, z: Tensor, gain: Tensor, shift: Tensor, mean: Tensor, variance: Tensor, rate: float, noise: Noise) -> Tensor:
            rows, features = z.shape
            x, batch_mean, batch_variance = z.detach().numpy(), *hidden_kernel.moments(z.detach().numpy())
            mean.lerp_(torch.from_numpy(batch_mean).to(mean.dtype), MOMENTUM)
            unbiased = batch_variance * (rows / max(1, rows - 1))
            variance.lerp_(torch.from_numpy(unbiased).to(variance.dtype), MOMENTUM)
            inverse, keep = 1 / np.sqrt(batch_variance + EPS), 1 - rate
            scale = inverse * gain.detach().numpy() / keep
            offset = shift.detach().numpy() / keep - batch_mean * scale
            bits = noise.bits(z.numel() if rate else 0).reshape(-1, features)
            out = torch.empty_like(z)
            hidden_kernel.affine_relu_drop(x, scale.astype(x.dtype), offset.astype(x.dtype), bits, _threshold(rate), out.numpy())
            ctx.kept = z.detach(), out.detach(), batch_mean, inverse, scale, keep
            return out

        @staticmethod
        def backward(ctx: Any, *gradients: Tensor) -> Any:
            z, out, mean, inverse, scale, keep = ctx.kept
            ctx.kept = None  # z is overwritten: a second pass fails instead of going wrong
            g, y, x = gradients[0].contiguous().numpy(), out.numpy(), z.numpy()
            total, products = hidden_kernel.gradient_sums(g, y, x)
            products = inverse * (products - mean * total)  # sum of gradient times normalised value
            slope = -scale * inverse * products / len(x)
            level = -scale * total / len(x) - slope * mean
            hidden_kernel.input_gradient(g, y, x, scale.astype(x.dtype), slope.astype(x.dtype), level.astype(x.dtype))
            gain, shift = (torch.from_numpy((sums / keep).astype(x.dtype)) for sums in (products, total))
            return z, gain, shift, None, None, None, None

    return NormReluDrop
