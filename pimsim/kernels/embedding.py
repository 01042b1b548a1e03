"""The embedding look-up itself: sums of table rows, bag after bag, in the formats in which rows are stored.

Rows are read where they lie and widened in registers; the sums of up to 64 elements stay in vector registers over a whole bag, which a
compiler cannot arrange by itself, so the innermost loop is written as LLVM instructions. The row of a look-up that comes later is
prefetched: its address is known here, and the hardware cannot guess it.

Formats: float32, float16, bfloat16; int8, rows of bytes followed by a float32 scale and offset; int4, the lower half of a byte first,
followed by a float16 scale and offset (as torch's quantised embedding bags store them).
"""

# Instructions are built at compile time, and Numba calls intrinsics without their first argument: nothing here can be type-checked.
# mypy: ignore-errors

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from pimsim.kernels.timing import kernel

FORMATS = ("float32", "float16", "bfloat16", "int8", "int4")
QUANTISED = ("int8", "int4")
AHEAD = 32  # look-ups between a prefetch and its use
LINE = 64  # bytes of a cache line
I8, I16, I32, I64, F16, F32 = ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.IntType(64), ir.HalfType(), ir.FloatType()


def _load(builder, pointer, byte, element, width):
    """A vector of `width` elements from a byte address, aligned or not."""
    where = builder.bitcast(builder.gep(pointer, [byte]), ir.VectorType(element, width).as_pointer())
    return builder.load(where, align=1)


def _scalar(builder, pointer, byte, element):
    return builder.load(builder.bitcast(builder.gep(pointer, [byte]), element.as_pointer()), align=1)


def _float32(builder, pointer, row, element, width):
    return [_load(builder, pointer, builder.add(row, builder.mul(element, I64(4))), F32, width)]


def _float16(builder, pointer, row, element, width):
    bits = _load(builder, pointer, builder.add(row, builder.mul(element, I64(2))), F16, width)
    return [builder.fpext(bits, ir.VectorType(F32, width))]


def _bfloat16(builder, pointer, row, element, width):
    bits = _load(builder, pointer, builder.add(row, builder.mul(element, I64(2))), I16, width)
    wide = ir.VectorType(I32, width)
    shifted = builder.shl(builder.zext(bits, wide), ir.Constant(wide, [16] * width))
    return [builder.bitcast(shifted, ir.VectorType(F32, width))]


def _int8(builder, pointer, row, element, width):
    bits = _load(builder, pointer, builder.add(row, element), I8, width)
    return [builder.sitofp(builder.zext(bits, ir.VectorType(I32, width)), ir.VectorType(F32, width))]


def _int4(builder, pointer, row, element, width):
    """The lower and the upper halves of `width` bytes: elements 0, 2, 4 ... and 1, 3, 5 ..."""
    pairs = _load(builder, pointer, builder.add(row, builder.lshr(element, I64(1))), I8, width)
    narrow, wide, real = (ir.VectorType(kind, width) for kind in (I8, I32, F32))
    low = builder.and_(pairs, ir.Constant(narrow, [15] * width))
    high = builder.lshr(pairs, ir.Constant(narrow, [4] * width))
    return [builder.sitofp(builder.zext(half, wide), real) for half in (low, high)]


_WIDEN = {"float32": _float32, "float16": _float16, "bfloat16": _bfloat16, "int8": _int8, "int4": _int4}


def _scale_and_offset(builder, name, pointer, row, row_bytes):
    """Scale and offset of a quantised row, which stand at its end."""
    if name == "int8":
        at = builder.add(row, row_bytes)
        return tuple(_scalar(builder, pointer, builder.sub(at, I64(back)), F32) for back in (8, 4))
    at = builder.add(row, row_bytes)
    return tuple(builder.fpext(_scalar(builder, pointer, builder.sub(at, I64(back)), F16), F32) for back in (4, 2))


