"""Where embedding tables live: which channel, bank, row and column each row of each table starts at.

Modelling decisions:
    * `row`: the rows of a table are dealt over channels first, then banks; each table starts on another bank, so that the first rows of
      all tables do not share one.
    * `table`: each table fills one bank after another; tables start on the banks in turn, channels first.
    * `striped`: every row is cut into equal pieces, one for each unit of a channel; rows are dealt over channels, then over the banks
      of a unit. Pieces are rounded up to whole bursts.
    * A row never straddles two DRAM rows unless it is larger than one; its length is rounded up to a power of two of bursts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pimsim.dram.standard import Organisation
from pimsim.errors import ConfigError
from pimsim.graph import Table

IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Coordinates:
    """Where each look-up starts.

    Attributes:
        channel: Channel of each look-up.
        bank: Flat bank number within the channel, rank included; for `striped` the bank within the unit.
        row: DRAM row.
        column: First column, in bursts.
        bursts: Bursts to read from there on, in each unit for `striped`.
    """

    channel: IntArray
    bank: IntArray
    row: IntArray
    column: IntArray
    bursts: IntArray


def burst_slots(row_bytes: int, organisation: Organisation) -> int:
    """Bursts reserved for one table row: whole bursts, rounded up to a power of two."""
    bursts = -(-row_bytes // organisation.burst_bytes)
    return 1 << (bursts - 1).bit_length()


@dataclass(frozen=True)
class Placement:
    """Tables laid out in a memory of `channels` x `banks` banks.

    Attributes:
        policy: `row`, `table` or `striped`.
        channels: Channels.
        banks: Banks that a row may be dealt to: all banks of a channel, or the banks of one unit for `striped`.
        stripes: Units that a row is cut over (1 unless `striped`).
        organisation: Geometry of one channel.
        starts: First burst slot of each table, counted in its own region.
        slots: Burst slots of one row of each table.
        first_bank: Bank (over all channels) on which each table starts.
    """

    policy: str
    channels: int
    banks: int
    stripes: int
    organisation: Organisation
    starts: IntArray
    slots: IntArray
    first_bank: IntArray

    def locate(self, table: IntArray, index: IntArray) -> Coordinates:
        """Coordinates of look-ups given as table numbers and row numbers, both (n,)."""
        slots = self.slots[table]
        parallel = self.channels * self.banks
        bank_bursts = self.organisation.rows * self.organisation.columns
        if self.policy == "table":
            position = index * slots
            everywhere = (self.first_bank[table] + position // bank_bursts) % parallel
            offset = self.starts[table] + position % bank_bursts
        else:
            everywhere = (index + self.first_bank[table]) % parallel
            offset = self.starts[table] + (index // parallel) * slots
        columns = self.organisation.columns
        return Coordinates(
            channel=everywhere % self.channels,
            bank=everywhere // self.channels,
            row=offset // columns,
            column=offset % columns,
            bursts=slots,
        )


def place(tables: tuple[Table, ...], policy: str, organisation: Organisation, channels: int, stripes: int = 1) -> Placement:
    """Lays out tables.

    Args:
        tables: The embedding tables.
        policy: `row`, `table` or `striped`.
        organisation: Geometry of one channel.
        channels: Channels.
        stripes: Units of one channel, for `striped`.

    Raises:
        ConfigError: the tables do not fit, with both sizes.
    """
    stripes = stripes if policy == "striped" else 1
    banks = organisation.banks // stripes
    parallel = channels * banks
    bank_bursts = organisation.rows * organisation.columns
    slots = np.array([burst_slots(-(-t.row_bytes // stripes), organisation) for t in tables], np.int64)
    rows = np.array([t.rows for t in tables], np.int64)
    starts = np.zeros(len(tables), np.int64)
    first_bank = np.zeros(len(tables), np.int64)
    if policy == "table":
        highest = _fill_banks(rows * slots, bank_bursts, np.zeros(parallel, np.int64), starts, first_bank)
    else:
        first_bank = np.arange(len(tables)) * int(parallel * 0.618 + 1) % parallel
        per_bank = -(-rows // parallel) * slots
        per_bank = -(-per_bank // organisation.columns) * organisation.columns
        starts[1:] = np.cumsum(per_bank)[:-1]
        highest = int(per_bank.sum())
    if highest > bank_bursts:
        need_mb = sum(t.rows * t.row_bytes for t in tables) / 2**20
        have_mb = channels * organisation.banks * bank_bursts * organisation.burst_bytes / 2**20
        raise ConfigError(
            f"mapping.tables: {policy!r}: the tables ({need_mb:,.0f} MiB before padding) do not fit the {have_mb:,.0f} MiB of {channels} "
            "channel(s); use more channels, fewer bits or another placement"
        )
    return Placement(policy, channels, banks, stripes, organisation, starts, slots, first_bank)


def _fill_banks(needs: IntArray, bank_bursts: int, used: IntArray, starts: IntArray, first_bank: IntArray) -> int:
    """Gives each table its banks, tables of several banks first; fills `starts` and `first_bank`.

    Returns:
        Burst slots used in the fullest bank; more than a bank holds when a table finds no room.
    """
    for number in np.argsort(-(needs > bank_bursts).astype(int), kind="stable"):
        need = int(needs[number])
        span = -(-need // bank_bursts)
        if span == 1:
            first = int(np.argmin(used))
        else:
            empty = np.flatnonzero(used == 0)
            if span > len(empty) or empty[-1] - empty[0] != len(empty) - 1:
                return bank_bursts + 1
            first = int(empty[0])
        first_bank[number] = first
        starts[number] = used[first] if span == 1 else 0
        for step in range(span):
            used[first + step] += min(need - step * bank_bursts, bank_bursts)
    return int(used.max())
