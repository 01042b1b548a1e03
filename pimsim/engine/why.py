"""Bandwidth loss: every clock of the data bus charged to one cause, so that they add up to all of them.

Causes:
    data                data on the bus
    activation window   ACT waited for tFAW or tRRD
    row cycle           ACT or PRE waited for the row before it (tRC, tRAS, tRP, tRTP, tWR)
    column spacing      a column command waited for tCCD, in its bank group or beyond
    turn-around         between reads and writes, or between ranks
    refresh             REF and the closing of banks for it
    command bus         legal, but another command went first
    queue full          the request stood before a full queue
    idle                no request, and what follows the last burst

The kernel's docstring (`pimsim/kernels/why.py`) says how gaps with several causes are shared out.

Not modelled: what a wider window of requests or another order would have gained; a gap is charged to what held up the burst that
ended it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pimsim.dram.standard import COLUMN_COMMANDS, Command, common_timing, evaluate, standard_of
from pimsim.engine.tables import BANK, SIBLING, ChannelTables, lower
from pimsim.spec.dram import DramSpec

IntArray = NDArray[np.int64]

CAUSES = (
    "data",
    "activation window",
    "row cycle",
    "column spacing",
    "turn-around",
    "refresh",
    "command bus",
    "queue full",
    "idle",
)
READS, ACTIVATIONS = (Command.RD, Command.RDA), (Command.ACT, Command.ACT2)
REFRESHES = (Command.PREA, Command.REF, Command.REFPB, Command.REFSB)


def bandwidth_loss(spec: DramSpec, logs: list[IntArray], arrived: list[IntArray], due: list[IntArray], until: int) -> dict[str, int]:
    """Clocks of the data buses of all channels by cause, in the order of `CAUSES`.

    Args:
        spec: The memory.
        logs: Of each channel, its commands: clock, command, bank or rank, request or -1, (commands, 4).
        arrived: Of each channel, the clock at which each request was accepted.
        due: Of each channel, the clock before which each request was not offered.
        until: Last clock of the replay; buses are idle from their last burst to it, or to the last burst of all if that is later.
    """
    tables = lower(spec)
    lost = [_of_channel(spec, tables, *channel) for channel in zip(logs, arrived, due, strict=True)]
    end = max([until, *(last for _, last in lost)])
    total = np.sum([clocks for clocks, _ in lost], axis=0)
    total[CAUSES.index("idle")] += sum(end - last for _, last in lost)
    return dict(zip(CAUSES, total.tolist(), strict=True))


def _of_channel(spec: DramSpec, tables: ChannelTables, log: IntArray, arrived: IntArray, due: IntArray) -> tuple[IntArray, int]:
    from pimsim.kernels import why

    ranks, groups, banks, windows, longest = (int(x) for x in tables.shape)
    nodes, timing = ranks + groups + banks, common_timing(spec)
    blocked = arrived > np.maximum(np.concatenate([[-1], arrived[:-1]]) + 1, due)
    loss = np.zeros(why.CAUSES, np.int64)
    last = why.attribute(
        tables,
        causes(tables),
        np.zeros((why.CAUSES, nodes, len(Command)), np.int64),
        np.full((windows, nodes, longest), -(1 << 40), np.int64),
        np.zeros((windows, nodes), np.int64),
        log,
        arrived,
        blocked,
        timing["nBL"],
        evaluate(standard_of(spec).read_latency, timing) - timing["nBL"],
        timing["nCWL"],
        np.zeros((banks, why.CAUSES + 1), np.int64),
        np.zeros((banks, why.CAUSES + 1), np.int64),
        np.zeros(why.CAUSES, np.int64),
        loss,
    )
    return loss[: len(CAUSES)], int(last)


def causes(tables: ChannelTables) -> IntArray:
    """Cause of each row of `tables.constraints`, as the kernel numbers them."""
    found = np.zeros(len(tables.constraints), np.int64)
    for before in Command:
        for at in range(int(tables.start[before]), int(tables.start[before + 1])):
            scope, after = int(tables.constraints[at, 0]), Command(int(tables.constraints[at, 1]))
            found[at] = _cause(before, after, scope)
    return found


def _cause(before: Command, after: Command, scope: int) -> int:
    from pimsim.kernels import why

    if before in REFRESHES:
        return why.REFRESH
    if after in COLUMN_COMMANDS:
        if before in COLUMN_COMMANDS:
            same = (before in READS) == (after in READS)
            return why.SPACING if same and scope != SIBLING else why.TURN
        return why.CHAIN if before in ACTIVATIONS and scope == BANK else why.BUS
    if after == Command.ACT and before == Command.ACT and scope != BANK:
        return why.ACTIVATION
    if after == Command.ACT and before == Command.PRE and scope == BANK:
        return why.CHAIN
    return why.ROW if scope == BANK else why.BUS
