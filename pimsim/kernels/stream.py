"""In-order issue of a fixed command stream (processing-in-memory kernels) under the constraint tables, refresh included.

Each command goes at the earliest legal clock after its predecessor. Bank -1 addresses every bank at once: it waits for the
slowest of them and counts as *one* activation in the activation window of each rank (as in Samsung's HBM-PIM).
"""

from __future__ import annotations

from numba import njit

from pimsim.kernels.timing import BANK, BANKGROUP, kernel
from pimsim.kernels.timing import record as record_inline

ACT, PRE, PREA, RD, WR, RDA, WRA, REF = 0, 1, 2, 3, 4, 5, 6, 7
OK, NOT_CLOSED, NOT_OPEN = 0, 1, 2
CLOSED = -(1 << 62)


@kernel
def record(constraints, start, ready, history, position, command, rank, group, bank, ranks, groups, clock):
    """As `timing.record`, compiled once: it is called in many places here."""
    record_inline(constraints, start, ready, history, position, command, rank, group, bank, ranks, groups, clock)


@njit(cache=True)
def _earliest(ready, command, b, rank, group, ranks, groups, banks):
    """First legal clock of a command at bank `b`, at all banks for -1, or at all ranks for commands of a whole rank."""
    at = 0
    if b >= 0 and command != PREA and command != REF:
        at = max(ready[rank[b], command], ready[ranks + group[b], command], ready[ranks + groups + b, command])
    else:
        nodes = ranks if command == PREA or command == REF else ranks + groups + banks
        for node in range(nodes):
            at = max(at, ready[node, command])
    return at


@njit(cache=True)
def _record_all(constraints, start, ready, history, position, command, ranks, groups, banks, clock):
    """Updates `ready` after a command at every bank: each rank, bank group and bank once."""
    for r in range(ranks):
        record(constraints, start, ready, history, position, command, r, 0, 0, ranks, groups, clock)
    for k in range(start[command], start[command + 1]):
        scope, after, until = constraints[k, 0], constraints[k, 1], (clock + constraints[k, 2]) | constraints[k, 5]
        if scope == BANKGROUP:
            for g in range(groups):
                ready[ranks + g, after] = max(ready[ranks + g, after], until)
        elif scope == BANK:
            for b in range(banks):
                ready[ranks + groups + b, after] = max(ready[ranks + groups + b, after], until)


@njit(cache=True)
def _issue(tables, ready, history, position, counts, open_row, command, b, row, clock):
    """Records one command and the state of its bank or banks."""
    constraints, start, shape, group, rank, _ = tables
    ranks, groups, banks = shape[0], shape[1], shape[2]
    counts[command] += 1
    if command == PREA or command == REF:
        for r in range(ranks):
            record(constraints, start, ready, history, position, command, r, 0, 0, ranks, groups, clock)
        b = -1
    elif b >= 0:
        record(constraints, start, ready, history, position, command, rank[b], group[b], b, ranks, groups, clock)
    else:
        _record_all(constraints, start, ready, history, position, command, ranks, groups, banks, clock)
    if command == ACT:
        new = row
    elif command == PRE or command == PREA or command == RDA or command == WRA:
        new = CLOSED
    else:
        return
    for i in range(b if b >= 0 else 0, b + 1 if b >= 0 else banks):
        open_row[i] = new


@njit(cache=True)
def _illegal(open_row, banks, command, b):
    """OK, or why the bank state forbids a command."""
    for i in range(b if b >= 0 else 0, b + 1 if b >= 0 else banks):
        if command == ACT and open_row[i] != CLOSED:
            return NOT_CLOSED
        if (command == RD or command == WR or command == RDA or command == WRA) and open_row[i] == CLOSED:
            return NOT_OPEN
        if command == REF and open_row[i] != CLOSED:
            return NOT_CLOSED
    return OK


@njit(cache=True)
def _refresh(tables, ready, history, position, counts, open_row, clock, together):
    """Closes all banks, refreshes and opens the same rows again; returns the clock of the last command.

    `together` opens all banks with one command again.
    """
    _, _, shape, group, rank, _ = tables
    ranks, groups, banks = shape[0], shape[1], shape[2]
    saved = open_row.copy()
    any_open = False
    for b in range(banks):
        any_open |= saved[b] != CLOSED
        together = together and saved[b] == saved[0]
    for step in range(banks + 2):
        command, b, row = ACT, step - 2, saved[max(step - 2, 0)]
        if step == 0:
            command = PREA
        elif step == 1:
            command = REF
        elif together:
            b = -1
        if (step != 1 and not any_open) or (step > 2 and together) or (step >= 2 and row == CLOSED):
            continue
        clock = max(clock + 1, _earliest(ready, command, b, rank, group, ranks, groups, banks))
        _issue(tables, ready, history, position, counts, open_row, command, b, row, clock)
    return clock


@njit(cache=True, nogil=True)
def issue(tables, ready, history, position, open_row, commands, column_gap, refresh, refresh_interval, begin, clocks, counts):
    """Issues a stream.

    Args:
        tables: `ChannelTables` with the constraints of every command.
        ready: (nodes, commands) zeros.
        history: Window history, far in the past.
        position: Window positions.
        open_row: (banks,) all CLOSED.
        commands: (n, 4) command, bank (-1 = all), row, least clocks after the previous command.
        column_gap: Least clocks between two column commands; 0 = only the constraint tables.
        refresh: Refresh at every `refresh_interval`.
        refresh_interval: nREFI.
        begin: First clock at which a command may go.
        clocks: (n,) out: clock of each command.
        counts: (commands,) out: commands issued, refresh and re-opening included.

    Returns:
        (status, index of the offending command).
    """
    _, _, shape, group, rank, _ = tables
    ranks, groups, banks = shape[0], shape[1], shape[2]
    clock = begin - 1
    last_column = begin - column_gap
    next_refresh = refresh_interval
    together = False
    for i in range(commands.shape[0]):
        command, b, row, gap = commands[i, 0], commands[i, 1], commands[i, 2], commands[i, 3]
        bad = _illegal(open_row, banks, command, b)
        if bad != OK:
            return bad, i
        column = command == RD or command == WR or command == RDA or command == WRA
        while True:
            t = max(clock + max(gap, 1), _earliest(ready, command, b, rank, group, ranks, groups, banks))
            if column:
                t = max(t, last_column + column_gap)
            if not refresh or t < next_refresh:
                break
            clock = _refresh(tables, ready, history, position, counts, open_row, max(clock, next_refresh - 1), together)
            next_refresh += refresh_interval
        _issue(tables, ready, history, position, counts, open_row, command, b, row, t)
        if command == ACT or command == PRE:
            together = command == ACT and b < 0
        if column:
            last_column = t
        clock = t
        clocks[i] = t
    return OK, -1
