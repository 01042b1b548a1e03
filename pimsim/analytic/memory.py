"""Closed forms of plain memory traffic: contiguous streams and scattered look-ups.

Modelling decisions:
    * Stream: a row's bursts go every nCCDL; as soon as the next row, in another bank group or rank, is open, its bursts fill the gaps.
      It opens `nRP + nRCD` after its first burst has come into the controller's window, so that p bursts of the old row are left:
      p = window - opening / nCCDL, or less where rows are so short that the window reaches over more than two (`overlapped`).
    * Look-ups: the window is a closed system. By Little's law the entries in the window equal throughput times the time that an entry
      stays: waiting for its bank, for precharge, the activation window, the row to open and its turn on the data bus. Each station is a
      server with fixed service times (wait u / (2 (1 - u)) services), which sees a system of one customer less (u times (N - 1) / N).
      The throughput that fills the window is found by bisection; it never exceeds what a station can do.
    * A look-up to an open row needs no activation; bank loads and such hits are counted in the trace.
    * Bank groups: bursts of the only ready look-up are nCCDL apart; another ready one in another group fills the gap.
    * Refresh takes away the precharge, nRFC and the opening of a row in every nREFI.

Not modelled: rows that a younger request closes under an older one's hits (activations, and their energy, are too few by up to a
third where look-ups are several bursts long), alignment of commands to clock edges, full write queues.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pimsim.analytic.table import DeviceTable

Array = NDArray[np.float64]
HALVINGS = 26


@dataclass(frozen=True)
class Traffic:
    """Plain traffic on n devices: time, bytes over the interface, commands over all channels, dynamic energy by part; all (n,)."""

    latency_ps: Array
    bytes: Array
    commands: dict[str, Array]
    energy_pj: dict[str, Array]


def refreshed(table: DeviceTable, clocks: Array) -> Array:
    """Clocks of work stretched by the refreshes that fall into it, the first one nREFI after the start."""
    refi, lost = table["refi"], table["refresh"]
    count = np.maximum(np.floor((clocks - lost) / np.maximum(refi - lost, 1)), 0) * (lost > 0)
    return clocks + count * lost


def row_clocks(table: DeviceTable, opening: Array) -> Array:
    """Clocks from the end of one row of a stream to the end of the next, when rows open `opening` clocks after they are wanted.

    While j older rows drain side by side, each a burst every `gap`, the next one starts s bursts behind the youngest:
    j C - s j (j + 1) / 2 bursts of theirs fill the window, less the j o that are served until it is open (o = opening / gap).
    """
    run, gap, pair, window = table["run"], table["stream"], table["pair"], table["window"]
    ahead = opening / gap
    two = run * gap - np.clip(window - ahead, 0, run / 2) * (2 * gap - pair)
    more = np.max([(j * (run + ahead) - window) / (j * (j + 1) / 2) for j in range(2, 6)], axis=0) * gap
    return np.where((window - ahead <= run / 2) | (pair >= 2 * gap), two, np.clip(more, run * pair / 2 * (pair > gap), run * gap)).clip(
        run * table["burst"]
    )


def stream_clocks(table: DeviceTable, bursts: Array) -> Array:
    """Clocks of a contiguous stream in one channel, time lost to refresh left out; 0 bursts take none.

    Rows of banks that have not been open since the start or the last refresh open without a precharge.
    """
    run, gap, banks = table["run"], table["stream"], table["banks"]
    boundaries = np.where(run > 1, np.maximum(np.ceil(bursts / run) - 1, 0), 0)
    first, later = (row_clocks(table, opening) for opening in (table["rcd"], table["rp"] + table["rcd"]))
    between = np.where(table["refresh"] > 0, table["refi"] - table["refresh"], 1e15)
    rows = np.where(banks * first >= between, between / first, banks + (between - banks * first) / later)  # between two refreshes
    whole = np.floor(boundaries / rows)
    fresh = whole * np.minimum(banks, rows) + np.minimum(boundaries - whole * rows, banks - 1)
    saved = run * gap - np.where(boundaries > fresh, later, first)
    last = (bursts - boundaries * run) * gap
    clocks = table["unloaded"] + (bursts - 1) * gap - boundaries * run * gap + fresh * first + (boundaries - fresh) * later
    clocks += np.where(boundaries > 0, np.maximum(saved - last, 0), 0)
    turns = np.where(run > 1, 0, np.ceil(bursts / (banks * table["columns"])))
    opened = np.minimum(bursts, banks) - 1
    clocks += turns * opened * np.maximum(table["activate"] - gap, 0)
    return np.where(bursts > 0, clocks, 0)


def stream(table: DeviceTable, size_bytes: Array | float, channels: Array | float | None = None) -> Traffic:
    """Contiguous reads dealt evenly over all channels (`channels` of them, if given)."""
    channels = table["channels"] if channels is None else channels
    bursts = np.ceil(np.maximum(size_bytes, 0) / table["burst_bytes"])
    each = np.ceil(bursts / channels)
    clocks = refreshed(table, stream_clocks(table, each))
    busy = np.ceil(bursts / np.maximum(each, 1))
    rows = np.where(
        table["run"] > 1,
        np.ceil(each / table["columns"]),
        np.minimum(each, table["banks"] * np.ceil(each / table["columns"] / table["banks"])),
    )
    commands = {"ACT": rows * busy, "RD": each * busy}
    return Traffic(clocks * table["tck_ps"], bursts * table["burst_bytes"], commands, energy(table, commands, bursts))


def energy(table: DeviceTable, commands: dict[str, Array], bursts: Array | float) -> dict[str, Array]:
    """Dynamic energy of commands and of bursts that cross the interface; interface energy is 0 where the device gives none."""
    io = table["io_pj"]

    def of(command: str, each: Array) -> Array:
        count = commands.get(command, np.zeros(len(table)))
        return np.where(count > 0, count * each, 0.0)  # no command costs nothing, even where its energy is not known

    return {
        "dram_activate": of("ACT", table["act_pj"]),
        "dram_read": of("RD", table["rd_pj"]),
        "dram_write": of("WR", table["wr_pj"]),
        "dram_io": np.where(np.isnan(io), 0.0, bursts * table["burst_bytes"] * 8 * np.nan_to_num(io)),
    }


@dataclass(frozen=True)
class Load:
    """Look-ups of the busiest channel (or rank) of n devices.

    Attributes:
        count: (n,) look-ups.
        bursts: (n,) bursts of one, on average.
        shares: (n, banks) share of the look-ups in each bank; padded with zeros.
        opens: (n, banks) share of a bank's look-ups that open a row.
        tails: (n, r) position of the latest look-up with r openings of its bank behind it; -1 where there is none.
    """

    count: Array
    bursts: Array
    shares: Array
    opens: Array
    tails: Array

    @property
    def misses(self) -> Array:
        """(n,) share of the look-ups that open a row."""
        return (self.shares * self.opens).sum(axis=1)


@dataclass(frozen=True)
class Stations:
    """Clocks of the stations that a look-up passes; all (n,), but `buses` (n, buses).

    Attributes:
        window: Entries of the window.
        entries: Entries that a look-up takes.
        bank: A bank is busy with a look-up, (n, banks).
        row: From one activation of a bank to the next.
        activate: Between activations.
        opening: Activation to column command.
        closing: Precharge.
        transfer: First to last burst of a look-up that has the bus to itself.
        burst: Data bus for a look-up among others.
        alone: Data bus for a look-up when no other one is ready.
        other: Chance that another look-up cannot fill the gaps of one.
        slots: Command bus for a look-up.
        buses: Share of the look-ups that uses each data bus.
        keeps: From column command on, how long a row is open at least.
        waited: Chance that a request to another row of the bank waits in the window.
    """

    window: Array
    entries: Array
    bank: Array
    row: Array
    activate: Array
    opening: Array
    closing: Array
    transfer: Array
    burst: Array
    alone: Array
    other: Array
    slots: Array
    buses: Array
    keeps: Array
    waited: Array


def stations(table: DeviceTable, load: Load) -> Stations:
    """The stations of reads that end at the host."""
    k, gap, again = load.bursts, table["gap"], reopened(table, load)
    miss, opens = load.misses * again, load.opens * again[:, None]
    held = table["rcd"] + (k / again - 1) * gap + table["rtp"] + table["rp"]
    row, column = table["row_slots"] * miss, table["column_slots"] * k
    groups, ranks = table["groups"], table["ranks"]
    return Stations(
        window=table["window"],
        entries=k,
        bank=opens * np.maximum(table["rc"], held)[:, None] + (1 - load.opens) * (k * gap)[:, None],
        row=again * np.maximum(table["rc"], held),
        activate=table["activate"] * miss,
        opening=table["rcd"] * miss,
        closing=table["rp"] * miss,
        transfer=(k - 1) * gap,
        burst=k * table["burst"],
        alone=k * np.where(ranks > 1, table["switch"], gap),
        other=1 - (groups - 1) / (groups * ranks),
        slots=np.where(table["dual"] > 0, np.maximum(row, column), row + column),
        buses=np.ones((len(table), 1)),
        keeps=np.maximum(table["ras"] - table["rcd"], 0),
        waited=contended(table, load),
    )


def reopened(table: DeviceTable, load: Load) -> Array:
    """Times that a look-up opens its row, (n,): more than once where bursts come further apart than a read holds up a precharge.

    Then a request to another row of the bank that waits in the window closes the row as soon as nRAS has passed.
    """
    within = 1 + np.floor(np.maximum(table["ras"] - table["rcd"], 0) / table["gap"])
    again: Array = np.where(table["gap"] > table["rtp"], (np.ceil(load.bursts / within) - 1) * contended(table, load), 0)
    return 1 + again


def contended(table: DeviceTable, load: Load) -> Array:
    """(n,) chance that a request to another row of a look-up's bank waits in the window."""
    among = np.maximum(table["window"] / load.bursts, 1)
    waits: Array = (load.shares * (1 - (1 - load.shares) ** among[:, None])).sum(axis=1)
    return waits


