"""A recommender operator computed by a compute unit of the simulator: the operator's own reference, with the unit's arithmetic in it.

Modelling decisions: the reference runs on arrays that hand every product with a weight matrix, every addition, subtraction, product and
ReLU of two arrays or of one, and every look-up to `UnitSpec.compute`, which rounds and adds in the unit's order. What no unit computes
(softmax, sigmoid, products of two activations, sums along an axis) is the host's FP32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pimsim.graph import Elementwise, Gather, MatMul
from workloads.operators.base import Operator
from workloads.operators.embedding import Embedding

Array = NDArray[Any]
_FUNCTIONS: dict[Any, Any] = {np.add: "add", np.multiply: "mul"}


class UnitArray(np.ndarray):
    """FP32 values whose arithmetic a unit does; each run has a subclass of its own, which knows the unit and counts."""

    unit: ClassVar[Any]
    macs: ClassVar[int]
    """Multiply-accumulates with stationary weights that the unit has done."""

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        plain = [np.asarray(x) if isinstance(x, np.ndarray) else x for x in inputs]
        target = options.pop("out", None)
        result = self._computed(ufunc, plain) if method == "__call__" else None
        if result is None:
            result = getattr(ufunc, method)(*plain, **options)
        if target is not None:
            np.asarray(target[0])[...] = result
            return target[0]
        return np.asarray(result, np.float32).view(type(self)) if isinstance(result, np.ndarray) else result

    @classmethod
    def _computed(cls, ufunc: np.ufunc, operands: list[Any]) -> Array | None:
        """The unit's result; None for what the host computes."""
        arrays = all(isinstance(x, np.ndarray) and x.ndim for x in operands)
        if ufunc is np.matmul and 2 in (operands[0].ndim, operands[1].ndim):
            return _product(cls, *operands)
        if ufunc in _FUNCTIONS and arrays:
            return _elementwise(cls.unit, _FUNCTIONS[ufunc], operands)
        if ufunc is np.maximum and np.isscalar(operands[1]) and operands[1] == 0:
            return _elementwise(cls.unit, "relu", operands[:1])
        return None


def _product(run: type[UnitArray], left: Array, right: Array) -> Array:
    """`x W^T` with a matrix on the right, or `W x` with one on the left, vector by vector."""
    turned = right.ndim != 2
    weights, vectors = (left, right.swapaxes(-1, -2)) if turned else (right.T, left)
    flat = vectors.reshape(-1, vectors.shape[-1])
    item = MatMul(name="product", out_features=len(weights), in_features=weights.shape[1], vectors=1)
    result = run.unit.compute(item, weights, flat).reshape(*vectors.shape[:-1], len(weights))
    run.macs += weights.size * len(flat)
    return result.swapaxes(-1, -2) if turned else result


def _elementwise(unit: Any, function: Any, operands: Sequence[Array]) -> Array:
    same = np.broadcast_arrays(*operands)
    item = Elementwise(name="pass", function=function, elements=max(1, same[0].size), operands=len(same))
    return unit.compute(item, *(x.ravel() for x in same)).reshape(same[0].shape)


def compute_on(unit: Any, operator: Operator, parameters: Mapping[str, Array], inputs: Sequence[Array]) -> tuple[Array, int]:
    """An operator's output in a unit's FP32, and the multiply-accumulates of its stationary weights that the unit did.

    Args:
        unit: a `UnitSpec` that computes matrix products, `add`, `mul` and `relu` in FP32, or the look-ups of an `Embedding`.
        operator: the operator.
        parameters: arrays by name.
        inputs: (batch, *in_shape) arrays.

    Raises:
        ConfigError: something the unit does not compute.
    """
    if isinstance(operator, Embedding):
        return _looked_up(unit.compute, operator, parameters, inputs), 0
    run = type("UnitArray", (UnitArray,), {"unit": unit, "macs": 0})
    weights = {name: np.asarray(array, np.float32).view(run) for name, array in parameters.items()}
    out = operator.reference(weights, *(np.asarray(x, np.float32).view(run) for x in inputs))
    return np.asarray(out), run.macs


def _looked_up(compute: Callable[..., Array], operator: Embedding, parameters: Mapping[str, Array], inputs: Sequence[Array]) -> Array:
    pooled = []
    for table, ids in zip(operator.tables, inputs, strict=True):
        rows = np.asarray(parameters[f"{table.name}.weight"], np.float32)
        present = (ids >= 0).astype(np.float32)  # a look-up that is none has weight 0
        pooled.append(np.asarray(compute(Gather(name="gather", tables=(table,)), rows, np.maximum(ids, 0), present)))
    return np.concatenate(pooled, axis=1).reshape(len(inputs[0]), *operator.out_shape)


def relative_error(found: Array, expected: Array) -> float:
    """Largest difference over the largest value."""
    return float(np.abs(found - expected).max() / max(np.abs(expected).max(), 1e-30))
