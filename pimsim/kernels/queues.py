"""What the controller keeps: queues as lists per bank, candidates by kind of command, the active buffer, open rows.

Candidates of one queue are lists of banks, one for each kind of command that a bank's requests wait for; a bank is in the list of
column commands with its oldest request to the open row, and in the list of ACT or PRE with its oldest other request.
"""

from __future__ import annotations

from pimsim.kernels.timing import BANK, NEVER, earliest, inlined, kernel

ACT, PRE, PREA, RD, WR, RDA, WRA, REF, REFPB, REFSB, ACT2, CAS_RD, CAS_WR = range(13)
FRFCFS, ROW_HIT, FCFS = 0, 1, 2

# columns of `slot`: one queued or active request
S_BANK, S_ROW, S_COLUMN, S_ARRIVE, S_REQUEST, S_WRITE, S_COUNTED, S_NEXT, S_PREV = range(9)
# reads merged into it: how many, the sum of their arrivals, the last of them (the chain goes on in `departed`)
S_MERGED, S_MERGED_ARRIVALS, S_CHAIN = 9, 10, 11
SLOT_FIELDS = 12
# columns of `per_bank`: reads, writes, ACT, PRE, then row hits, misses and conflicts, then the sum of read latencies
P_ACT, P_PRE, P_HITS, P_LATENCY = 2, 3, 4, 7
# columns of `queue[read or write, bank]`: a list in order of arrival, its oldest request to the open row, its oldest other one
Q_HEAD, Q_TAIL, Q_HIT, Q_MISS = range(4)
# kinds of candidates in `member[read or write, kind]`: lists of banks
K_COLUMN, K_ACT, K_PRE = range(3)
# columns of `bank_state`
B_ROW, B_ACTIVE, B_ACCESSES, B_INJECTED = range(4)
# columns of `rank_state`
R_OPEN, R_ACTIVE, R_SINCE, R_CLOCKS = range(4)


@inlined
def first(slot, s, open_row, hit):
    """First request from `s` on that is (hit) or is not (not hit) to the open row, or -1."""
    while s >= 0:
        if (slot[s, S_ROW] == open_row) == hit:
            return s
        s = slot[s, S_NEXT]
    return -1


@inlined
def rescan(slot, queue, b, open_row):
    """Finds both candidates of a bank again after its open row changed."""
    for q in range(2):
        head = queue[q, b, Q_HEAD]
        if head >= 0:
            queue[q, b, Q_HIT] = first(slot, head, open_row, True) if open_row >= 0 else -1
            queue[q, b, Q_MISS] = first(slot, head, open_row, False)


@inlined
def append(slot, queue, q, b, s, open_row):
    tail = queue[q, b, Q_TAIL]
    slot[s, S_PREV] = tail
    slot[s, S_NEXT] = -1
    if tail >= 0:
        slot[tail, S_NEXT] = s
    else:
        queue[q, b, Q_HEAD] = s
    queue[q, b, Q_TAIL] = s
    which = Q_HIT if slot[s, S_ROW] == open_row else Q_MISS
    if queue[q, b, which] < 0:
        queue[q, b, which] = s


@inlined
def remove(slot, queue, q, b, s, open_row):
    after = slot[s, S_NEXT]
    before = slot[s, S_PREV]
    if queue[q, b, Q_HIT] == s:
        queue[q, b, Q_HIT] = first(slot, after, open_row, True)
    if queue[q, b, Q_MISS] == s:
        queue[q, b, Q_MISS] = first(slot, after, open_row, False)
    if before >= 0:
        slot[before, S_NEXT] = after
    else:
        queue[q, b, Q_HEAD] = after
    if after >= 0:
        slot[after, S_PREV] = before
    else:
        queue[q, b, Q_TAIL] = before


