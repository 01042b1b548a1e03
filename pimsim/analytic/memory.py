"""Closed forms of plain memory traffic: contiguous streams, refresh, energy of commands (look-ups: `pimsim.analytic.window`).

Modelling decisions:
    * Stream: a row's bursts go every nCCDL; as soon as the next row, in another bank group or rank, is open, its bursts fill the gaps.
      It opens `nRP + nRCD` after its first burst has come into the controller's window, so that p bursts of the old row are left:
      p = window - opening / nCCDL, or less where rows are so short that the window reaches over more than two (`row_clocks`); where these
      lie in ranks that take turns, `pimsim.analytic.rows` takes a short walk.
    * Refresh takes away the precharge, nRFC and the opening of a row in every nREFI.

Not modelled: alignment of commands to clock edges, full write queues.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pimsim.analytic.rows import row_paces
from pimsim.analytic.table import DeviceTable

Array = NDArray[np.float64]


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


def _paces(table: DeviceTable) -> Array:
    """(2, n) clocks from row to row of a stream, in banks still closed and in banks with another row open."""
    found = np.stack([row_clocks(table, opening) for opening in (table["rcd"], table["rp"] + table["rcd"])])
    gap, pair, run = table["stream"], table["pair"], table["run"]
    third = table["window"] - table["rcd"] / gap > run / 2
    for at in np.flatnonzero(third & (pair > 2 * table["burst"]) & (pair < 2 * gap) & (run > 1)):
        found[:, at] = row_paces(table.devices[at].dram)
    return found


def stream_clocks(table: DeviceTable, bursts: Array) -> Array:
    """Clocks of a contiguous stream in one channel, time lost to refresh left out; 0 bursts take none.

    Rows of banks that have not been open since the start or the last refresh open without a precharge. Of two rows alone, all bursts of
    the second that come into the window beside the first fill gaps.
    """
    run, gap, banks = table["run"], table["stream"], table["banks"]
    boundaries = np.where(run > 1, np.maximum(np.ceil(bursts / run) - 1, 0), 0)
    first, later = table.keep("rows of a stream", lambda: _paces(table))
    between = np.where(table["refresh"] > 0, table["refi"] - table["refresh"], 1e15)
    rows = np.where(banks * first >= between, between / first, banks + (between - banks * first) / later)  # between two refreshes
    whole = np.floor(boundaries / rows)
    fresh = whole * np.minimum(banks, rows) + np.minimum(boundaries - whole * rows, banks - 1)
    saved = run * gap - np.where(boundaries > fresh, later, first)
    last = (bursts - boundaries * run) * gap
    clocks = table["unloaded"] + (bursts - 1) * gap - boundaries * run * gap + fresh * first + (boundaries - fresh) * later
    clocks += np.where(boundaries > 0, np.maximum(saved - last, 0), 0)
    shared = np.clip(table["window"] - table["rcd"] / gap, 0, last / gap) * (2 * gap - table["pair"])
    clocks = np.where(boundaries == 1, table["unloaded"] + (bursts - 1) * gap - shared, clocks)
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
