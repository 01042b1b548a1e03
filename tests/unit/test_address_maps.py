"""Address maps: bit order, round trips, hashing, capacity, and refusals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pimsim.dram.standard import resolve_organisation
from pimsim.errors import ConfigError, TraceError
from pimsim.mapping.address import FIELDS, NAMED_MAPS, address_map, compose, flat_bank, map_of
from pimsim.spec.dram import DramSpec


def ddr4(**changes) -> DramSpec:
    return DramSpec(standard="ddr4", organisation="8Gb_x8", speed="3200AA", **changes)


def test_default_order_from_the_top():
    """Row, bank, bank group, rank, column, channel, then six bits of burst."""
    spec = ddr4(ranks=2, channels=4)
    address = np.array([(9 << 20 | 2 << 18 | 3 << 16 | 1 << 15 | 77 << 8 | 3 << 6 | 17) & ~0], np.uint64)
    got = {name: int(value[0]) for name, value in map_of(spec).decode(address).items()}
    # fields: channel 2 bits, column 7, rank 1, bank group 2, bank 2, row
    assert got == {"channel": 3, "column": 77 << 2 >> 2 & 127, "rank": 1, "bankgroup": 3, "bank": 2, "row": 9}


@settings(max_examples=40, deadline=None)
@given(st.permutations(FIELDS), st.sampled_from([1, 2, 3, 4, 6]), st.sampled_from([1, 2]), st.booleans(), st.integers(0, 2**32))
def test_encode_and_decode_are_inverse(order, channels, ranks, hashed, seed):
    spec = ddr4(channels=channels, ranks=ranks, address_map="-".join(order) + (";bank^row,bankgroup^row" if hashed else ""))
    organisation, mapping = resolve_organisation(spec), map_of(spec)
    lines = np.random.default_rng(seed).integers(0, organisation.total_bytes // 64, 200)
    address = lines.astype(np.uint64) * np.uint64(64)
    fields = mapping.decode(address)
    assert (mapping.encode(fields) == address).all()
    bank = flat_bank(organisation, fields)
    assert (bank < organisation.banks).all()
    assert (compose(spec, channel=fields["channel"], bank=bank, row=fields["row"], column=fields["column"]) == address).all()


def test_every_named_map_is_a_bijection_on_the_first_megabyte():
    for name in NAMED_MAPS:
        mapping = address_map(name, resolve_organisation(ddr4(channels=2)))
        fields = mapping.decode(np.arange(0, 1 << 20, 64, dtype=np.uint64))
        assert len(np.unique(np.stack([fields[f] for f in FIELDS]), axis=1).T) == 1 << 14


def test_hashing_spreads_a_column_of_rows():
    """Consecutive rows of one bank in the plain map fall on all banks of the hashed one."""
    organisation = resolve_organisation(ddr4())
    address = compose(ddr4(), channel=0, bank=0, row=np.arange(64), column=0)
    assert len(np.unique(flat_bank(organisation, map_of(ddr4()).decode(address)))) == 1
    assert len(np.unique(map_of(ddr4(address_map="bank-hash")).decode(address)["bankgroup"])) == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("RoBaRaCoChe", "did you mean 'RoBaRaCoCh'"),
        ("row-bank-bankgrop-rank-column-channel", "did you mean 'bankgroup'"),
        ("row-bank-rank-column-channel", "exactly once"),
        ("row-row-bank-bankgroup-rank-column-channel", "exactly once"),
        ("row-bank-bankgroup-rank-column-channel;bank", "expected FIELD\\^FIELD"),
        ("row-bank-bankgroup-rank-column-channel;bank^bankgroup,bankgroup^row", "cannot hash another"),
    ],
)
def test_bad_maps_are_refused(text, message):
    with pytest.raises(ConfigError, match=message):
        address_map(text, resolve_organisation(ddr4()))


def test_out_of_range():
    with pytest.raises(TraceError, match="request 1: address 0x200000000"):
        map_of(ddr4()).decode(np.array([0, 8 << 30], np.uint64))
    with pytest.raises(ConfigError, match="bank 16"):
        compose(ddr4(), channel=0, bank=16, row=0, column=0)
    with pytest.raises(ConfigError, match="row 65536"):
        compose(ddr4(), channel=0, bank=0, row=65536, column=0)