@inlined
def set_member(member, size, place, q, kind, b, belongs):
    """Puts a bank into the candidates of one kind of command of one queue, or takes it out."""
    at = place[q, kind, b]
    if belongs:
        if at < 0:
            n = size[q, kind]
            member[q, kind, n] = b
            place[q, kind, b] = n
            size[q, kind] = n + 1
    elif at >= 0:
        n = size[q, kind] - 1
        last = member[q, kind, n]
        member[q, kind, at] = last
        place[q, kind, last] = at
        place[q, kind, b] = -1
        size[q, kind] = n


@inlined
def classify(slot, queue, bank_state, member, size, place, q, b, scheduler):
    """Which commands the requests of a queue to one bank wait for: a column command, an ACT, a PRE."""
    hit = queue[q, b, Q_HIT]
    miss = queue[q, b, Q_MISS]
    is_open = bank_state[b, B_ROW] >= 0
    close = miss >= 0 and is_open and bank_state[b, B_ACTIVE] < 0
    if close and scheduler == ROW_HIT and hit >= 0:
        close = slot[hit, S_ARRIVE] > slot[miss, S_ARRIVE]
    set_member(member, size, place, q, K_COLUMN, b, hit >= 0)
    set_member(member, size, place, q, K_ACT, b, miss >= 0 and not is_open)
    set_member(member, size, place, q, K_PRE, b, close)


@inlined
def scan(slot, queue, member, size, ready, group, rank, ranks, groups, q, kind, which, command, now):
    """Earliest clock at which any bank is ready for one kind of command, and the oldest request that is ready then."""
    best_t = NEVER
    best_s = -1
    best_a = NEVER
    for i in range(size[q, kind]):
        b = member[q, kind, i]
        t = ready[ranks + groups + b, command]
        u = ready[ranks + group[b], command]
        if u > t:
            t = u
        u = ready[rank[b], command]
        if u > t:
            t = u
        if now > t:
            t = now
        if t <= best_t:
            s = queue[q, b, which]
            arrive = slot[s, S_ARRIVE]
            if t < best_t or arrive < best_a:
                best_t = t
                best_s = s
                best_a = arrive
    return best_t, best_s, best_a


@inlined
def scan_active(slot, active, n_active, ready, group, rank, ranks, groups, now, in_order):
    """Earliest clock and oldest request of the active buffer that is ready then; `in_order` looks at the oldest only."""
    best_t = NEVER
    best_i = -1
    best_a = NEVER
    for i in range(n_active):
        s = active[i]
        b = slot[s, S_BANK]
        arrive = slot[s, S_ARRIVE]
        command = WR if slot[s, S_WRITE] != 0 else RD
        t = ready[ranks + groups + b, command]
        u = ready[ranks + group[b], command]
        if u > t:
            t = u
        u = ready[rank[b], command]
        if u > t:
            t = u
        if now > t:
            t = now
        if in_order:
            if arrive < best_a:
                best_t = t
                best_i = i
                best_a = arrive
        elif t < best_t or (t == best_t and arrive < best_a):
            best_t = t
            best_i = i
            best_a = arrive
    return best_t, best_i


@kernel
def oldest(slot, queue, bank_state, ready, group, rank, ranks, groups, banks, q, now, edge):
    """First-come first-served: the command of the oldest request of a queue as (clock, request, is a row command)."""
    s = -1
    arrive = NEVER
    for i in range(banks):
        head = queue[q, i, Q_HEAD]
        if head >= 0 and slot[head, S_ARRIVE] < arrive:
            arrive = slot[head, S_ARRIVE]
            s = head
    if s < 0:
        return NEVER, -1, False
    b = slot[s, S_BANK]
    row = bank_state[b, B_ROW]
    is_row = row != slot[s, S_ROW]
    if is_row and row >= 0 and bank_state[b, B_ACTIVE] >= 0:
        return NEVER, -1, True
    command = (ACT if row < 0 else PRE) if is_row else (WR if q == 1 else RD)
    return max(now if command == PRE else now | edge, earliest(ready, command, rank[b], group[b], b, ranks, groups)), s, is_row


