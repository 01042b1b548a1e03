"""The cache against an ordered dictionary a set, and the dealing of work against a plain loop."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pimsim.api import load_device
from pimsim.dram.standard import resolve_organisation
from pimsim.graph import Table
from pimsim.kernels.cache_model import least_loaded
from pimsim.mapping.placement import place
from pimsim.units.cache import CacheSpec, hits, missed, most_frequent, repeated


def reference(cache: CacheSpec, lines: list[int], allocate: list[bool]) -> list[bool]:
    """Least recently used, with one ordered dictionary a set, the most recent last."""
    sets: dict[int, OrderedDict[int, None]] = {}
    found = []
    for line, keep in zip(lines, allocate, strict=True):
        entries = sets.setdefault(line % cache.sets, OrderedDict())
        found.append(line in entries)
        if line in entries:
            entries.move_to_end(line)
        elif keep:
            entries[line] = None
            if len(entries) > cache.ways:
                entries.popitem(last=False)
    return found


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 5),
    st.sampled_from([1, 2, 3, 4, 8]),
    st.lists(st.tuples(st.integers(0, 40), st.booleans()), max_size=200),
)
def test_the_cache_is_least_recently_used(ways: int, sets: int, accesses: list[tuple[int, bool]]) -> None:
    cache = CacheSpec(size_bytes=64 * ways * sets, ways=ways)
    lines, allocate = [line for line, _ in accesses], [keep for _, keep in accesses]
    assert hits(cache, np.array(lines, np.int64), np.array(allocate, bool)).tolist() == reference(cache, lines, allocate)


def test_a_long_skewed_trace() -> None:
    rng = np.random.default_rng(1)
    lines = (rng.zipf(1.3, 20_000) % 5_000).astype(np.int64)
    cache = CacheSpec(size_bytes=16 * 1024, ways=4)
    assert hits(cache, lines).tolist() == reference(cache, lines.tolist(), [True] * len(lines))


def test_closed_forms() -> None:
    cache = CacheSpec(size_bytes=4 * 64, ways=4)
    assert hits(cache, np.tile(np.arange(4), 5)).sum() == 16  # all but the first round
    assert hits(cache, np.tile(np.arange(5), 5)).sum() == 0  # one line too many: each is thrown out before its turn
    assert hits(cache, np.zeros(9, np.int64), np.zeros(9, bool)).sum() == 0


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 60), max_size=200), st.sampled_from([1, 2, 4]))
def test_more_ways_keep_every_hit(lines: list[int], sets: int) -> None:
    small = CacheSpec(size_bytes=64 * 2 * sets, ways=2)
    large = CacheSpec(size_bytes=64 * 6 * sets, ways=6)
    trace = np.array(lines, np.int64)
    assert not (hits(small, trace) & ~hits(large, trace)).any()


def test_profiles() -> None:
    key = np.array([7, 3, 7, 9, 3, 7])
    assert repeated(key, 2).tolist() == [True, True, True, False, True, True]
    assert repeated(key, 3).tolist() == [True, False, True, False, False, True]
    assert repeated(key, 1).all()
    assert most_frequent(key, 5).tolist() == [7, 3]  # 9 is looked up once
    assert most_frequent(key, 1).tolist() == [7]
    assert most_frequent(key, 0).tolist() == []


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(-1, 4), st.integers(1, 9)), max_size=60))
def test_work_goes_to_the_least_loaded(items: list[tuple[int, int]]) -> None:
    node, work = np.array([n for n, _ in items], np.int64), np.array([w for _, w in items], np.int64)
    load, expected, given_to = np.zeros(5, np.int64), [0] * 5, []
    least_loaded(node, work, load)
    for fixed, amount in items:
        to = fixed if fixed >= 0 else expected.index(min(expected))
        expected[to] += amount
        given_to.append(to)
    assert node.tolist() == given_to
    assert load.tolist() == expected


def test_a_last_level_cache_leaves_the_first_reads_of_each_burst() -> None:
    organisation = resolve_organisation(load_device("recnmp").dram)
    tables = tuple(Table(name=f"t{n}", rows=300, dim=48) for n in range(2))
    rng = np.random.default_rng(3)
    table, index = rng.integers(0, 2, 900), rng.integers(0, 300, 900)
    where = place(tables, "row", organisation, 1).locate(table, index)
    large = missed(CacheSpec(size_bytes=1 << 20, ways=16), where, organisation)
    assert len(large.bursts) == 4 * len(set(zip(table, index, strict=True)))  # 192 bytes in slots of four bursts
    assert (large.bursts == 1).all()
    none = missed(CacheSpec(size_bytes=64, ways=1), where, organisation)
    assert len(none.bursts) == 4 * 900
    assert (none.bank[::4].tolist(), none.row[::4].tolist()) == (where.bank.tolist(), where.row.tolist())
    assert (none.column[3::4] - where.column == 3).all()
    with pytest.raises(ValueError, match="line_bytes 128: must be a burst of 64"):
        missed(CacheSpec(size_bytes=1024, line_bytes=128), where, organisation)


def test_mistakes() -> None:
    with pytest.raises(ValidationError, match="multiple of line_bytes x ways = 256"):
        CacheSpec(size_bytes=1000)
    cache = CacheSpec(size_bytes=1024)
    with pytest.raises(ValueError, match="vectors of equal length"):
        hits(cache, np.arange(3), np.ones(2, bool))
    with pytest.raises(ValueError, match="line -1: must not be negative"):
        hits(cache, np.array([-1]))
