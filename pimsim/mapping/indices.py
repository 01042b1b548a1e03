"""Embedding indices of a workload: drawn (uniform, bounded Zipf, hot set, reuse distance) or read from a file.

Modelling decisions:
- A table's draw depends on the source's seed and the table's name only, not on the other tables; n samples are the first n of
  any longer draw.
- Zipf ranks are scattered over the rows by an odd multiplier coprime with the number of rows, so that popular rows do not lie
  side by side.
- uniform, zipf, hot: each look-up is drawn independently; hot: two classes of rows, uniform within each.
- reuse: a look-up touches a new row, or repeats the look-up a drawn distance before it: a recent one (exponential distance), or any
  earlier one alike. New rows are taken in scattered order; when a table has no more, from its start again.

Not modelled: correlation between tables, drift; use a file for those.
"""

from __future__ import annotations

import zlib
from functools import lru_cache
from math import expm1, gcd, log, log1p
from pathlib import Path

import numpy as np

from pimsim.errors import ConfigError, unknown_name
from pimsim.graph import IndexSource, Table, Workload

_HEAD = 1 << 16
"""Ranks whose probabilities are summed exactly; the sum over later ranks is taken as an integral (relative error below 1e-10)."""


def draw_indices(workload: Workload, samples: int) -> dict[str, np.ndarray]:
    """Row numbers for every table of a workload.

    Args:
        workload: its `indices` say where they come from; a file is relative to `workload.folder`.
        samples: number of samples; a file with fewer is repeated from its start.

    Returns:
        {table name: int64 array (samples, pooling)}.

    Raises:
        ConfigError: missing or malformed file, or a row number outside its table.
    """
    tables = [table for gather in workload.gathers for table in gather.tables]
    names = [table.name for table in tables]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ConfigError(f"{workload.name}: table name {twice!r} stands twice")
    source = workload.indices
    if source.kind != "file":
        return {table.name: draw_table(table, samples, source) for table in tables}
    if source.path is None:
        raise ConfigError(f"{workload.name}: indices.path: missing (kind 'file' needs the path of an .npz file)")
    path = Path(workload.folder or ".") / source.path
    arrays = load_npz(path)
    return {table.name: _repeated(_checked(arrays, table, path), samples) for table in tables}


def file_samples(workload: Workload) -> int:
    """Samples that the file of a workload's indices has for every table of the workload.

    Raises:
        ConfigError: see `load_npz`.
    """
    arrays = load_npz(Path(workload.folder or ".") / str(workload.indices.path))
    return min(len(arrays[table.name]) for gather in workload.gathers for table in gather.tables if table.name in arrays)


def draw_table(table: Table, samples: int, source: IndexSource) -> np.ndarray:
    """Drawn row numbers of one table, int64 (samples, pooling)."""
    seed = np.random.SeedSequence([source.seed % 2**64, zlib.crc32(table.name.encode())])
    if source.kind == "reuse":
        return _reused(np.random.default_rng(seed).random((samples * table.pooling, 2)), table.rows, source).reshape(samples, -1)
    uniform = np.random.default_rng(seed).random((samples, table.pooling))
    if source.kind == "hot":
        return scatter(_hot_ranks(uniform, table.rows, source), table.rows)
    if source.kind == "uniform":
        return np.minimum((uniform * table.rows).astype(np.int64), table.rows - 1)
    return scatter(zipf_ranks(uniform, table.rows, source.exponent), table.rows)


def zipf_ranks(uniform: np.ndarray, rows: int, exponent: float) -> np.ndarray:
    """Ranks 0 .. rows - 1 with P(rank r) ~ (r + 1)^-exponent, by inverting the distribution function.

    Args:
        uniform: values in [0, 1), any shape.
        rows: number of ranks; memory does not grow with it.
        exponent: >= 0; 0 is uniform.

    Returns:
        int64 array of the same shape.
    """
    head, tail_mass = _zipf_head(rows, exponent)
    mass = uniform * (head[-1] + tail_mass)
    ranks = np.minimum(np.searchsorted(head, mass, side="right"), len(head) - 1)
    in_tail = mass >= head[-1]
    if tail_mass > 0 and in_tail.any():
        start, power = len(head) + 0.5, 1.0 - exponent
        part = (mass[in_tail] - head[-1]) / tail_mass
        if abs(power) < 1e-9:
            x = start * np.exp(part * log((rows + 0.5) / start))
        else:
            growth = expm1(power * log((rows + 0.5) / start))
            x = start * np.exp(np.log1p(part * growth) / power)
        ranks[in_tail] = np.clip(np.rint(x).astype(np.int64), len(head) + 1, rows) - 1
    return ranks.astype(np.int64)


