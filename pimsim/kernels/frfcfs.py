"""One channel behind a memory controller: event-driven, command by command, integer clocks only.

The controller holds a read and a write queue, an *active buffer* of the requests whose ACT has been issued (one a bank), and a
maintenance queue (refresh, and the precharges of the closed policy). Each clock the oldest ready request of the active buffer
goes first, then maintenance, then - only while there is no maintenance - the oldest ready request of the read or the write
queue. With two command buses a column command and a row command may go in the same clock. A request offered at clock c can be
scheduled from c + 1.

The loop jumps from event to event: it takes the earliest clock at which any candidate is ready, unless an arrival, a refresh
or an injected precharge comes first. A bank offers at most two candidates of a queue: its oldest request to the open row, and
its oldest request to any other row.
"""

from __future__ import annotations

from numba import njit

from pimsim.kernels.timing import NEVER, earliest, record

ACT, PRE, PREA, RD, WR, RDA, WRA, REF = 0, 1, 2, 3, 4, 5, 6, 7
FRFCFS, ROW_HIT, FCFS = 0, 1, 2

# columns of `slot`: one queued or active request
S_BANK, S_ROW, S_COLUMN, S_ARRIVE, S_REQUEST, S_WRITE, S_COUNTED, S_NEXT, S_PREV = range(9)
# columns of `queue[read or write, bank]`: a list in order of arrival, its oldest request to the open row, its oldest other one
Q_HEAD, Q_TAIL, Q_HIT, Q_MISS = range(4)
# columns of `bank_state`
B_ROW, B_ACTIVE, B_ACCESSES, B_INJECTED = range(4)
# columns of `rank_state`
R_OPEN, R_ACTIVE, R_SINCE, R_CLOCKS = range(4)
# entries of `scalar`
(
    X_NOW,
    X_PHASE,
    X_NEXT,
    X_OFFER,
    X_READS,
    X_WRITES,
    X_MODE,
    X_ACTIVE,
    X_REFRESH,
    X_MAINT_HEAD,
    X_MAINT,
    X_ACCEPTED,
    X_DEPARTED,
    X_HITS,
    X_MISSES,
    X_CONFLICTS,
    X_LATENCY,
    X_MAX_LATENCY,
    X_FORWARDED,
    X_COALESCED,
    X_LOG,
    X_FREE,
    X_LAST,
) = range(23)
SCALARS = 23
DONE, LOG_FULL, STUCK, MAINTENANCE_FULL = 0, 1, 2, 3


@njit(cache=True)
def _first(slot, s, open_row, hit):
    """First request from `s` on that is (hit) or is not (not hit) to the open row, or -1."""
    while s >= 0:
        if (slot[s, S_ROW] == open_row) == hit:
            return s
        s = slot[s, S_NEXT]
    return -1


@njit(cache=True)
def _rescan(slot, queue, b, open_row):
    """Finds both candidates of a bank again after its open row changed."""
    for q in range(2):
        head = queue[q, b, Q_HEAD]
        if head >= 0:
            queue[q, b, Q_HIT] = _first(slot, head, open_row, True) if open_row >= 0 else -1
            queue[q, b, Q_MISS] = _first(slot, head, open_row, False)


@njit(cache=True)
def _append(slot, queue, q, b, s, open_row):
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


@njit(cache=True)
def _remove(slot, queue, q, b, s, open_row):
    after = slot[s, S_NEXT]
    before = slot[s, S_PREV]
    if queue[q, b, Q_HIT] == s:
        queue[q, b, Q_HIT] = _first(slot, after, open_row, True)
    if queue[q, b, Q_MISS] == s:
        queue[q, b, Q_MISS] = _first(slot, after, open_row, False)
    if before >= 0:
        slot[before, S_NEXT] = after
    else:
        queue[q, b, Q_HEAD] = after
    if after >= 0:
        slot[after, S_PREV] = before
    else:
        queue[q, b, Q_TAIL] = before


