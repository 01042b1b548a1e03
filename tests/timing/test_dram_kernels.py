"""The open-page kernel against the general one, parts against one piece, threads against one thread: the same clocks."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pimsim.dram.standard import common_timing, resolve_organisation, resolve_timing
from pimsim.engine.channel import GeneralChannel, OpenPageChannel, channel
from pimsim.engine.dram import ReplayResult, replay, replay_parts
from pimsim.engine.tables import lower
from pimsim.spec.dram import ControllerSpec, DramSpec
from pimsim.testing.legality import standards


@st.composite
def open_page_specs(draw: st.DrawFn) -> DramSpec:
    name = draw(st.sampled_from(["ddr4", "ddr4", "hbm2", "ddr5", "gddr6"]))
    standard = standards()[name]
    low, high = sorted((draw(st.floats(0, 1)), draw(st.floats(0, 1))))
    spec = DramSpec(
        standard=name,
        organisation=draw(st.sampled_from(sorted(standard.organisations))),
        speed=draw(st.sampled_from(sorted(standard.speeds))),
        ranks=draw(st.sampled_from([1, 1, 2])) if name.startswith("ddr") else 1,
        address_map=draw(st.sampled_from(["RoBaRaCoCh", "bankgroup-interleave"])),
        controller=ControllerSpec(
            scheduler=draw(st.sampled_from(["frfcfs", "frfcfs-row-hit"])),
            refresh=draw(st.sampled_from(["on", "off"])),
            read_queue=draw(st.sampled_from([1, 2, 5, 32, 48])),
            write_queue=draw(st.sampled_from([1, 2, 5, 32, 48])),
            write_low_watermark=low,
            write_high_watermark=high,
        ),
    )
    timing = resolve_timing(spec)
    scaled = draw(st.lists(st.sampled_from(sorted(set(timing) - {"tCK_ps", "nREFI", "nRFC", "nBL", "nCL", "nCWL"})), max_size=3))
    overrides = {key: max(1, int(timing[key] * draw(st.floats(0.3, 3)))) for key in scaled}
    overrides["nREFI"] = draw(st.integers(common_timing(spec)["nRFC"] + 3 * timing["nRC"] + 600, timing["nREFI"]))
    return spec.model_copy(update={"timing": overrides})


def trace(spec: DramSpec, kind: str, seed: int, requests: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    organisation = resolve_organisation(spec)
    lines = organisation.total_bytes // organisation.burst_bytes
    where = {
        "random": lambda: rng.integers(0, lines, requests),
        "stream": lambda: np.arange(requests) % lines,
        "few": lambda: rng.integers(0, 64, requests) * (lines // 64),
        "close": lambda: rng.integers(0, 512, requests),
        "mixed": lambda: np.where(rng.random(requests) < 0.7, rng.integers(0, 256, requests), rng.integers(0, lines, requests)),
    }[kind]()
    return (where * organisation.burst_bytes).astype(np.uint64), rng.random(requests) < rng.choice([0, 0, 0.05, 0.3, 1])


KINDS = ["random", "random", "stream", "few", "close", "mixed"]


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(open_page_specs(), st.sampled_from(KINDS), st.integers(0, 1000), st.sampled_from([0, 0, 3, 20, 33, 50, 90, 400]), st.booleans())
def test_open_page_kernel_equals_the_general_one(spec, kind, seed, interval, jitter):
    """Logging takes the general kernel, not logging the open-page one."""
    address, is_write = trace(spec, kind, seed, 700)
    arrival = None
    if jitter and interval:
        arrival = np.cumsum(np.random.default_rng(seed).integers(0, 2 * interval, len(address)))
    tables = lower(spec)
    assert isinstance(channel(tables), OpenPageChannel) and isinstance(channel(tables, log_commands=True), GeneralChannel)
    fast = replay(spec, address, is_write, arrival, interval)
    general = replay(spec, address, is_write, arrival, interval, log_commands=True)
    assert_same(fast, general)
    assert (fast.arrived == general.arrived).all() and (fast.departed == general.departed).all()


def assert_same(one: ReplayResult, other: ReplayResult) -> None:
    assert (one.per_bank == other.per_bank).all() and (one.channel_cycles == other.channel_cycles).all()
    skip = {"arrived", "departed", "per_bank", "channel_cycles", "simulate_seconds", "command_log"}
    for name in set(ReplayResult.__dataclass_fields__) - skip:
        assert getattr(one, name) == getattr(other, name), name


def ddr4(**controller) -> DramSpec:
    channels = controller.pop("channels", 1)
    return DramSpec(
        standard="ddr4", organisation="8Gb_x8", speed="3200AA", channels=channels, controller=ControllerSpec(**controller)
    )


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("scheduler", ["frfcfs", "fcfs"])
@pytest.mark.parametrize(("interval", "arrivals"), [(0, False), (45, False), (0, True)])
def test_parts_equal_one_piece(channels, scheduler, interval, arrivals):
    """Also parts of one request, empty ones, and ones that leave a channel out."""
    spec = ddr4(channels=channels, scheduler=scheduler)
    address, is_write = trace(spec, "mixed", 5, 3000)
    is_write = np.random.default_rng(1).random(len(address)) < 0.2
    arrival = np.cumsum(np.random.default_rng(2).integers(0, 60, len(address))) if arrivals else None
    cuts = [0, 1, 2, 2, 7, 500, 501, 1999, 3000]
    parts = ((address[a:b], is_write[a:b], arrival[a:b] if arrivals else None) for a, b in pairwise(cuts))
    whole, pieces = replay(spec, address, is_write, arrival, interval), replay_parts(spec, parts, interval)
    assert_same(whole, pieces)
    assert len(pieces.departed) == 0


def test_no_parts_and_an_empty_trace_agree():
    none = np.empty(0, np.uint64)
    assert_same(replay(ddr4(), none, none.astype(bool)), replay_parts(ddr4(), iter(())))


@pytest.mark.parametrize("scheduler", ["frfcfs", "fcfs"])
def test_threads_change_nothing(scheduler):
    spec = ddr4(channels=5, scheduler=scheduler)
    address, _ = trace(spec, "random", 3, 20_000)
    is_write = np.random.default_rng(1).random(len(address)) < 0.3
    one, two = replay(spec, address, is_write), replay(spec, address, is_write, threads=3)
    assert_same(one, two)
    assert (one.departed == two.departed).all()
    assert_same(one, replay_parts(spec, ((a, w, None) for a, w in zip([address], [is_write], strict=True)), threads=2))
