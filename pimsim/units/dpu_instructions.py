"""Instructions that a DPU spends on one element: loops as its compiler lays them out, and the routines behind missing instructions.

Modelling decisions:
    * A compiled loop over arrays in WRAM spends one address (`lsl_add`) and one load or store for each array, then the operation, one
      increment and one jump: six instructions for INT32 addition, as the PrIM paper lists them.
    * 8x8-bit multiplication is one instruction. 16 bits are four of them and three shift-adds. 32 bits call `__mulsi3`, which swaps the
      operands so that the smaller one leaves the loop of `mul_step` early: one step for each of its bits. `__div32` takes one `div_step`
      for each bit that the quotient may have. Both are counted from the public sources of the run-time library (div32.c, mul32.c).
    * 64-bit products and quotients and floating point are compiled C; their counts are constants of the device file.
    * Packed 4-bit elements are loaded in pairs and sign-extended by shifts: two instructions each.

Not modelled: special cases of the routines (zero, infinity, NaN, denormals), negative quotients, hand-unrolled or hand-scheduled loops.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from pimsim.errors import ConfigError, unknown_name

LOOP = 2  # increment and jump
ADDRESS = 1
RELU = 2  # sign mask and and-not
CALL = 2  # move of an argument and call
MULSI3_FRAME = 6  # compare, two moves, clear, then move and return around the steps
DIV32_FRAME = 14  # frame, sign tests, leading zeros, computed jump, return
BARRIER = 15  # barrier_wait of a tasklet that goes to sleep
PRIM_CONSTANT = 1 << 20  # second operand of the arithmetic micro-benchmark of PrIM; the first is rand(), uniform over 31 bits


def load(dtype: str) -> int:
    """Instructions that bring one element from WRAM to a register, its address known."""
    return 2 if dtype == "int4" else 1


def multiply_steps(bits: int) -> float:
    """Mean `mul_step` instructions for two uniform operands of `bits` bits: the length of the smaller one, and one step for zero."""
    zero = 1 - (1 - 0.5**bits) ** 2
    return bits - 2 * (1 - 0.5**bits) + (1 - 0.25**bits) / 3 + zero


def constant_multiply_steps(bits: int, constant: int) -> float:
    """Mean `mul_step` instructions for a uniform operand of `bits` bits times a constant."""
    return sum(1 - 2.0 ** (k - bits) for k in range(constant.bit_length())) + 0.5**bits


def constant_divide_steps(bits: int, constant: int) -> float:
    """Mean `div_step` instructions for a uniform dividend of `bits` bits over a constant."""
    longest = bits - constant.bit_length() + 1
    return sum(step * 0.5 ** (longest - step + 1) for step in range(1, longest + 1))


def operation(op: str, dtype: str, library: Mapping[str, float], multiply: float | None = None) -> float:
    """Instructions of one operation between registers.

    Args:
        op: `add`, `sub`, `mul`, `div` or `relu`.
        dtype: `int4` ... `fp64`.
        library: Counts of the routines that are constants, call included, by `<dtype>_<op>`.
        multiply: `mul_step` instructions of a 32-bit product; None for the operands of the arithmetic micro-benchmark.

    Raises:
        ConfigError: an operation that is neither an instruction sequence nor in `library`.
    """
    if op == "relu":
        return RELU
    if dtype in ("int4", "int8", "int16", "int32"):
        if op in ("add", "sub"):
            return 1
        if op == "mul":
            if dtype != "int32":
                return 7 if dtype == "int16" else 1
            steps = constant_multiply_steps(31, PRIM_CONSTANT) if multiply is None else multiply
            return CALL + MULSI3_FRAME + steps
        if op == "div":
            return CALL + DIV32_FRAME + constant_divide_steps(31, PRIM_CONSTANT)
    if dtype == "int64" and op in ("add", "sub"):
        return 2  # with carry
    key = f"{dtype}_{op}"
    if key not in library:
        raise ConfigError("unit.library_instructions: " + unknown_name("operation", key, library))
    return library[key]


def element_loop(op: str, dtype: str, operands: int, library: Mapping[str, float], multiply: float | None = None) -> float:
    """Instructions for one element of an operation in place: address and load of each operand, operation, store, loop."""
    return operands * (ADDRESS + load(dtype)) + operation(op, dtype, library, multiply) + 1 + LOOP


def mac_loop(dtype: str, library: Mapping[str, float], multiply: float) -> float:
    """Instructions for one multiply-accumulate of two arrays into a register; integer sums have 32 bits."""
    total = operation("mul", dtype, library, multiply) + operation("add", sum_type(dtype), library)
    return 2 * (ADDRESS + load(dtype)) + total + LOOP


def accumulate_loop(dtype: str, library: Mapping[str, float]) -> float:
    """Instructions for adding one element of a row to an accumulator in WRAM."""
    add = operation("add", sum_type(dtype), library)
    return ADDRESS + load(dtype) + ADDRESS + 1 + add + 1 + LOOP


def sum_type(dtype: str) -> str:
    """Type that products and sums of a type are kept in, as C promotes them."""
    return dtype if dtype in ("fp32", "fp64", "int64") else "int32"


def whole(instructions: float) -> int:
    """Instructions of a phase: mean counts round up to whole ones."""
    return max(1, math.ceil(instructions - 1e-9))
