"""Controller policy on hand-made request sequences: what goes first, and when."""

from __future__ import annotations

import numpy as np
import pytest

from pimsim.dram.standard import Command
from pimsim.engine.dram import ReplayResult, replay
from pimsim.errors import ConfigError, TraceError
from pimsim.mapping.address import compose
from pimsim.spec.dram import ControllerSpec, DramSpec


def ddr4(**controller) -> DramSpec:
    refresh = controller.pop("refresh", "off")
    extra = {key: controller.pop(key) for key in ("channels", "ranks", "address_map", "timing") if key in controller}
    return DramSpec(
        standard="ddr4", organisation="8Gb_x8", speed="3200AA", controller=ControllerSpec(refresh=refresh, **controller), **extra
    )


def run(spec: DramSpec, requests: list[tuple], **kwargs) -> ReplayResult:
    """Requests are (bank, row, column, write)."""
    bank, row, column, write = (np.array(values) for values in zip(*requests, strict=True))
    return replay(spec, compose(spec, channel=0, bank=bank, row=row, column=column), write.astype(bool), log_commands=True, **kwargs)


def served(result: ReplayResult) -> list[int]:
    """Requests in the order of their column commands."""
    log = result.command_log
    return log["request"][np.isin(log["command"], (Command.RD, Command.WR, Command.RDA, Command.WRA))].tolist()


CONFLICT_THEN_HIT = [(0, 5, 0, 0), (0, 6, 0, 0), (0, 5, 1, 0)]


def test_first_ready_bypasses_and_fcfs_does_not():
    assert served(run(ddr4(), CONFLICT_THEN_HIT)) == [0, 2, 1]
    result = run(ddr4(scheduler="fcfs"), CONFLICT_THEN_HIT)
    assert served(result) == [0, 1, 2]
    assert result.row_conflicts == 2


def test_row_hit_scheduler_protects_older_hits():
    """Hits of row 5 spaced by nCCDL = 8, nRTP = 4: a younger request to row 6 may precharge between two of them."""
    requests = [(0, 5, 0, 0), *[(0, 5, c, 0) for c in range(1, 20)], (0, 6, 0, 0)]
    timing = {"nRTP": 4}
    plain, protected = run(ddr4(timing=timing), requests), run(ddr4(scheduler="frfcfs-row-hit", timing=timing), requests)
    assert protected.commands["ACT"] == 2 and served(protected) == list(range(21))
    assert plain.commands["ACT"] > 2
    assert protected.cycles < plain.cycles


def test_closed_policy_precharges_after_access():
    requests = [(0, 5, 0, 0), (1, 7, 0, 0)]
    result = run(ddr4(row_policy="closed"), [*requests, (0, 6, 0, 0)], interval=1000)
    assert result.row_conflicts == 0 and result.row_misses == 3
    opened = run(ddr4(), [*requests, (0, 6, 0, 0)], interval=1000)
    assert opened.row_conflicts == 1
    assert (result.departed - result.arrived).tolist() == [49, 49, 49]
    assert (opened.departed - opened.arrived).tolist() == [49, 49, 49 + 22]


def test_auto_precharge_policy_opens_a_row_for_every_access():
    hits = [(0, 5, column, 0) for column in range(8)]
    result = run(ddr4(row_policy="auto-precharge"), hits)
    assert result.commands["ACT"] == result.commands["RDA"] == 8 and result.row_hits == 0
    assert np.diff(np.sort(result.departed)).tolist() == [52 + 22] * 7  # tRAS + tRP: one row cycle for each
    assert run(ddr4(row_policy="closed"), hits).commands["ACT"] < 8


def test_reads_go_before_writes_until_the_watermark():
    """Twenty reads that conflict in one bank: 25 writes wait for them, the 26th (over 0.8 x 32) starts the drain."""
    reads = [(0, row, 0, 0) for row in range(20)]
    for writes, waits in ((25, True), (26, False)):
        order = served(run(ddr4(), reads + [(4, 1, column, 1) for column in range(writes)]))
        before_first_write = min(order.index(request) for request in range(20, 20 + writes))
        assert (before_first_write >= 19) == waits