def _declared(builder, name, kind):
    """An LLVM intrinsic in the module under construction."""
    return builder.module.globals.get(name) or ir.Function(builder.module, kind, name)


def _prefetch(builder, pointer):
    function = _declared(builder, "llvm.prefetch.p0", ir.FunctionType(ir.VoidType(), [pointer.type, I32, I32, I32]))
    builder.call(function, [pointer, I32(0), I32(3), I32(1)])  # to read, to keep, data


def _splat(builder, value, width):
    one = builder.insert_element(ir.Constant(ir.VectorType(F32, width), ir.Undefined), value, I32(0))
    return builder.shuffle_vector(one, ir.Constant(one.type, ir.Undefined), ir.Constant(ir.VectorType(I32, width), [0] * width))


def _parts(name):
    return 2 if name == "int4" else 1


def _add_row(builder, how, rows, row, row_bytes, scale, element, sums, base):
    """Adds the vectors of one row to the sums."""
    name, width, steps, parts = how
    vector = ir.VectorType(F32, width)
    if name in QUANTISED:
        factor, offset = _scale_and_offset(builder, name, rows, row, row_bytes)
        if scale is not None:
            factor, offset = builder.fmul(factor, scale), builder.fmul(offset, scale)
        builder.store(builder.fadd(builder.load(base), offset), base)
        scale = factor
    factors = None if scale is None else _splat(builder, scale, width)
    fma = _declared(builder, f"llvm.fma.v{width}f32", ir.FunctionType(vector, [vector] * 3))
    for step in range(steps):
        values = _WIDEN[name](builder, rows, row, builder.add(element, I64(step * width * parts)), width)
        for value, total in zip(values, sums[step * parts :], strict=False):
            held = builder.load(total)
            builder.store(builder.fadd(held, value) if factors is None else builder.call(fma, [value, factors, held]), total)


def _store_sums(builder, how, out, place, sums, base):
    """Writes the sums, those of int4 in turn from its two halves."""
    name, width, steps, parts = how
    shift = _splat(builder, builder.load(base), width)
    for step in range(steps):
        values = [builder.load(total) for total in sums[step * parts : (step + 1) * parts]]
        if name in QUANTISED:
            values = [builder.fadd(value, shift) for value in values]
        if parts == 2:
            order = [at for pair in zip(range(width), range(width, 2 * width), strict=True) for at in pair]
            values = [builder.shuffle_vector(*values, ir.Constant(ir.VectorType(I32, 2 * width), order))]
        where = builder.gep(out, [builder.add(place, I64(step * width * parts))])
        builder.store(values[0], builder.bitcast(where, values[0].type.as_pointer()), align=4)


@intrinsic(prefer_literal=True)
def add_rows(typingctx, kind, width, steps, weighted, rows, row_bytes, indices, weights, begin, end, limit, element, out, place):
    """The innermost loop: `steps` loads of a row from `element` on, each a vector of `width` elements (int4: two), summed over look-ups."""
    literal = (kind, width, steps, weighted)
    if not all(isinstance(value, types.IntegerLiteral) for value in literal):
        return None
    name, lanes, loads, has_weights = FORMATS[kind.literal_value], *(value.literal_value for value in literal[1:])
    how = (name, lanes, loads, _parts(name))

    def build(context, builder, signature, arguments):
        rows, indices, weights, out = (context.make_array(signature.args[n])(context, builder, arguments[n]).data for n in (4, 6, 7, 12))
        row_bytes, begin, end, limit, element, place = arguments[5], *arguments[8:12], arguments[13]
        zero = ir.Constant(ir.VectorType(F32, lanes), [0.0] * lanes)
        sums = [cgutils.alloca_once_value(builder, zero) for _ in range(loads * how[3])]
        base = cgutils.alloca_once_value(builder, ir.Constant(F32, 0.0))
        for total in sums:
            builder.store(zero, total)
        builder.store(ir.Constant(F32, 0.0), base)
        with cgutils.for_range_slice(builder, begin, end, I64(1), I64) as (k, _):
            later = builder.add(k, I64(AHEAD))
            with builder.if_then(builder.icmp_signed("<", later, limit)):
                start = builder.mul(builder.load(builder.gep(indices, [later])), row_bytes)
                with cgutils.for_range_slice(builder, I64(0), row_bytes, I64(LINE), I64) as (line, _):
                    _prefetch(builder, builder.gep(rows, [builder.add(start, line)]))
                _prefetch(builder, builder.gep(rows, [builder.sub(builder.add(start, row_bytes), I64(1))]))
            row = builder.mul(builder.load(builder.gep(indices, [k])), row_bytes)
            scale = builder.load(builder.gep(weights, [k])) if has_weights else None
            _add_row(builder, how, rows, row, row_bytes, scale, element, sums, base)
        _store_sums(builder, how, out, builder.add(place, element), sums, base)
        return context.get_dummy_value()

    number = types.int64
    taken = (rows, number, indices, weights, number, number, number, number, out, number)
    return types.void(*literal, *taken), build


