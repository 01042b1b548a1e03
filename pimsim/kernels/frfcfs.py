"""One channel behind a memory controller: event-driven, command by command, integer clocks only.

The controller holds a read and a write queue, an *active buffer* of the requests whose ACT has been issued (one a bank), and a
maintenance queue (refresh, and the precharges of the closed policy). Each clock the oldest ready request of the active buffer
goes first, then maintenance, then - only while there is no maintenance - the oldest ready request of the read or the write
queue. With two command buses a column command and a row command may go in the same clock. A request offered at clock c can be
scheduled from c + 1.

The loop jumps from event to event: it takes the earliest clock at which any candidate is ready, unless an arrival, a refresh
or an injected precharge comes first. A bank offers at most two candidates of a queue: its oldest request to the open row, and
its oldest request to any other row.

Activation in two steps: a request waits for its ACT2 between queue and active buffer; ACT2 goes when nothing else is ready, or at
its deadline; until then no other ACT goes. Where the data clock has stopped, a CAS goes in the place of a column command, which
then holds the next clock.
"""

from __future__ import annotations  # noqa: I001

# fmt: off
from pimsim.kernels.queues import (
    ACT, ACT2, B_ACCESSES, B_ACTIVE, B_INJECTED, B_ROW, CAS_RD, CAS_WR, FCFS, K_ACT, K_COLUMN, K_PRE, PRE, PREA, Q_HEAD, Q_HIT,
    P_ACT, P_HITS, P_LATENCY, P_PRE, Q_MISS, R_ACTIVE, R_OPEN, R_SINCE, RD, RDA, REF, REFPB, REFSB, S_ARRIVE, S_BANK, S_CHAIN,
    S_COLUMN, S_COUNTED, S_MERGED, S_MERGED_ARRIVALS, S_REQUEST, S_ROW, S_WRITE, WR, WRA, append, buffered_write, classify,
    close_bank, maintenance_command, oldest, pending_read, position_of, record_further_banks, remove, rescan, scan, scan_active,
    touches_of,
)
# fmt: on
from pimsim.kernels.timing import NEVER, earliest, kernel, record

# entries of `scalar`
# fmt: off
(
    X_NOW, X_PHASE, X_NEXT, X_OFFER, X_READS, X_WRITES, X_MODE, X_ACTIVE, X_REFRESH, X_MAINT_HEAD, X_MAINT, X_ACCEPTED,
    X_DEPARTED, X_HITS, X_MISSES, X_CONFLICTS, X_LATENCY, X_MAX_LATENCY, X_FORWARDED, X_COALESCED, X_LOG, X_FREE, X_LAST,
    X_SET, X_OPENING, X_DEADLINE, X_HELD, X_EXPIRY, X_BASE, X_MERGED,
) = range(30)
# fmt: on
SCALARS = 30
DONE, LOG_FULL, STUCK, MAINTENANCE_FULL, MORE = 0, 1, 2, 3, 4


