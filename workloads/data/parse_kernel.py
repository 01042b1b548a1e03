"""Numba loops over bytes and integers of raw data: a parser of delimited text, and the numbering of the values of a column.

Both run without Python's lock, so that two blocks of a file, or two columns, are worked on at once. Every function that a loop
calls is in this file: Numba's disk cache looks at no other.
"""

from __future__ import annotations

import numpy as np
from numba import njit

import pimsim.kernels  # noqa: F401  (sets the place of the disk cache)

SKIP, LABEL, NUMBER, HEX, MIXED, TEXT, INTEGER, TIME = range(8)
"""What is in a column; see `workloads.data.reading.Column`."""

MISSING = np.int64(-(2**63))
"""Key of a missing value."""
MERSENNE = 2147483647
"""2^31 - 1."""
DIGITS = np.full(256, 16, np.int64)
"""Value of a hexadecimal digit, 16 for any other byte."""
DIGITS[48:58], DIGITS[65:71], DIGITS[97:103] = range(10), range(10, 16), range(10, 16)

OK, FEW_FIELDS, MANY_FIELDS, BAD_VALUE, OPEN_QUOTE = range(5)
"""What is wrong with a line."""


@njit(cache=True, nogil=True)
def _hash(data, first, last):
    """64-bit FNV-1a with a final mixing, its top bit cleared."""
    state = np.uint64(14695981039346656037)
    for i in range(first, last):
        state = (state ^ np.uint64(data[i])) * np.uint64(1099511628211)
    state ^= state >> np.uint64(33)
    state *= np.uint64(0xFF51AFD7ED558CCD)
    state ^= state >> np.uint64(33)
    return np.int64(state & np.uint64(0x7FFFFFFFFFFFFFFF))


@njit(cache=True, nogil=True)
def _number(data, first, last):
    """(value, well formed) of decimal text with sign, point and exponent."""
    negative, i = False, first
    if i < last and (data[i] == 45 or data[i] == 43):
        negative, i = data[i] == 45, i + 1
    mantissa, digits, power, point = 0.0, 0, 0, False
    while i < last:
        byte = data[i]
        if 48 <= byte <= 57:
            mantissa = mantissa * 10.0 + (byte - 48)
            digits += 1
            power -= point
        elif byte == 46 and not point:
            point = True
        else:
            break
        i += 1
    if digits == 0:
        return 0.0, False
    if i < last and (data[i] == 101 or data[i] == 69):
        i += 1
        down = False
        if i < last and (data[i] == 45 or data[i] == 43):
            down, i = data[i] == 45, i + 1
        exponent, start = 0, i
        while i < last and 48 <= data[i] <= 57:
            exponent = min(exponent * 10 + (data[i] - 48), 9999)
            i += 1
        if i == start:
            return 0.0, False
        power += -exponent if down else exponent
    if power < 0:
        mantissa = mantissa / 10.0 ** (-power) if power > -300 else 0.0
    elif power > 0:
        mantissa = mantissa * 10.0**power
    return (-mantissa if negative else mantissa), i == last


@njit(cache=True, nogil=True)
def _key(data, first, last, kind):
    """(key, well formed) of one categorical value."""
    if kind == TEXT:
        return _hash(data, first, last), True
    if kind == HEX:
        value = np.int64(0)
        for i in range(first, last):
            digit = DIGITS[data[i]]
            if digit == 16:
                return MISSING, False
            value = value * 16 + digit
        return value, last - first <= 15
    if kind == MIXED:
        decimal, hexadecimal, is_decimal = np.int64(0), np.int64(0), True
        minus = data[first] == 45
        for i in range(first + minus, last):
            digit = DIGITS[data[i]]
            if digit == 16:
                return MISSING, False
            is_decimal = is_decimal and digit < 10
            decimal = (decimal * 10 + digit) % MERSENNE
            hexadecimal = (hexadecimal * 16 + digit) % MERSENNE
        value = decimal if is_decimal else hexadecimal
        return ((MERSENNE - value) % MERSENNE if minus else value), last > first + minus
    value, negative, start = np.int64(0), False, first
    if kind == INTEGER and data[first] == 45:
        negative, start = True, first + 1
    digits = 0
    for i in range(start, last):
        byte = data[i]
        if 48 <= byte <= 57:
            value = value * 10 + (byte - 48)
            digits += 1
        elif kind == TIME and byte == 46 and digits:
            break
        elif kind != TIME or not (byte == 45 or byte == 58 or byte == 32 or byte == 84 or byte == 90 or byte == 47) or i == first:
            return MISSING, False
    return (-value if negative else value), 0 < digits <= 18


