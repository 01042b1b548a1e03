"""The controller of `frfcfs.py` for the common case, several times faster: open page, first-ready schedulers, all-bank refresh.

Same policy, same clocks (a test compares them on random configurations); no command log. What makes it fast:

* Ready clocks are kept per bank with all levels merged (`PairTables`): a command adds a row of delays to a row of clocks.
* Each bank offers at most one column and one row command of a queue. A candidate is one integer - clocks to wait, then age,
  then place - so that the choice is the minimum over short vectors, without branches. So is the search of a queue.
* Time jumps from command to command; a full queue is not asked again before a command has made room.
* While only a few reads are outstanding, `run_ahead.py` serves them read by read instead of command by command.
"""

from __future__ import annotations  # noqa: I001

# fmt: off
from pimsim.kernels.candidates import (
    ACT, ACTIVE, AGE, ARRIVED, BURST, CLOSE, COLUMN, COUNTED, DONE, HIT, KEY, LATER, MAINTENANCE_FULL, MISS, MORE, NONE, OPEN,
    ORDER, PLACE, PRE, PREA, P_CONFLICTS, P_HITS, P_LATENCY, P_MISSES, QUEUED, RD, REF, ROW_BITS, R_ACTIVE, R_CLOCKS, R_OPEN,
    R_SINCE, SLOT, STUCK, WAIT, X_ACCEPTED, X_ACTIVE_READS, X_ACTIVE_WRITES, X_BASE, X_COALESCED,
    X_DEPARTED, X_FORWARDED, X_MAINT, X_MAINT_HEAD, X_MAX_LATENCY, X_MODE, X_NEXT, X_NOW, X_OFFER, X_PHASE, X_READS, X_REFRESH,
    X_WRITES, close_row, holds, offer_commands, oldest_at, oldest_elsewhere, record, record_rank, record_window, soonest,
    soonest_of_three, whole_rank_ready,
)
# fmt: on
from pimsim.kernels.run_ahead import run_ahead, run_ahead_fits
from pimsim.kernels.timing import NEVER, kernel


