"""Feature selection of FinalMLP: the embeddings of some fields gate those of all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Self

import numpy as np
from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from pimsim.graph import Move, WorkloadBuilder
from workloads.operators.base import Operator, Shape, lower_elementwise
from workloads.operators.mlp import MultiLayerPerceptron

if TYPE_CHECKING:
    from torch import Tensor


class FeatureGate(Operator):
    """(fields, dim) -> (fields * dim,): `flat(e) * 2 sigmoid(network(flat(e[context])))`, one gate a coordinate.

    The network has the layers `hidden`, ReLU after each, and fields * dim outputs. Parameters: `gate.<i>.weight`, `gate.<i>.bias`.

    Source: Mao et al. 2023, FinalMLP (arXiv 2304.00902), equations 6 and 7.
    """

    fields: PositiveInt
    dim: PositiveInt
    context: tuple[NonNegativeInt, ...] = Field(min_length=1)
    """Numbers of the fields that the gates depend on."""
    hidden: tuple[PositiveInt, ...] = ()

    @model_validator(mode="after")
    def _exists(self) -> Self:
        for field in self.context:
            if field >= self.fields:
                raise ValueError(f"context: {field}: allowed are 0 to {self.fields - 1}")
        return self

    @property
    def _width(self) -> int:
        return self.fields * self.dim

    @property
    def _network(self) -> MultiLayerPerceptron:
        sizes = (len(self.context) * self.dim, *self.hidden, self._width)
        return MultiLayerPerceptron(
            sizes=sizes, output_activation="sigmoid", weight_bits=self.weight_bits, activation_bits=self.activation_bits
        )

    @property
    def in_shapes(self) -> tuple[Shape, ...]:
        return ((self.fields, self.dim),)

    @property
    def out_shape(self) -> Shape:
        return (self._width,)

    def parameter_shapes(self) -> dict[str, Shape]:
        return {f"gate.{name}": shape for name, shape in self._network.parameter_shapes().items()}

    @property
    def macs(self) -> int:
        return self._network.macs

    def lower(self, builder: WorkloadBuilder, name: str, inputs: Sequence[str]) -> str:
        (source,) = inputs
        context, width, bits = source, self._width, self.activation_bits
        if self.context != tuple(range(self.fields)):
            elements = len(self.context) * self.dim
            context = builder.add(Move(name=f"{name}.select", inputs=(source,), elements=elements, activation_bits=bits))
        gate = self._network.lower(builder, f"{name}.gate", [context])
        doubled = lower_elementwise(self, builder, f"{name}.double", "mul", width, gate)
        return lower_elementwise(self, builder, f"{name}.mul", "mul", width, source, doubled)

    def reference(self, parameters: Mapping[str, np.ndarray], *inputs: np.ndarray) -> np.ndarray:
        (e,) = inputs
        network = {name.removeprefix("gate."): value for name, value in parameters.items()}
        gate = self._network.reference(network, e[:, list(self.context)].reshape(len(e), -1))
        return e.reshape(len(e), -1) * (2 * gate)

    def forward(self, parameters: Mapping[str, Tensor], *inputs: Tensor) -> Tensor:
        (e,) = inputs
        network = {name.removeprefix("gate."): value for name, value in parameters.items()}
        gate = self._network.forward(network, e[:, list(self.context)].flatten(1))
        return e.flatten(1) * (2 * gate)


OPERATOR = FeatureGate
