"""Multi-layer perceptron on a dense tensor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Self

import numpy as np
from pydantic import Field, PositiveInt, model_validator

from pimsim.graph import WorkloadBuilder
from workloads.operators import torch_layers
from workloads.operators.base import Activation, Operator, Shape, activate, linear, linear_shapes, lower_activation, lower_linear

if TYPE_CHECKING:
    from torch import Tensor

    from workloads.operators.torch_training import Noise


class MultiLayerPerceptron(Operator):
    """(sizes[0],) -> (sizes[-1],): linear layers, each but the last followed by `activation`, the last by `output_activation`.

    Parameters of layer i, counted from 0: `<i>.weight` (sizes[i + 1], sizes[i]), `<i>.bias` (sizes[i + 1],) if `bias`.

    While training, every layer with ReLU has batch norm between the linear map and the ReLU if `batch_norm`, and dropout behind the
    ReLU. Batch norm brings `<i>.norm.weight`, `<i>.norm.bias` and the running `<i>.norm.mean`, `<i>.norm.variance`, (sizes[i + 1],)
    each, and takes the layer's own bias out (its shift would cancel). Afterwards it is folded into weight and bias, and dropout is
    gone: shapes, MACs and primitives know neither.
    """

    sizes: tuple[PositiveInt, ...] = Field(min_length=2)
    """Widths from the input to the output."""
    bias: bool = True
    activation: Activation = "relu"
    output_activation: Activation = "relu"
    batch_norm: bool = False
    """Normalise over the batch while training (Ioffe and Szegedy 2015, arXiv 1502.03167)."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Chance that training leaves a value out."""

    @model_validator(mode="after")
    def _folds(self) -> Self:
        if self.batch_norm and not self.bias:
            raise ValueError("batch_norm: true: folds into biases, and bias is false")
        return self

    @property
    def in_shapes(self) -> tuple[Shape, ...]:
        return ((self.sizes[0],),)

    @property
    def out_shape(self) -> Shape:
        return (self.sizes[-1],)

    def parameter_shapes(self) -> dict[str, Shape]:
        shapes: dict[str, Shape] = {}
        for i, (inputs, outputs) in enumerate(pairwise(self.sizes)):
            shapes |= linear_shapes(f"{i}.", outputs, inputs, self.bias)
        return shapes

    @property
    def macs(self) -> int:
        return sum(inputs * outputs for inputs, outputs in pairwise(self.sizes))

    def _activation_of(self, layer: int) -> Activation:
        return self.output_activation if layer == len(self.sizes) - 2 else self.activation

    def lower(self, builder: WorkloadBuilder, name: str, inputs: Sequence[str]) -> str:
        (out,) = inputs
        for i, (features, outputs) in enumerate(pairwise(self.sizes)):
            out = lower_linear(self, builder, f"{name}.{i}", out, outputs, features, self.bias)
            out = lower_activation(self, builder, f"{name}.{i}", out, self._activation_of(i), outputs)
        return out

    def reference(self, parameters: Mapping[str, np.ndarray], *inputs: np.ndarray) -> np.ndarray:
        (x,) = inputs
        for i in range(len(self.sizes) - 1):
            x = activate(self._activation_of(i), linear(parameters, f"{i}.", x))
        return x

    def forward(self, parameters: Mapping[str, Tensor], *inputs: Tensor) -> Tensor:
        (x,) = inputs
        for i in range(len(self.sizes) - 1):
            x = torch_layers.activate(self._activation_of(i), torch_layers.linear(parameters, f"{i}.", x))
        return x

    def training_shapes(self) -> dict[str, Shape]:
        parts = ("weight", "bias", "mean", "variance")
        return {f"{i}.norm.{part}": (self.sizes[i + 1],) for i in self._hidden if self.batch_norm for part in parts}

    @property
    def _hidden(self) -> list[int]:
        """Numbers of the layers with ReLU."""
        return [i for i in range(len(self.sizes) - 1) if self._activation_of(i) == "relu"]

    def train_forward(self, parameters: Mapping[str, Tensor], noise: Noise, *inputs: Tensor) -> Tensor:
        from torch.nn import functional

        from workloads.operators.torch_training import drop_out, norm_relu_drop

        (x,) = inputs
        for i in range(len(self.sizes) - 1):
            if self.batch_norm and i in self._hidden:
                x = norm_relu_drop(functional.linear(x, parameters[f"{i}.weight"]), parameters, f"{i}.norm.", self.dropout, noise)
                continue
            x = torch_layers.activate(self._activation_of(i), torch_layers.linear(parameters, f"{i}.", x))
            x = drop_out(x, self.dropout, noise) if i in self._hidden else x
        return x

    def folded(self, parameters: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        from workloads.operators.torch_training import fold_norm

        found = dict(parameters)
        for i in self._hidden if self.batch_norm else ():
            norm = {name: found.pop(f"{i}.norm.{name}") for name in ("weight", "bias", "mean", "variance")}
            found[f"{i}.weight"], found[f"{i}.bias"] = fold_norm(found[f"{i}.weight"], norm)
        return found


OPERATOR = MultiLayerPerceptron