@njit(cache=True)
def _select_active(slot, active, n_active, ready, group, rank, ranks, groups, now, in_order):
    """Earliest clock and oldest request of the active buffer that is ready then."""
    best_t = NEVER
    best_i = -1
    best_arrive = NEVER
    for i in range(n_active):
        s = active[i]
        b = slot[s, S_BANK]
        arrive = slot[s, S_ARRIVE]
        t = earliest(ready, WR if slot[s, S_WRITE] else RD, rank[b], group[b], b, ranks, groups)
        if t < now:
            t = now
        if in_order:
            if arrive < best_arrive:
                best_t, best_i, best_arrive = t, i, arrive
        elif t < best_t or (t == best_t and arrive < best_arrive):
            best_t, best_i, best_arrive = t, i, arrive
    return best_t, best_i


@njit(cache=True)
def _select_queue(q, scheduler, slot, queue, bank_state, ready, group, rank, ranks, groups, banks, now):
    """Earliest column and earliest row command of a queue: (clock, request) each; the oldest request among equals."""
    column = WR if q == 1 else RD
    col_t, col_s, col_a = NEVER, -1, NEVER
    row_t, row_s, row_a = NEVER, -1, NEVER
    only = -1
    if scheduler == FCFS:
        oldest = NEVER
        for b in range(banks):
            s = queue[q, b, Q_HEAD]
            if s >= 0 and slot[s, S_ARRIVE] < oldest:
                oldest = slot[s, S_ARRIVE]
                only = s
    per_group = banks // groups
    for g in range(groups):
        first = g * per_group
        r = rank[first]
        col_up = max(ready[r, column], ready[ranks + g, column], now)
        act_up = max(ready[r, ACT], ready[ranks + g, ACT], now)
        pre_up = max(ready[r, PRE], ready[ranks + g, PRE], now)
        for b in range(first, first + per_group):
            hit = queue[q, b, Q_HIT]
            miss = queue[q, b, Q_MISS]
            if scheduler == FCFS:
                if hit != only:
                    hit = -1
                if miss != only:
                    miss = -1
            node = ranks + groups + b
            if hit >= 0:
                t = max(ready[node, column], col_up)
                if t <= col_t:
                    arrive = slot[hit, S_ARRIVE]
                    if t < col_t or arrive < col_a:
                        col_t, col_s, col_a = t, hit, arrive
            if miss >= 0:
                if bank_state[b, B_ROW] < 0:
                    t = max(ready[node, ACT], act_up)
                elif bank_state[b, B_ACTIVE] >= 0:
                    continue
                elif scheduler == ROW_HIT and hit >= 0 and slot[hit, S_ARRIVE] < slot[miss, S_ARRIVE]:
                    continue
                else:
                    t = max(ready[node, PRE], pre_up)
                if t <= row_t:
                    arrive = slot[miss, S_ARRIVE]
                    if t < row_t or arrive < row_a:
                        row_t, row_s, row_a = t, miss, arrive
    return col_t, col_s, row_t, row_s


@njit(cache=True)
def _maintenance(entry, bank_state, rank_state, ready, group, rank, ranks, groups, now):
    """Next command of the oldest maintenance request and its earliest clock; `entry`: a rank to refresh or -1 - bank to close."""
    if entry < 0:
        b = -1 - entry
        t = earliest(ready, PRE, rank[b], group[b], b, ranks, groups)
        command = PRE
        if bank_state[b, B_ACTIVE] >= 0:
            t = NEVER
    else:
        command = PREA if rank_state[entry, R_OPEN] > 0 else REF
        t = ready[entry, command]
        if command == PREA and rank_state[entry, R_ACTIVE] > 0:
            t = NEVER
    return command, max(t, now)


