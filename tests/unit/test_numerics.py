"""Narrow number formats against exact rational arithmetic."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pimsim.numerics.formats import round_bf16, round_fp16


def nearest(value: float, fraction_bits: int, least: int, most: int) -> float:
    """Nearest number with `fraction_bits` stored bits, exponents `least` to `most`, ties to even; exact throughout."""
    if value == 0 or math.isinf(value):
        return value
    exponent = max(math.frexp(value)[1] - 1, least)
    step = Fraction(2) ** (exponent - fraction_bits)
    result = round(Fraction(value) / step) * step  # Python rounds a Fraction's ties to even
    if abs(result) >= Fraction(2) ** (most + 1):
        return math.copysign(math.inf, value)
    return math.copysign(float(result), value)


@given(st.floats(width=32, allow_nan=False))
@example(1.00390625)  # a tie: down to the even neighbour
@example(1.01171875)  # a tie: up to the even neighbour
@example(3.4e38)  # beyond the largest BF16 number
@example(1e-45)
@example(-0.0)
def test_bf16_is_the_nearest(value: float) -> None:
    found = float(round_bf16(value))
    assert found == nearest(value, 7, -126, 127)
    assert math.copysign(1, found) == math.copysign(1, value)
    assert float(round_bf16(found)) == found


@given(st.floats(width=32, allow_nan=False))
@example(65520.0)
@example(65519.996)
@example(2049.0)
@example(3e-8)
def test_fp16_is_the_nearest(value: float) -> None:
    assert float(round_fp16(value)) == nearest(value, 10, -14, 15)


@pytest.mark.parametrize("rounding", [round_bf16, round_fp16])
def test_shape_type_and_specials(rounding) -> None:
    found = rounding([[1.0, math.nan], [math.inf, -math.inf]])
    assert found.shape == (2, 2) and found.dtype == np.float32
    assert math.isnan(found[0, 1]) and found[1].tolist() == [math.inf, -math.inf]
    assert rounding(3).shape == () and float(rounding(3)) == 3
    payload = np.array([0x7FFFFFFF, 0x7F800001, 0xFFFFFFFF], np.uint32).view(np.float32)
    assert np.isnan(rounding(payload)).all()
