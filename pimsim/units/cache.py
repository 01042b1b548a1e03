"""An exact cache: set-associative, least recently used, hit or miss for every access; a RankCache or a host's last-level cache.

Modelling decisions:
    * One access reads one line; a line lives in set `line number % sets`.
    * A miss may bypass the cache (`allocate` false: RecNMP's LocalityBit); a bypassing access still hits a line that is there.
    * The cache starts empty; rows are read only, so nothing is written back.

Not modelled: misses that wait for the same line, prefetch, time.
"""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveInt, model_validator

from pimsim.dram.standard import Organisation
from pimsim.mapping.placement import Coordinates
from pimsim.spec.base import Spec

IntArray = NDArray[np.int64]


class CacheSpec(Spec):
    """Geometry of a cache."""

    size_bytes: PositiveInt
    """Capacity."""
    line_bytes: PositiveInt = 64
    """Bytes of one line."""
    ways: PositiveInt = 4
    """Lines of one set."""

    @model_validator(mode="after")
    def _whole_sets(self) -> Self:
        if self.size_bytes % (self.line_bytes * self.ways):
            raise ValueError(f"size_bytes must be a multiple of line_bytes x ways = {self.line_bytes * self.ways}")
        return self

    @property
    def sets(self) -> int:
        """Number of sets."""
        return self.size_bytes // (self.line_bytes * self.ways)


def hits(cache: CacheSpec, line: IntArray, allocate: NDArray[np.bool_] | None = None) -> NDArray[np.bool_]:
    """Which accesses hit, in order, from an empty cache.

    Args:
        cache: Geometry.
        line: (n,) line numbers (byte address // line_bytes), at least 0.
        allocate: (n,) accesses that put their line into the cache when they miss; all when None.

    Returns:
        (n,) bool.

    Raises:
        ValueError: arrays that do not match, or a negative line number.
    """
    from pimsim.kernels.cache_model import lru

    line = np.ascontiguousarray(line, np.int64)
    keep = np.ones(len(line), bool) if allocate is None else np.ascontiguousarray(allocate, bool)
    if line.ndim != 1 or keep.shape != line.shape:
        raise ValueError(f"line {line.shape} and allocate {keep.shape} must be vectors of equal length")
    if line.size and line.min() < 0:
        raise ValueError(f"line {int(line.min())}: must not be negative")
    hit = np.empty(len(line), bool)
    lru(line, keep, np.full((cache.sets, cache.ways), -1, np.int64), hit)
    return hit


def repeated(key: IntArray, times: int) -> NDArray[np.bool_]:
    """Which accesses are to something that the trace asks for at least `times` times: the profile behind a LocalityBit."""
    _, inverse, counts = np.unique(key, return_inverse=True, return_counts=True)
    return counts[inverse] >= times


def most_frequent(key: IntArray, count: int) -> IntArray:
    """The `count` things that a trace asks for most often, at least twice each, the most frequent first."""
    found, counts = np.unique(key, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:count]
    return found[order[counts[order] > 1]].astype(np.int64)


def missed(cache: CacheSpec, where: Coordinates, organisation: Organisation) -> Coordinates:
    """The bursts of look-ups that miss a cache before the memory (a host's last-level cache), each as a look-up of its own.

    Args:
        cache: Geometry; its lines are bursts.
        where: Coordinates of the look-ups, in order.
        organisation: Geometry of the memory.

    Raises:
        ValueError: a line that is not a burst.
    """
    if cache.line_bytes != organisation.burst_bytes:
        raise ValueError(f"line_bytes {cache.line_bytes}: must be a burst of {organisation.burst_bytes} bytes")
    each = single_bursts(where, organisation)
    line = ((each.row * organisation.columns + each.column) * organisation.banks + each.bank) * organisation.channels + each.channel
    return selected(each, ~hits(cache, line))


def single_bursts(where: Coordinates, organisation: Organisation) -> Coordinates:
    """The bursts of look-ups in order, each as a look-up of its own."""
    owner = np.repeat(np.arange(len(where.bursts)), where.bursts)
    step = np.arange(len(owner)) - np.repeat(np.cumsum(where.bursts) - where.bursts, where.bursts)
    down, column = np.divmod(where.column[owner] + step, organisation.columns)
    return Coordinates(where.channel[owner], where.bank[owner], where.row[owner] + down, column, np.ones(len(owner), np.int64))


def selected(where: Coordinates, chosen: NDArray[np.bool_]) -> Coordinates:
    """Some of the look-ups."""
    return Coordinates(where.channel[chosen], where.bank[chosen], where.row[chosen], where.column[chosen], where.bursts[chosen])
