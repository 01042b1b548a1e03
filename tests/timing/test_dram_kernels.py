"""The open-page kernel against the general one, parts against one piece, threads against one thread: the same clocks."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pimsim.dram.standard import common_timing, resolve_organisation, resolve_timing
from pimsim.engine.channel import GeneralChannel, OpenPageChannel, Requests, channel
from pimsim.engine.dram import ReplayResult, replay, replay_parts
from pimsim.engine.pairs import pair_tables
from pimsim.engine.tables import lower
from pimsim.kernels.run_ahead import run_ahead_fits
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


def low_load_spec(rng: np.random.Generator) -> DramSpec:
    """Half of them DDR4, where reads run ahead."""
    name = str(rng.choice(["ddr4", "ddr4", "ddr4", "ddr4", "ddr5", "hbm2", "gddr6", "lpddr5"]))
    standard = standards()[name]
    low, high = sorted([rng.choice([0.2, 0.2, rng.random()]), rng.choice([0.8, 0.8, rng.random()])])
    spec = DramSpec(
        standard=name,
        organisation=str(rng.choice(sorted(standard.organisations))),
        speed=str(rng.choice(sorted(standard.speeds))),
        ranks=int(rng.choice([1, 1, 2, 4])) if name.startswith("ddr") else 1,
        address_map=str(rng.choice(["RoBaRaCoCh", "bankgroup-interleave"])),
        controller=ControllerSpec(
            scheduler=str(rng.choice(["frfcfs", "frfcfs", "frfcfs-row-hit"])),
            refresh=str(rng.choice(["on", "off"])),
            read_queue=int(rng.choice([5, 8, 32, 48])),
            write_queue=int(rng.choice([2, 8, 32, 48])),
            write_low_watermark=float(low),
            write_high_watermark=float(high),
        ),
    )
    timing = resolve_timing(spec)
    overrides = {"nREFI": int(rng.integers(common_timing(spec)["nRFC"] + 3 * timing["nRC"] + 600, timing["nREFI"]))}
    if rng.random() < 0.5:
        names = sorted(set(timing) - {"tCK_ps", "nREFI", "nRFC", "nBL", "nCL", "nCWL"})
        overrides |= {str(key): max(1, int(timing[key] * rng.uniform(0.3, 3))) for key in rng.choice(names, 3, replace=False)}
    return spec.model_copy(update={"timing": overrides})


def low_load_requests(rng: np.random.Generator, tables, requests: int) -> Requests:
    """Few or no writes at 8 to 200 clocks from one request to the next: over all banks, in pairs of one row, in bursts to few banks."""
    banks = int(tables.shape[2])
    kind = rng.choice(["random", "pairs", "close", "bursts", "bursts"])
    bank, row = rng.integers(0, banks, requests), rng.integers(0, {"close": 2, "bursts": 3}.get(str(kind), 1000), requests)
    if kind == "pairs":
        bank, row = (np.repeat(x, 2)[:requests] for x in (bank, row))
    if kind == "bursts":
        bank = np.where(rng.random(requests) < 0.5, rng.choice(rng.permutation(banks)[:4], requests), bank)
    is_write = rng.random(requests) < rng.choice([0, 0, 0, 0.02, 0.3])
    interval = int(rng.choice([8, 12, 16, 20, 24, 28, 32, 32, 33, 40, 48, 64, 100, 200]))
    gaps = [None, rng.exponential(interval, requests), rng.integers(0, 2 * interval, requests)][rng.integers(3)]
    due = np.empty(0, np.int64) if gaps is None else np.cumsum(gaps.astype(np.int64))
    return Requests(bank, row, rng.integers(0, 8, requests), is_write, due, interval)


@pytest.mark.parametrize("seed", range(8))
def test_reads_that_run_ahead_keep_the_clocks_of_the_general_kernel(seed):
    """Low load, in one part or several."""
    ahead = 0
    for case in range(150):
        rng = np.random.default_rng([seed, case])
        tables = lower(low_load_spec(rng))
        offered = low_load_requests(rng, tables, 600)
        pairs = pair_tables(tables)
        if pairs is None:
            continue  # the general kernel takes it in any case
        ahead += run_ahead_fits(pairs)
        general, fast = GeneralChannel(tables, 600, False), OpenPageChannel(pairs, 600)
        general.serve(offered)
        cuts = [0, *sorted(rng.integers(0, 600, 4)), 600] if rng.random() < 0.3 else [0, 600]
        for a, b in pairwise(cuts):
            part = [x[a:b] for x in offered[:5]]
            fast.serve(Requests(*part, offered.interval), last_part=b == 600)
        assert (general.arrived == fast.arrived).all() and (general.departed == fast.departed).all(), case
        for name, one, other in zip(general.counted()._fields, general.counted(), fast.counted(), strict=True):
            assert np.array_equal(one, other), (case, name)
    assert ahead >= 20


def test_reads_run_ahead_on_one_command_bus_with_room_in_the_queues():
    def fits(spec):
        return run_ahead_fits(pair_tables(lower(spec)))

    assert fits(ddr4()) and not fits(ddr4(read_queue=4)) and not fits(ddr4(write_low_watermark=0.01))
    assert not fits(DramSpec(standard="hbm2", organisation="2Gb", speed="2000"))


def assert_same(one: ReplayResult, other: ReplayResult) -> None:
    assert (one.per_bank == other.per_bank).all() and (one.channel_cycles == other.channel_cycles).all()
    skip = {"arrived", "departed", "per_bank", "channel_cycles", "simulate_seconds", "command_log"}
    for name in set(ReplayResult.__dataclass_fields__) - skip:
        assert getattr(one, name) == getattr(other, name), name


def ddr4(**controller) -> DramSpec:
    channels = controller.pop("channels", 1)
    return DramSpec(standard="ddr4", organisation="8Gb_x8", speed="3200AA", channels=channels, controller=ControllerSpec(**controller))


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
