"""One channel and its controller: which kernel simulates it, all at once or part by part, and what it counted.

`OpenPageChannel` runs the fast kernel for open page, first-ready scheduling and all-bank refresh; `GeneralChannel` takes every
specification and can log commands. Both keep the same clocks.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from pimsim.dram.standard import Command
from pimsim.engine.pairs import LANES, PairTables, pair_tables
from pimsim.engine.tables import ChannelTables
from pimsim.errors import PimsimError

IntArray = NDArray[np.int64]

NO_CLOCKS = np.empty(0, np.int64)
BANK_FIELDS = ("reads", "writes", "activations", "precharges", "row_hits", "row_misses", "row_conflicts", "read_latency_cycles")
STUCK = "the controller cannot make progress with this timing: refresh leaves no time for requests"


class Requests(NamedTuple):
    """Requests of one channel, in order: flat bank, row, column in bursts, write or read, and the clocks of their offers.

    `due` is (n,), or (0,) for `interval` clocks from one to the next.
    """

    bank: IntArray
    row: IntArray
    column: IntArray
    is_write: NDArray[np.bool_]
    due: IntArray = NO_CLOCKS
    interval: int = 0


class Counted(NamedTuple):
    """What one channel counted.

    Attributes:
        cycles: Clock at which every request is accepted and every read has returned.
        commands: (commands,) issued by code.
        per_bank: (banks, 8) `BANK_FIELDS`.
        max_latency: Largest read latency.
        forwarded: Reads answered from the write queue, in one clock each.
        coalesced: Writes merged into a queued write.
        merged: Reads merged into a waiting read.
        open_ranks: (ranks, 4) open banks, active requests, open since, clocks with an open bank.
    """

    cycles: int
    commands: IntArray
    per_bank: IntArray
    max_latency: int
    forwarded: int
    coalesced: int
    merged: int
    open_ranks: IntArray


class Channel(Protocol):
    """A channel being simulated."""

    @property
    def arrived(self) -> IntArray:
        """(requests,) clock at which each request was accepted; empty when not kept."""

    @property
    def departed(self) -> IntArray:
        """(requests,) clock of its last data beat; empty when not kept."""

    @property
    def log(self) -> IntArray:
        """(commands, 4) clock, command, bank or rank, request or -1."""

    def serve(self, requests: Requests, last_part: bool = True) -> None:
        """Serves the next requests; all that wait, too, when they are the last part."""

    def counted(self) -> Counted:
        """What has been counted so far."""


def channel(tables: ChannelTables, kept: int = 0, log_commands: bool = False) -> Channel:
    """A channel in its first clock, with all banks closed.

    Args:
        tables: The lowered specification.
        kept: Number of requests whose clocks are kept: all that will come, or 0.
        log_commands: Keep every command.
    """
    pairs = None if log_commands else pair_tables(tables)
    return GeneralChannel(tables, kept, log_commands) if pairs is None else OpenPageChannel(pairs, kept)


class OpenPageState(NamedTuple):
    """Everything that changes in a channel of the open-page kernel; `flight` and `busy` hold nothing between two parts."""

    scalar: IntArray
    ready: IntArray
    last: IntArray
    history: IntArray
    slot: IntArray
    free: IntArray
    age: IntArray
    open_row: IntArray
    active: IntArray
    rank_state: IntArray
    per_bank: IntArray
    per_rank: IntArray
    flight: IntArray
    busy: IntArray


class OpenPageChannel:
    """A channel on the open-page kernel."""

    def __init__(self, tables: PairTables, kept: int) -> None:
        from pimsim.kernels import candidates as k

        ranks, banks, lanes, window, _ = (int(x) for x in tables.shape)
        entries = -(-int(max(tables.options[3], tables.options[4])) // LANES) * LANES
        scalar = np.zeros(k.SCALARS, np.int64)
        scalar[k.X_NOW] = 1
        scalar[k.X_REFRESH] = tables.options[7]
        scalar[k.X_ACCEPTED] = -1
        slot = np.zeros((2, 5, entries), np.int64)
        slot[:, k.PLACE] = -1
        self.tables = tables
        self.arrived, self.departed = np.full(kept, -1, np.int64), np.full(kept, -1, np.int64)
        self.log = np.zeros((0, 4), np.int64)
        self.state = OpenPageState(
            scalar=scalar,
            ready=np.zeros((4, lanes), np.int64),
            last=np.full((6, ranks), -(1 << 40), np.int64),
            history=np.full((ranks, max(window, 1)), -(1 << 40), np.int64),
            slot=slot,
            free=np.tile(np.arange(entries, dtype=np.int64), (2, 1)),
            age=np.full((2, 6, lanes), k.NONE, np.int64),
            open_row=np.full(banks, -1, np.int64),
            active=np.full(banks, -1, np.int64),
            rank_state=np.zeros((ranks, 5), np.int64),
            per_bank=np.zeros((banks, 8), np.int64),
            per_rank=np.zeros((ranks, 2), np.int64),
            flight=np.zeros((k.AHEAD, 7), np.int64),
            busy=np.full(k.CLOCKS, -1, np.int64),
        )

    def serve(self, requests: Requests, last_part: bool = True) -> None:
        """Serves the next requests; all that wait, too, when they are the last part."""
        from pimsim.kernels import candidates as k
        from pimsim.kernels import open_page

        status = open_page.simulate(self.tables, self.state, *requests, self.arrived, self.departed, last_part)
        if status != (k.DONE if last_part else k.MORE):
            raise PimsimError(STUCK)

    def counted(self) -> Counted:
        """What has been counted so far."""
        from pimsim.kernels import candidates as k

        scalar, per_bank = self.state.scalar, self.state.per_bank
        commands = np.zeros(len(Command), np.int64)
        commands[[Command.RD, Command.WR, Command.ACT, Command.PRE]] = per_bank[:, :4].sum(axis=0)
        commands[[Command.PREA, Command.REF]] = self.state.per_rank.sum(axis=0)
        return Counted(
            cycles=int(max(scalar[k.X_DEPARTED], scalar[k.X_ACCEPTED] + 1)),
            commands=commands,
            per_bank=per_bank,
            max_latency=int(scalar[k.X_MAX_LATENCY]),
            forwarded=int(scalar[k.X_FORWARDED]),
            coalesced=int(scalar[k.X_COALESCED]),
            merged=0,
            open_ranks=self.state.rank_state[:, :4],
        )


class ChannelState(NamedTuple):
    """Everything that changes in a channel of the general kernel."""

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
    per_bank: IntArray


class GeneralChannel:
    """A channel on the general kernel."""

    def __init__(self, tables: ChannelTables, kept: int, log_commands: bool) -> None:
        from pimsim.kernels import frfcfs as k
        from pimsim.kernels.queues import SLOT_FIELDS

        ranks, groups, banks, windows, longest = (int(x) for x in tables.shape)
        slots = int(tables.options[3] + tables.options[4]) + banks
        nodes = ranks + groups + banks
        scalar = np.zeros(k.SCALARS, np.int64)
        scalar[k.X_NOW] = 1
        scalar[k.X_REFRESH] = tables.options[7]
        scalar[k.X_FREE] = slots
        scalar[k.X_ACCEPTED] = -1
        bank_state = np.full((banks, 4), -1, np.int64)
        bank_state[:, 2:] = 0
        self.tables = tables
        self.arrived, self.departed = np.full(kept, -1, np.int64), np.full(kept, -1, np.int64)
        self._log = np.zeros((4 * kept + 1024 if log_commands else 0, 4), np.int64)
        self.state = ChannelState(
            scalar=scalar,
            ready=np.zeros((nodes, len(Command)), np.int64),
            history=np.full((windows, nodes, longest), -(1 << 40), np.int64),
            position=np.zeros((windows, nodes), np.int64),
            slot=np.zeros((slots, SLOT_FIELDS), np.int64),
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
            per_bank=np.zeros((banks, 8), np.int64),
        )

    @property
    def log(self) -> IntArray:
        """(commands, 4) clock, command, bank or rank, request or -1."""
        from pimsim.kernels.frfcfs import X_LOG

        return self._log[: self.state.scalar[X_LOG]]

    def serve(self, requests: Requests, last_part: bool = True) -> None:
        """Serves the next requests; all that wait, too, when they are the last part."""
        from pimsim.kernels import frfcfs as k

        while True:
            status = k.simulate(self.tables, self.state, *requests, self.arrived, self.departed, self._log, last_part)
            if status != k.LOG_FULL:
                break
            self._log = np.concatenate([self._log, np.zeros_like(self._log)])
        if status != (k.DONE if last_part else k.MORE):
            raise PimsimError(STUCK)
        self.state.scalar[k.X_BASE] += len(requests.bank)
        self.state.scalar[k.X_NEXT] = 0

    def counted(self) -> Counted:
        """What has been counted so far."""
        from pimsim.kernels import frfcfs as k

        scalar = self.state.scalar
        return Counted(
            cycles=int(max(scalar[k.X_DEPARTED], scalar[k.X_ACCEPTED] + 1)),
            commands=self.state.counts,
            per_bank=self.state.per_bank,
            max_latency=int(scalar[k.X_MAX_LATENCY]),
            forwarded=int(scalar[k.X_FORWARDED]),
            coalesced=int(scalar[k.X_COALESCED]),
            merged=int(scalar[k.X_MERGED]),
            open_ranks=self.state.rank_state,
        )
