"""Embedding tables laid out in banks: every row somewhere, no two rows in one place, nothing beyond the bank."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pimsim.dram.standard import Organisation
from pimsim.errors import ConfigError
from pimsim.graph import Table
from pimsim.mapping.placement import burst_slots, place

SMALL = Organisation(1, 64, 64, bankgroups=2, banks_per_group=2, rows=64, columns=8, burst_bytes=32)


@settings(max_examples=60, deadline=None)
@given(
    policy=st.sampled_from(["row", "table", "striped"]),
    channels=st.sampled_from([1, 2, 3]),
    tables=st.lists(st.tuples(st.integers(1, 200), st.sampled_from([4, 8, 16, 64])), min_size=1, max_size=5),
)
def test_rows_never_share_a_place(policy: str, channels: int, tables: list[tuple[int, int]]) -> None:
    specs = tuple(Table(name=f"t{n}", rows=rows, dim=dim) for n, (rows, dim) in enumerate(tables))
    try:
        placement = place(specs, policy, SMALL, channels, stripes=2)
    except ConfigError:
        padded = sum(burst_slots(t.row_bytes, SMALL) * t.rows for t in specs)
        assert padded > channels * SMALL.banks * SMALL.rows * SMALL.columns / 4  # refused only when it is getting full
        return
    table = np.repeat(np.arange(len(specs)), [t.rows for t in specs])
    index = np.concatenate([np.arange(t.rows) for t in specs])
    where = placement.locate(table, index)
    assert where.channel.max() < channels
    assert where.bank.max() < placement.banks
    taken = set()
    for n in range(len(index)):
        for burst in range(where.bursts[n]):
            column = int(where.column[n]) + burst
            row = int(where.row[n]) + column // SMALL.columns
            assert row < SMALL.rows
            place_of = (int(where.channel[n]), int(where.bank[n]), row, column % SMALL.columns)
            assert place_of not in taken
            taken.add(place_of)
    stripes = placement.stripes
    assert all(where.bursts[n] * stripes * SMALL.burst_bytes >= specs[table[n]].row_bytes for n in range(len(index)))


def test_policies_do_what_they_say() -> None:
    tables = (Table(name="a", rows=40, dim=8), Table(name="b", rows=40, dim=8))
    table, index = np.repeat([0, 1], 40), np.tile(np.arange(40), 2)
    by_row = place(tables, "row", SMALL, 2).locate(table, index)
    assert np.bincount(by_row.channel * 4 + by_row.bank).tolist() == [10] * 8  # evenly over 2 channels x 4 banks
    by_table = place(tables, "table", SMALL, 2).locate(table, index)
    homes = {t: set(zip(by_table.channel[table == t], by_table.bank[table == t], strict=True)) for t in (0, 1)}
    assert len(homes[0]) == len(homes[1]) == 1 and homes[0] != homes[1]  # one bank each


def test_a_row_is_rounded_up_to_a_power_of_two_of_bursts() -> None:
    assert [burst_slots(size, SMALL) for size in (1, 32, 33, 96, 128, 129)] == [1, 1, 2, 4, 4, 8]


@pytest.mark.parametrize("policy", ["row", "table", "striped"])
def test_tables_that_do_not_fit_are_refused(policy: str) -> None:
    with pytest.raises(ConfigError, match="do not fit"):
        place((Table(name="a", rows=10_000, dim=16),), policy, SMALL, 1, stripes=2)
