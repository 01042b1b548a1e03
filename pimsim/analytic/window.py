"""Look-ups through the controller's window: a short walk, command by command, through a sample of the look-ups themselves.

Which look-ups meet in a bank, which rows a younger request closes under an older one's bursts, and how far the window then reaches
decide the time of scattered reads; no closed form of them holds within a tenth for rows of many bursts or for few look-ups. So this one
part of the closed forms is a simulation, though a small one (`pimsim.kernels.window`): one channel (or rank), reads alone, nothing
but ACT, PRE and RD under the constraints of the memory's own standard, so that overrides of its timing act as they do on the engine.

Modelling decisions:
    * Up to `MOST` look-ups are walked through all. More are walked through once under the standard's own timing, and a small sample of
      them under that timing and under the device's: what its timing changes is taken from the sample, the rest from all.
    * A sample is pieces of `PIECE` consecutive look-ups, evenly spread from the first to the last and walked through one after another; the
      bursts left out go at the rate at which those of the sample went, its first and last eighth aside. Of more than `WHOLE` look-ups the
      long walk is a sample, too.
    * Walks are kept in the process by look-ups and constraints: devices that differ in refresh, clocks of units, energy or host share
      them, and so do further estimates of the same look-ups.
    * The slowest of several channels is the one that is slowest under the standard's own timing, unless the longest bank of another, a row
      cycle an opening, might still take longer. Up to `MOST` look-ups in all, every channel is walked through.

Not modelled: refresh (`refreshed` stretches the time), writes, merged reads, page policies and schedulers other than open rows and
first ready first come.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pimsim.analytic.table import timing_of
from pimsim.dram.standard import Command, evaluate, resolve_organisation, standard_of
from pimsim.engine.reducers import Level, ending_at
from pimsim.engine.tables import bus_constraints
from pimsim.spec.dram import DramSpec

IntArray = NDArray[np.int64]
MOST, PIECE, PIECES = 256, 64, 2
WHOLE, LONG_PIECE = 8192, 1024
KEPT, DIGEST = 1 << 18, 16
"""Walks whose result is kept, and bytes by which look-ups and constraints are told apart."""
COMMANDS = (Command.ACT, Command.PRE, Command.RD)
SCOPES = {"bank": 0, "bankgroup": 1, "rank": 2, "sibling": 3, "channel": 4}


@dataclass(frozen=True)
class Sample:
    """Look-ups of one channel or rank that are walked through.

    Attributes:
        bank: (n,) bank of each.
        row: (n,) row.
        bursts: (n,) bursts.
        at: (n,) position among all.
        skipped: Bursts of those left out.
        opened: Rows that those of the sample open if none is closed under its bursts.
        longest: Rows that one bank opens at most, of all.
        key: The same for two samples that a walk cannot tell apart.
        whole: All of them (or a longer sample), where these are not.
    """

    bank: IntArray
    row: IntArray
    bursts: IntArray
    at: IntArray
    skipped: int
    opened: int
    longest: int
    key: bytes
    whole: Sample | None = None


@dataclass(frozen=True)
class Due:
    """When look-ups come.

    Attributes:
        clock: (all,) clock before which each does not come; (0,) they come as the window lets them.
        key: The same for the same clocks.
    """

    clock: IntArray
    key: bytes

    @classmethod
    def at(cls, clock: IntArray) -> Due:
        """Look-ups that come at known clocks."""
        return cls(clock, _digest(clock))


AT_ONCE = Due(np.empty(0, np.int64), b"")


@dataclass(frozen=True)
class Walked:
    """Clocks of all look-ups up to the last beat, refresh left out, and activations for each row that had to be opened."""

    clocks: float
    reopened: float


NOTHING = Walked(0.0, 1.0)


def sample(
    bank: IntArray, row: IntArray, bursts: IntArray, opens: NDArray[np.bool_], most: int = MOST, pieces: tuple[int, int] = (PIECES, PIECE)
) -> Sample:
    """What is walked through of one channel's look-ups.

    Args:
        bank, row, bursts: (n,) of each, in order of request.
        opens: (n,) whether a row is opened.
        most: Look-ups of which all are walked through.
        pieces: Number and size of the pieces of a sample.
    """
    n = len(bank)
    longest = int(np.bincount(bank, opens).max(initial=0))

    def of(at: IntArray, whole: Sample | None = None) -> Sample:
        kept = [np.ascontiguousarray(field[at], np.int64) for field in (bank, row, bursts)]
        skipped = int(bursts.sum() - kept[2].sum())
        key = _digest(*kept, np.array([skipped])) + (whole.key if whole else b"")
        return Sample(kept[0], kept[1], kept[2], at, skipped, int(opens[at].sum()), longest, key, whole)

    every = of(np.arange(n) if n <= WHOLE else _pieces(n, LONG_PIECE, WHOLE // LONG_PIECE))
    return every if n <= most else of(_pieces(n, pieces[1], pieces[0]), every)


def _pieces(n: int, size: int, count: int) -> IntArray:
    """(count * size,) positions of pieces among n, evenly spread from the first to the last."""
    starts = np.linspace(0, n - size, count).astype(np.int64)
    return (starts[:, None] + np.arange(size)).ravel()


def _digest(*arrays: IntArray) -> bytes:
    found = hashlib.blake2b(digest_size=DIGEST)
    for array in arrays:
        found.update(array.tobytes())
    return found.digest()


@dataclass(frozen=True)
class Rules:
    """What the window kernel reads of one memory.

    Attributes:
        delay: Clocks between commands by scope.
        options: Its options.
        cycle: Clocks from one row of a bank to the next.
        key: The same for two memories that a walk cannot tell apart.
        standard: Those of the memory without overrides of its timing; None: there are none.
    """

    delay: IntArray
    options: IntArray
    cycle: int
    key: bytes
    standard: Rules | None = None


@lru_cache(maxsize=256)
def _constraints(name: DramSpec, level: Level, piece: int) -> tuple[tuple[int, int, int, str, int, bool], ...]:
    """Constraints among ACT, PRE and RD: both commands, scope, latency, clocks added to it, whether it is that of four activations."""
    standard = ending_at(standard_of(name), level, piece)
    found = [
        (
            COMMANDS.index(before),
            COMMANDS.index(after),
            SCOPES["sibling" if each.sibling else each.level],
            each.latency,
            standard.two_cycle.get(before, 1) - standard.two_cycle.get(after, 1),
            each.window > 1,
        )
        for each in standard.constraints
        for before in each.preceding
        for after in each.following
        if before in COMMANDS and after in COMMANDS
    ]
    for before, after, clocks in bus_constraints(standard):
        if before in COMMANDS and after in COMMANDS:
            found.append((COMMANDS.index(before), COMMANDS.index(after), SCOPES["channel"], str(clocks), 0, False))
    return tuple(found)


@lru_cache(maxsize=1 << 16)
def rules(dram: DramSpec, level: Level = "rank", piece: int = 1, alone: bool = False) -> Rules:
    """Rules of one channel of a memory.

    Args:
        dram: The memory.
        level: Where the data end (`pimsim.engine.reducers`).
        piece: Bursts of one read.
        alone: One rank on its own controller instead of the channel.
    """
    timing, organisation, standard = timing_of(dram), resolve_organisation(dram), standard_of(dram)
    delay, four, together = np.zeros((3, 3, 5), np.int64), 0, False
    plain = DramSpec(standard=dram.standard, organisation=dram.organisation, speed=dram.speed)
    for before, after, scope, latency, more, window in _constraints(plain, level, piece):
        clocks = evaluate(latency, timing) + more
        if window:
            four, together = clocks, scope == SCOPES["channel"]
        else:
            delay[before, after, scope] = max(delay[before, after, scope], clocks)
    delay[:, :, 2] = np.maximum(delay[:, :, 2], delay[:, :, 4])
    ranks = 1 if alone else organisation.ranks
    ended = ending_at(standard, level, piece)
    options = [
        organisation.banks // organisation.ranks * ranks,
        organisation.bankgroups * ranks,
        ranks,
        dram.controller.read_queue,
        evaluate(ended.read_latency, timing),
        standard.dual_bus,
        bool(standard.rising_edge),
        evaluate(standard.act2_within, timing) if standard.act2_within else -1,
        evaluate(standard.data_clock[0], timing) if standard.data_clock else 0,
        four,
        together,
    ]
    kept, (opened, closed) = np.array(options, np.int64), (delay[0, :, 0], delay[1, :, 0])
    without = rules(dram.model_copy(update={"timing": {}}), level, piece, alone) if dram.timing else None
    return Rules(delay, kept, int(max(opened[0], opened[1] + closed[0])), _digest(delay, kept), without)


_kept: dict[tuple[bytes, bytes, bytes], Walked] = {}


def slowest(by: Rules, channels: Sequence[Sample], due: Sequence[Due] | None = None) -> Walked:
    """The walk through the slowest of some channels (or ranks); `due` as in `walked`, for each."""
    due = [AT_ONCE] * len(channels) if due is None else due
    if sum(len(reads.bank) for reads in channels) <= MOST:
        return max((walked(by, reads, each) for reads, each in zip(channels, due, strict=True)), key=_clocks, default=NOTHING)
    usual = [walked(by.standard or by, reads, each).clocks for reads, each in zip(channels, due, strict=True)]
    first = usual.index(max(usual))
    found = walked(by, channels[first], due[first])
    for number, reads in enumerate(channels):
        if by.standard is not None and number != first and reads.longest * by.cycle * found.reopened > found.clocks:
            found = max(found, walked(by, reads, due[number]), key=_clocks)
    return found


def _clocks(walk: Walked) -> float:
    return walk.clocks


def walked(by: Rules, reads: Sample, due: Due = AT_ONCE) -> Walked:
    """Clocks of all look-ups of a channel under the rules of a memory."""
    key = (by.key, reads.key, due.key)
    if key not in _kept:
        if len(_kept) >= KEPT:
            _kept.clear()
        _kept[key] = _estimated(by, reads, due)
    return _kept[key]


def _estimated(by: Rules, reads: Sample, due: Due) -> Walked:
    """All look-ups walked through, or all of them under the standard's own timing and a sample under both."""
    if not len(reads.bank):
        return NOTHING
    if reads.whole is None:
        return _walk(by, reads, due.clock)
    standard = by.standard or by
    every = walked(standard, reads.whole, due)
    if standard.key == by.key:
        return every
    alone = replace(reads, whole=None, key=reads.key[:DIGEST])
    here, there = walked(by, alone, due), walked(standard, alone, due)
    return Walked(every.clocks * here.clocks / there.clocks, every.reopened * here.reopened / there.reopened)


