"""Constraint tables bank against bank: what the open-page kernel reads instead of the constraint list.

For every ordered pair of banks, the clocks from a command at one to a command at the other, the largest over all levels that
they share. A command then updates the ready clocks of all banks with one addition and one maximum a bank.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pimsim.dram.standard import Command
from pimsim.engine.tables import BANK, BANKGROUP, CHANNEL, RANK, SIBLING, ChannelTables

IntArray = NDArray[np.int64]

BANK_COMMANDS = (Command.RD, Command.WR, Command.ACT, Command.PRE)
"""Commands of one bank, in the order in which the kernel numbers them."""
ALL_COMMANDS = (*BANK_COMMANDS, Command.PREA, Command.REF)
LANES = 16
"""Banks are padded to a multiple of this, so that loops over banks are whole vectors."""
MOST_BANKS, MOST_ENTRIES, LONGEST = 128, 128, 1 << 15
"""What a key and a small integer hold; the delays of one command at all banks should stay in the nearest cache."""


class PairTables(NamedTuple):
    """One channel as arrays for the open-page kernel.

    Attributes:
        delay: (4, banks, 4, lanes) clocks from a command at a bank to a command at another one (`BANK_COMMANDS`).
        reach: (4, 4) 0 no constraint, 1 at the same bank alone, 2 at several banks.
        to_rank: (6, 2, 2) clocks from `ALL_COMMANDS` to PREA and REF of the same and of another rank.
        from_rank: (2, 4, 2) clocks from PREA and REF to `BANK_COMMANDS` of the same and of another rank.
        shape: ranks, banks of all ranks, lanes, activations in the window (0 = no window), clocks of the window.
        options: as in `ChannelTables`.
        longest: (4, 4) largest `delay` from a command to a command, over all banks.
    """

    delay: NDArray[np.int16]
    reach: IntArray
    to_rank: IntArray
    from_rank: IntArray
    shape: IntArray
    options: IntArray
    longest: IntArray


def _shared(tables: ChannelTables, scope: int) -> NDArray[np.bool_]:
    """(banks, banks): which bank a constraint of a scope reaches from which one."""
    rank, group = tables.rank, tables.group
    if scope == BANK:
        return np.eye(len(rank), dtype=bool)
    if scope == BANKGROUP:
        return group[:, None] == group[None]
    if scope == RANK:
        return rank[:, None] == rank[None]
    if scope == SIBLING:
        return rank[:, None] != rank[None]
    return np.ones((len(rank), len(rank)), bool)


def pair_tables(tables: ChannelTables) -> PairTables | None:
    """The same channel bank against bank; None where the constraints do not fit (the general kernel takes any).

    Fits: open page, first-ready schedulers, all-bank refresh, one-step commands, no window but that of activations in a rank, no
    read merging, at most 128 banks and 128 entries a queue.
    """
    ranks, _, banks, _, _ = (int(x) for x in tables.shape)
    scheduler, closed = int(tables.options[0]), int(tables.options[1])
    longest = int(tables.constraints[:, 2].max(initial=0))
    entries = int(tables.options[3:5].max())
    general = closed or scheduler == 2 or tables.options[11]
    if general or banks > MOST_BANKS or entries > MOST_ENTRIES or longest >= LONGEST:
        return None
    lanes = -(-banks // LANES) * LANES
    delay = np.zeros((4, banks, 4, lanes), np.int16)  # 0 delays nothing: ready when the command goes is ready after it
    reach = np.zeros((4, 4), np.int64)
    to_rank, from_rank = np.zeros((6, 2, 2), np.int64), np.zeros((2, 4, 2), np.int64)
    window = (0, 0)
    for code in Command:
        for scope, after, latency, size, slot, _ in tables.constraints[tables.start[code] : tables.start[code + 1]].tolist():
            if code not in ALL_COMMANDS or after not in ALL_COMMANDS:
                return None
            x, y = ALL_COMMANDS.index(code), ALL_COMMANDS.index(Command(after))
            if slot >= 0:
                if window[0] or (code, after, scope) != (Command.ACT, Command.ACT, RANK):
                    return None
                window = (size, latency)
            elif x < 4 and y < 4:
                pairs = delay[x, :, y, :banks]
                np.maximum(pairs, np.where(_shared(tables, scope), np.int16(latency), np.int16(0)), out=pairs)
                reach[x, y] = max(reach[x, y], 1 if scope == BANK else 2)
            elif scope in (BANK, BANKGROUP):
                return None
            else:
                table, at = (to_rank, (x, y - 4)) if y >= 4 else (from_rank, (x - 4, y))
                where = [0, 1] if scope == CHANNEL else [1] if scope == SIBLING else [0]
                for other in where:
                    table[(*at, other)] = max(table[(*at, other)], latency)
    shape = np.array([ranks, banks, lanes, *window], np.int64)
    return PairTables(delay, reach, to_rank, from_rank, shape, tables.options.copy(), delay.max(axis=(1, 3)).astype(np.int64))
