"""Trace files: round trips in every format, sniffing, and one readable line for each malformation."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pimsim.errors import TraceError
from pimsim.trace import Trace, read_trace, write_trace


def _trace(n: int, seed: int, arrival: bool) -> Trace:
    rng = np.random.default_rng(seed)
    clocks = np.cumsum(rng.integers(0, 50, n)) if arrival else None
    return Trace(rng.integers(0, 1 << 63, n).astype(np.uint64), rng.random(n) < 0.4, clocks)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 60), st.integers(0, 999), st.sampled_from(["npz", "ramulator", "dramsim3"]), st.booleans(), st.booleans())
def test_round_trip(tmp_path_factory, n, seed, form, arrival, zipped):
    arrival = arrival or form == "dramsim3"
    if form == "ramulator":
        arrival = False
    trace = _trace(n, seed, arrival)
    path = tmp_path_factory.mktemp("trace") / ("t.npz" if form == "npz" else "t.txt.gz" if zipped else "t.txt")
    write_trace(path, trace, form)
    again = read_trace(path)
    assert again.address.dtype == np.uint64 and again.is_write.dtype == bool
    assert (again.address == trace.address).all() and (again.is_write == trace.is_write).all()
    if arrival:
        assert (again.arrival_cycle == trace.arrival_cycle).all()
    else:
        assert again.arrival_cycle is None


def test_dramsim3_without_clocks_counts_up(tmp_path):
    write_trace(tmp_path / "t", _trace(5, 0, False), "dramsim3")
    assert read_trace(tmp_path / "t").arrival_cycle.tolist() == [0, 1, 2, 3, 4]


def test_text_may_hold_comments_and_decimal(tmp_path):
    (tmp_path / "t").write_text("# made by hand\n\nLD 64\nST 0x80\n")
    trace = read_trace(tmp_path / "t")
    assert trace.address.tolist() == [64, 128] and trace.is_write.tolist() == [False, True]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("LD 0x40\nLD 0x80\nLOAD 0xc0\n", "line 3: 'LOAD 0xc0': expected 'LD 0x1a2b40'"),
        ("LD 0x40\nST 0xzz\n", "line 2: 'ST 0xzz'"),
        ("LD -64\n", "line 1: 'LD -64': expected ramulator"),
        ("LD 0x40\n0x40 READ 3\n", "line 2: '0x40 READ 3': expected 'LD"),
        ("0x40 READ 3\n0x80 READ\n", "line 2: '0x80 READ': expected '0x1a2b40 READ 100'"),
        ("0x40 READ 3\n0x80 WRITE 2\n", "line 2: cycle 2: earlier than the one before"),
        ("0x40 READ 3\n0x80 WRITE 1_0\n", "line 2"),
        ("LD 0x1ffffffffffffffff\n", "line 1"),
        ("hello\n", "line 1: 'hello': expected ramulator 'LD 0x1a2b40' or dramsim3"),
        ("", "no requests"),
    ],
)
def test_malformed_text_names_the_line(tmp_path, text, message):
    path = tmp_path / "bad.trace"
    path.write_text(text)
    with pytest.raises(TraceError, match="bad.trace.*" + message) as caught:
        read_trace(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"is_write": np.zeros(2, bool)}, "'address' is missing"),
        ({"address": np.zeros(2, np.uint64), "is_write": np.zeros(3, bool)}, "is_write: shape"),
        ({"address": np.zeros(2), "is_write": np.zeros(2, bool)}, "address: type float64"),
        ({"address": np.array([1, -1]), "is_write": np.zeros(2, bool)}, "record 1: -1"),
        ({"address": np.zeros(2, int), "is_write": np.zeros(2, bool), "arrival_cycle": np.array([5, 4])}, "record 1: 4"),
        ({"address": np.array([{}], object), "is_write": np.zeros(1, bool)}, "not a readable .npz"),
    ],
)
def test_malformed_npz(tmp_path, arrays, message):
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(TraceError, match=message):
        read_trace(tmp_path / "bad.npz")


def test_unreadable_files(tmp_path):
    with pytest.raises(TraceError, match="cannot be read: No such file"):
        read_trace(tmp_path / "missing")
    (tmp_path / "binary").write_bytes(bytes(range(128, 256)))
    with pytest.raises(TraceError, match=r"neither \.npz nor text"):
        read_trace(tmp_path / "binary")
    (tmp_path / "cut.gz").write_bytes(gzip.compress(b"LD 0x40\n" * 1000)[:-9])
    with pytest.raises(TraceError, match=r"cut\.gz: cannot be read"):
        read_trace(tmp_path / "cut.gz")
    (tmp_path / "cut.npz").write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(TraceError, match=r"not a readable \.npz"):
        read_trace(tmp_path / "cut.npz")