def paced(by: Rules, reads: Sample, marks: tuple[int, int]) -> float:
    """Clocks a burst of look-ups between two numbers of bursts served."""
    out = _clocks_at(by, reads, AT_ONCE.clock, marks)
    return float((out[2] - out[1]) / (marks[1] - marks[0]))


def _walk(by: Rules, reads: Sample, due: IntArray) -> Walked:
    served = int(reads.bursts.sum())
    marks = max(served // 8, 1), max(served - served // 8, 2)
    out = _clocks_at(by, reads, due, marks)
    pace = (out[2] - out[1]) / (marks[1] - marks[0]) if reads.skipped else 0.0
    return Walked(float(out[0] + reads.skipped * pace), float(out[3] / max(reads.opened, 1)))


def _clocks_at(by: Rules, reads: Sample, due: IntArray, marks: tuple[int, int]) -> IntArray:
    """(4,) clock of the last beat, of the reads at both marks, and activations."""
    from pimsim.kernels import window

    if len(due):
        due = np.cumsum(np.diff(due, prepend=0)[reads.at])
    banks, groups, ranks, entries = by.options[:4]
    out = np.zeros(4, np.int64)
    window.walk(
        by.delay,
        by.options,
        reads.bank,
        reads.row,
        reads.bursts,
        due,
        np.array(marks),
        np.empty((4, 4 * entries), np.int64),
        np.empty((2, banks + 1), np.int64),
        np.empty((3, banks + groups + ranks), np.int64),
        np.empty(banks, np.int64),
        np.empty(banks, np.int64),
        np.empty((2, banks), np.int64),
        np.empty((ranks, 3), np.int64),
        out,
    )
    return out
