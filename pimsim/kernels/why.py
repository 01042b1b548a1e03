"""Why the data bus was not busy: walks a command log and charges every gap between two bursts to what held the later one up.

A column command goes when the last of what holds it lets go: its row must be open, the column spacing and the turn-around kept,
its request there. The clocks by which the last is later than the second last are charged to the last, those by which the second
last is later than the third to the second, and so on until the gap is filled; clocks after the last one went to the command bus
or to the order of requests. What an ACT made late is charged to what held that ACT up, what its PRE made late to what held that
PRE up.
"""

from __future__ import annotations

from pimsim.kernels.timing import BANK, BANKGROUP, CHANNEL, SIBLING, inlined, kernel

# causes; CHAIN is the command before: the ACT of a column command, the PRE of an ACT
DATA, ACTIVATION, ROW, SPACING, TURN, REFRESH, BUS, QUEUE, IDLE, CHAIN = 0, 1, 2, 3, 4, 5, 6, 7, 8, 9
CAUSES = 10
ACT, PRE, PREA, RD, WR, RDA, WRA, REF, REFPB, REFSB, ACT2 = 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10


@inlined
def released(ready, command, rank, group, bank, ranks, groups, until, of):
    """Fills `of` with the clocks at which each cause lets a command at a bank go."""
    for cause in range(CAUSES):
        at = max(ready[cause, rank, command], ready[cause, ranks + group, command], ready[cause, ranks + groups + bank, command])
        of[cause] = min(at, until)


@inlined
def keep(copy, of):
    for cause in range(CAUSES):
        copy[cause] = of[cause]


@inlined
def charge(of, clock, amount, loss):
    """Charges `amount` clocks before `clock` to the causes in `of`, which is used up; returns the share of CHAIN."""
    chained = 0
    at = clock
    cause = BUS
    while amount > 0:
        following = IDLE
        for other in range(CAUSES):
            if of[other] > of[following]:
                following = other
        clocks = min(amount, at - of[following])
        if cause == CHAIN:
            chained += clocks
        else:
            loss[cause] += clocks
        amount -= clocks
        if of[following] <= 0:
            loss[IDLE] += amount
            break
        at = of[following]
        of[following] = 0
        cause = following
    return chained


@inlined
def record(constraints, start, cause_of, ready, history, position, command, rank, group, bank, ranks, groups, clock):
    """As `timing.record`, by cause."""
    for k in range(start[command], start[command + 1]):
        scope, after, cause = constraints[k, 0], constraints[k, 1], cause_of[k]
        until = clock + constraints[k, 2]
        if scope == BANK:
            node = ranks + groups + bank
        elif scope == BANKGROUP:
            node = ranks + group
        else:
            node = rank if scope != CHANNEL else 0
        slot = constraints[k, 4]
        if slot >= 0:
            window = constraints[k, 3]
            p = position[slot, node]
            history[slot, node, p] = clock
            p = p + 1 if p + 1 < window else 0
            position[slot, node] = p
            until = history[slot, node, p] + constraints[k, 2]
        if scope == CHANNEL or scope == SIBLING:
            for r in range(ranks):
                if scope == CHANNEL or r != rank:
                    ready[cause, r, after] = max(ready[cause, r, after], until)
        else:
            ready[cause, node, after] = max(ready[cause, node, after], until)


@kernel
def attribute(tables, cause_of, ready, history, position, log, arrived, blocked, burst, read_delay, write_delay, opened, closed, of, loss):
    """Charges every clock of the data bus up to the end of the last burst.

    Args:
        tables: `ChannelTables`.
        cause_of: (constraints,) cause of each row of `tables.constraints`.
        ready: (causes, nodes, commands) zeros.
        history: Window history, far in the past.
        position: Window positions.
        log: (n, 4) clock, command, bank (rank for PREA and REF), request or -1, in order.
        arrived: (requests,) clock at which each request was accepted.
        blocked: (requests,) a full queue kept it waiting.
        burst: Clocks of data of one column command.
        read_delay: Clocks from RD to its data.
        write_delay: Clocks from WR to its data.
        opened: (banks, causes + 1) zeros: what let the last ACT go, and its clock.
        closed: (banks, causes + 1) zeros: likewise of the last PRE.
        of: (causes,) scratch.
        loss: (causes,) out: clocks by cause.

    Returns:
        Clock at which the last burst ends.
    """
    constraints, start, shape, group, rank, _ = tables
    ranks, groups = shape[0], shape[1]
    busy_until = 0
    let_go = 0  # refresh holds the queues until it has gone
    for i in range(log.shape[0]):
        t, command, b, request = log[i, 0], log[i, 1], log[i, 2], log[i, 3]
        if command == PREA or command == REF:
            r, g, b = b, 0, 0
        else:
            r, g = rank[b], group[b]
        column = command >= RD and command <= WRA
        if column or command == ACT or command == PRE:
            released(ready, command, r, g, b, ranks, groups, t, of)
            of[REFRESH] = max(of[REFRESH], min(let_go, t))
            if request >= 0:
                of[QUEUE if blocked[request] else IDLE] = min(arrived[request] + 1, t)
            if command == ACT:
                keep(opened[b], of)
                opened[b, CAUSES] = t
            elif command == PRE:
                keep(closed[b], of)
                closed[b, CAUSES] = t
            else:
                data = t + (read_delay if command == RD or command == RDA else write_delay)
                late = charge(of, t, max(data - busy_until, 0), loss)
                if late > 0:
                    keep(of, opened[b])
                    late = charge(of, opened[b, CAUSES], late, loss)
                if late > 0:
                    keep(of, closed[b])
                    late = charge(of, closed[b, CAUSES], late, loss)
                    loss[ROW] += late
                loss[DATA] += max(data + burst - max(busy_until, data), 0)
                busy_until = max(busy_until, data + burst)
        if command == REF or command == REFPB or command == REFSB:
            let_go = t + 1
        record(constraints, start, cause_of, ready, history, position, command, r, g, b, ranks, groups, t)
    return busy_until