@njit(cache=True, nogil=True)
def _eight_digits(data, first):
    """Eight hexadecimal digits as a number; -1 when one of the bytes is none."""
    value, seen = np.int64(0), np.int64(0)
    for i in range(8):
        digit = DIGITS[data[first + i]]
        seen |= digit
        value = value * 16 + digit
    return value if seen < 16 else np.int64(-1)


@njit(cache=True, nogil=True)
def _is_missing(data, first, last, words, lengths):
    for w in range(len(lengths)):
        if lengths[w] == last - first:
            same = True
            for i in range(last - first):
                same = same and words[w, i] == data[first + i]
            if same:
                return True
    return False


@njit(cache=True, nogil=True)
def _one(data, first, last, kind, words, lengths, place, row, label, numbers, keys):
    """Stores one value; False when it is not what its column holds."""
    missing = first == last or _is_missing(data, first, last, words, lengths)
    if kind == LABEL:
        good = not missing and last - first == 1 and (data[first] == 48 or data[first] == 49)
        if good:
            label[row] = data[first] - 48
        elif not missing:
            value, good = _number(data, first, last)
            good = good and (value == 0.0 or value == 1.0)
            label[row] = value == 1.0
        return good
    if kind == NUMBER:
        if missing:
            numbers[place, row] = np.nan
            return True
        numbers[place, row], good = _number(data, first, last)
        return good
    if missing:
        keys[place, row] = MISSING
        return kind != TIME
    keys[place, row], good = _key(data, first, last, kind)
    return good


@njit(cache=True, nogil=True)
def parse(data, separator, inner, kinds, places, slots, words, lengths, label, numbers, keys, lines, broken):
    """Parses whole lines of delimited text.

    Args:
        data: (bytes,) uint8 text; its last line may lack its line end.
        separator: byte between fields.
        inner: byte between the values of a multi-valued field.
        kinds: (columns,) what each column holds.
        places: (columns,) row of `numbers` or (first) row of `keys` for a column.
        slots: (columns,) values of a multi-valued column that are kept, 0 for a column of single values.
        words, lengths: texts that mean a missing value (the empty one always does), and their lengths.
        label, numbers, keys, lines: results, one column per good row; lines counts from 0.
        broken: (n, 3) results: line, column (or number of fields) and reason of the first n broken lines.

    Returns:
        Good rows, broken lines, all lines.
    """
    columns, end = len(kinds), len(data)
    row, bad, line, p = 0, 0, 0, 0
    plain = len(lengths) == 0
    radix = np.zeros(columns, np.int64)
    for i in range(columns):
        if slots[i] == 0:
            radix[i] = 16 if kinds[i] == HEX else 10 if kinds[i] == NUMBER or kinds[i] == INTEGER else 0
    while p < end:
        reason, column, where = OK, 0, 0
        if data[p] == 10 or (data[p] == 13 and p + 1 < end and data[p + 1] == 10):
            p += 1 + (data[p] == 13)  # an empty line is no row
            line += 1
            continue
        while True:
            first = p
            if plain and column < columns:  # the usual case in few steps: whole numbers and hexadecimal tokens
                kind, base = kinds[column], radix[column]
                if base == 16 and p + 8 < end and (data[p + 8] == separator or data[p + 8] == 10):
                    value = _eight_digits(data, p)
                    if value >= 0:  # Criteo's tokens
                        keys[places[column], row] = value
                        column += 1
                        p += 8
                        if data[p] == 10:
                            break
                        p += 1
                        continue
                if base != 0:
                    value, digit = np.int64(0), np.int64(0)
                    while p < end:
                        digit = DIGITS[data[p]]
                        if digit >= base:
                            break
                        value = value * base + digit
                        p += 1
                    stop = p >= end or data[p] == separator or data[p] == 10
                    if stop and p - first <= 15:
                        if kind == NUMBER:
                            numbers[places[column], row] = value if p > first else np.nan
                        else:
                            keys[places[column], row] = value if p > first else MISSING
                        column += 1
                        if p >= end or data[p] == 10:
                            break
                        p += 1
                        continue
                    p = first
            if p < end and data[p] == 34:
                first = p + 1
                p += 1
                while p < end and data[p] != 10 and not (data[p] == 34 and (p + 1 >= end or data[p + 1] != 34)):
                    p += 1 + (data[p] == 34)
                last = p
                if p >= end or data[p] == 10:
                    reason, where = OPEN_QUOTE, column
                else:
                    p += 1
            else:
                while p < end and data[p] != separator and data[p] != 10:
                    p += 1
                last = p
            while p < end and data[p] != separator and data[p] != 10:  # after a closing quote
                if data[p] != 13 and reason == OK:
                    reason, where = OPEN_QUOTE, column
                p += 1
            at_end = p >= end or data[p] == 10
            if at_end and last > first and data[last - 1] == 13:
                last -= 1
            if reason == OK:
                if column >= columns:
                    pass
                elif slots[column] > 0:
                    count, q = 0, first
                    for s in range(slots[column]):
                        keys[places[column] + s, row] = MISSING
                    while q < last and count < slots[column]:
                        stop = q
                        while stop < last and data[stop] != inner:
                            stop += 1
                        good = _one(data, q, stop, kinds[column], words, lengths, places[column] + count, row, label, numbers, keys)
                        if not good and reason == OK:
                            reason, where = BAD_VALUE, column
                        count += keys[places[column] + count, row] != MISSING
                        q = stop + 1
                elif kinds[column] != SKIP:
                    good = _one(data, first, last, kinds[column], words, lengths, places[column], row, label, numbers, keys)
                    if not good:
                        reason, where = BAD_VALUE, column
            column += 1
            if at_end:
                break
            p += 1
        p += 1
        if column != columns and reason != OPEN_QUOTE:  # says more than that a value is not what its column holds
            reason, where = (FEW_FIELDS if column < columns else MANY_FIELDS), column
        if reason == OK:
            lines[row] = line
            row += 1
        else:
            if bad < len(broken):
                broken[bad, 0], broken[bad, 1], broken[bad, 2] = line, where, reason
            bad += 1
        line += 1
    return row, bad, line


