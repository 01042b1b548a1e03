"""Bandwidth-loss attribution: every clock once, and the cause that was planted first; merged reads keep their clocks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pimsim.dram.standard import common_timing, resolve_organisation
from pimsim.engine.dram import ReplayResult, replay
from pimsim.mapping.address import compose
from pimsim.spec.dram import ControllerSpec, DramSpec
from pimsim.testing.legality import standards

STEP = np.arange(4000)


def ddr4(**controller) -> DramSpec:
    return DramSpec(standard="ddr4", organisation="8Gb_x8", speed="3200AA", controller=ControllerSpec(**controller))


def run(spec: DramSpec, bank, row, column, write=False, interval: int = 0) -> ReplayResult:
    where = np.broadcast_arrays(bank, row, column, STEP)[:3]
    address = compose(spec, channel=0, bank=where[0], row=where[1], column=where[2])
    return replay(spec, address, np.broadcast_to(write, len(address)), interval=interval, why=True)


RANDOM_BANK, RANDOM_ROW = np.random.default_rng(1).integers(0, 16, len(STEP)), np.random.default_rng(2).integers(0, 4096, len(STEP))
PLANTED = {
    "row cycle": lambda spec: run(spec, 0, STEP % 4096, 0),
    "activation window": lambda spec: run(spec, RANDOM_BANK, RANDOM_ROW, 0),
    "column spacing": lambda spec: run(spec, STEP % 4, 0, STEP // 4 % 128),  # hits in the four banks of one bank group
    "turn-around": lambda spec: run(spec, STEP % 4 * 4, 0, STEP // 4 % 128, STEP // 16 % 2 == 1),
    "idle": lambda spec: run(spec, RANDOM_BANK, RANDOM_ROW, 0, interval=200),
}


@pytest.mark.parametrize("cause", sorted(PLANTED))
def test_planted_cause_is_named_first(cause):
    loss = PLANTED[cause](ddr4(refresh="off")).bandwidth_loss
    assert max((clocks, name) for name, clocks in loss.items() if name != "data")[1] == cause, loss
    assert loss["refresh"] == 0
    assert PLANTED[cause](ddr4()).bandwidth_loss["refresh"] > 0


def test_refresh_costs_what_the_closed_form_says():
    """Hits over all bank groups: each refresh takes PREA to ACT (nRP + nRFC), nRCD, and the reads before PREA (nRTP)."""
    spec = ddr4()
    t = common_timing(spec)
    result = run(spec, STEP % 4 * 4, 0, STEP // 4 % 128)
    each = result.bandwidth_loss["refresh"] / result.commands["REF"]
    assert each == pytest.approx(t["nRP"] + t["nRFC"] + t["nRCD"], abs=t["nRTP"] + t["nBL"])
    assert result.bandwidth_loss["data"] == len(STEP) * t["nBL"]


@st.composite
def any_spec(draw: st.DrawFn) -> DramSpec:
    name = draw(st.sampled_from(sorted(standards())))
    standard = standards()[name]
    modes = ["on", "off", *standard.banks_refreshed]
    return DramSpec(
        standard=name,
        organisation=draw(st.sampled_from(sorted(standard.organisations))),
        speed=draw(st.sampled_from(sorted(standard.speeds))),
        channels=draw(st.integers(1, 2)),
        controller=ControllerSpec(
            scheduler=draw(st.sampled_from(["frfcfs", "fcfs"])),
            row_policy=draw(st.sampled_from(["open", "closed", "auto-precharge"])),
            refresh=draw(st.sampled_from(modes)),
            merge_reads=draw(st.booleans()),
        ),
    )


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(any_spec(), st.integers(0, 1000), st.sampled_from([64, 4096, 1 << 22]), st.sampled_from([0, 0, 25, 90]))
def test_every_clock_is_charged_once(spec, seed, lines, interval):
    rng = np.random.default_rng(seed)
    organisation = resolve_organisation(spec)
    n = 400
    address = (rng.integers(0, lines, n) * organisation.burst_bytes).astype(np.uint64)
    is_write = rng.random(n) < rng.choice([0, 0.3])
    result = replay(spec, address, is_write, interval=interval, log_commands=True, why=True)
    loss = result.bandwidth_loss
    columns = np.isin(result.command_log["command"], (3, 4, 5, 6))
    last_burst = result.command_log["cycle"][columns].max(initial=0) + 200
    assert sum(loss.values()) % spec.channels == 0
    assert result.cycles <= sum(loss.values()) // spec.channels <= max(result.cycles, last_burst)
    assert min(loss.values()) >= 0 and loss["data"] == columns.sum() * common_timing(spec)["nBL"]


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(0, 1000), st.sampled_from([8, 64, 512]), st.sampled_from([0, 5, 40]), st.sampled_from(["frfcfs", "fcfs"]))
def test_merged_reads_are_served_with_the_read_they_join(seed, lines, interval, scheduler):
    rng = np.random.default_rng(seed)
    line = rng.integers(0, lines, 500)
    is_write = rng.random(500) < rng.choice([0, 0.1])
    result = replay(
        ddr4(merge_reads=True, scheduler=scheduler), line.astype(np.uint64) * np.uint64(64), is_write, interval=interval, log_commands=True
    )
    issued = sum(result.commands.get(name, 0) for name in ("RD", "WR"))
    assert issued + result.merged + result.forwarded + result.coalesced == 500
    assert result.merged > 0 or lines > 8
    reads = ~is_write
    latency = (result.departed - result.arrived)[reads]
    assert (latency > 0).all() and result.mean_read_latency_cycles == pytest.approx(latency.mean())
    assert result.max_read_latency_cycles == latency.max()
    ends = set(result.departed[result.command_log["request"][result.command_log["command"] == 3]].tolist())
    forwarded = latency == 1
    assert set(result.departed[reads][~forwarded].tolist()) <= ends