@lru_cache(maxsize=64)
def _zipf_head(rows: int, exponent: float) -> tuple[np.ndarray, float]:
    """Cumulative unnormalised mass of the first ranks, and the mass of all later ones."""
    count = min(rows, _HEAD)
    head = np.cumsum(np.arange(1, count + 1, dtype=np.float64) ** -exponent)
    if rows == count:
        return head, 0.0
    start, power = count + 0.5, 1.0 - exponent
    span = log1p((rows - count) / start)
    integral = span if abs(power) < 1e-9 else start**power * expm1(power * span) / power
    return head, float(integral)


def _hot_ranks(uniform: np.ndarray, rows: int, source: IndexSource) -> np.ndarray:
    """Ranks 0 .. rows - 1; the first ones are hot."""
    hot = min(rows, max(1, round(source.hot_rows * rows)))
    share = source.hot_lookups if hot < rows else 1.0
    cold = uniform >= share
    within = np.where(cold, (uniform - share) / max(1 - share, 1e-300), uniform / max(share, 1e-300))
    start, count = np.where(cold, hot, 0), np.where(cold, rows - hot, hot)
    return start + np.minimum((within * count).astype(np.int64), count - 1)


def _reused(uniform: np.ndarray, rows: int, source: IndexSource) -> np.ndarray:
    """Row numbers by reuse distance.

    Args:
        uniform: (look-ups, 2) values in [0, 1): which kind of look-up, and how far back.
        rows: of the table.
        source: shares and distance.

    Returns:
        (look-ups,) int64.
    """
    kind, far = uniform.T
    position = np.arange(len(kind))
    recent = kind < source.new_share + (1 - source.new_share) * source.recent_share
    distance = 1 + np.where(recent, -source.recent_distance * np.log1p(-far), far * position).astype(np.int64)
    repeated = np.where((kind < source.new_share) | (distance > position), position, position - distance)
    while not np.array_equal(further := repeated[repeated], repeated):  # each look-up to the first one of its row
        repeated = further
    first = np.cumsum(repeated == position) - 1
    return scatter(first[repeated] % rows, rows)


def scatter(ranks: np.ndarray, rows: int) -> np.ndarray:
    """Ranks to row numbers, one to one: rank x multiplier modulo `rows`."""
    return ranks * _multiplier(rows) % rows


def _multiplier(rows: int) -> int:
    """An odd number near 0.618 x rows (small enough for 64-bit products) that has no factor in common with `rows`."""
    number = min(int(rows * 0.6180339887498949), 2**62 // rows) | 1
    while gcd(number, rows) != 1:
        number += 2
    return number


def load_npz(path: Path) -> dict[str, np.ndarray]:
    """Every array of an index file, as stored: {table name: int array (samples, pooling)}.

    Raises:
        ConfigError: not a readable `.npz`, or an array that is not of integers.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file (embedding indices)") from None
    except Exception as error:  # a damaged archive fails in many ways: zip, zlib, header, pickle
        raise ConfigError(f"{path}: not a readable .npz of embedding indices: {error}") from None
    for name, array in arrays.items():
        if not np.issubdtype(array.dtype, np.integer) or array.ndim not in (1, 2):
            raise ConfigError(f"{path}: {name}: {array.dtype} array of shape {array.shape}, expected integers (samples, pooling)")
    return arrays


def _checked(arrays: dict[str, np.ndarray], table: Table, path: Path) -> np.ndarray:
    """One table's array, int64 (samples, pooling), within the table; -1 fills a sample with fewer look-ups (variable pooling)."""
    if table.name not in arrays:
        raise ConfigError(f"{path}: {unknown_name('table', table.name, arrays)}")
    array = arrays[table.name]
    array = array[:, None] if array.ndim == 1 else array
    if not len(array) or array.shape[1] != table.pooling:
        raise ConfigError(f"{path}: {table.name}: shape {array.shape}, expected (samples, {table.pooling}) with one sample at least")
    outside = (array < -1) | (array >= table.rows)
    if outside.any():
        sample = int(np.argmax(outside.any(axis=1)))
        value = int(array[outside][0])
        raise ConfigError(f"{path}: {table.name}: sample {sample} looks up row {value}, allowed 0 to {table.rows - 1} (-1: no look-up)")
    if not (array >= 0).any():
        raise ConfigError(f"{path}: {table.name}: no look-up at all")
    return array.astype(np.int64)


def _repeated(array: np.ndarray, samples: int) -> np.ndarray:
    """The first `samples` samples, starting again where the array ends."""
    return array[:samples] if len(array) >= samples else array[np.arange(samples) % len(array)]