@njit(cache=True, nogil=True)
def number_values(keys, train, table, codes_of, values, counts, used, codes):
    """Numbers the values of a column in order of first appearance, by a hash table with linear probing.

    Args:
        keys: (n,) int64 keys.
        train: (n,) bool, rows whose values are counted.
        table, codes_of: (size,) keys of the slots, and their code + 1 (0: empty slot); size a power of two above used + n.
        values, counts: (at least used + n,) key and training rows of each code.
        used: codes given so far.
        codes: (n,) int32 result.

    Returns:
        Codes given now.
    """
    mask = np.uint64(len(table) - 1)
    for i in range(len(keys)):
        key = keys[i]
        slot = (np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(20) & mask
        while codes_of[slot] != 0 and table[slot] != key:
            slot = (slot + np.uint64(1)) & mask
        if codes_of[slot] == 0:
            table[slot] = key
            values[used] = key
            used += 1
            codes_of[slot] = used
        code = codes_of[slot] - 1
        codes[i] = code
        counts[code] += train[i]
    return used


@njit(cache=True, nogil=True)
def refill(values, used, table, codes_of):
    """Puts the values known so far into a larger, empty table."""
    mask = np.uint64(len(table) - 1)
    for code in range(used):
        slot = (np.uint64(values[code]) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(20) & mask
        while codes_of[slot] != 0:
            slot = (slot + np.uint64(1)) & mask
        table[slot] = values[code]
        codes_of[slot] = code + 1


@njit(cache=True, nogil=True)
def log_scale(values, of_whole, out):
    """log(1 + max(0, x)), 0 where missing.

    Args:
        values: (n,) float64, NaN where missing.
        of_whole: log(1 + x) of the whole numbers from 0; most values are such.
        out: (n,) float32 result.
    """
    for i in range(len(values)):
        x = values[i]
        if not x > 0.0:
            out[i] = 0.0
        elif x < len(of_whole) and x == np.floor(x):
            out[i] = of_whole[int(x)]
        else:
            out[i] = np.log1p(x)


@njit(cache=True, nogil=True)
def count_ids(ids, unknown, present):
    """Adds, for each column of ids (n, columns), the zeros to `unknown` and those that are not negative to `present`."""
    for i in range(ids.shape[0]):
        for j in range(ids.shape[1]):
            unknown[j] += ids[i, j] == 0
            present[j] += ids[i, j] >= 0
