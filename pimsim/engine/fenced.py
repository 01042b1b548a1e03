"""Requests with fences on the command-level engine: how a controller serves plain traffic and drives near-bank units with it.

Modelling decisions:
    * One queue for reads and writes; each clock takes one request into it and issues at most one command, whatever its bus. A command
      of several clocks is put at its last one.
    * Oldest request whose row is open first; rows that no queued request wants are closed. Nothing passes a fence, only the rows of
      the requests behind a fence at the head of the queue may be opened already.
    * All-bank mode is entered by opening the mode row in given banks and left by closing the leave row in given banks, as the vendor
      describes it; in this mode bank `p` stands for bank `p` of every unit, and an all-bank activation counts once.
    * A refresh that is due closes the banks, as they become ready, and the requests that still want them open them again. All ranks
      with work are refreshed at once. Ranks without work on the same command bus take turns with them, nREFI divided by their number
      apart. Other commands stop when a refresh is due or, with `refresh_yields`, go on while it waits, as in DRAMSim2 and its
      descendants; then a stream of reads to an open row can hold it up, and the next refresh that falls due takes its place.
    * Where some commands go on one clock edge only (HBM3), all do here.
    * A read ends one clock after its last beat, when the controller hands it on; a write with its last beat.

Not modelled: two commands in one clock on the two buses of HBM; activation in two steps, data clocks that stop (LPDDR5), refresh of
some banks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pimsim.dram.standard import Command, evaluate, resolve_timing, standard_of
from pimsim.engine.tables import ChannelTables, lower
from pimsim.errors import ConfigError
from pimsim.spec.dram import DramSpec

IntArray = NDArray[np.int64]
FENCE, DRAIN = 1, 2
PARK_ROW, MODE_ROW, REGISTER_ROW, LEAVE_ROW = -1, -2, -3, -4  # rows outside of the data; only inequality matters
LOG_FIELDS = ("cycle", "command", "bank", "row")


@dataclass(frozen=True)
class AllBankMode:
    """How a channel's units are addressed together.

    Attributes:
        enter_banks: Banks in which the mode row is opened to enter the mode.
        leave_banks: Banks in which the leave row is closed to leave it.
        banks_per_unit: Banks that can be opened in the mode.
        column_gap: Least clocks between two column commands in the mode.
    """

    enter_banks: tuple[int, ...]
    leave_banks: tuple[int, ...]
    banks_per_unit: int
    column_gap: int


@dataclass(frozen=True)
class Served:
    """What serving requests took on one channel.

    Attributes:
        cycles: Clocks from the first request's arrival to the end of the last one.
        counts: Commands issued by name, refreshes of all ranks on the command bus included.
        array: Those of them that touch rows of data, not mode, register and park rows.
        log: (n, 4) clock, command, bank, row of every command if asked for; bank -1 for a refresh, -2 for one of another rank.
    """

    cycles: int
    counts: dict[str, int]
    array: dict[str, int]
    log: IntArray


def can_serve(spec: DramSpec) -> bool:
    """True when this engine knows everything that the memory needs."""
    standard = standard_of(spec)
    return not (standard.act2_within or standard.data_clock) and spec.controller.refresh in ("on", "off")


def serve(
    spec: DramSpec,
    requests: IntArray,
    mode: AllBankMode | None = None,
    idle_ranks: int = 0,
    refresh_yields: bool = False,
    log_commands: bool = False,
) -> Served:
    """Serves requests that are all there at clock 0 on one channel.

    Args:
        spec: The memory; `controller.read_queue` requests are looked at, `controller.refresh` is on or off.
        requests: (n, 5) int64 rows of command (`Command.RD` or `WR`), bank within the channel, row, column (bursts), flags: FENCE, and
            DRAIN for a request that is taken only when every earlier one has ended.
        mode: The all-bank mode; None when no request enters it.
        idle_ranks: Ranks without work on the same command bus, whose refreshes take turns with this one's.
        refresh_yields: Other commands go on while a refresh waits for its banks.
        log_commands: Return the command log.

    Raises:
        ConfigError: a memory that this engine does not serve.
        ValueError: an unknown command or bank, or requests that can never be served.
    """
    from pimsim.kernels import fenced

    if not can_serve(spec):
        raise ConfigError(
            f"dram.standard: {spec.standard} with refresh {spec.controller.refresh!r}: requests with fences are not modelled for it"
        )
    tables, timing, standard = _tables(spec), resolve_timing(spec), standard_of(spec)
    requests = np.ascontiguousarray(requests, np.int64)
    ranks, groups, banks, windows, longest = (int(x) for x in tables.shape)
    _check(requests, banks)
    nodes, commands = ranks + groups + banks, len(Command)
    state = (
        np.zeros((nodes, commands), np.int64),
        np.full((windows, nodes, longest), -(1 << 40), np.int64),
        np.zeros((windows, nodes), np.int64),
        np.full(banks, fenced.CLOSED, np.int64),
        np.zeros(spec.controller.read_queue + 1, np.int64),
        np.zeros(banks, np.bool_),
        np.zeros((banks, commands), np.int64),
    )
    turns = (1 + idle_ranks) * (spec.controller.refresh == "on")
    apart = max(timing["nREFI"] // (1 + idle_ranks), 1)
    done_after = np.array([evaluate(standard.read_latency, timing) + 1, evaluate(f"nCWL + {standard.common.get('nBL', 'nBL')}", timing)])
    counts = np.zeros((2, commands), np.int64)
    log = np.zeros((log_size(requests, apart) if log_commands else 0, len(LOG_FIELDS)), np.int64)
    refresh, edge = np.array([turns, apart, timing["nREFI"], not refresh_yields]), int(bool(standard.rising_edge))
    ended, issued = fenced.run(tables, state, requests, len(state[4]) - 1, refresh, _mode(mode, banks), edge, done_after, log, counts)
    if ended == fenced.STUCK and len(requests):
        raise ValueError(f"request {issued} {requests[issued].tolist()}: can never be served")
    total = counts.sum(axis=0)
    names = {command: command.name for command in Command}
    return Served(
        int(ended) + 1,
        {names[c]: int(total[c]) for c in Command if total[c]},
        {names[c]: int(counts[1, c]) for c in Command if counts[1, c]},
        log[:issued],
    )


def log_size(requests: IntArray, apart: int) -> int:
    """Room for the log: three commands a request, and for each refresh as many again as rows are opened anew."""
    return 8 * len(requests) + 4096 + len(requests) * 64 // apart


@lru_cache(maxsize=256)
def _tables(spec: DramSpec) -> ChannelTables:
    """Tables in which every command takes one clock and all share one bus."""
    return lower(spec, all_commands=True, standard=replace(standard_of(spec), two_cycle={}, dual_bus=False))


def _mode(mode: AllBankMode | None, banks: int) -> IntArray:
    if mode is None:
        return np.array([PARK_ROW, 0, PARK_ROW, 0, banks, 0])
    enter, leave = (sum(1 << bank for bank in some) for some in (mode.enter_banks, mode.leave_banks))
    return np.array([MODE_ROW, enter, LEAVE_ROW, leave, mode.banks_per_unit, mode.column_gap])


def _check(requests: IntArray, banks: int) -> None:
    if requests.ndim != 2 or requests.shape[1] != 5:
        raise ValueError(f"requests: shape {requests.shape}: must be (n, 5)")
    wrong = ~np.isin(requests[:, 0], (Command.RD, Command.WR)) | (requests[:, 1] < 0) | (requests[:, 1] >= banks)
    if wrong.any():
        at = int(wrong.argmax())
        raise ValueError(f"request {at}: command {requests[at, 0]}, bank {requests[at, 1]}: must be RD or WR at a bank in 0..{banks - 1}")
