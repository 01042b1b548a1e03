"""Narrow floating-point formats on NumPy arrays: values stay float32, rounded to what the narrow format can hold.

Modelling decisions: round to nearest, ties to even; subnormal numbers are kept; values beyond the largest finite number become infinite;
a NaN stays a NaN. Input of another type is converted to float32 first (its own rounding, to nearest even).

Not modelled: stochastic rounding, flushing of subnormal numbers, exception flags.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def round_bf16(values: ArrayLike) -> NDArray[np.float32]:
    """Nearest BF16 values (8 exponent bits, 7 stored fraction bits), of the same shape.

    Args:
        values: Any real array.
    """
    exact = np.asarray(values, np.float32)
    bits = exact.view(np.uint32)
    even = (bits >> np.uint32(16)) & np.uint32(1)
    with np.errstate(over="ignore"):  # only a NaN can wrap around
        rounded = (bits + np.uint32(0x7FFF) + even) & np.uint32(0xFFFF0000)
    return np.where(np.isnan(exact), exact, rounded.view(np.float32)).astype(np.float32)


def round_fp16(values: ArrayLike) -> NDArray[np.float32]:
    """Nearest IEEE 754 binary16 values (5 exponent bits, 10 stored fraction bits), of the same shape.

    Args:
        values: Any real array.
    """
    with np.errstate(over="ignore"):
        return np.asarray(values, np.float32).astype(np.float16).astype(np.float32)
