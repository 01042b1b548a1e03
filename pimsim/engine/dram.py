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
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from pimsim.dram.standard import Command, Organisation, common_timing, resolve_organisation, resolve_timing
from pimsim.energy.dram import Activity, energy_breakdown_nj
from pimsim.engine.channel import BANK_FIELDS, NO_CLOCKS, Channel, Counted, Requests, channel
from pimsim.engine.tables import lower
from pimsim.errors import ConfigError
from pimsim.mapping.address import flat_bank, map_of
from pimsim.spec.dram import DramSpec

IntArray = NDArray[np.int64]

LOG_FIELDS = ("cycle", "command", "channel", "rank", "bankgroup", "bank", "row", "column", "request")
LOG_DTYPE = np.dtype([(name, np.int64) for name in LOG_FIELDS])


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
        merged: Reads answered by a waiting read of the same burst (likewise; `dram.controller.merge_reads`).
        commands: Commands issued, over all channels.
        bytes: Bytes read and written.
        channel_cycles: Last clock of each channel, (channels,).
        per_bank: What each bank of each channel did, (channels, banks, 8): `pimsim.engine.channel.BANK_FIELDS`.
        arrived: Clock at which each request was accepted, (requests,); empty after `replay_parts`, like `departed`.
        departed: Clock of its last data beat for reads, acceptance for writes, (requests,).
        bandwidth_gbps: Bytes over `cycles`, GB/s.
        peak_bandwidth_gbps: Data-bus limit of all channels, GB/s.
        rank_activity: What each rank of each channel did; `energy_breakdown_nj` turns it into energy.
        energy_nj: Energy by part; None where the standard has no public currents (and `io` without io_pj_per_bit).
        simulate_seconds: Wall-clock seconds of the kernel alone.
        bandwidth_loss: Clocks of the data buses of all channels by cause (`pimsim.engine.why`), queued writes included; None unless asked.
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
    merged: int
    commands: dict[str, int]
    bytes: int
    channel_cycles: IntArray
    per_bank: IntArray = field(repr=False)
    arrived: IntArray = field(repr=False)
    departed: IntArray = field(repr=False)
    bandwidth_gbps: float
    peak_bandwidth_gbps: float
    energy_nj: dict[str, float | None]
    rank_activity: list[list[Activity]]
    simulate_seconds: float
    bandwidth_loss: dict[str, int] | None = None
    command_log: NDArray[np.void] | None = field(default=None, repr=False)

    @property
    def latency_ps(self) -> int:
        """`cycles` in picoseconds."""
        return self.cycles * self.tck_ps


Task = TypeVar("Task")
Done = TypeVar("Done")
Part = tuple[NDArray[np.uint64], NDArray[np.bool_], NDArray[np.int64] | None]


def replay(
    spec: DramSpec,
    address: NDArray[np.uint64],
    is_write: NDArray[np.bool_],
    arrival: NDArray[np.int64] | None = None,
    interval: int = 0,
    log_commands: bool = False,
    threads: int = 1,
    why: bool = False,
) -> ReplayResult:
    """Replays one-burst requests through the memory controllers of all channels.

    Args:
        spec: The memory.
        address: (n,) byte addresses.
        is_write: (n,) write or read.
        arrival: (n,) clocks before which the requests are not offered, non-decreasing; None for `interval`.
        interval: Request i is not offered before clock i * interval; 0 offers one a clock and channel (saturating).
        log_commands: Keep every command with its clock.
        threads: Channels simulated at a time; the result does not depend on it.
        why: Charge the clocks of the data buses to causes; takes the general kernel and the memory of a command log.

    Raises:
        ConfigError: an impossible specification or arrays that do not match.
        TraceError: an address beyond the capacity.
    """
    run = _Run(spec, interval, threads)
    part = run.split((address, is_write, arrival))
    run.start([len(index) for index, _ in part], log_commands or why)
    run.serve(part, last_part=True)
    n = len(np.asarray(address))
    arrived, departed = np.empty(n, np.int64), np.empty(n, np.int64)

    def collect(which: int) -> None:
        index, simulated = part[which][0], run.channels[which]
        arrived[index], departed[index] = simulated.arrived, simulated.departed

    run.each(collect, list(range(len(part))))
    result = run.result(arrived, departed)
    if why:
        result = replace(result, bandwidth_loss=run.why([requests for _, requests in part], result.cycles))
    if log_commands:
        result = replace(result, command_log=_command_log(run.organisation, run.channels, part))
    return result


def replay_parts(spec: DramSpec, parts: Iterable[Part], interval: int = 0, threads: int = 1) -> ReplayResult:
    """As `replay` for a trace that comes in parts, so that it never is in memory as a whole.

    The result is that of one piece, but the clocks of single requests (`arrived`, `departed`) and the command log, which are not
    kept.

    Args:
        spec: The memory.
        parts: (address, is_write, arrival or None) of consecutive requests; all with arrivals or none.
        interval: As in `replay`.
        threads: As in `replay`.

    Raises:
        ConfigError, TraceError: see `replay`.
    """
    run = _Run(spec, interval, threads)
    run.start([0] * run.organisation.channels, False)
    part = None
    for following in map(run.split, parts):
        if part is not None:
            run.serve(part, last_part=False)
        part = following
    none = np.empty(0, np.int64)
    run.serve(part or run.split((none.astype(np.uint64), none.astype(bool), None)), last_part=True)
    return run.result(none, none)


