"""What every recommender operator offers, and the linear layer and activation that most of them are made of.

Shapes are per sample: a dense tensor is `(features,)`, a sparse one `(fields, dim)`. References are batch first:
`(batch, features)` and `(batch, fields, dim)`. Weights are laid out as in `torch.nn.Linear`: `(out, in)`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from pimsim.graph import Bits, Elementwise, MatMul, Product, Reduce, WorkloadBuilder
from pimsim.spec.base import Spec

if TYPE_CHECKING:
    from torch import Tensor

    from workloads.operators.torch_training import Noise

Activation = Literal["none", "relu", "sigmoid"]
Function = Literal["add", "mul", "relu", "sigmoid", "square", "sub", "norm", "softmax"]
Shape = tuple[int, ...]


class Operator(Spec, ABC):
    """A recommender operator of fixed shapes."""

    weight_bits: Bits = 32
    """Bits of one stationary weight (biases keep 32)."""
    activation_bits: Bits = 32
    """Bits of one activation."""

    @property
    @abstractmethod
    def in_shapes(self) -> tuple[Shape, ...]:
        """Shape per sample of each input, in order."""

    @property
    @abstractmethod
    def out_shape(self) -> Shape:
        """Shape per sample of the output."""

    @abstractmethod
    def parameter_shapes(self) -> dict[str, Shape]:
        """Shape of each parameter by name; the names of a matching torch module's state dict."""

    @property
    @abstractmethod
    def macs(self) -> int:
        """Multiply-accumulates per sample."""

    @property
    def parameters(self) -> int:
        """Number of trained values."""
        return sum(math.prod(shape) for shape in self.parameter_shapes().values())

    @abstractmethod
    def lower(self, builder: WorkloadBuilder, name: str, inputs: Sequence[str]) -> str:
        """Adds the primitives `name`, `name.part` ... to a graph.

        Args:
            builder: collects the primitives.
            name: of this operator; unique within the graph.
            inputs: names of the primitives that produce the inputs, in the order of `in_shapes`.

        Returns:
            Name of the primitive that produces the output (an input's own name where nothing is left to do).
        """

    @abstractmethod
    def reference(self, parameters: Mapping[str, np.ndarray], *inputs: np.ndarray) -> np.ndarray:
        """The output `(batch, *out_shape)` from inputs `(batch, *in_shape)`, in the precision of the arrays given."""

    @abstractmethod
    def forward(self, parameters: Mapping[str, Tensor], *inputs: Tensor) -> Tensor:
        """`reference` in PyTorch, differentiable; torch is imported when it is called (see `workloads.operators.torch_layers`)."""

    def training_shapes(self) -> dict[str, Shape]:
        """Shapes of what only training has beside `parameter_shapes`: trained values, and running statistics (`*.mean`, `*.variance`)."""
        return {}

    def train_forward(self, parameters: Mapping[str, Tensor], noise: Noise, *inputs: Tensor) -> Tensor:
        """`forward` while training, where the operator has dropout or batch norm; updates the running statistics in place.

        Args:
            parameters: those of `parameter_shapes` and of `training_shapes`.
            noise: draws what dropout leaves out.
            inputs: as for `forward`.
        """
        return self.forward(parameters, *inputs)

    def folded(self, parameters: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The parameters for `forward`, in which what only training has is absorbed."""
        return parameters


def linear_shapes(prefix: str, out_features: int, in_features: int, bias: bool) -> dict[str, Shape]:
    """Parameters of a linear layer: `<prefix>weight` (out, in) and, with a bias, `<prefix>bias` (out,)."""
    shapes: dict[str, Shape] = {f"{prefix}weight": (out_features, in_features)}
    if bias:
        shapes[f"{prefix}bias"] = (out_features,)
    return shapes


def linear(parameters: Mapping[str, np.ndarray], prefix: str, x: np.ndarray) -> np.ndarray:
    """`x W^T + b` over the last axis; no bias where `<prefix>bias` is absent."""
    y = x @ parameters[f"{prefix}weight"].T
    bias = parameters.get(f"{prefix}bias")
    return y if bias is None else y + bias


def linear_over_fields(parameters: Mapping[str, np.ndarray], prefix: str, x: np.ndarray) -> np.ndarray:
    """A linear layer over the field axis of `(batch, fields, dim)`, the same weights for each of the `dim` coordinates."""
    return linear(parameters, prefix, x.transpose(0, 2, 1)).transpose(0, 2, 1)


def activate(activation: Activation, x: np.ndarray) -> np.ndarray:
    """ReLU, logistic sigmoid or nothing."""
    if activation == "relu":
        return np.maximum(x, 0)
    if activation == "sigmoid":
        return 0.5 * (np.tanh(0.5 * x) + 1)  # no overflow at large |x|
    return x


def pad(x: np.ndarray, width: int) -> np.ndarray:
    """Zeros appended to the last axis of `(batch, features)` up to `width`."""
    return x if x.shape[1] == width else np.pad(x, ((0, 0), (0, width - x.shape[1])))


def lower_linear(
    operator: Operator,
    builder: WorkloadBuilder,
    name: str,
    source: str,
    out_features: int,
    in_features: int,
    bias: bool,
    vectors: int = 1,
) -> str:
    """Adds one stationary-weight matrix product."""
    return builder.add(
        MatMul(
            name=name,
            inputs=(source,),
            out_features=out_features,
            in_features=in_features,
            vectors=vectors,
            weight_bits=operator.weight_bits,
            activation_bits=operator.activation_bits,
            bias=bias,
        )
    )


def lower_activation(operator: Operator, builder: WorkloadBuilder, name: str, source: str, activation: Activation, elements: int) -> str:
    """Adds `name.relu` or `name.sigmoid`; nothing for `none`."""
    if activation == "none":
        return source
    return lower_elementwise(operator, builder, f"{name}.{activation}", activation, elements, source)


def lower_elementwise(
    operator: Operator, builder: WorkloadBuilder, name: str, function: Function, elements: int, *sources: str, operands: int = 0
) -> str:
    """Adds one element-wise pass over its sources; `operands` where it reads another number of them."""
    return builder.add(
        Elementwise(
            name=name,
            inputs=sources,
            function=function,
            elements=elements,
            operands=operands or len(sources),
            activation_bits=operator.activation_bits,
        )
    )


def lower_reduce(operator: Operator, builder: WorkloadBuilder, name: str, source: str, elements_in: int, elements_out: int) -> str:
    """Adds one sum."""
    bits = operator.activation_bits
    return builder.add(Reduce(name=name, inputs=(source,), elements_in=elements_in, elements_out=elements_out, activation_bits=bits))


def lower_product(
    operator: Operator, builder: WorkloadBuilder, name: str, shape: tuple[int, int, int], *sources: str, groups: int = 1
) -> str:
    """Adds `groups` products of two activations, (m x k)(k x n) with `shape` (m, k, n)."""
    m, k, n = shape
    return builder.add(Product(name=name, inputs=sources, m=m, k=k, n=n, groups=groups, activation_bits=operator.activation_bits))