def throughput(load: Load, at: Stations) -> Array:
    """Look-ups a clock that the window and the busiest station sustain, (n,)."""
    shares, k, among = load.shares, at.entries, together(at)
    fewer = (among - 1) / among
    busiest, widest = (shares * at.bank).max(axis=1), at.buses.max(axis=1)
    limit = 1 / np.maximum.reduce([busiest, widest * at.burst, at.activate, at.slots, np.full(len(k), 1e-9)])
    low, high = np.zeros_like(limit), limit.copy()
    for _ in range(HALVINGS):
        rate = (low + high) / 2
        queue = _wait(np.minimum(fewer * rate * widest * at.burst, 1), at.burst)
        late = (queue + at.transfer - at.keeps) / np.maximum(at.transfer, 1)
        again = 1 + at.waited * np.minimum(rate * widest * at.burst, 1) * np.clip(late, 0, 1) * (at.transfer > 0)
        bank = at.bank * again[:, None]
        wait = (shares * _wait((rate * fewer)[:, None] * shares * bank, bank)).sum(axis=1)
        wait += _wait(fewer * rate * at.activate * again, at.activate * again) + at.closing
        ready = np.maximum(among - 1 - rate * (wait + at.opening), 0)
        bus = np.maximum(at.slots, at.burst + np.maximum(at.alone - at.burst, 0) * at.other**ready)
        each = np.minimum(rate * widest * bus, 1)
        turn = np.maximum(_wait(fewer * each, bus) + bus / 2, at.transfer / 2) * (k > 1)
        entries = rate * (k * wait + (k - 1) * (at.opening + turn))
        full = (entries > at.window) | (rate * widest * bus > 1)
        high, low = np.where(full, rate, high), np.where(full, low, rate)
    return (low + high) / 2