class _Run:
    """The channels of one replay and what has been offered to them."""

    def __init__(self, spec: DramSpec, interval: int, threads: int) -> None:
        if interval < 0:
            raise ConfigError(f"interval: {interval}: must not be negative")
        if threads < 1:
            raise ConfigError(f"threads: {threads}: must be at least 1")
        self.spec, self.interval, self.threads = spec, interval, threads
        self.organisation, self.tables, self.map = resolve_organisation(spec), lower(spec), map_of(spec)
        self.channels: list[Channel] = []
        self.requests = self.writes = self.latest = 0
        self.seconds = 0.0

    def start(self, kept: list[int], log_commands: bool) -> None:
        """Makes the channels, and loads or compiles their kernel so that it does not count as simulation."""
        none = np.empty(0, np.int64)
        channel(self.tables, 0, log_commands).serve(Requests(none, none, none, np.empty(0, bool)))
        self.channels = [channel(self.tables, n, log_commands) for n in kept]

    def split(self, part: Part) -> list[tuple[IntArray, Requests]]:
        """The requests of a part by channel: their indices in the part, and what the kernel reads."""
        address, is_write, arrival = np.asarray(part[0]), np.asarray(part[1], bool), part[2]
        if address.ndim != 1 or address.shape != is_write.shape:
            raise ConfigError(f"address {address.shape} and is_write {is_write.shape} must be vectors of equal length")
        if arrival is not None and len(arrival) != len(address):
            raise ConfigError(f"arrival has {len(arrival)} entries for {len(address)} requests")
        due = NO_CLOCKS
        if arrival is not None and len(address):
            due = np.maximum.accumulate(np.maximum(np.asarray(arrival, np.int64), self.latest))
            self.latest = int(due[-1])
        elif self.interval and self.organisation.channels > 1:
            due = np.arange(self.requests, self.requests + len(address)) * self.interval
        number = np.zeros(len(address), np.int16)
        bank, row, column = (np.empty(len(address), np.int64) for _ in range(3))

        def decode(start: int) -> None:
            block = slice(start, start + _BLOCK)
            fields = self.map.decode(address[block], self.requests + start)
            bank[block] = flat_bank(self.organisation, fields)
            number[block], row[block], column[block] = fields["channel"], fields["row"], fields["column"]

        self.each(decode, list(range(0, len(address), _BLOCK)))
        every = Requests(bank, row, column, is_write, due, 0 if len(due) else self.interval)
        self.requests += len(address)
        self.writes += int(is_write.sum())
        if self.organisation.channels == 1:
            return [(np.arange(len(address)), every)]

        def of_channel(which: int) -> tuple[IntArray, Requests]:
            index = np.flatnonzero(number == which)
            return index, _taken(every, index)

        return self.each(of_channel, list(range(self.organisation.channels)))

    def serve(self, part: list[tuple[IntArray, Requests]], last_part: bool) -> None:
        """Simulates one part on every channel."""
        began = time.perf_counter()
        work = zip(self.channels, part, strict=True)
        self.each(lambda task: task[0].serve(task[1][1], last_part), list(work))
        self.seconds += time.perf_counter() - began

    def each(self, work: Callable[[Task], Done], tasks: list[Task]) -> list[Done]:
        """Does the same for every channel, `threads` at a time: arrays and kernels run without the interpreter's lock."""
        if self.threads == 1 or len(tasks) == 1:
            return [work(task) for task in tasks]
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(min(self.threads, len(tasks))) as pool:
            return list(pool.map(work, tasks))

    def why(self, requests: list[Requests], until: int) -> dict[str, int]:
        """Clocks of the data buses by cause."""
        from pimsim.engine.why import bandwidth_loss

        due = [of.due if len(of.due) else np.arange(len(of.bank)) * of.interval for of in requests]
        return bandwidth_loss(self.spec, [c.log for c in self.channels], [c.arrived for c in self.channels], due, until)

    def result(self, arrived: IntArray, departed: IntArray) -> ReplayResult:
        """Adds the channels up."""
        spec, organisation, timing = self.spec, self.organisation, resolve_timing(self.spec)
        counted = [simulated.counted() for simulated in self.channels]
        reads = self.requests - self.writes
        counts = np.sum([channel.commands for channel in counted], axis=0)
        per_bank = np.stack([channel.per_bank for channel in counted])
        totals = dict(zip(BANK_FIELDS, per_bank.sum(axis=(0, 1)).tolist(), strict=True))
        cycles = np.array([channel.cycles for channel in counted], np.int64)
        forwarded = sum(channel.forwarded for channel in counted)
        last = int(cycles.max()) if self.requests else 0
        rank_activity = [[_rank_activity(organisation, channel, rank, last) for rank in range(organisation.ranks)] for channel in counted]
        commands = {command.name: int(counts[command]) for command in Command if counts[command] or command.name in _ALWAYS}
        activity = Activity(
            commands=commands,
            rank_cycles=last * organisation.ranks * organisation.channels,
            open_rank_cycles=sum(activity.open_rank_cycles for ranks in rank_activity for activity in ranks),
            bytes=sum(activity.bytes for ranks in rank_activity for activity in ranks),
        )
        moved = self.requests * organisation.burst_bytes
        seconds_simulated = last * timing["tCK_ps"] * 1e-12
        return ReplayResult(
            requests=self.requests,
            reads=reads,
            writes=self.writes,
            cycles=last,
            tck_ps=timing["tCK_ps"],
            mean_read_latency_cycles=(totals["read_latency_cycles"] + forwarded) / reads if reads else None,
            max_read_latency_cycles=max(channel.max_latency for channel in counted) if reads else None,
            row_hits=totals["row_hits"],
            row_misses=totals["row_misses"],
            row_conflicts=totals["row_conflicts"],
            forwarded=forwarded,
            coalesced=sum(channel.coalesced for channel in counted),
            merged=sum(channel.merged for channel in counted),
            commands=commands,
            bytes=moved,
            channel_cycles=cycles,
            per_bank=per_bank,
            arrived=arrived,
            departed=departed,
            bandwidth_gbps=moved / seconds_simulated * 1e-9 if last else 0.0,
            peak_bandwidth_gbps=peak_bandwidth_gbps(spec),
            energy_nj=energy_breakdown_nj(spec, activity),
            rank_activity=rank_activity,
            simulate_seconds=self.seconds,
        )