def test_read_of_a_queued_write_is_forwarded_and_writes_coalesce():
    requests = [(0, 1, 0, 0), (0, 9, 3, 1), (0, 9, 3, 1), (0, 9, 3, 0)]
    result = run(ddr4(), requests)
    assert (result.forwarded, result.coalesced) == (1, 1)
    assert result.departed[3] - result.arrived[3] == 1
    assert result.commands["WR"] == 1 and result.commands["RD"] == 1


def test_full_queue_blocks_in_order():
    result = run(ddr4(read_queue=2), [(0, row, 0, 0) for row in range(4)])
    assert result.arrived.tolist() == [0, 1, 2, 75]  # a place is free when an ACT moves its request to the active buffer


def test_arrival_array_and_interval_agree():
    requests = [(b % 16, b, 0, b % 3 == 0) for b in range(200)]
    one = run(ddr4(refresh="on"), requests, interval=300)
    two = run(ddr4(refresh="on"), requests, arrival=np.arange(200) * 300)
    assert (one.departed == two.departed).all() and (one.command_log == two.command_log).all()


def test_idle_time_is_skipped_and_refreshed():
    """Two requests a hundred million clocks apart: the refreshes between them are issued, nothing is ticked."""
    result = run(ddr4(refresh="on"), [(0, 1, 0, 0), (0, 1, 1, 0)], arrival=np.array([0, 100_000_000]))
    assert result.commands["REF"] == 100_000_000 // 12480
    assert result.commands["PREA"] == 1
    assert result.simulate_seconds < 2


def test_channels_are_independent():
    """Each channel of a two-channel run equals that channel alone."""
    rng = np.random.default_rng(3)
    spec = ddr4(channels=2, refresh="on")
    lines = rng.integers(0, 1 << 20, 3000)
    address = lines.astype(np.uint64) * np.uint64(64)
    both = replay(spec, address, lines % 5 == 0)
    for channel in range(2):
        mine = lines % 2 == channel
        alone = replay(ddr4(refresh="on"), (lines[mine] // 2).astype(np.uint64) * np.uint64(64), (lines % 5 == 0)[mine])
        assert (both.departed[mine] == alone.departed).all()
        assert both.channel_cycles[channel] == alone.cycles
    assert both.cycles == both.channel_cycles.max()


def test_log_does_not_change_the_result_and_grows():
    """A long idle run needs more log than the first allocation: the kernel leaves and comes back."""
    spec = ddr4(refresh="on")
    requests = ([0, 1], np.zeros(2, bool), np.array([0, 200_000_000]))
    address = np.array(requests[0], np.uint64) * np.uint64(64)
    plain = replay(spec, address, requests[1], requests[2])
    logged = replay(spec, address, requests[1], requests[2], log_commands=True)
    assert len(logged.command_log) == sum(plain.commands.values()) > 4 * 2 + 1024
    assert (plain.departed == logged.departed).all()


def test_no_requests():
    result = replay(ddr4(), np.empty(0, np.uint64), np.empty(0, bool), log_commands=True)
    assert result.cycles == 0 and len(result.command_log) == 0 and result.mean_read_latency_cycles is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.array([1 << 40], np.uint64), np.zeros(1, bool)), "request 0: address 0x10000000000 is beyond the capacity"),
        ((np.zeros(2, np.uint64), np.zeros(1, bool)), "equal length"),
        ((np.zeros(1, np.uint64), np.zeros(1, bool), None, -3), "interval: -3"),
        ((np.zeros(1, np.uint64), np.zeros(1, bool), np.zeros(2, int)), "arrival has 2 entries"),
    ],
)
def test_bad_requests_are_refused(arguments, message):
    with pytest.raises((ConfigError, TraceError), match=message):
        replay(ddr4(), *arguments)
