"""What single standards add to the controller: activation in two steps, data clocks, clock edges, refresh of some banks."""

from __future__ import annotations

import numpy as np
import pytest

from pimsim.dram.standard import Command, resolve_organisation, resolve_timing
from pimsim.engine.dram import ReplayResult, replay
from pimsim.errors import ConfigError
from pimsim.mapping.address import compose
from pimsim.spec.dram import ControllerSpec, DramSpec
from pimsim.trace.commands import write_csv

PRESETS = {
    "ddr5": ("16Gb_x8", "4800BN"),
    "gddr6": ("8Gb_x16", "14000_1350mV"),
    "hbm2": ("4Gb", "2000"),
    "hbm3": ("2Gb", "6400"),
    "lpddr5": ("8Gb_x16", "6400"),
}


def spec_of(standard: str, refresh: str = "off", ranks: int = 1, **timing: int) -> DramSpec:
    organisation, speed = PRESETS[standard]
    controller = ControllerSpec(refresh=refresh)
    return DramSpec(standard=standard, organisation=organisation, speed=speed, ranks=ranks, timing=timing, controller=controller)


def run(spec: DramSpec, requests: list[tuple], **kwargs) -> ReplayResult:
    """Requests are (bank, row, column, write)."""
    bank, row, column, write = (np.array(values) for values in zip(*requests, strict=True))
    address = compose(spec, channel=0, bank=bank, row=row, column=column)
    return replay(spec, address, write.astype(bool), log_commands=True, **kwargs)


def clocks(result: ReplayResult, *names: str) -> list[tuple[str, int]]:
    log = result.command_log
    issued = [(Command(code).name, int(clock)) for code, clock in zip(log["command"], log["cycle"], strict=True)]
    return [(name, clock) for name, clock in issued if not names or name in names]


def test_second_activate_waits_for_a_free_clock():
    """Hits of an open row take every clock that nCCDL leaves; ACT2 goes between them, well before its deadline."""
    hits = [(0, 5, 0, 0)] + [(4 * (i % 4), 5, i, 0) for i in range(8)]
    result = run(spec_of("lpddr5"), [*hits, (1, 7, 0, 0)])
    order = clocks(result, "ACT", "ACT2")
    assert len(order) == 10 and [name for name, _ in order] == ["ACT", "ACT2"] * 5
    assert all(0 < second - first <= 8 for (_, first), (_, second) in zip(order[::2], order[1::2], strict=True))


def test_second_activate_goes_at_its_deadline():
    """With one clock from ACT to ACT2 and a column command due in that clock, ACT2 wins and the column command waits."""
    requests = [(0, 5, 0, 0), (4, 5, 0, 0), (8, 5, 0, 0), (12, 5, 0, 0), (1, 5, 0, 0), (5, 5, 0, 0)]
    tight = clocks(run(spec_of("lpddr5", nAAD=1), requests), "ACT", "ACT2")
    assert all(second - first == 1 for (_, first), (_, second) in zip(tight[::2], tight[1::2], strict=True))


@pytest.mark.parametrize(("gap", "cas"), [(19, 1), (21, 2)])
def test_data_clock_expires(gap, cas):
    """After RD the data clock runs nCL + nBL + nWCKPST = 20 clocks: a read that follows sooner needs no second CAS."""
    result = run(spec_of("lpddr5"), [(0, 5, 0, 0), (0, 5, 1, 0)], arrival=np.array([0, 16 + gap]))
    assert result.commands["CAS_RD"] == cas
    assert clocks(result, "RD") == [("RD", 17), ("RD", 17 + gap + cas - 1)]


def test_write_and_read_start_the_data_clock_with_their_own_cas():
    result = run(spec_of("lpddr5"), [(0, 5, 0, 1), (0, 5, 1, 0)], arrival=np.array([0, 500]))
    assert result.commands["CAS_WR"] == 1 and result.commands["CAS_RD"] == 1


def test_precharge_may_take_the_falling_edge():
    """HBM3 in half clocks: ACT, RD and REF on odd ones only; some PRE of a busy run on even ones."""
    rng = np.random.default_rng(1)
    requests = [(int(b), int(r), 0, int(w)) for b, r, w in rng.integers(0, [16, 64, 2], (2000, 3))]
    log = run(spec_of("hbm3", refresh="on"), requests).command_log
    falling = {Command(code).name for code in log["command"][log["cycle"] % 2 == 0]}
    assert falling and falling <= {"PRE", "PREA"}


def test_timing_overrides_of_hbm3_are_clocks():
    base, later = run(spec_of("hbm3"), [(0, 1, 0, 0)]), run(spec_of("hbm3", nRCDRD=32), [(0, 1, 0, 0)])
    assert base.tck_ps == 312
    assert base.departed.tolist() == [1 + 2 * 31 + 2 + 2 * 22] and later.departed.tolist() == [base.departed[0] + 2]