def _taken(requests: Requests, index: IntArray) -> Requests:
    """Some of the requests."""
    bank, row, column, is_write, due, interval = requests
    return Requests(bank[index], row[index], column[index], is_write[index], due[index] if len(due) else due, interval)


_BLOCK = 1 << 16  # addresses decoded at a time: what a core's cache holds
_ALWAYS = ("ACT", "PRE", "RD", "WR", "REF")


def _rank_activity(organisation: Organisation, channel: Counted, rank: int, until: int) -> Activity:
    """What one rank of one channel did until a clock; refreshes of whole ranks go round the ranks in order."""
    from pimsim.kernels.queues import R_CLOCKS, R_OPEN, R_SINCE

    width = organisation.banks // organisation.ranks
    reads, writes, activations = channel.per_bank[rank * width : (rank + 1) * width, :3].sum(axis=0).tolist()
    refreshes = {name: -(-int(channel.commands[Command[name]] - rank) // organisation.ranks) for name in ("REF", "REFPB", "REFSB")}
    state = channel.open_ranks[rank]
    still_open = max(until - int(state[R_SINCE]), 0) if state[R_OPEN] > 0 else 0
    return Activity(
        commands={"ACT": activations, "RD": reads, "WR": writes} | refreshes,
        rank_cycles=until,
        open_rank_cycles=min(int(state[R_CLOCKS]) + still_open, until),
        bytes=(reads + writes) * organisation.burst_bytes,
    )


def peak_bandwidth_gbps(spec: DramSpec) -> float:
    """Bandwidth of the data buses of all channels: one burst each max(nBL, nCCDS) clocks."""
    timing, organisation = common_timing(spec), resolve_organisation(spec)
    spacing = max(timing["nBL"], timing["nCCDS"]) * timing["tCK_ps"]
    return organisation.channels * organisation.burst_bytes / spacing * 1e3


def _command_log(organisation: Organisation, channels: list[Channel], requests: list[tuple[IntArray, Requests]]) -> NDArray[np.void]:
    parts = []
    for number, (simulated, (index, of_channel)) in enumerate(zip(channels, requests, strict=True)):
        clock, command, where, request = simulated.log.T
        part = np.full(len(clock), -1, LOG_DTYPE)
        part["cycle"], part["command"], part["channel"] = clock, command, number
        whole_rank = (command == Command.PREA) | (command == Command.REF)
        group, within = np.divmod(where, organisation.banks_per_group)
        rank, group = np.divmod(group, organisation.bankgroups)
        part["rank"] = np.where(whole_rank, where, rank)
        all_groups = whole_rank | (command == Command.REFSB)
        part["bankgroup"], part["bank"] = np.where(all_groups, -1, group), np.where(whole_rank, -1, within)
        if len(index):
            served = request >= 0
            part["row"] = np.where(served, of_channel.row[request], -1)
            part["column"] = np.where(served, of_channel.column[request], -1)
            part["request"] = np.where(served, index[request], -1)
        parts.append(part)
    log = np.concatenate(parts)
    return log[np.argsort(log["cycle"], kind="stable")]
