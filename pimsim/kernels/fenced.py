"""Requests with fences through one queue: a controller that serves ordinary reads and writes, and drives near-bank units with them.

Each clock takes one request into the queue and issues at most one command, the first of these that is legal:

1. a refresh that is due, or the closing of a bank that stands in its way (the rest may go on meanwhile or wait);
2. the oldest column command whose row is open;
3. the opening of a row for the oldest request of a closed bank;
4. the closing of a row that no request up to the next fence wants, banks in turn.

A request with a fence is the last of its group: nothing behind it overtakes it, and it overtakes nothing.
"""

from __future__ import annotations

from pimsim.kernels.timing import NEVER, earliest, kernel
from pimsim.kernels.timing import record as record_inline

ACT, PRE, RD, WR, REF = 0, 1, 3, 4, 7
CLOSED = -(1 << 62)
COMMAND, BANK, ROW, COLUMN, FLAGS = 0, 1, 2, 3, 4
FENCE, DRAIN = 1, 2
TURNS, APART, INTERVAL, HOLD = 0, 1, 2, 3
ENTER_ROW, ENTER_BANKS, LEAVE_ROW, LEAVE_BANKS, OPENABLE, GAP = 0, 1, 2, 3, 4, 5
PATIENCE = 1 << 22
STUCK = -1
IDLE = -2


@kernel
def record(constraints, start, ready, history, position, command, rank, group, bank, ranks, groups, clock):
    """As `timing.record`, compiled once."""
    record_inline(constraints, start, ready, history, position, command, rank, group, bank, ranks, groups, clock)


@kernel
def _column(requests, queue, length, open_row, legal, clock, gap_end):
    """Oldest request that may issue its column command: (place or -1, next clock at which one may). A burst's own order is kept."""
    later = NEVER
    for i in range(length):
        q = queue[i]
        fence = requests[q, FLAGS] & FENCE
        if fence and i > 0:
            break
        b = requests[q, BANK]
        if open_row[b] == requests[q, ROW]:
            t = max(legal[b, requests[q, COMMAND]], gap_end)
            if t <= clock:
                free = True
                for j in range(i):
                    p = queue[j]
                    free &= requests[p, BANK] != b or requests[p, ROW] != requests[q, ROW] or requests[p, COLUMN] != requests[q, COLUMN]
                if free:
                    return i, clock
            elif t < later:
                later = t
        if fence:
            break
    return -1, later


@kernel
def _closed_bank(requests, queue, length, open_row, legal, openable, enter_row, clock):
    """Oldest request whose row may be opened: (place or -1, next clock at which one may). Only the head may be a fence."""
    later = NEVER
    for i in range(length):
        q = queue[i]
        if i > 0 and requests[q, FLAGS] & FENCE:
            break
        b = requests[q, BANK]
        if open_row[b] == CLOSED and (b < openable or requests[q, ROW] == enter_row):
            if legal[b, ACT] <= clock:
                return i, clock
            later = min(later, legal[b, ACT])
    return -1, later


@kernel
def _unwanted_row(requests, queue, length, open_row, legal, wanted, turn, clock):
    """Bank to close because no request up to the next fence wants its row: (bank or -1, next clock at which one may)."""
    banks = open_row.shape[0]
    wanted[:] = False
    for i in range(length):
        q = queue[i]
        b = requests[q, BANK]
        wanted[b] |= open_row[b] == requests[q, ROW]
        if requests[q, FLAGS] & FENCE:
            break
    later = NEVER
    for k in range(banks):
        b = (turn + k) % banks
        if open_row[b] != CLOSED and not wanted[b]:
            if legal[b, PRE] <= clock:
                return b, clock
            later = min(later, legal[b, PRE])
    return -1, later


@kernel
def _ahead_of_refresh(open_row, legal, clock):
    """What stands in the way of a refresh: (bank to close or -1, next clock at which one may close, all banks are closed)."""
    later = NEVER
    closed = True
    for b in range(open_row.shape[0]):
        if open_row[b] != CLOSED:
            closed = False
            if legal[b, PRE] <= clock:
                return b, clock, False
            later = min(later, legal[b, PRE])
    return -1, later, closed


@kernel
def _choose(tables, state, requests, length, waiting, hold, all_bank, mode, gap_end, turn, clock):
    """Command of this clock: (command or -1, bank, place in the queue or -1, next clock at which anything may go).

    The place is IDLE for a row that is closed because nothing wants it.
    """
    _, _, shape, _, _, _ = tables
    ready, _, _, open_row, queue, wanted, legal = state
    later = NEVER
    if waiting:
        b, later, closed = _ahead_of_refresh(open_row, legal, clock)
        if b >= 0:
            return PRE, b, -1, clock
        if closed:
            later = 0
            for r in range(shape[0]):
                later = max(later, ready[r, REF])
            if later <= clock:
                return REF, -1, -1, clock
        if hold:
            return -1, -1, -1, later
    place, t = _column(requests, queue, length, open_row, legal, clock, gap_end if all_bank else 0)
    if place >= 0:
        return requests[queue[place], COMMAND], requests[queue[place], BANK], place, clock
    later = min(later, t)
    openable = mode[OPENABLE] if all_bank else open_row.shape[0]
    place, t = _closed_bank(requests, queue, length, open_row, legal, openable, mode[ENTER_ROW], clock)
    if place >= 0:
        return ACT, requests[queue[place], BANK], place, clock
    later = min(later, t)
    b, t = _unwanted_row(requests, queue, length, open_row, legal, wanted, turn, clock)
    if b >= 0:
        return PRE, b, IDLE, clock
    return -1, -1, -1, min(later, t)