def test_two_stack_identifiers_share_the_activation_window():
    """tFAW counts over both: the fifth activation waits although it goes to the other SID."""
    banks = [0, 4, 8, 12, 16]
    result = run(spec_of("hbm3", ranks=2, nFAW=60), [(bank, 1, 0, 0) for bank in banks])
    opened = [clock for _, clock in clocks(result, "ACT")]
    assert opened[4] - opened[0] == 2 * 60


@pytest.mark.parametrize(
    ("standard", "mode", "command"),
    [
        ("ddr5", "same-bank", "REFSB"),
        ("lpddr5", "per-bank", "REFPB"),
        ("hbm2", "per-bank", "REFPB"),
        ("hbm3", "per-bank", "REFPB"),
        ("gddr6", "per-bank", "REFPB"),
    ],
)
def test_some_banks_refresh_while_the_others_serve(standard, mode, command):
    """Every bank in turn; no all-bank command; a stream loses less than it does to all-bank refresh."""
    spec, every = spec_of(standard, mode), spec_of(standard, "on")
    organisation, timing = resolve_organisation(spec), resolve_timing(spec)
    count = 6 * timing["nREFI"] // timing.get("nBL", timing.get("nBL_min"))
    step = np.arange(count)
    groups = organisation.bankgroups
    bank = step % groups * organisation.banks_per_group
    address = compose(spec, channel=0, bank=bank, row=step // groups // organisation.columns, column=step // groups % organisation.columns)
    some, all_banks = (replay(one, address, np.zeros(count, bool), log_commands=True) for one in (spec, every))
    assert some.commands[command] > 0 and some.commands["REF"] == 0 and "PREA" not in some.commands
    log = some.command_log[some.command_log["command"] == Command[command]]
    turns = [(int(e["bankgroup"]), int(e["bank"])) for e in log]
    period = len(set(turns))
    assert period == {"ddr5": 4, "lpddr5": 8}.get(standard, 16)
    assert turns == [turns[i % period] for i in range(len(turns))]
    assert 0 < some.mean_read_latency_cycles < all_banks.mean_read_latency_cycles * 1.2
    assert some.max_read_latency_cycles < all_banks.max_read_latency_cycles


def test_refresh_that_a_standard_lacks_is_refused():
    spec = DramSpec(standard="ddr4", organisation="8Gb_x8", speed="3200AA", controller=ControllerSpec(refresh="per-bank"))
    with pytest.raises(ConfigError, match=r"dram\.controller\.refresh: 'per-bank': ddr4 has no such refresh \(allowed: on, off\)"):
        replay(spec, np.zeros(1, np.uint64), np.zeros(1, bool))


@pytest.mark.parametrize("standard", ["ddr5", "lpddr5"])
def test_rank_switch_takes_nbl_and_ncs(standard):
    """Reads in turn from two open rows of two ranks: a burst and the gap of the switch."""
    banks = resolve_organisation(spec_of(standard)).banks
    timing = resolve_timing(spec_of(standard))
    warm = [(0, 5, 0, 0), (banks, 5, 0, 0)]
    turns = [(banks * (i % 2), 5, 1 + i, 0) for i in range(6)]
    result = run(spec_of(standard, ranks=2), warm + turns, arrival=np.array([0, 0] + [400] * 6))
    reads = [clock for _, clock in clocks(result, "RD")][2:]
    assert len(reads) == 6 and min(np.diff(reads)) >= min(timing["nCCDL"], timing.get("nBL", 2) + timing["nCS"])
    log = result.command_log[result.command_log["command"] == Command.RD][2:]
    switched = np.diff(log["rank"]) != 0
    assert switched.any()
    assert np.diff(log["cycle"])[switched].min() == timing.get("nBL", timing.get("nBL_min")) + timing["nCS"]


def test_command_log_names_both_steps(tmp_path):
    spec = spec_of("lpddr5")
    write_csv(tmp_path / "log.csv", run(spec, [(0, 5, 0, 0)]).command_log, spec)
    lines = (tmp_path / "log.csv").read_text().splitlines()[1:]
    assert [line.split(",")[:2] for line in lines] == [["1", "ACT1"], ["2", "ACT2"], ["16", "CAS_RD"], ["17", "RD"]]


def test_energy_of_a_partial_refresh_is_not_made_up():
    """GDDR6 has public currents, but none for a per-bank refresh."""
    address = np.arange(5_000, dtype=np.uint64) * np.uint64(32)
    result = replay(spec_of("gddr6", "per-bank"), address, np.zeros(5_000, bool))
    assert result.commands["REFPB"] > 0 and result.energy_nj["refresh"] is None
    assert result.energy_nj["activate"] > 0