@njit(cache=True)
def _close(bank_state, rank_state, b, r, t):
    if bank_state[b, B_ROW] >= 0:
        rank_state[r, R_OPEN] -= 1
        if rank_state[r, R_OPEN] == 0:
            rank_state[r, R_CLOCKS] += t - rank_state[r, R_SINCE]
    bank_state[b, B_ROW] = -1
    bank_state[b, B_ACCESSES] = 0
    bank_state[b, B_INJECTED] = 0


@njit(cache=True)
def _buffered_write(slot, queue, b, row, column):
    """True when the write queue holds this burst."""
    s = queue[1, b, Q_HEAD]
    while s >= 0:
        if slot[s, S_ROW] == row and slot[s, S_COLUMN] == column:
            return True
        s = slot[s, S_NEXT]
    return False


@njit(cache=True, nogil=True)
def simulate(tables, state, bank, row, column, is_write, arrival, interval, arrived, departed, log):
    """Serves all requests of one channel, or returns early when the log is full (call again with a larger one).

    Args:
        tables: `ChannelTables`.
        state: `ChannelState`; updated in place.
        bank: (n,) bank of each request, all ranks numbered through.
        row: (n,) row.
        column: (n,) column in bursts.
        is_write: (n,) write or read.
        arrival: (n,) clock before which a request is not offered, or (0,) for i * interval.
        interval: Clocks between offers; 0 offers one request each clock.
        arrived: (n,) out: clock at which each request was accepted.
        departed: (n,) out: clock at which its data was complete (reads; accepted for writes).
        log: (capacity, 4) out: clock, command, bank (rank for PREA and REF), request or -1; capacity 0 logs nothing.

    Returns:
        DONE, LOG_FULL, STUCK or MAINTENANCE_FULL.
    """
    constraints, start, shape, group, rank, options = tables
    scalar, ready, history, position, slot, queue, bank_state, rank_state, active, free, maintenance, counts = state
    ranks, groups, banks = shape[0], shape[1], shape[2]
    scheduler, closed, refresh = options[0], options[1] != 0, options[2] != 0
    read_queue, write_queue, enter, leave = options[3], options[4], options[5], options[6]
    refresh_interval, read_latency, dual, cap = options[7], options[8], options[9] != 0, options[10]
    n = bank.shape[0]
    by_array = arrival.shape[0] > 0
    logging = log.shape[0] > 0
    maintenance_size = maintenance.shape[0]
    now, phase, p, offer = scalar[X_NOW], scalar[X_PHASE], scalar[X_NEXT], scalar[X_OFFER]
    reads, writes, mode, n_active = scalar[X_READS], scalar[X_WRITES], scalar[X_MODE], scalar[X_ACTIVE]
    next_refresh, m_head, n_maint = scalar[X_REFRESH], scalar[X_MAINT_HEAD], scalar[X_MAINT]
    n_log, n_free = scalar[X_LOG], scalar[X_FREE]
    status = DONE

    while True:
        inject = NEVER
        if phase == 0:
            if refresh and now >= next_refresh:
                if n_maint + ranks > maintenance_size:
                    status = MAINTENANCE_FULL
                    break
                for r in range(ranks):
                    maintenance[(m_head + n_maint) % maintenance_size] = r
                    n_maint += 1
                next_refresh += refresh_interval
            if closed:
                for b in range(banks):
                    if bank_state[b, B_ACCESSES] >= cap and bank_state[b, B_INJECTED] == 0:
                        t = earliest(ready, PRE, rank[b], group[b], b, ranks, groups)
                        if t > now:
                            inject = min(inject, t)
                        elif n_maint == maintenance_size:
                            status = MAINTENANCE_FULL
                        else:
                            maintenance[(m_head + n_maint) % maintenance_size] = -1 - b
                            n_maint += 1
                            bank_state[b, B_INJECTED] = 1
                if status != DONE:
                    break
            if p < n and offer < now:
                b = bank[p]
                w = is_write[p]
                accepted = False
                if queue[1, b, Q_HEAD] >= 0 and _buffered_write(slot, queue, b, row[p], column[p]):
                    accepted = True
                    if w:
                        scalar[X_COALESCED] += 1
                        departed[p] = now - 1
                    else:
                        scalar[X_FORWARDED] += 1
                        departed[p] = now
                        scalar[X_LATENCY] += 1
                        scalar[X_MAX_LATENCY] = max(scalar[X_MAX_LATENCY], 1)
                        scalar[X_DEPARTED] = max(scalar[X_DEPARTED], now)
                elif (writes < write_queue) if w else (reads < read_queue):
                    accepted = True
                    n_free -= 1
                    s = free[n_free]
                    slot[s, S_BANK] = b
                    slot[s, S_ROW] = row[p]
                    slot[s, S_COLUMN] = column[p]
                    slot[s, S_ARRIVE] = now - 1
                    slot[s, S_REQUEST] = p
                    slot[s, S_WRITE] = 1 if w else 0
                    slot[s, S_COUNTED] = 0
                    _append(slot, queue, 1 if w else 0, b, s, bank_state[b, B_ROW])
                    if w:
                        writes += 1
                        departed[p] = now - 1
                    else:
                        reads += 1
                if accepted:
                    arrived[p] = now - 1
                    scalar[X_ACCEPTED] = now - 1
                    p += 1
                    offer = now
                    if p < n:
                        due = arrival[p] if by_array else p * interval
                        if due > offer:
                            offer = due
            if p >= n and reads == 0 and writes == 0 and n_active == 0:
                break
            if logging and n_log + 1 >= log.shape[0]:
                status = LOG_FULL
                break

        # choose: command, clock, and the request or maintenance entry that it serves
        t_best = NEVER
        i_active = -1
        s_best = -1
        is_row = False
        from_maintenance = False
        command = ACT
        if phase == 0 and n_active > 0:
            t_best, i_active = _select_active(slot, active, n_active, ready, group, rank, ranks, groups, now, scheduler == FCFS)
            s_best = active[i_active]
        if t_best > now:
            if n_maint > 0:
                command, t = _maintenance(maintenance[m_head], bank_state, rank_state, ready, group, rank, ranks, groups, now)
                if t < t_best:
                    t_best, s_best, i_active, is_row, from_maintenance = t, -1, -1, True, True
            else:
                if mode == 0:
                    if writes >= enter or reads == 0:
                        mode = 1
                elif writes < leave and reads != 0:
                    mode = 0
                if (writes if mode == 1 else reads) > 0:
                    col_t, col_s, row_t, row_s = _select_queue(
                        mode, scheduler, slot, queue, bank_state, ready, group, rank, ranks, groups, banks, now
                    )
                    if phase == 1:
                        col_t, col_s = NEVER, -1
                    if col_t < t_best:
                        t_best, s_best, i_active = col_t, col_s, -1
                    if row_t < t_best or (
                        row_t == t_best
                        and row_s >= 0
                        and i_active < 0
                        and not dual
                        and slot[row_s, S_ARRIVE] < slot[s_best, S_ARRIVE]
                    ):
                        t_best, s_best, i_active, is_row = row_t, row_s, -1, True
            if phase == 1:
                if t_best > now:
                    phase = 0
                    now += 1
                    continue
            else:
                limit = min(next_refresh if refresh else NEVER, inject)
                if p < n and offer >= now:
                    limit = min(limit, offer + 1)
                if limit <= t_best:
                    if limit == NEVER or (t_best == NEVER and n_maint == 0 and p >= n and inject == NEVER):
                        status = STUCK
                        break
                    now = limit
                    continue

        # issue
        t = t_best
        if from_maintenance:
            entry = maintenance[m_head]
            if command == PRE:
                b = -1 - entry
                r = rank[b]
                record(constraints, start, ready, history, position, PRE, r, group[b], b, ranks, groups, t)
                _close(bank_state, rank_state, b, r, t)
                _rescan(slot, queue, b, -1)
                where = b
            else:
                record(constraints, start, ready, history, position, command, entry, 0, 0, ranks, groups, t)
                where = entry
                if command == PREA:
                    for b in range(banks):
                        if rank[b] == entry:
                            _close(bank_state, rank_state, b, entry, t)
                            _rescan(slot, queue, b, -1)
            if command != PREA:
                m_head = (m_head + 1) % maintenance_size
                n_maint -= 1
            counts[command] += 1
            if logging:
                log[n_log, 0], log[n_log, 1], log[n_log, 2], log[n_log, 3] = t, command, where, -1
                n_log += 1
        else:
            s = s_best
            b = slot[s, S_BANK]
            r = rank[b]
            w = slot[s, S_WRITE]
            request = slot[s, S_REQUEST]
            if is_row:
                command = ACT if bank_state[b, B_ROW] < 0 else PRE
            else:
                command = WR if w else RD
                if closed and bank_state[b, B_ACCESSES] >= cap and (i_active >= 0 or bank_state[b, B_ACTIVE] < 0):
                    command = WRA if w else RDA
            if slot[s, S_COUNTED] == 0:
                slot[s, S_COUNTED] = 1
                if not is_row:
                    scalar[X_HITS] += 1
                elif command == ACT:
                    scalar[X_MISSES] += 1
                else:
                    scalar[X_CONFLICTS] += 1
            record(constraints, start, ready, history, position, command, r, group[b], b, ranks, groups, t)
            counts[command] += 1
            if logging:
                log[n_log, 0], log[n_log, 1], log[n_log, 2], log[n_log, 3] = t, command, b, request
                n_log += 1
            if command == ACT:
                _remove(slot, queue, w, b, s, -1)
                if w:
                    writes -= 1
                else:
                    reads -= 1
                bank_state[b, B_ROW] = slot[s, S_ROW]
                bank_state[b, B_ACTIVE] = s
                active[n_active] = s
                n_active += 1
                rank_state[r, R_ACTIVE] += 1
                if rank_state[r, R_OPEN] == 0:
                    rank_state[r, R_SINCE] = t
                rank_state[r, R_OPEN] += 1
                _rescan(slot, queue, b, slot[s, S_ROW])
            elif command == PRE:
                _close(bank_state, rank_state, b, r, t)
                _rescan(slot, queue, b, -1)
            else:
                if i_active >= 0:
                    n_active -= 1
                    active[i_active] = active[n_active]
                    bank_state[b, B_ACTIVE] = -1
                    rank_state[r, R_ACTIVE] -= 1
                else:
                    _remove(slot, queue, w, b, s, bank_state[b, B_ROW])
                    if w:
                        writes -= 1
                    else:
                        reads -= 1
                free[n_free] = s
                n_free += 1
                if w == 0:
                    done = t + read_latency
                    departed[request] = done
                    latency = done - slot[s, S_ARRIVE]
                    scalar[X_LATENCY] += latency
                    if latency > scalar[X_MAX_LATENCY]:
                        scalar[X_MAX_LATENCY] = latency
                    if done > scalar[X_DEPARTED]:
                        scalar[X_DEPARTED] = done
                if command == RDA or command == WRA:
                    _close(bank_state, rank_state, b, r, t)
                    _rescan(slot, queue, b, -1)
                else:
                    bank_state[b, B_ACCESSES] += 1
        scalar[X_LAST] = t
        if dual and phase == 0 and not is_row:
            now = t
            phase = 1
        else:
            now = t + 1
            phase = 0

    scalar[X_NOW], scalar[X_PHASE], scalar[X_NEXT], scalar[X_OFFER] = now, phase, p, offer
    scalar[X_READS], scalar[X_WRITES], scalar[X_MODE], scalar[X_ACTIVE] = reads, writes, mode, n_active
    scalar[X_REFRESH], scalar[X_MAINT_HEAD], scalar[X_MAINT] = next_refresh, m_head, n_maint
    scalar[X_LOG], scalar[X_FREE] = n_log, n_free
    return status