@kernel
def simulate(tables, state, bank, row, column, is_write, arrival, interval, arrived, departed, last_part):
    """Serves the requests of one channel, or the next part of them.

    Args:
        tables: `PairTables`.
        state: `OpenPageState`; updated in place.
        bank: (n,) bank of each request of this part, all ranks numbered through.
        row: (n,) row.
        column: (n,) column in bursts.
        is_write: (n,) write or read.
        arrival: (n,) clock before which a request is not offered, or (0,) for i * interval.
        interval: Clocks between offers; 0 offers one request each clock.
        arrived: (all,) out: clock at which each request was accepted, over all parts; (0,) does not keep it.
        departed: (all,) out: clock at which its data was complete (reads; accepted for writes); (0,) likewise.
        last_part: Serve everything; else return MORE once the last request of this part has been accepted.

    Returns:
        DONE, MORE, STUCK or MAINTENANCE_FULL.
    """
    delay, reach, to_rank, from_rank, shape, options, _ = tables
    scalar, ready, last, history, slot, free, age, open_row, active, rank_state, per_bank, per_rank, _, _ = state
    ranks, banks, lanes, window, window_clocks = shape[0], shape[1], shape[2], shape[3], shape[4]
    entries = slot.shape[2]
    width = banks // ranks
    protect, refresh = options[0] == 1, options[2] != 0
    read_queue, write_queue, enter, leave = options[3], options[4], options[5], options[6]
    refresh_interval, read_latency, dual = options[7], options[8], options[9] != 0
    later = LATER if dual else QUEUED
    n = bank.shape[0]
    by_array = arrival.shape[0] > 0
    keep = arrived.shape[0] > 0
    now, phase, base, offer = scalar[X_NOW], scalar[X_PHASE], scalar[X_BASE], scalar[X_OFFER]
    reads, writes, mode = scalar[X_READS], scalar[X_WRITES], scalar[X_MODE]
    active_reads, active_writes = scalar[X_ACTIVE_READS], scalar[X_ACTIVE_WRITES]
    next_refresh, m_head, n_maint = scalar[X_REFRESH], scalar[X_MAINT_HEAD], scalar[X_MAINT]
    accepted_at, departed_at = scalar[X_ACCEPTED], scalar[X_DEPARTED]
    max_latency = scalar[X_MAX_LATENCY]
    if not refresh:
        next_refresh = NEVER
    read_ready, write_ready, act_ready, pre_ready = ready[0], ready[1], ready[2], ready[3]
    ahead = (interval > 1 or by_array) and run_ahead_fits(tables)
    p = 0
    status = DONE
    if n > 0:
        due = arrival[0] if by_array else base * interval
        if due > offer:
            offer = due

    while True:
        if phase == 0:
            if now >= next_refresh:
                if n_maint > 64 * ranks:
                    status = MAINTENANCE_FULL
                    break
                n_maint += ranks
                next_refresh += refresh_interval
            idle = active_reads < 3 and reads + writes + active_writes + n_maint == 0
            if ahead and idle and offer < now and p + 1 < n and not is_write[p]:
                scalar[X_NOW], scalar[X_BASE], scalar[X_NEXT], scalar[X_OFFER] = now, base, p, offer
                scalar[X_ACTIVE_READS], scalar[X_REFRESH] = active_reads, next_refresh
                scalar[X_ACCEPTED], scalar[X_DEPARTED], scalar[X_MAX_LATENCY] = accepted_at, departed_at, max_latency
                run_ahead(tables, state, bank, row, column, is_write, arrival, interval, arrived, departed)
                now, p, offer = scalar[X_NOW], scalar[X_NEXT], scalar[X_OFFER]
                reads, active_reads = scalar[X_READS], scalar[X_ACTIVE_READS]
                accepted_at, departed_at, max_latency = scalar[X_ACCEPTED], scalar[X_DEPARTED], scalar[X_MAX_LATENCY]
            if p < n and offer < now:
                b = bank[p] & SLOT
                w = 1 if is_write[p] else 0
                where = b << ROW_BITS | row[p]
                taken = False
                if writes > 0 and holds(slot[1], entries, where, column[p]):
                    taken = True
                    done = now - 1
                    if w != 0:
                        scalar[X_COALESCED] += 1
                    else:
                        done = now
                        scalar[X_FORWARDED] += 1
                        if max_latency < 1:
                            max_latency = 1
                        if done > departed_at:
                            departed_at = done
                    if keep:
                        departed[base + p] = done
                elif (writes < write_queue) if w != 0 else (reads < read_queue):
                    taken = True
                    if w != 0:
                        s = free[1, writes] & SLOT
                        writes += 1
                        if keep:
                            departed[base + p] = now - 1
                    else:
                        s = free[0, reads] & SLOT
                        reads += 1
                    key = (base + p) << AGE | s
                    slot[w, PLACE, s] = where
                    slot[w, KEY, s] = key
                    slot[w, BURST, s] = column[p]
                    slot[w, ARRIVED, s] = now - 1
                    slot[w, COUNTED, s] = 0
                    which = HIT if row[p] == open_row[b] else MISS
                    if age[w, which, b] >= NONE:
                        age[w, which, b] = key
                        offer_commands(age[w], b, open_row[b] < 0, active[b] >= 0, protect, later)
                if taken:
                    accepted_at = now - 1
                    if keep:
                        arrived[base + p] = now - 1
                    p += 1
                    offer = now
                    if p < n:
                        due = arrival[p] if by_array else (base + p) * interval
                        if due > offer:
                            offer = due
            if p >= n:
                if not last_part:
                    status = MORE
                    break
                if reads == 0 and writes == 0 and active_reads == 0 and active_writes == 0:
                    break

        # choose: the least candidate, and when it can go
        best = NONE
        wanted = mode
        if n_maint > 0:
            if phase == 0:
                if active_reads > 0:
                    best = soonest(read_ready, age[0, ACTIVE], lanes, now)
                if active_writes > 0:
                    best = min(best, soonest(write_ready, age[1, ACTIVE], lanes, now))
        else:
            if mode == 0:
                if writes >= enter or reads == 0:
                    wanted = 1
            elif writes < leave and reads != 0:
                wanted = 0
            if phase == 1:
                best = min(soonest(act_ready, age[wanted, OPEN], lanes, now), soonest(pre_ready, age[wanted, CLOSE], lanes, now))
            elif wanted == 0:
                best = soonest_of_three(read_ready, age[0, COLUMN], act_ready, age[0, OPEN], pre_ready, age[0, CLOSE], lanes, now)
                if active_writes > 0:
                    best = min(best, soonest(write_ready, age[1, ACTIVE], lanes, now))
            else:
                best = soonest_of_three(write_ready, age[1, COLUMN], act_ready, age[1, OPEN], pre_ready, age[1, CLOSE], lanes, now)
                if active_reads > 0:
                    best = min(best, soonest(read_ready, age[0, ACTIVE], lanes, now))
        command = RD
        maintenance = False
        t = NEVER if best >= NONE else now + (best >> WAIT)
        from_active = best & ORDER == 0
        if t > now or not from_active:
            mode = wanted  # an active request that goes now leaves the mode as it is
        if t > now:
            if n_maint > 0:
                r = m_head % ranks
                if rank_state[r, R_OPEN] == 0:
                    at = whole_rank_ready(last, to_rank, 1, r, ranks)
                    command = REF
                else:
                    at = NEVER if rank_state[r, R_ACTIVE] > 0 else whole_rank_ready(last, to_rank, 0, r, ranks)
                    command = PREA
                if at < now:
                    at = now
                if at < t:
                    t = at
                    maintenance = True
            if phase == 1:
                if t > now:
                    phase = 0
                    now += 1
                    continue
            else:
                limit = next_refresh
                if p < n and now <= offer < min(t, limit):
                    room = (writes < write_queue) if is_write[p] else (reads < read_queue)
                    if room or (writes > 0 and holds(slot[1], entries, bank[p] << ROW_BITS | row[p], column[p])):
                        limit = offer + 1
                if limit <= t:
                    if limit == NEVER or (t == NEVER and n_maint == 0 and p >= n):
                        status = STUCK
                        break
                    now = limit
                    continue

        # issue
        is_row = True
        if maintenance:
            r = m_head % ranks
            last[command, r] = t
            per_rank[r, command - PREA] += 1
            record_rank(from_rank, ready, command - PREA, r, ranks, banks, t)
            if command == PREA:
                for b in range(r * width, (r + 1) * width):
                    if open_row[b] >= 0:
                        open_row[b] = -1
                        close_row(age[0], b, later)
                        close_row(age[1], b, later)
                rank_state[r, R_OPEN] = 0
                rank_state[r, R_CLOCKS] += t - rank_state[r, R_SINCE]
            else:
                m_head += 1
                n_maint -= 1
        else:
            s = best & SLOT
            if from_active:
                b = s
            else:
                w = mode & 1
                b = (slot[w, PLACE, s] >> ROW_BITS) & SLOT
            r = b // width if ranks > 1 else 0
            open_now = open_row[b]
            if from_active or slot[w, PLACE, s] == (b << ROW_BITS | open_now):
                is_row = False
                if from_active:
                    w = 1 if age[1, ACTIVE, b] < NONE else 0
                    key = age[w, ACTIVE, b]
                    arrive = active[b]
                    active[b] = -1
                    age[w, ACTIVE, b] = NONE
                    rank_state[r, R_ACTIVE] -= 1
                    if w != 0:
                        active_writes -= 1
                    else:
                        active_reads -= 1
                    if reads > 0 or w == 0:
                        offer_commands(age[0], b, False, False, protect, later)
                    if writes > 0 or w == 1:
                        offer_commands(age[1], b, False, False, protect, later)
                else:
                    key = slot[w, KEY, s]
                    arrive = slot[w, ARRIVED, s]
                    where = slot[w, PLACE, s]
                    slot[w, PLACE, s] = -1
                    if w != 0:
                        writes -= 1
                        free[1, writes] = s
                    else:
                        reads -= 1
                        free[0, reads] = s
                    per_bank[b, P_HITS] += 1 - slot[w, COUNTED, s]
                    age[w, HIT, b] = oldest_at(slot[w, PLACE], slot[w, KEY], entries, where)
                    offer_commands(age[w], b, False, active[b] >= 0, protect, later)
                last[w, r] = t
                per_bank[b, w] += 1
                record(delay, reach, ready, lanes, w, b, t)
                if w == 0:
                    done = t + read_latency
                    latency = done - arrive
                    per_bank[b, P_LATENCY] += latency
                    if latency > max_latency:
                        max_latency = latency
                    if done > departed_at:
                        departed_at = done
                    if keep:
                        departed[key >> AGE] = done
            elif open_now < 0:
                where = slot[w, PLACE, s]
                slot[w, PLACE, s] = -1
                if w != 0:
                    writes -= 1
                    free[1, writes] = s
                    active_writes += 1
                else:
                    reads -= 1
                    free[0, reads] = s
                    active_reads += 1
                per_bank[b, P_MISSES] += 1 - slot[w, COUNTED, s]
                open_row[b] = where & ((1 << ROW_BITS) - 1)
                active[b] = slot[w, ARRIVED, s]
                age[w, ACTIVE, b] = (slot[w, KEY, s] >> AGE << AGE) | b
                if reads > 0 or w == 0:
                    age[0, HIT, b] = oldest_at(slot[0, PLACE], slot[0, KEY], entries, where)
                    age[0, MISS, b] = oldest_elsewhere(slot[0, PLACE], slot[0, KEY], entries, where)
                    offer_commands(age[0], b, False, True, protect, later)
                if writes > 0 or w == 1:
                    age[1, HIT, b] = oldest_at(slot[1, PLACE], slot[1, KEY], entries, where)
                    age[1, MISS, b] = oldest_elsewhere(slot[1, PLACE], slot[1, KEY], entries, where)
                    offer_commands(age[1], b, False, True, protect, later)
                if rank_state[r, R_OPEN] == 0:
                    rank_state[r, R_SINCE] = t
                rank_state[r, R_OPEN] += 1
                rank_state[r, R_ACTIVE] += 1
                last[ACT, r] = t
                per_bank[b, ACT] += 1
                record(delay, reach, ready, lanes, ACT, b, t)
                if window > 0:
                    record_window(history, rank_state, act_ready, window, window_clocks, r, width, t)
            else:
                per_bank[b, P_CONFLICTS] += 1 - slot[w, COUNTED, s]
                slot[w, COUNTED, s] = 1
                open_row[b] = -1
                close_row(age[0], b, later)
                close_row(age[1], b, later)
                rank_state[r, R_OPEN] -= 1
                if rank_state[r, R_OPEN] == 0:
                    rank_state[r, R_CLOCKS] += t - rank_state[r, R_SINCE]
                last[PRE, r] = t
                per_bank[b, PRE] += 1
                record(delay, reach, ready, lanes, PRE, b, t)
        if dual and phase == 0 and not is_row:
            now = t
            phase = 1
        else:
            now = t + 1
            phase = 0

    scalar[X_NOW], scalar[X_PHASE], scalar[X_BASE], scalar[X_OFFER] = now, phase, base + p, offer
    scalar[X_READS], scalar[X_WRITES], scalar[X_MODE] = reads, writes, mode
    scalar[X_ACTIVE_READS], scalar[X_ACTIVE_WRITES] = active_reads, active_writes
    scalar[X_MAINT_HEAD], scalar[X_MAINT] = m_head, n_maint
    if refresh:
        scalar[X_REFRESH] = next_refresh
    scalar[X_ACCEPTED], scalar[X_DEPARTED] = accepted_at, departed_at
    scalar[X_MAX_LATENCY] = max_latency
    return status