@kernel
def maintenance_command(entry, partial, bank_state, rank_state, ready, group, rank, ranks, groups, now, edge):
    """Next command of the oldest maintenance request, its earliest clock and its bank.

    `entry` is a rank to refresh, -1 - a bank to close, or ranks + the first of the banks to refresh: `partial` is (sets of banks
    in a rank, banks of a set, distance between them, command).
    """
    if entry < 0:
        b = -1 - entry
        if bank_state[b, B_ACTIVE] >= 0:
            return PRE, NEVER, b
        return PRE, max(now, earliest(ready, PRE, rank[b], group[b], b, ranks, groups)), b
    if entry < ranks:
        command = PREA if rank_state[entry, R_OPEN] > 0 else REF
        if rank_state[entry, R_ACTIVE] > 0:
            return command, NEVER, entry
        return command, max(ready[entry, command], now if command == PREA else now | edge), entry
    t = now | edge
    for i in range(partial[1]):
        b = entry - ranks + i * partial[2]
        if bank_state[b, B_ACTIVE] >= 0:
            return PRE, NEVER, b
        if bank_state[b, B_ROW] >= 0:
            return PRE, max(now, earliest(ready, PRE, rank[b], group[b], b, ranks, groups)), b
        t = max(t, earliest(ready, partial[3], rank[b], group[b], b, ranks, groups))
    return partial[3], t, entry - ranks


@kernel
def record_further_banks(constraints, start, ready, partial, command, first, ranks, groups, clock):
    """Updates the banks that a refresh of several banks touches beside the first: bank-level constraints alone."""
    for i in range(1, partial[1]):
        node = ranks + groups + first + i * partial[2]
        for k in range(start[command], start[command + 1]):
            if constraints[k, 0] == BANK:
                after = constraints[k, 1]
                ready[node, after] = max(ready[node, after], (clock + constraints[k, 2]) | constraints[k, 5])


@inlined
def position_of(active, n_active, s):
    """Where a request is in the active buffer, or -1."""
    for i in range(n_active):
        if active[i] == s:
            return i
    return -1


@inlined
def close_bank(bank_state, rank_state, b, r, t):
    if bank_state[b, B_ROW] >= 0:
        rank_state[r, R_OPEN] -= 1
        if rank_state[r, R_OPEN] == 0:
            rank_state[r, R_CLOCKS] += t - rank_state[r, R_SINCE]
    bank_state[b, B_ROW] = -1
    bank_state[b, B_ACCESSES] = 0
    bank_state[b, B_INJECTED] = 0


@kernel
def buffered_write(slot, queue, b, row, column):
    """True when the write queue holds this burst."""
    s = queue[1, b, Q_HEAD]
    while s >= 0:
        if slot[s, S_ROW] == row and slot[s, S_COLUMN] == column:
            return True
        s = slot[s, S_NEXT]
    return False


@kernel
def pending_read(slot, queue, bank_state, b, row, column):
    """The read of this burst that waits in the read queue or the active buffer, or -1."""
    s = queue[0, b, Q_HEAD]
    while s >= 0:
        if slot[s, S_ROW] == row and slot[s, S_COLUMN] == column:
            return s
        s = slot[s, S_NEXT]
    s = bank_state[b, B_ACTIVE]
    if s >= 0 and slot[s, S_WRITE] == 0 and slot[s, S_ROW] == row and slot[s, S_COLUMN] == column:
        return s
    return -1


@inlined
def touches_of(constraints, start, command):
    """Whether a command delays column commands (1), ACT (2) or PRE (4) of other banks, as the sum."""
    touches = 0
    for k in range(start[command], start[command + 1]):
        if constraints[k, 0] != BANK:
            after = constraints[k, 1]
            touches |= 2 if after == ACT else 4 if after == PRE else 1
    return touches
