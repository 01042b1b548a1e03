"""Requests with fences: clocks by hand, order, modes, refresh, and no illegal command on random requests."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pimsim.dram.standard import Command, common_timing, resolve_organisation
from pimsim.engine.dram import LOG_DTYPE
from pimsim.engine.fenced import DRAIN, FENCE, LEAVE_ROW, MODE_ROW, AllBankMode, Served, serve
from pimsim.errors import ConfigError
from pimsim.spec.dram import ControllerSpec, DramSpec
from pimsim.testing.legality import violations

ACT, PRE, RD, WR, REF = Command.ACT, Command.PRE, Command.RD, Command.WR, Command.REF
PRESETS = {"ddr4": ("8Gb_x8", "3200AA"), "gddr6": ("8Gb_x16", "14000_1350mV"), "hbm2": ("4Gb", "2000"), "hbm3": ("4Gb", "5200")}


def memory(standard: str = "hbm2", refresh: str = "off", queue: int = 32, **timing: int) -> DramSpec:
    organisation, speed = PRESETS[standard]
    controller = ControllerSpec(refresh=refresh, read_queue=queue)
    return DramSpec(standard=standard, organisation=organisation, speed=speed, timing=timing, controller=controller)


def run(spec: DramSpec, *requests: tuple, **kwargs) -> Served:
    return serve(spec, np.array(requests, np.int64), log_commands=True, **kwargs)


def log(served: Served) -> list[tuple[int, str, int]]:
    return [(clock, Command(command).name, bank) for clock, command, bank, _ in served.log.tolist()]


def test_one_read_by_hand() -> None:
    """Taken at 0, ACT at 1, RD nRCDRD = 14 later, its last beat nCL + nBL = 16 later, handed on one clock later; clocks count from 0."""
    served = run(memory(), (RD, 3, 5, 0, 0))
    assert log(served) == [(1, "ACT", 3), (15, "RD", 3)]
    assert served.cycles == 15 + 14 + 2 + 1 + 1
    assert served.counts == {"ACT": 1, "RD": 1} == served.array
    assert run(memory(), (WR, 3, 5, 0, 0)).cycles == 13 + 5 + 2 + 1


def test_columns_of_open_rows_go_first() -> None:
    """The second request waits for its row; the third, to the open row, passes it."""
    served = run(memory(), (RD, 0, 1, 0, 0), (RD, 0, 2, 0, 0), (RD, 0, 1, 1, 0))
    assert [row for _, command, _, row in served.log.tolist() if command == RD] == [1, 1, 2]
    assert log(served)[:4] == [(1, "ACT", 0), (15, "RD", 0), (19, "RD", 0), (35, "PRE", 0)]


def test_a_fence_holds_back_what_follows() -> None:
    """With a fence behind the second request the third may not pass it; only at the head of the queue may a fence be looked past."""
    served = run(memory(), (RD, 0, 1, 0, 0), (RD, 0, 2, 0, FENCE), (RD, 0, 1, 1, 0))
    assert [row for _, command, _, row in served.log.tolist() if command == RD] == [1, 2, 1]
    served = run(memory(), (RD, 0, 1, 0, FENCE), (RD, 4, 1, 0, FENCE), (RD, 8, 1, 0, 0))
    assert log(served)[:4] == [(1, "ACT", 0), (15, "RD", 0), (16, "ACT", 4), (20, "ACT", 8)]  # a fence opens its row at the head only
    assert log(served)[4:6] == [(30, "RD", 4), (34, "RD", 8)]
    served = run(memory(), (RD, 0, 1, 0, FENCE), (RD, 4, 1, 0, 0))
    assert log(served)[1] == (5, "ACT", 4)


def test_a_burst_keeps_its_order() -> None:
    served = run(memory(), (WR, 0, 1, 3, 0), (RD, 0, 1, 3, 0), (WR, 0, 1, 4, 0))
    assert [name for _, name, _ in log(served) if name in ("RD", "WR")] == ["WR", "WR", "RD"]
    served = run(memory(nRCDWR=20), (WR, 0, 1, 3, 0), (RD, 0, 1, 3, 0))
    assert [name for _, name, _ in log(served) if name in ("RD", "WR")] == ["WR", "RD"]  # though RD would be legal earlier


def test_a_drained_request_waits_for_the_end() -> None:
    served = run(memory(), (RD, 0, 1, 0, 0), (RD, 0, 1, 1, DRAIN))
    first, second = (clock for clock, name, _ in log(served) if name == "RD")
    closed = [clock for clock, name, _ in log(served) if name == "PRE"]
    assert (first, second) == (15, 15 + 17 + 1 + 1)  # ended at 32, taken at 33
    assert closed == [34 + 5]
    slow = run(memory(nCL=30), (RD, 0, 1, 0, 0), (RD, 0, 1, 1, DRAIN))
    assert [clock for clock, name, _ in log(slow) if name == "RD"] == [15, 50 + 14]  # nobody wants the row at 35: closed, and opened again


def test_the_queue_limits_what_is_seen() -> None:
    requests = [(RD, bank, 0, 0, 0) for bank in (0, 4, 8, 12)]
    one, all_of_them = run(memory(queue=1), *requests), run(memory(queue=4), *requests)
    assert [name for _, name, _ in log(one)][:4] == ["ACT", "RD", "ACT", "RD"]
    assert all_of_them.cycles < one.cycles


MODE = AllBankMode((0, 1), (0, 1), banks_per_unit=2, column_gap=9)
ENTER = [(WR, 0, MODE_ROW, 0, 0), (WR, 1, MODE_ROW, 0, FENCE)]
LEAVE = [(WR, 0, LEAVE_ROW, 0, 0), (WR, 1, LEAVE_ROW, 0, FENCE)]


def test_modes_space_columns_and_hold_banks_closed() -> None:
    reads = [(RD, 0, 5, column, 0) for column in range(4)]
    served = run(memory(), *reads, (RD, 0, 5, 4, FENCE), *ENTER, *reads, (RD, 0, 5, 4, FENCE), *LEAVE, (RD, 6, 1, 0, 0), mode=MODE)
    clocks = [clock for clock, command, _, row in served.log.tolist() if command == RD and row == 5]
    assert np.diff(clocks[:5]).tolist() == [4] * 4 and np.diff(clocks[5:]).tolist() == [9] * 4
    left = [clock for clock, command, _, row in served.log.tolist() if command == PRE and row == LEAVE_ROW]
    opened = [clock for clock, command, bank, _ in served.log.tolist() if command == ACT and bank == 6]
    assert opened[0] > left[1] > left[0]
    assert served.array["RD"] == 11 and served.counts["WR"] == 4 and "WR" not in served.array


def test_a_bank_beyond_the_units_is_never_opened_in_all_bank_mode() -> None:
    with pytest.raises(ValueError, match=r"request 2 .*can never be served"):
        run(memory(), *ENTER, (RD, 6, 1, 0, 0), mode=MODE)
    with pytest.raises(ValueError, match=r"request 2 .*can never be served"):
        run(memory(refresh="on"), *ENTER, (RD, 6, 1, 0, 0), mode=MODE)


@pytest.mark.parametrize("idle", [0, 1, 2])
def test_ranks_are_refreshed_in_turn(idle: int) -> None:
    reads = [(RD, 0, 0, n % 32, 0) for n in range(4000)]
    served = run(memory(refresh="on", nREFI=3001), *reads, idle_ranks=idle)
    here, other = ([clock for clock, command, b, _ in served.log.tolist() if command == REF and b == bank] for bank in (-1, -2))
    apart = 3001 // (1 + idle)
    assert len(here) == (served.cycles - apart) // 3001 + 1
    assert all(0 <= clock - (apart + 3001 * n) <= 4 + 5 + 14 for n, clock in enumerate(here))  # RD just before, nRTPL, nRP
    assert other == [apart * (1 + n % idle + 1) + 3001 * (n // idle) for n in range(len(other))] if idle else other == []
    assert served.counts["ACT"] == 1 + len(here)


def test_a_refresh_that_yields_waits_for_a_pause() -> None:
    """Reads each nCCDL = 4 clocks keep the bank from closing (nRTPL = 5); with 3 it closes between two of them."""
    reads = [(RD, 0, 0, n % 32, 0) for n in range(2000)]
    assert "REF" not in run(memory(refresh="on"), *reads, refresh_yields=True).counts
    assert run(memory(refresh="on", nRTPL=3), *reads, refresh_yields=True).counts["REF"] == 2
    assert run(memory(refresh="on"), *reads).counts["REF"] == 2


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(["ddr4", "gddr6"]), st.integers(1, 64), st.integers(1, 300), st.floats(0, 0.5), st.integers(0, 2**32 - 1))
def test_no_illegal_command(standard: str, queue: int, count: int, fences: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    spec = memory(standard, "on", queue, nREFI=max(common_timing(memory(standard))["nRFC"] * 2, 500))
    organisation = resolve_organisation(spec)
    kind = np.where(rng.random(count) < 0.5, int(RD), int(WR))
    bank, row = rng.integers(0, organisation.banks, count), rng.integers(0, 3, count)
    requests = np.stack([kind, bank, row, rng.integers(0, 4, count), FENCE * (rng.random(count) < fences)], axis=1)
    served = serve(spec, requests, refresh_yields=bool(seed % 2), log_commands=True)
    assert (served.counts["RD"] if (kind == RD).any() else 0) == (kind == RD).sum()
    per_group = organisation.banks_per_group
    full = np.zeros(len(served.log), LOG_DTYPE)
    full["cycle"], full["command"], full["row"] = served.log[:, 0], served.log[:, 1], served.log[:, 3]
    full["bankgroup"], full["bank"] = np.maximum(served.log[:, 2], 0) // per_group, np.maximum(served.log[:, 2], 0) % per_group
    assert violations(full, spec) == []
    ends = [k for k in range(count) if requests[k, 4]]
    columns = served.log[np.isin(served.log[:, 1], (RD, WR))]
    start = 0
    for end in [*ends, count - 1]:  # every group is served whole before the next begins
        group, got = requests[start : end + 1, :3], columns[start : end + 1][:, [1, 2, 3]]
        assert sorted(group.tolist()) == sorted(got.tolist())
        start = end + 1


def test_commands_on_one_edge_only() -> None:
    served = run(memory("hbm3"), *[(RD, bank, 0, 0, 0) for bank in range(8)])
    assert (served.log[:, 0] % 2 == 1).all()


def test_refusals() -> None:
    with pytest.raises(ValueError, match="request 1: command 0"):
        run(memory(), (RD, 0, 0, 0, 0), (ACT, 0, 0, 0, 0))
    with pytest.raises(ValueError, match=r"bank 16: must be RD or WR at a bank in 0\.\.15"):
        run(memory(), (RD, 16, 0, 0, 0))
    with pytest.raises(ValueError, match="shape"):
        serve(memory(), np.zeros((3, 4), np.int64))
    with pytest.raises(ConfigError, match="lpddr5"):
        serve(DramSpec(standard="lpddr5", organisation="8Gb_x16", speed="6400"), np.zeros((0, 5), np.int64))
    assert serve(memory(), np.zeros((0, 5), np.int64)).cycles == 0
