"""Command legality by the independent checker: no violation on random configurations and traces, and the checker has teeth."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pimsim.dram.standard import Command, common_timing, resolve_organisation, resolve_timing
from pimsim.engine.dram import replay
from pimsim.spec.dram import ControllerSpec, DramSpec
from pimsim.testing.legality import missing_refreshes, standards, violations


@st.composite
def specs(draw: st.DrawFn) -> DramSpec:
    name = draw(st.sampled_from(sorted(standards())))
    standard = standards()[name]
    low, high = sorted((draw(st.floats(0, 1)), draw(st.floats(0, 1))))
    controller = ControllerSpec(
        scheduler=draw(st.sampled_from(["frfcfs", "frfcfs-row-hit", "fcfs"])),
        row_policy=draw(st.sampled_from(["open", "closed", "auto-precharge"])),
        refresh=draw(st.sampled_from(["on", "on", "off", *standard.banks_refreshed])),
        read_queue=draw(st.integers(1, 48)),
        write_queue=draw(st.integers(1, 48)),
        write_low_watermark=low,
        write_high_watermark=high,
    )
    speed = draw(st.sampled_from(sorted(standard.speeds)))
    organisation = draw(st.sampled_from(sorted(standard.organisations)))
    spec = DramSpec(
        standard=name,
        organisation=organisation,
        speed=speed,
        ranks=draw(st.integers(1, 2)),
        channels=draw(st.integers(1, 3)),
        controller=controller,
    )
    timing, ticks = resolve_timing(spec), standard.ticks_per_clock
    fixed = {"tCK_ps", "nREFI", "nREFIpb", "nREFIsb", "nRFC", "nRFCab", "nBL", "nBL_min", "nCL", "nCWL"}
    scaled = draw(st.lists(st.sampled_from(sorted(set(timing) - fixed)), max_size=3))
    overrides = {key: max(1, int(timing[key] * draw(st.floats(0.3, 3))) // ticks) for key in scaled}
    least = common_timing(spec)["nRFC"] + 3 * timing["nRC"] + 600
    overrides["nREFI"] = draw(st.integers(least // ticks, max(least, timing["nREFI"]) // ticks))
    return spec.model_copy(update={"timing": overrides})


def _trace(spec: DramSpec, kind: str, seed: int, requests: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    organisation = resolve_organisation(spec)
    lines = organisation.total_bytes // organisation.burst_bytes
    where = {
        "random": lambda: rng.integers(0, lines, requests),
        "stream": lambda: np.arange(requests) % lines,
        "few": lambda: rng.integers(0, 64, requests) * (lines // 64),
        "close": lambda: rng.integers(0, 512, requests),
        "group": lambda: rng.integers(0, lines // organisation.bankgroups, requests) * organisation.bankgroups,
    }[kind]()
    return (where * organisation.burst_bytes).astype(np.uint64), rng.random(requests) < rng.choice([0, 0.3, 1])


KINDS = st.sampled_from(["random", "stream", "few", "close"])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(specs(), KINDS, st.integers(0, 1000), st.sampled_from([0, 0, 7, 40]))
def test_no_command_breaks_the_rules(spec, kind, seed, interval):
    _replay_is_legal(spec, kind, seed, interval)


@pytest.mark.slow
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=False)
@given(specs(), KINDS, st.integers(0, 1000), st.sampled_from([0, 0, 7, 40]))
def test_no_command_breaks_the_rules_in_many_configurations(spec, kind, seed, interval):
    _replay_is_legal(spec, kind, seed, interval)


def _replay_is_legal(spec, kind, seed, interval):
    address, is_write = _trace(spec, kind, seed, 500)
    result = replay(spec, address, is_write, interval=interval, log_commands=True)
    assert violations(result.command_log, spec) == []
    columns = sum(result.commands.get(name, 0) for name in ("RD", "RDA", "WR", "WRA"))
    assert columns + result.forwarded + result.coalesced == len(address)
    assert result.row_hits + result.row_misses + result.row_conflicts == columns
    assert (result.departed[~is_write] > result.arrived[~is_write]).all()
    if spec.controller.refresh != "off":
        assert missing_refreshes(result.command_log, spec, int(result.channel_cycles.min())) == []


EVERY = ["nCL", "nRP", "nRAS", "nRC", "nWR", "nCWL", "nCCDL", "nWTRS", "nWTRL", "nRRDL"]
TIGHT = {
    "ddr4": ("8Gb_x8", "3200AA", ["nBL", "nRCD", "nRTP", "nCCDS", "nRRDS", "nFAW", "nRFC"]),
    "ddr5": ("16Gb_x8", "4800BN", ["nBL", "nRCD", "nRTP", "nCCDS", "nRRDS", "nFAW", "nPPD", "nRFC"]),
    "gddr6": ("8Gb_x16", "14000_1350mV", ["nRCDRD", "nRCDWR", "nRRDS", "nRFCab"]),
    "hbm2": ("4Gb", "2000", ["nRCDRD", "nRCDWR", "nRRDS", "nRFC"]),
    "hbm3": ("2Gb", "6400", ["nRCDRD", "nRCDWR", "nRTP", "nRRDS", "nFAW", "nRFC", "nRTW", "nPPD"]),
    "lpddr5": ("8Gb_x16", "6400", ["nRCD", "nRRDS", "nFAW", "nRFC", "nPPD"]),
}
NEVER_BINDS = {
    "gddr6": {"nRC"},  # nRAS + nRP is longer
    "hbm3": {"nCL"},  # nRTW stands for it
    "lpddr5": {"nWTRS"},  # the data clock has stopped by then, and its CAS takes the first legal clock
}


@pytest.mark.parametrize("name", sorted(TIGHT))
def test_checker_has_teeth(name):
    """A log that is tight against a parameter is flagged when the parameter is longer by one clock, and only then."""
    organisation, speed, further = TIGHT[name]
    spec = DramSpec(standard=name, organisation=organisation, speed=speed, address_map="bankgroup-interleave")
    logs = []
    for kind, seed in (("random", 1), ("close", 2), ("few", 3), ("stream", 4), ("group", 5)):
        rng = np.random.default_rng(seed)
        address, _ = _trace(spec, kind, seed, 1500)
        logs.append(replay(spec, address, rng.random(1500) < 0.3, log_commands=True).command_log)
    timing, tick = resolve_timing(spec), standards()[name].ticks_per_clock
    assert all(violations(log, spec) == [] for log in logs)
    keys = [key for key in (*EVERY, *further) if key not in NEVER_BINDS.get(name, ())]
    toothless = [key for key in keys if not any(violations(log, spec, timing | {key: timing[key] + tick}, limit=1) for log in logs)]
    assert toothless == []


@pytest.mark.parametrize("damage", ["early", "closed", "open"])
def test_checker_sees_state_and_time(damage):
    spec = DramSpec(standard="ddr4", organisation="8Gb_x8", speed="3200AA")
    log = replay(spec, np.array([0, 64], np.uint64), np.zeros(2, bool), log_commands=True).command_log.copy()
    assert [Command(code).name for code in log["command"]] == ["ACT", "RD", "RD"]
    if damage == "early":
        log["cycle"][1] -= 1
        assert [v.earliest for v in violations(log, spec)] == [23]
    elif damage == "closed":
        assert "while row None is open" in violations(log[1:], spec)[0].rule
    else:
        again = log[[0, 0]].copy()
        again["cycle"][1] += 10_000
        assert [v.rule for v in violations(again, spec)] == ["ACT on an open bank"]