def together(at: Stations) -> Array:
    """Look-ups in the window: those that wait, half of the oldest one, and the one in the active buffer."""
    return np.maximum(at.window / at.entries, 1) + 1.5


def _wait(used: Array, service: Array) -> Array:
    """Mean wait before a server with fixed service times that is used for a share of the time."""
    return used * service / (2 * (1 - np.minimum(used, 0.999999)))


def lookup_clocks(table: DeviceTable, load: Load, at: Stations | None = None) -> Array:
    """Clocks of the look-ups of one channel, time lost to refresh left out.

    The look-ups of the first window are there together; only the later ones come as the window lets them. Whatever the window, the
    look-up at position i is not served before i others have passed the busiest station, and the r rows that its bank opens behind it
    follow.
    """
    at = at or stations(table, load)
    rate = throughput(load, at)
    each = np.maximum.reduce([at.activate, at.burst * at.buses.max(axis=1), at.slots])
    behind = np.arange(load.tails.shape[1])
    chain = np.where(load.tails >= 0, load.tails * each[:, None] + behind * at.row[:, None], 0).max(axis=1)
    first = np.minimum(load.count - 1, together(at))
    clocks = np.maximum(chain, first * each + (load.count - 1 - first) / rate)
    return np.where(load.count > 0, table["unloaded"] + clocks + at.transfer, 0)
