"""In-order command streams: clocks by hand, all-bank commands, refresh, and refusals."""

from __future__ import annotations

import numpy as np
import pytest

from pimsim.dram.standard import Command
from pimsim.engine.stream import issue_stream
from pimsim.errors import ConfigError
from pimsim.spec.dram import ControllerSpec, DramSpec

ACT, PRE, PREA, RD, WR, REF = Command.ACT, Command.PRE, Command.PREA, Command.RD, Command.WR, Command.REF


def hbm2(refresh: str = "off", **timing: int) -> DramSpec:
    return DramSpec(standard="hbm2", organisation="4Gb", speed="2000", timing=timing, controller=ControllerSpec(refresh=refresh))


def clocks(spec: DramSpec, *commands: tuple, **kwargs) -> list[int]:
    return issue_stream(spec, np.array(commands, np.int64), **kwargs).clocks.tolist()


def test_one_bank_by_hand():
    """ACT takes two clocks: RD at 1 + RCD 14; PRE at max(1 + RAS 34, RD + RTP); ACT at RC 48."""
    got = clocks(hbm2(), (ACT, 3, 5), (RD, 3, 5), (RD, 3, 5), (PRE, 3, 5), (ACT, 3, 6), (WR, 3, 6))
    assert got == [0, 15, 19, 35, 48, 48 + 13]


def test_all_banks_at_once_count_as_one_activation():
    """Sixteen single activations wait for the window; one all-bank activation does not fill it."""
    single = clocks(hbm2(nFAW=40), *((ACT, bank, 0) for bank in range(16)))
    assert single[4] == 40 and single[15] == 132
    together = clocks(hbm2(nFAW=100), *[(ACT, -1, 0), (RD, -1, 0), (PRE, -1, 0)] * 4, (ACT, -1, 0))
    assert together[3] == 48  # nRC, not four activations a bank group
    assert together[12] == 192


def test_all_bank_command_waits_for_the_slowest_bank():
    got = clocks(hbm2(), (ACT, 0, 1), (PRE, 0, 1), (ACT, -1, 2))
    assert got == [0, 35, 49 - 1]
    late = clocks(hbm2(), (ACT, 0, 1), (WR, 0, 1), (PRE, -1, 0))
    assert late[2] == late[1] + 5 + 2 + 16


def test_gaps():
    reads = [(ACT, 0, 0), *[(RD, 0, 0)] * 3]
    assert np.diff(clocks(hbm2(), *reads)[1:]).tolist() == [4, 4]
    assert np.diff(clocks(hbm2(), *reads, column_gap=9)[1:]).tolist() == [9, 9]
    assert np.diff(clocks(hbm2(), *reads, column_gap=1)[1:]).tolist() == [4, 4]
    assert clocks(hbm2(), (ACT, 0, 0, 1), (RD, 0, 0, 30), begin=7) == [7, 37]


def test_cycles_count_the_last_data():
    assert issue_stream(hbm2(), np.array([[ACT, 0, 0], [RD, 0, 0]])).cycles == 15 + 14 + 2
    assert issue_stream(hbm2(), np.array([[ACT, 0, 0], [WR, 0, 0]])).cycles == 13 + 5 + 2
    assert issue_stream(hbm2(), np.empty((0, 3), np.int64)).cycles == 0


def test_refresh_closes_and_opens_again():
    """Due at 3900: PREA, REF nRP later, ACT nRFC later (less its second clock), the stream goes on."""
    stream = [(ACT, 2, 7), (ACT, 9, 8), *[(RD, 2, 7)] * 1000]
    result = issue_stream(hbm2("on"), np.array(stream))
    assert result.counts == {"ACT": 4, "PREA": 1, "RD": 1000, "REF": 1}
    gap = np.diff(result.clocks[2:])
    before = result.clocks[2:][gap.argmax()]
    assert before < 3900 and gap[gap != 4].size == 1
    close = max(3900, before + 5)  # nRTPL
    reopened = close + 14 + 260 - 1  # nRP, nRFC to the last cycle of ACT
    assert result.clocks[2:][gap.argmax() + 1] == reopened + 15
    assert issue_stream(hbm2(), np.array(stream)).counts["ACT"] == 2


def test_refresh_opens_all_banks_with_one_command():
    stream = [(ACT, -1, 7), *[(RD, -1, 7)] * 3000]
    result = issue_stream(hbm2("on"), np.array(stream))
    assert result.counts["REF"] >= 3 and result.counts["ACT"] == 1 + result.counts["REF"]


@pytest.mark.parametrize(
    ("commands", "message"),
    [
        ([(RD, 0, 0)], "command 0 .RD bank 0.: the bank is closed"),
        ([(ACT, 0, 0), (ACT, 0, 1)], "command 1 .ACT bank 0.: the bank is open"),
        ([(ACT, 0, 0), (ACT, -1, 1)], "command 1 .ACT bank -1.: the bank is open"),
        ([(ACT, 0, 0), (RD, -1, 0)], "the bank is closed"),
        ([(99, 0, 0)], "unknown code 99"),
        ([(ACT, 16, 0)], "bank 16: must be -1 or in 0..15"),
        ([(ACT, 0)], "shape"),
    ],
)
def test_impossible_streams_are_refused(commands, message):
    with pytest.raises(ValueError, match=message):
        issue_stream(hbm2(), np.array(commands))


def test_negative_gap():
    with pytest.raises(ConfigError, match="column_gap"):
        issue_stream(hbm2(), np.array([[ACT, 0, 0]]), column_gap=-1)