@kernel
def simulate(tables, state, bank, row, column, is_write, arrival, interval, arrived, departed, log, last_part):
    """Serves the requests of one channel, or the next part of them; returns early when the log is full (call again with a larger one).

    Args:
        tables: `ChannelTables`.
        state: `ChannelState`; updated in place.
        bank: (n,) bank of each request, all ranks numbered through.
        row: (n,) row.
        column: (n,) column in bursts.
        is_write: (n,) write or read.
        arrival: (n,) clock before which a request is not offered, or (0,) for i * interval.
        interval: Clocks between offers; 0 offers one request each clock.
        arrived: (all,) out: clock at which each request was accepted, over all parts; (0,) does not keep it.
        departed: (all,) out: clock at which its data was complete (reads; accepted for writes); (0,) likewise.
        log: (capacity, 4) out: clock, command, bank (rank for PREA and REF), request or -1; capacity 0 logs nothing.
        last_part: Serve everything; else return MORE once the last request of this part has been accepted.

    Returns:
        DONE, MORE, LOG_FULL, STUCK or MAINTENANCE_FULL.
    """
    constraints, start, shape, group, rank, options = tables
    (
        scalar,
        ready,
        history,
        position,
        slot,
        queue,
        member,
        size,
        place,
        bank_state,
        rank_state,
        active,
        free,
        maintenance,
        counts,
        per_bank,
    ) = state
    ranks, groups, banks = shape[0], shape[1], shape[2]
    scheduler, closed, refresh = options[0], options[1] != 0, options[2] != 0
    read_queue, write_queue, enter, leave = options[3], options[4], options[5], options[6]
    refresh_interval, read_latency, dual, cap = options[7], options[8], options[9] != 0, options[10]
    partial, edge = options[12:16], options[16]
    act2_within, runs_after_read, runs_after_write, cas_guard = options[17], options[18], options[19], options[20]
    opening, deadline, held, expiry = scalar[X_OPENING] - 1, scalar[X_DEADLINE], scalar[X_HELD] - 1, scalar[X_EXPIRY]
    merge = options[21] != 0
    n = bank.shape[0]
    keep = arrived.shape[0] > 0
    base = scalar[X_BASE]
    by_array = arrival.shape[0] > 0
    logging = log.shape[0] > 0
    maintenance_size = maintenance.shape[0]
    now, phase, p, offer = scalar[X_NOW], scalar[X_PHASE], scalar[X_NEXT], scalar[X_OFFER]
    reads, writes, mode, n_active = scalar[X_READS], scalar[X_WRITES], scalar[X_MODE], scalar[X_ACTIVE]
    next_refresh, m_head, n_maint = scalar[X_REFRESH], scalar[X_MAINT_HEAD], scalar[X_MAINT]
    n_log, n_free = scalar[X_LOG], scalar[X_FREE]
    status = DONE
    col_t, col_s, col_a = -1, -1, -1  # best candidates of the queue in use; a clock before `now` means: look again
    act_t, act_s, act_a = -1, -1, -1
    pre_t, pre_s, pre_a = -1, -1, -1
    if p == 0 and n > 0:
        offer = max(offer, arrival[0] if by_array else base * interval)

    while True:
        inject = NEVER
        if phase == 0:
            if refresh and now >= next_refresh:
                if n_maint + ranks > maintenance_size:
                    status = MAINTENANCE_FULL
                    break
                for r in range(ranks):
                    maintenance[(m_head + n_maint) % maintenance_size] = r
                    if partial[0] > 0:
                        maintenance[(m_head + n_maint) % maintenance_size] = ranks + r * (banks // ranks) + scalar[X_SET]
                    n_maint += 1
                if partial[0] > 0:
                    scalar[X_SET] = (scalar[X_SET] + 1) % partial[0]
                next_refresh += refresh_interval
            if closed:
                for b in range(banks):
                    if bank_state[b, B_ACCESSES] >= max(cap, 1) and bank_state[b, B_INJECTED] == 0:
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
                if queue[1, b, Q_HEAD] >= 0 and buffered_write(slot, queue, b, row[p], column[p]):
                    accepted = True
                    if keep:
                        departed[base + p] = now - 1 if w else now
                    if w:
                        scalar[X_COALESCED] += 1
                    else:
                        scalar[X_FORWARDED] += 1
                        scalar[X_LATENCY] += 1
                        scalar[X_MAX_LATENCY] = max(scalar[X_MAX_LATENCY], 1)
                        scalar[X_DEPARTED] = max(scalar[X_DEPARTED], now)
                elif merge and not w and pending_read(slot, queue, bank_state, b, row[p], column[p]) >= 0:
                    accepted = True
                    s = pending_read(slot, queue, bank_state, b, row[p], column[p])
                    scalar[X_MERGED] += 1
                    slot[s, S_MERGED] += 1
                    slot[s, S_MERGED_ARRIVALS] += now - 1
                    if keep:
                        departed[base + p] = -2 - slot[s, S_CHAIN]
                        slot[s, S_CHAIN] = base + p
                elif (writes < write_queue) if w else (reads < read_queue):
                    accepted = True
                    n_free -= 1
                    s = free[n_free]
                    slot[s, S_BANK] = b
                    slot[s, S_ROW] = row[p]
                    slot[s, S_COLUMN] = column[p]
                    slot[s, S_ARRIVE] = now - 1
                    slot[s, S_REQUEST] = base + p
                    slot[s, S_WRITE] = 1 if w else 0
                    slot[s, S_COUNTED] = slot[s, S_MERGED] = slot[s, S_MERGED_ARRIVALS] = 0
                    slot[s, S_CHAIN] = -1
                    q = 1 if w else 0
                    append(slot, queue, q, b, s, bank_state[b, B_ROW])
                    if queue[q, b, Q_HIT] == s or queue[q, b, Q_MISS] == s:
                        classify(slot, queue, bank_state, member, size, place, q, b, scheduler)
                        if q == mode:
                            if queue[q, b, Q_HIT] == s:
                                col_t = -1
                            elif bank_state[b, B_ROW] < 0:
                                act_t = -1
                            else:
                                pre_t = -1
                    if w:
                        writes += 1
                        if keep:
                            departed[base + p] = now - 1
                    else:
                        reads += 1
                if accepted:
                    if keep:
                        arrived[base + p] = now - 1
                    scalar[X_ACCEPTED] = now - 1
                    p += 1
                    offer = now
                    if p < n:
                        due = arrival[p] if by_array else (base + p) * interval
                        if due > offer:
                            offer = due
            if p >= n and not last_part:
                status = MORE
                break
            if p >= n and reads == 0 and writes == 0 and n_active == 0 and opening < 0:
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
        opens = False  # ACT2 of the request between queue and active buffer
        command = ACT
        where = 0
        if held >= 0:  # a CAS went before: its column command
            s_best = held
            b = slot[s_best, S_BANK]
            i_active = position_of(active, n_active, s_best)
            t_best = max(now, earliest(ready, WR if slot[s_best, S_WRITE] != 0 else RD, rank[b], group[b], b, ranks, groups))
        elif opening >= 0 and deadline <= now:
            t_best, opens = now, True
        elif phase == 0 and n_active > 0:
            in_order = scheduler == FCFS
            t_best, i_active = scan_active(slot, active, n_active, ready, group, rank, ranks, groups, now | edge, in_order)
            s_best = active[i_active]
        if t_best > now:
            if held >= 0:
                pass
            elif n_maint > 0:
                command, t, where = maintenance_command(
                    maintenance[m_head], partial, bank_state, rank_state, ready, group, rank, ranks, groups, now, edge
                )
                if t < t_best:
                    t_best, s_best, i_active, is_row, from_maintenance = t, -1, -1, True, True
            else:
                before = mode
                if mode == 0:
                    if writes >= enter or reads == 0:
                        mode = 1
                elif writes < leave and reads != 0:
                    mode = 0
                if mode != before:
                    col_t = act_t = pre_t = -1
                if (writes if mode == 1 else reads) == 0:
                    pass
                elif scheduler == FCFS:
                    t, s, row_command = oldest(slot, queue, bank_state, ready, group, rank, ranks, groups, banks, mode, now, edge)
                    if opening >= 0 and row_command and bank_state[slot[s, S_BANK], B_ROW] < 0:
                        t = NEVER
                    if t < t_best and (row_command or phase == 0):
                        t_best, s_best, i_active, is_row = t, s, -1, row_command
                else:
                    if act_t < now:
                        act_t, act_s, act_a = scan(
                            slot, queue, member, size, ready, group, rank, ranks, groups, mode, K_ACT, Q_MISS, ACT, now | edge
                        )
                    if pre_t < now:
                        pre_t, pre_s, pre_a = scan(
                            slot, queue, member, size, ready, group, rank, ranks, groups, mode, K_PRE, Q_MISS, PRE, now
                        )
                    best_a = -1  # an active request goes before a queued one of the same clock
                    if phase == 0:
                        if col_t < now:
                            col_t, col_s, col_a = scan(
                                slot,
                                queue,
                                member,
                                size,
                                ready,
                                group,
                                rank,
                                ranks,
                                groups,
                                mode,
                                K_COLUMN,
                                Q_HIT,
                                WR if mode == 1 else RD,
                                now | edge,
                            )
                        if col_t < t_best:
                            t_best, s_best, i_active = col_t, col_s, -1
                            best_a = -1 if dual else col_a
                    if opening < 0 and (act_t < t_best or (act_t == t_best and act_a < best_a)):
                        t_best, s_best, i_active, is_row, best_a = act_t, act_s, -1, True, act_a
                    if pre_t < t_best or (pre_t == t_best and pre_a < best_a):
                        t_best, s_best, i_active, is_row = pre_t, pre_s, -1, True
            if opening >= 0 and held < 0 and t_best > now:
                t_best, opens = now, True
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
        starts_clock = runs_after_read > 0 and held < 0 and not is_row and not opens and t >= expiry
        if starts_clock and opening >= 0 and deadline <= t + cas_guard:
            opens, starts_clock = True, False
        if opens:
            s_best, i_active, is_row, from_maintenance = opening, -1, True, False
        s = s_best
        w = 0
        b = 0
        request = -1
        if from_maintenance:
            r = where
            g = 0
            if command != PREA and command != REF:
                b = where
                r = rank[b]
                g = group[b]
            if command >= REF or maintenance[m_head] < 0:
                m_head = (m_head + 1) % maintenance_size
                n_maint -= 1
        else:
            b = where = slot[s, S_BANK]
            r = rank[b]
            g = group[b]
            w = slot[s, S_WRITE]
            request = slot[s, S_REQUEST]
            if opens:
                command = ACT2
            elif is_row:
                command = ACT if bank_state[b, B_ROW] < 0 else PRE
            elif starts_clock:
                command = CAS_WR if w != 0 else CAS_RD
            else:
                command = WR if w != 0 else RD
                if held < 0 and closed and bank_state[b, B_ACCESSES] >= cap and (i_active >= 0 or bank_state[b, B_ACTIVE] < 0):
                    command = WRA if w != 0 else RDA
            if slot[s, S_COUNTED] == 0 and not starts_clock:
                slot[s, S_COUNTED] = 1
                kind = 0 if not is_row else 1 if command == ACT else 2
                scalar[X_HITS + kind] += 1
                per_bank[b, P_HITS + kind] += 1
        record(constraints, start, ready, history, position, command, r, g, b, ranks, groups, t)
        counts[command] += 1
        if command <= WRA and command != PREA:
            per_bank[b, P_ACT if command == ACT else P_PRE if command == PRE else w] += 1
        touches = touches_of(constraints, start, command)
        if touches & 1:
            col_t = -1
        if touches & 2:
            act_t = -1
        if touches & 4:
            pre_t = -1
        if logging:
            log[n_log, 0], log[n_log, 1], log[n_log, 2], log[n_log, 3] = t, command, where, request
            n_log += 1
        if command == ACT:
            remove(slot, queue, w, b, s, -1)
            if w != 0:
                writes -= 1
            else:
                reads -= 1
            bank_state[b, B_ACTIVE] = s
            rank_state[r, R_ACTIVE] += 1
            if act2_within >= 0:
                opening, deadline = s, t + act2_within
            act_t = -1
        if command == ACT2 or (command == ACT and act2_within < 0):
            opening = -1
            bank_state[b, B_ROW] = slot[s, S_ROW]
            active[n_active] = s
            n_active += 1
            if rank_state[r, R_OPEN] == 0:
                rank_state[r, R_SINCE] = t
            rank_state[r, R_OPEN] += 1
            rescan(slot, queue, b, slot[s, S_ROW])
            col_t = act_t = -1
        elif command == PRE:
            close_bank(bank_state, rank_state, b, r, t)
            rescan(slot, queue, b, -1)
            col_t = act_t = pre_t = -1
        elif command == PREA:
            for i in range(banks):
                if rank[i] == r:
                    close_bank(bank_state, rank_state, i, r, t)
                    rescan(slot, queue, i, -1)
                    for q in range(2):
                        classify(slot, queue, bank_state, member, size, place, q, i, scheduler)
            col_t = act_t = pre_t = -1
        elif command >= REF:
            if command == REFPB or command == REFSB:
                record_further_banks(constraints, start, ready, partial, command, b, ranks, groups, t)
            if starts_clock:
                held = s
            col_t = act_t = pre_t = -1
        elif command != ACT:
            held = -1
            expiry = max(expiry, t + (runs_after_read if w == 0 else runs_after_write))
            if i_active >= 0:
                n_active -= 1
                active[i_active] = active[n_active]
                bank_state[b, B_ACTIVE] = -1
                rank_state[r, R_ACTIVE] -= 1
            else:
                remove(slot, queue, w, b, s, bank_state[b, B_ROW])
                if w != 0:
                    writes -= 1
                else:
                    reads -= 1
            free[n_free] = s
            n_free += 1
            if w == 0:
                done = t + read_latency
                latency = done - slot[s, S_ARRIVE]
                total = latency + slot[s, S_MERGED] * done - slot[s, S_MERGED_ARRIVALS]
                scalar[X_LATENCY] += total
                per_bank[b, P_LATENCY] += total
                if keep:
                    departed[request] = done
                    request = slot[s, S_CHAIN]
                    while request >= 0:  # reads merged into this one
                        earlier = -2 - departed[request]
                        departed[request] = done
                        request = earlier
                if latency > scalar[X_MAX_LATENCY]:
                    scalar[X_MAX_LATENCY] = latency
                if done > scalar[X_DEPARTED]:
                    scalar[X_DEPARTED] = done
            if command == RDA or command == WRA:
                close_bank(bank_state, rank_state, b, r, t)
                rescan(slot, queue, b, -1)
                act_t = -1
            else:
                bank_state[b, B_ACCESSES] += 1
            col_t = pre_t = -1
        if (command != PREA and command < REF) or command == ACT2:
            for q in range(2):
                classify(slot, queue, bank_state, member, size, place, q, b, scheduler)
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
    scalar[X_OPENING], scalar[X_DEADLINE], scalar[X_HELD], scalar[X_EXPIRY] = opening + 1, deadline, held + 1, expiry
    return status