@kernel
def _apply(tables, state, command, b, clock):
    """Records a command in the constraint state."""
    constraints, start, shape, group, rank, _ = tables
    ready, history, position, _, _, _, legal = state
    ranks, groups, banks = shape[0], shape[1], shape[2]
    if command == REF:
        for r in range(ranks):
            record(constraints, start, ready, history, position, REF, r, 0, 0, ranks, groups, clock)
    else:
        record(constraints, start, ready, history, position, command, rank[b], group[b], b, ranks, groups, clock)
    for i in range(banks):
        for c in (ACT, PRE, RD, WR):
            legal[i, c] = earliest(ready, c, rank[i], group[i], i, ranks, groups)


@kernel
def run(tables, state, requests, window, refresh, mode, edge, done_after, log, counts):
    """Serves all requests of one channel.

    Args:
        tables: `ChannelTables` with the constraints of every command.
        state: (ready, history, position, open_row, queue, wanted, legal): zeros; history far in the past, rows CLOSED.
        requests: (n, 5) command, bank, row, column, flags.
        window: Requests that the queue holds.
        refresh: (ranks that share the command bus and are refreshed in turn, of which the first is this one, 0 = no refresh; clocks
            from one of them to the next; clocks between two refreshes of a rank; 1: nothing but
            closing banks goes on while a refresh of this rank waits, 0: everything does).
        mode: (row whose opening enters all-bank mode, bits of the banks in which; row whose closing leaves it, bits of the banks in
            which; banks that can be opened in all-bank mode; least clocks between column commands there).
        edge: 1 when commands go on odd clocks only, 0 when on all.
        done_after: Clocks from RD and from WR to the end of the request.
        log: (m, 4) out: clock, command, bank and row of the first m commands; bank -1 for a refresh, -2 for one of another rank.
        counts: (2, commands) out: commands on rows below zero and on others.

    Returns:
        (clock at which the last request has ended, commands issued), or STUCK and the first request that cannot be served.
    """
    open_row, queue = state[3], state[4]
    total = requests.shape[0]
    length, taken, served, issued, turn = 0, 0, 0, 0, 0
    clock, ended, progress = edge, -1, 0
    due, due_rank, waiting = refresh[APART], 0, -1  # a rank that falls due takes the place of one that still waits
    all_bank, entered, left, gap_end = False, 0, 0, 0
    while served < total or clock <= ended:
        if refresh[TURNS] > 0 and clock >= due:
            waiting = due_rank
            due_rank += 1
            due += refresh[APART]
            if due_rank == refresh[TURNS]:
                due_rank = 0
                due += refresh[INTERVAL] - refresh[TURNS] * refresh[APART]
        elsewhere = waiting > 0
        if elsewhere:  # a rank without work: nothing to close
            command, b, place, later = REF, -2, -1, clock
        else:
            command, b, place, later = _choose(
                tables, state, requests, length, waiting == 0, refresh[HOLD], all_bank, mode, gap_end, turn, clock
            )
        if command >= 0:
            row = requests[queue[place], ROW] if place >= 0 else open_row[max(b, 0)]
            if issued < log.shape[0]:
                log[issued, 0], log[issued, 1], log[issued, 2], log[issued, 3] = clock, command, b, row
            issued += 1
            counts[int(row >= 0), command] += 1
            if not elsewhere:
                _apply(tables, state, command, b, clock)
            if command == ACT:
                open_row[b] = row
                if row == mode[ENTER_ROW] and not all_bank:
                    entered |= 1 << b
                    all_bank = entered == mode[ENTER_BANKS]
                    entered = 0 if all_bank else entered
            elif command == PRE:
                open_row[b] = CLOSED
                turn = b if place == IDLE else turn
                if row == mode[LEAVE_ROW] and all_bank:
                    left |= 1 << b
                    all_bank = left != mode[LEAVE_BANKS]
                    left = left if all_bank else 0
            elif command == REF:
                waiting = -1
            else:
                gap_end, progress = clock + mode[GAP], clock
                ended = max(ended, clock + done_after[command - RD])
                served += 1
                length -= 1
                for i in range(place, length):
                    queue[i] = queue[i + 1]
        took = False
        if taken < total and length < window:
            took = not requests[taken, FLAGS] & DRAIN or (length == 0 and clock > ended)
            if took:
                queue[length] = taken
                length += 1
                taken += 1
            elif length == 0:
                later = min(later, ended + 1)
        if command >= 0 or took:
            clock = (clock + 1) | edge
            continue
        if refresh[TURNS] > 0:
            later = min(later, due)
        if served == total:
            later = min(later, ended + 1)
        if later == NEVER or clock - progress > PATIENCE:
            return STUCK, queue[0]
        clock = max(clock + 1, later) | edge
    return ended, issued
