"""Replays memory requests on the command-level DRAM engine: one call, every channel simulated on its own.

Modelling decisions:
    * Requests are one burst each. They go to channels by the address map; each channel has its own controller and is offered
      at most one request a clock, in order, from the clock of its arrival on; a full queue holds up the requests behind it.
    * `cycles` is the first clock at which every request has been accepted and every read has returned its last beat. Writes
      that are still queued then are issued afterwards and counted in commands and energy, not in `cycles`.
    * A read of a burst that waits in the write queue is answered from there in one clock; a write to it is merged.

Not modelled: the command bus shared by two pseudo-channels, postponed refresh, power-down, self-refresh, temperature, ECC.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pimsim.dram.standard import Command, Organisation, common_timing, resolve_organisation, resolve_timing
from pimsim.energy.dram import Activity, energy_breakdown_nj
from pimsim.engine.tables import ChannelTables, lower
from pimsim.errors import ConfigError, PimsimError
from pimsim.mapping.address import flat_bank, map_of
from pimsim.spec.dram import DramSpec

IntArray = NDArray[np.int64]

LOG_FIELDS = ("cycle", "command", "channel", "rank", "bankgroup", "bank", "row", "column", "request")
LOG_DTYPE = np.dtype([(name, np.int64) for name in LOG_FIELDS])


class ChannelState(NamedTuple):
    """Everything that changes in one channel, as arrays; the kernel can leave and come back."""

    scalar: IntArray
    ready: IntArray
    history: IntArray
    position: IntArray
    slot: IntArray
    queue: IntArray
    member: IntArray
    size: IntArray
    place: IntArray
    bank_state: IntArray
    rank_state: IntArray
    active: IntArray
    free: IntArray
    maintenance: IntArray
    counts: IntArray


def new_state(tables: ChannelTables, first_offer: int) -> ChannelState:
    """State of an idle channel with all banks closed at clock 0."""
    from pimsim.kernels import frfcfs

    ranks, groups, banks, windows, longest = (int(x) for x in tables.shape)
    slots = int(tables.options[3] + tables.options[4]) + banks
    nodes = ranks + groups + banks
    scalar = np.zeros(frfcfs.SCALARS, np.int64)
    scalar[frfcfs.X_NOW] = 1
    scalar[frfcfs.X_OFFER] = first_offer
    scalar[frfcfs.X_REFRESH] = tables.options[7]
    scalar[frfcfs.X_FREE] = slots
    scalar[frfcfs.X_ACCEPTED] = -1
    bank_state = np.full((banks, 4), -1, np.int64)
    bank_state[:, 2:] = 0
    return ChannelState(
        scalar=scalar,
        ready=np.zeros((nodes, len(Command)), np.int64),
        history=np.full((windows, nodes, longest), -(1 << 40), np.int64),
        position=np.zeros((windows, nodes), np.int64),
        slot=np.zeros((slots, 9), np.int64),
        queue=np.full((2, banks, 4), -1, np.int64),
        member=np.zeros((2, 3, banks), np.int64),
        size=np.zeros((2, 3), np.int64),
        place=np.full((2, 3, banks), -1, np.int64),
        bank_state=bank_state,
        rank_state=np.zeros((ranks, 4), np.int64),
        active=np.zeros(banks, np.int64),
        free=np.arange(slots, dtype=np.int64),
        maintenance=np.zeros(64 * ranks + 4 * banks, np.int64),
        counts=np.zeros(len(Command), np.int64),
    )


@dataclass(frozen=True)
class ReplayResult:
    """What a replay measured. Clocks are memory clocks of `tck_ps` picoseconds.

    Attributes:
        requests: Requests replayed.
        reads: Reads among them.
        writes: Writes among them.
        cycles: Clock at which every request is accepted and every read has returned; the largest over the channels.
        tck_ps: Picoseconds of one clock.
        mean_read_latency_cycles: Mean over the reads from acceptance to last data beat; None without reads.
        max_read_latency_cycles: Largest of them; None without reads.
        row_hits: Requests whose first command was a column command.
        row_misses: Requests whose first command was an ACT.
        row_conflicts: Requests whose first command was a PRE.
        forwarded: Reads answered from the write queue (neither hit, miss nor conflict).
        coalesced: Writes merged into a queued write (likewise).
        commands: Commands issued, over all channels.
        bytes: Bytes read and written.
        channel_cycles: Last clock of each channel, (channels,).
        arrived: Clock at which each request was accepted, (requests,).
        departed: Clock of its last data beat for reads, acceptance for writes, (requests,).
        bandwidth_gbps: Bytes over `cycles`, GB/s.
        peak_bandwidth_gbps: Data-bus limit of all channels, GB/s.
        energy_nj: Energy by part; None where the standard has no public currents (and `io` without io_pj_per_bit).
        simulate_seconds: Wall-clock seconds of the kernel alone.
        command_log: Structured array (cycle, command, channel, rank, bankgroup, bank, row, column, request; -1 = none), by cycle.
    """

    requests: int
    reads: int
    writes: int
    cycles: int
    tck_ps: int
    mean_read_latency_cycles: float | None
    max_read_latency_cycles: int | None
    row_hits: int
    row_misses: int
    row_conflicts: int
    forwarded: int
    coalesced: int
    commands: dict[str, int]
    bytes: int
    channel_cycles: IntArray
    arrived: IntArray = field(repr=False)
    departed: IntArray = field(repr=False)
    bandwidth_gbps: float
    peak_bandwidth_gbps: float
    energy_nj: dict[str, float | None]
    simulate_seconds: float
    command_log: NDArray[np.void] | None = field(default=None, repr=False)

    @property
    def latency_ps(self) -> int:
        """`cycles` in picoseconds."""
        return self.cycles * self.tck_ps


class Channel(NamedTuple):
    """One simulated channel: its requests (indices into the trace) and what the kernel left."""

    requests: IntArray
    bank: IntArray
    row: IntArray
    column: IntArray
    state: ChannelState
    arrived: IntArray
    departed: IntArray
    log: IntArray

    @property
    def cycles(self) -> int:
        """Clock at which every request is accepted and every read returned."""
        from pimsim.kernels.frfcfs import X_ACCEPTED, X_DEPARTED

        return int(max(self.state.scalar[X_DEPARTED], self.state.scalar[X_ACCEPTED] + 1))


def run_channel(
    tables: ChannelTables,
    bank: IntArray,
    row: IntArray,
    column: IntArray,
    is_write: NDArray[np.bool_],
    arrival: IntArray,
    interval: int,
    log_commands: bool,
) -> tuple[ChannelState, IntArray, IntArray, IntArray]:
    from pimsim.kernels import frfcfs

    n = len(bank)
    state = new_state(tables, int(arrival[0]) if len(arrival) else 0)
    arrived, departed = np.full(n, -1, np.int64), np.full(n, -1, np.int64)
    log = np.zeros((4 * n + 1024 if log_commands else 0, 4), np.int64)
    while True:
        status = frfcfs.simulate(tables, state, bank, row, column, is_write, arrival, interval, arrived, departed, log)
        if status != frfcfs.LOG_FULL:
            break
        log = np.concatenate([log, np.zeros_like(log)])
    if status != frfcfs.DONE:
        raise PimsimError("the controller cannot make progress with this timing: refresh leaves no time for requests")
    return state, arrived, departed, log[: state.scalar[frfcfs.X_LOG]]


def replay(
    spec: DramSpec,
    address: NDArray[np.uint64],
    is_write: NDArray[np.bool_],
    arrival: NDArray[np.int64] | None = None,
    interval: int = 0,
    log_commands: bool = False,
) -> ReplayResult:
    """Replays one-burst requests through the memory controllers of all channels.

    Args:
        spec: The memory.
        address: (n,) byte addresses.
        is_write: (n,) write or read.
        arrival: (n,) clocks before which the requests are not offered, non-decreasing; None for `interval`.
        interval: Request i is not offered before clock i * interval; 0 offers one a clock and channel (saturating).
        log_commands: Keep every command with its clock.

    Raises:
        ConfigError: an impossible specification or arrays that do not match.
        TraceError: an address beyond the capacity.
    """
    address, is_write = np.asarray(address), np.asarray(is_write, bool)
    if address.ndim != 1 or address.shape != is_write.shape:
        raise ConfigError(f"address {address.shape} and is_write {is_write.shape} must be vectors of equal length")
    if interval < 0:
        raise ConfigError(f"interval: {interval}: must not be negative")
    if arrival is not None and len(arrival) != len(address):
        raise ConfigError(f"arrival has {len(arrival)} entries for {len(address)} requests")
    organisation, tables = resolve_organisation(spec), lower(spec)
    fields = map_of(spec).decode(address)
    bank = flat_bank(organisation, fields)
    not_before = None if arrival is None else np.maximum.accumulate(np.maximum(np.asarray(arrival, np.int64), 0))
    channels = []
    seconds = 0.0
    warm(tables)
    for channel in range(organisation.channels):
        index = np.flatnonzero(fields["channel"] == channel) if organisation.channels > 1 else np.arange(len(address))
        if not_before is not None:
            due = not_before[index]
        else:
            due = index * interval if organisation.channels > 1 and interval else np.empty(0, np.int64)
        of_channel = (bank[index], fields["row"][index], fields["column"][index])
        began = time.perf_counter()
        state, arrived, departed, log = run_channel(tables, *of_channel, is_write[index], due, interval, log_commands)
        seconds += time.perf_counter() - began
        channels.append(Channel(index, *of_channel, state, arrived, departed, log))
    return _gather(spec, organisation, is_write, channels, seconds, log_commands)


def warm(tables: ChannelTables) -> None:
    """Loads or compiles the kernel on an empty trace, so that it does not count as simulation."""
    none = np.empty(0, np.int64)
    run_channel(tables, none, none, none, np.empty(0, bool), none, 0, False)


def _gather(
    spec: DramSpec,
    organisation: Organisation,
    is_write: NDArray[np.bool_],
    channels: list[Channel],
    seconds: float,
    log_commands: bool,
) -> ReplayResult:
    """Adds the channels up."""
    from pimsim.kernels import frfcfs as k

    timing = resolve_timing(spec)
    n, writes = len(is_write), int(is_write.sum())
    reads = n - writes
    arrived, departed = np.empty(n, np.int64), np.empty(n, np.int64)
    for channel in channels:
        arrived[channel.requests], departed[channel.requests] = channel.arrived, channel.departed
    total = np.sum([channel.state.scalar for channel in channels], axis=0)
    counts = np.sum([channel.state.counts for channel in channels], axis=0)
    cycles = np.array([channel.cycles for channel in channels], np.int64)
    last = int(cycles.max()) if n else 0
    commands = {command.name: int(counts[command]) for command in Command if counts[command] or command.name in _ALWAYS}
    activity = Activity(
        commands=commands,
        rank_cycles=last * organisation.ranks * organisation.channels,
        open_rank_cycles=sum(_open_rank_clocks(channel, last) for channel in channels),
        bytes=n * organisation.burst_bytes,
    )
    seconds_simulated = last * timing["tCK_ps"] * 1e-12
    return ReplayResult(
        requests=n,
        reads=reads,
        writes=writes,
        cycles=last,
        tck_ps=timing["tCK_ps"],
        mean_read_latency_cycles=int(total[k.X_LATENCY]) / reads if reads else None,
        max_read_latency_cycles=int(max(c.state.scalar[k.X_MAX_LATENCY] for c in channels)) if reads else None,
        row_hits=int(total[k.X_HITS]),
        row_misses=int(total[k.X_MISSES]),
        row_conflicts=int(total[k.X_CONFLICTS]),
        forwarded=int(total[k.X_FORWARDED]),
        coalesced=int(total[k.X_COALESCED]),
        commands=commands,
        bytes=activity.bytes,
        channel_cycles=cycles,
        arrived=arrived,
        departed=departed,
        bandwidth_gbps=activity.bytes / seconds_simulated * 1e-9 if last else 0.0,
        peak_bandwidth_gbps=peak_bandwidth_gbps(spec),
        energy_nj=energy_breakdown_nj(spec, activity),
        simulate_seconds=seconds,
        command_log=_command_log(organisation, channels) if log_commands else None,
    )


_ALWAYS = ("ACT", "PRE", "RD", "WR", "REF")


def _open_rank_clocks(channel: Channel, until: int) -> int:
    """Clocks during which a rank had an open bank, summed over the ranks."""
    from pimsim.kernels.queues import R_CLOCKS, R_OPEN, R_SINCE

    ranks = channel.state.rank_state
    still_open = np.where(ranks[:, R_OPEN] > 0, np.maximum(until - ranks[:, R_SINCE], 0), 0)
    return int(np.minimum(ranks[:, R_CLOCKS] + still_open, until).sum())


def peak_bandwidth_gbps(spec: DramSpec) -> float:
    """Bandwidth of the data buses of all channels: one burst each max(nBL, nCCDS) clocks."""
    timing, organisation = common_timing(spec), resolve_organisation(spec)
    spacing = max(timing["nBL"], timing["nCCDS"]) * timing["tCK_ps"]
    return organisation.channels * organisation.burst_bytes / spacing * 1e3


def _command_log(organisation: Organisation, channels: list[Channel]) -> NDArray[np.void]:
    parts = []
    for number, channel in enumerate(channels):
        clock, command, where, request = channel.log.T
        part = np.full(len(clock), -1, LOG_DTYPE)
        part["cycle"], part["command"], part["channel"] = clock, command, number
        whole_rank = (command == Command.PREA) | (command == Command.REF)
        group, within = np.divmod(where, organisation.banks_per_group)
        rank, group = np.divmod(group, organisation.bankgroups)
        part["rank"] = np.where(whole_rank, where, rank)
        all_groups = whole_rank | (command == Command.REFSB)
        part["bankgroup"], part["bank"] = np.where(all_groups, -1, group), np.where(whole_rank, -1, within)
        if len(channel.requests):
            served = request >= 0
            part["row"] = np.where(served, channel.row[request], -1)
            part["column"] = np.where(served, channel.column[request], -1)
            part["request"] = np.where(served, channel.requests[request], -1)
        parts.append(part)
    log = np.concatenate(parts)
    return log[np.argsort(log["cycle"], kind="stable")]
