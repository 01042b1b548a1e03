"""Batch norm, dropout and table look-ups of a network while it trains, and batch norm folded into weights."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from workloads.operators import training_kernel

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

    def keys(self) -> np.ndarray:
        """Two keys, uint32, of which one layer's mask is made."""
        return self._generator.integers(0, 2**32, size=2, dtype=np.uint32)


def drop_out(x: Tensor, rate: float, noise: Noise) -> Tensor:
    """Values left out with chance `rate`, the others divided by 1 - `rate`."""
    import torch

    if not rate:
        return x
    factors = torch.empty_like(x, memory_format=torch.contiguous_format, requires_grad=False)
    values = factors.view(-1).numpy()
    training_kernel.keep_factors(noise.keys(), _threshold(rate), values.dtype.type(1 / (1 - rate)), values)
    return x * factors


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


def look_up(weight: Tensor, rows: Tensor) -> Tensor:
    """Rows (batch, look-ups, dim) of a table (rows, dim); the gradient is added up in order and is as large as the table."""
    return _look_up().apply(weight, rows)


def _threshold(rate: float) -> np.uint32:
    """32-bit numbers below it are left out."""
    return np.uint32(round(rate * 2**32))


@cache
def _look_up() -> Any:
    import torch
    from torch.nn import functional

    class LookUp(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, weight: Tensor, rows: Tensor) -> Tensor:
            ctx.rows, ctx.shape = rows, weight.shape
            return functional.embedding(rows, weight)

        @staticmethod
        def backward(ctx: Any, *gradients: Tensor) -> Any:
            table = gradients[0].new_zeros(ctx.shape)
            training_kernel.scatter_add(gradients[0].contiguous().numpy(), ctx.rows.numpy(), table.numpy())
            return table, None

    return LookUp


@cache
def _norm_relu_drop() -> Any:
    import torch

    class NormReluDrop(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, z: Tensor, gain: Tensor, shift: Tensor, mean: Tensor, variance: Tensor, rate: float, noise: Noise) -> Tensor:
            rows = len(z)
            x, batch_mean, batch_variance = z.detach().numpy(), *training_kernel.moments(z.detach().numpy())
            mean.lerp_(torch.from_numpy(batch_mean).to(mean.dtype), MOMENTUM)
            unbiased = batch_variance * (rows / max(1, rows - 1))
            variance.lerp_(torch.from_numpy(unbiased).to(variance.dtype), MOMENTUM)
            inverse, keep = 1 / np.sqrt(batch_variance + EPS), 1 - rate
            scale = inverse * gain.detach().numpy() / keep
            offset = shift.detach().numpy() / keep - batch_mean * scale
            out = torch.empty_like(z)
            columns = scale.astype(x.dtype), offset.astype(x.dtype)
            training_kernel.affine_relu_drop(x, *columns, noise.keys(), _threshold(rate), out.numpy())
            ctx.kept = z.detach(), out.detach(), batch_mean, inverse, scale, keep
            return out

        @staticmethod
        def backward(ctx: Any, *gradients: Tensor) -> Any:
            z, out, mean, inverse, scale, keep = ctx.kept
            ctx.kept = None  # z is overwritten: a second pass fails instead of going wrong
            g, y, x = gradients[0].contiguous().numpy(), out.numpy(), z.numpy()
            total, products = training_kernel.gradient_sums(g, y, x)
            products = inverse * (products - mean * total)  # sum of gradient times normalised value
            slope = -scale * inverse * products / len(x)
            level = -scale * total / len(x) - slope * mean
            training_kernel.input_gradient(g, y, x, scale.astype(x.dtype), slope.astype(x.dtype), level.astype(x.dtype))
            gain, shift = (torch.from_numpy((sums / keep).astype(x.dtype)) for sums in (products, total))
            return z, gain, shift, None, None, None, None

    return NormReluDrop