def bags(kind, parts, weighted):
    """The kernel of one row format: sums of the bags first .. last."""
    loads_64, loads_32, loads_16, lanes_8 = 8 // parts, 4 // parts, 2 // parts, 8 // parts

    @kernel
    def sum_bags(rows, row_bytes, dim, indices, offsets, weights, out, first, last):
        """Sums of bags.

        Args:
            rows: (bytes,) uint8, the table.
            row_bytes: Bytes of one row.
            dim: Elements of one row.
            indices: (look-ups,) int64 rows.
            offsets: (bags + 1,) int64 first look-up of each bag.
            weights: (look-ups,) float32, or (0,).
            out: (bags * dim,) float32, written.
            first: First bag.
            last: Bag to stop before.
        """
        for bag in range(first, last):
            begin, end, place, at, limit = offsets[bag], offsets[bag + 1], bag * dim, 0, offsets[last]
            while at + 64 <= dim:
                add_rows(kind, 8, loads_64, weighted, rows, row_bytes, indices, weights, begin, end, limit, at, out, place)
                at += 64
                limit = 0  # the lines that come later are asked for once
            if at + 32 <= dim:
                add_rows(kind, 8, loads_32, weighted, rows, row_bytes, indices, weights, begin, end, limit, at, out, place)
                at += 32
                limit = 0
            if at + 16 <= dim:
                add_rows(kind, 8, loads_16, weighted, rows, row_bytes, indices, weights, begin, end, limit, at, out, place)
                at += 16
                limit = 0
            if at + 8 <= dim:
                add_rows(kind, lanes_8, 1, weighted, rows, row_bytes, indices, weights, begin, end, limit, at, out, place)
                at += 8
                limit = 0
            while at < dim:
                add_rows(kind, 1, 1, weighted, rows, row_bytes, indices, weights, begin, end, limit, at, out, place)
                at += parts
                limit = 0

    return sum_bags


@kernel
def first_outside(indices, rows):
    """Number of the first look-up whose row is not in 0 .. rows - 1, or -1."""
    outside = 0
    for k in range(indices.shape[0]):
        outside |= indices[k] | (rows - 1 - indices[k])  # negative if any is
    if outside >= 0:
        return -1
    for k in range(indices.shape[0]):
        if indices[k] < 0 or indices[k] >= rows:
            return k
    return -1


@kernel
def rises(offsets):
    """Whether no bag ends before it begins."""
    back = 0
    for bag in range(offsets.shape[0] - 1):
        back |= offsets[bag + 1] - offsets[bag]
    return back >= 0


SUM = {name: bags(kind, _parts(name), 0) for kind, name in enumerate(FORMATS)}
WEIGHTED_SUM = {name: bags(kind, _parts(name), 1) for kind, name in enumerate(FORMATS)}
