"""The embedding look-up itself: tables in the formats in which deployed recommenders store them, and sums of their rows.

Modelling decisions:
    * Formats: `float32`, `float16`, `bfloat16`; `int8`, bytes with a float32 scale and offset for each row, and `int4`, half bytes with a
      float16 scale and offset for each row, both laid out as torch's quantised embedding bags lay them out.
    * Sums are float32, added in the order of the look-ups; weights are multiplied in with a fused multiply-add.

Not modelled: hashing of raw ids, gradients.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pimsim.errors import ConfigError, unknown_name
from pimsim.numerics.formats import round_bf16

Format = Literal["float32", "float16", "bfloat16", "int8", "int4"]
FORMATS: tuple[Format, ...] = ("float32", "float16", "bfloat16", "int8", "int4")
_TRAILER = {"int8": 8, "int4": 4}


@dataclass(frozen=True)
class StoredTable:
    """An embedding table as it lies in memory.

    Attributes:
        format: Row format.
        dim: Elements of a row.
        data: (rows, row bytes) uint8, contiguous.
    """

    format: Format
    dim: int
    data: NDArray[np.uint8]

    @classmethod
    def encode(cls, values: ArrayLike, format: Format) -> StoredTable:
        """Stores rows of real numbers, rounded to the format.

        Args:
            values: (rows, dim).
            format: Row format.

        Raises:
            ConfigError: unknown format, values that are no matrix, or an odd row length for int4.
        """
        exact = np.ascontiguousarray(values, np.float32)
        if format not in FORMATS:
            raise ConfigError(unknown_name("row format", str(format), FORMATS))
        if exact.ndim != 2 or (format == "int4" and exact.shape[1] % 2):
            raise ConfigError(f"values {exact.shape}: must be (rows, dim){', dim even for int4' if format == 'int4' else ''}")
        return cls(format, exact.shape[1], _encoded(exact, format))

    def decode(self) -> NDArray[np.float32]:
        """(rows, dim) values that the table stands for."""
        if self.format == "float32":
            return self.data.view(np.float32)
        if self.format == "float16":
            return self.data.view(np.float16).astype(np.float32)
        if self.format == "bfloat16":
            return (self.data.view(np.uint16).astype(np.uint32) << np.uint32(16)).view(np.float32)
        body, trailer = self.data[:, : -_TRAILER[self.format]], np.ascontiguousarray(self.data[:, -_TRAILER[self.format] :])
        if self.format == "int4":
            body = np.stack([body & 15, body >> 4], axis=2).reshape(len(body), -1)
        scale, offset = trailer.view(np.float32 if self.format == "int8" else np.float16).astype(np.float32).T
        return body.astype(np.float32) * scale[:, None] + offset[:, None]

    @property
    def row_bytes(self) -> int:
        """Bytes of one stored row, scale and offset included."""
        return self.data.shape[1]


def _encoded(exact: NDArray[np.float32], format: Format) -> NDArray[np.uint8]:
    rows = len(exact)
    if format == "float32":
        return exact.view(np.uint8).reshape(rows, -1)
    if format == "float16":
        return exact.astype(np.float16).view(np.uint8).reshape(rows, -1)
    if format == "bfloat16":
        return (round_bf16(exact).view(np.uint32) >> np.uint32(16)).astype(np.uint16).view(np.uint8).reshape(rows, -1)
    kind, levels = (np.float32, 255) if format == "int8" else (np.float16, 15)
    low, high = exact.min(axis=1, keepdims=True), exact.max(axis=1, keepdims=True)
    offset = low.astype(kind)
    scale = ((high - offset.astype(np.float32)) / np.float32(levels)).astype(kind)
    step = np.where(scale == 0, 1, scale.astype(np.float32))
    code = np.clip(np.rint((exact - offset.astype(np.float32)) / step), 0, levels).astype(np.uint8)
    if format == "int4":
        code = code[:, 0::2] | (code[:, 1::2] << np.uint8(4))
    return np.concatenate([code, np.concatenate([scale, offset], axis=1).view(np.uint8)], axis=1)


def embedding_bag(
    table: StoredTable,
    indices: ArrayLike,
    offsets: ArrayLike,
    mode: Literal["sum", "mean"] = "sum",
    weights: ArrayLike | None = None,
    threads: int = 1,
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Sums (or means) of the rows of each bag.

    Args:
        table: The table.
        indices: (look-ups,) rows, bag after bag.
        offsets: (bags + 1,) where each bag begins in `indices`; the last entry is the number of look-ups.
        mode: `sum` or `mean`; an empty bag gives zeros.
        weights: (look-ups,) factors of the rows; sums only.
        threads: Bags worked on at a time; the result does not depend on it.
        out: (bags, dim) float32 to write to, contiguous; made when None.

    Raises:
        ConfigError: shapes that do not fit, a row outside of the table, offsets that go back, weights with `mean`.
    """
    from pimsim.kernels.embedding import SUM, WEIGHTED_SUM

    rows = np.ascontiguousarray(indices, np.int64)
    begin = np.ascontiguousarray(offsets, np.int64)
    factors = np.empty(0, np.float32) if weights is None else np.ascontiguousarray(weights, np.float32)
    _check(table, rows, begin, mode, weights is not None, factors)
    bags = len(begin) - 1
    sums = np.empty((bags, table.dim), np.float32) if out is None else out
    if sums.shape != (bags, table.dim) or sums.dtype != np.float32 or not sums.flags.c_contiguous:
        raise ConfigError(f"out {sums.dtype} {sums.shape}: must be contiguous float32 {(bags, table.dim)}")
    kernel = (SUM if weights is None else WEIGHTED_SUM)[table.format]
    flat, target = table.data.reshape(-1), sums.reshape(-1)

    def work(first: int, last: int) -> None:
        kernel(flat, table.row_bytes, table.dim, rows, begin, factors, target, first, last)

    if threads == 1 or bags < 2 * threads:
        work(0, bags)
    else:
        from concurrent.futures import ThreadPoolExecutor

        cuts = np.searchsorted(begin, np.linspace(0, len(rows), threads + 1)[1:-1]).tolist()  # as many look-ups for each
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(work, [0, *cuts], [*cuts, bags]))
    if mode == "mean":
        sums /= np.maximum(np.diff(begin), 1)[:, None].astype(np.float32)
    return sums


def _check(
    table: StoredTable, rows: NDArray[np.int64], begin: NDArray[np.int64], mode: str, weighted: bool, factors: NDArray[np.float32]
) -> None:
    from pimsim.kernels.embedding import first_outside, rises

    if rows.ndim != 1 or begin.ndim != 1 or len(begin) < 1 or begin[0] != 0 or begin[-1] != len(rows) or not rises(begin):
        raise ConfigError(f"offsets: must rise from 0 to the {len(rows)} look-ups")
    at = first_outside(rows, len(table.data))
    if at >= 0:
        raise ConfigError(f"indices: look-up {at}: row {rows[at]} is not in 0..{len(table.data) - 1}")
    if mode not in ("sum", "mean"):
        raise ConfigError(unknown_name("mode", mode, ("sum", "mean")))
    if weighted and (mode != "sum" or factors.shape != rows.shape):
        raise ConfigError(f"weights {factors.shape}: must be one for each of the {len(rows)} look-ups, and mode sum")
