"""Reads that meet an idle channel: all their commands at once, without choosing among candidates.

At low load most reads find both queues empty. The PRE and ACT of such a read go before the next request is offered, and its RD
goes before anything that the next two requests can do, so every clock is known when the read is accepted. Whatever cannot be
foreseen - a write, a hit that may overtake, a refresh in between - is left to the controller.
"""

from __future__ import annotations  # noqa: I001

# fmt: off
from pimsim.kernels.candidates import (
    ACT, ACTIVE, AGE, COLUMN, NONE, P_CONFLICTS, P_HITS, P_LATENCY, P_MISSES, PRE, R_ACTIVE, R_CLOCKS, R_OPEN, R_SINCE, R_WINDOW,
    RD, SLOT, X_ACCEPTED, X_ACTIVE_READS, X_AHEAD_1, X_AHEAD_2,
    X_AHEAD_3, X_BASE, X_DEPARTED, X_MAX_LATENCY, X_MODE, X_NEXT, X_NOW, X_OFFER, X_REFRESH, record, soonest,
)
# fmt: on
from pimsim.kernels.timing import NEVER, inlined, kernel


@kernel
def lone_reads_fit(tables):
    """Whether commands of one bank leave those of others alone, but for RD after RD and ACT after ACT; on one command bus."""
    delay, reach, shape, options = tables[0], tables[1], tables[4], tables[5]
    if options[9] != 0 or reach[RD, ACT] > 1 or reach[RD, PRE] > 1:
        return False
    for y in range(4):
        if reach[PRE, y] > (1 if y == ACT else 0) or (y != ACT and reach[ACT, y] > 1):
            return False
    for b in range(shape[1]):
        if delay[ACT, b, RD, b] < 2:
            return False
        for i in range(shape[1]):
            if delay[RD, b, RD, i] < 1:
                return False
    return True


@inlined
def offered(arrival, interval, base, p):
    """Clock from which a request is offered."""
    return arrival[p] if arrival.shape[0] > 0 else (base + p) * interval


@inlined
def harmless(bank, row, is_write, open_row, p, b):
    """Whether a request is a read that goes to bank `b` - and so after what goes there - or that has to open its row first."""
    other = bank[p] & SLOT
    return not is_write[p] and (other == b or open_row[other] != row[p])


@inlined
def record_alone(delay, reach, ready, lanes, x, b, t, soon, longest):
    """As `record`, but leaves out of other banks what no longer binds at clock `soon`."""
    for y in range(4):
        if reach[x, y] == 2 and t + longest[x, y] > soon:
            for i in range(lanes):
                ready[y, i] = max(ready[y, i], t + delay[x, b, y, i])
        elif reach[x, y] > 0:
            ready[y, b] = max(ready[y, b], t + delay[x, b, y, b])


@kernel
def serve_lone_reads(tables, state, bank, row, is_write, arrival, interval, arrived, departed):
    """Serves reads as long as each meets empty queues; arguments as in `open_page.simulate`, scalars in `state.scalar`.

    The clocks of commands that lie ahead are left in X_AHEAD_1 to X_AHEAD_3: no other command goes then.
    """
    delay, reach, _, _, shape, options, longest = tables
    scalar, ready, last, history, _, _, age, open_row, active, rank_state, per_bank, _ = state
    banks, lanes, window, window_clocks = shape[1], shape[2], shape[3], shape[4]
    width = banks // shape[0]
    read_queue, read_latency = options[3], options[8]
    n = bank.shape[0]
    keep = arrived.shape[0] > 0
    now, base, p, offer, mode = scalar[X_NOW], scalar[X_BASE], scalar[X_NEXT], scalar[X_OFFER], scalar[X_MODE]
    next_refresh, accepted_at = scalar[X_REFRESH], scalar[X_ACCEPTED]
    ahead_1, ahead_2, ahead_3 = scalar[X_AHEAD_1], scalar[X_AHEAD_2], scalar[X_AHEAD_3]
    departed_at, max_latency, active_reads = scalar[X_DEPARTED], scalar[X_MAX_LATENCY], scalar[X_ACTIVE_READS]
    read_ready, act_ready, pre_ready = ready[0], ready[2], ready[3]
    row_to_column = row_to_row = NEVER
    for b in range(banks):
        row_to_row = min(row_to_row, delay[PRE, b, ACT, b])
        row_to_column = min(row_to_column, delay[ACT, b, RD, b])
    second = offered(arrival, interval, base, p + 1)

    while active_reads > 0:  # left by the controller: their RDs go before anything of the next request
        b = soonest(read_ready, age[0, ACTIVE], lanes, now) & SLOT
        t = max(now, read_ready[b])
        late = t + 1 >= next_refresh or t >= second or t > now + row_to_column or t <= now
        if late or not harmless(bank, row, is_write, open_row, p, b):
            break
        key, latency = age[0, ACTIVE, b], t + read_latency - active[b]
        active[b] = -1
        age[0, ACTIVE, b] = age[0, COLUMN, b] = NONE
        active_reads -= 1
        r = b // width
        rank_state[r, R_ACTIVE] -= 1
        per_bank[b, RD] += 1
        per_bank[b, P_LATENCY] += latency
        last[RD, r] = t
        record(delay, reach, ready, lanes, RD, b, t)
        ahead_3, ahead_2, ahead_1 = ahead_2, ahead_1, t
        max_latency = max(max_latency, latency)
        departed_at = max(departed_at, t + read_latency)
        if keep:
            departed[key >> AGE] = t + read_latency

    while active_reads == 0 and offer < now and now < next_refresh and p + 2 < n:
        b = bank[p] & SLOT
        r = b // width
        index = base + p
        arrive = now - 1
        following = max(now, second)
        second = offered(arrival, interval, base, p + 2)
        open_now = open_row[b]
        pre_at = act_at = -1
        t = max(now, read_ready[b])
        while t == ahead_1 or t == ahead_2 or t == ahead_3:
            t += 1
        row_end = t
        if open_now != row[p]:
            act_at = now
            if open_now >= 0:
                pre_at = max(now, pre_ready[b])
                while pre_at == ahead_1 or pre_at == ahead_2 or pre_at == ahead_3:
                    pre_at += 1
                act_at = pre_at + max(1, delay[PRE, b, ACT, b])
                t = max(t, pre_at + delay[PRE, b, RD, b])
            act_at = max(act_at, act_ready[b])
            while act_at == ahead_1 or act_at == ahead_2 or act_at == ahead_3:
                act_at += 1
            t = max(t, act_at + delay[ACT, b, RD, b])
            row_end = act_at
        if is_write[p] or t + 1 >= next_refresh or t >= second:
            break
        lead = 0  # clocks by which the next request cannot activate, and by as many more not read
        if t > following:
            if not harmless(bank, row, is_write, open_row, p + 1, b):
                break
            other = bank[p + 1] & SLOT
            if other != b and open_row[other] >= 0 and read_queue > 1:  # two may wait
                lead = row_to_row
            if row_end > following + lead or t > following + lead + row_to_column:
                break
        if act_at >= 0:
            if pre_at >= 0:  # what PRE delays, ACT of the same bank, is part of this
                per_bank[b, P_CONFLICTS] += 1
                per_bank[b, PRE] += 1
                last[PRE, r] = pre_at
                rank_state[r, R_OPEN] -= 1
                if rank_state[r, R_OPEN] == 0:
                    rank_state[r, R_CLOCKS] += pre_at - rank_state[r, R_SINCE]
            else:
                per_bank[b, P_MISSES] += 1
            per_bank[b, ACT] += 1
            last[ACT, r] = act_at
            record_alone(delay, reach, ready, lanes, ACT, b, act_at, following + 1, longest)
            if window > 0:
                at = rank_state[r, R_WINDOW]
                history[r, at] = act_at
                at = at + 1 if at + 1 < window else 0
                rank_state[r, R_WINDOW] = at
                until = history[r, at] + window_clocks
                if until > following + 1:
                    for i in range(r * width, (r + 1) * width):
                        act_ready[i] = max(act_ready[i], until)
            if rank_state[r, R_OPEN] == 0:
                rank_state[r, R_SINCE] = act_at
            rank_state[r, R_OPEN] += 1
            open_row[b] = row[p]
        else:
            per_bank[b, P_HITS] += 1
        accepted_at = now - 1
        if keep:
            arrived[base + p] = now - 1
        p += 1
        mode = 1 if row_end < following else 0  # whether a clock without reads passes before the next request comes
        soon = min(second + 1, following + 1 + lead + row_to_column) if t > following else following + 1
        offer = following
        now = min(following + 1, next_refresh)
        per_bank[b, RD] += 1
        last[RD, r] = t
        record_alone(delay, reach, ready, lanes, RD, b, t, soon, longest)
        ahead_1, ahead_2, ahead_3 = t, act_at, pre_at
        done = t + read_latency
        latency = done - arrive
        per_bank[b, P_LATENCY] += latency
        max_latency = max(max_latency, latency)
        departed_at = max(departed_at, done)
        if keep:
            departed[index] = done

    scalar[X_NOW], scalar[X_NEXT], scalar[X_OFFER], scalar[X_MODE] = now, p, offer, mode
    scalar[X_AHEAD_1], scalar[X_AHEAD_2], scalar[X_AHEAD_3] = ahead_1, ahead_2, ahead_3
    scalar[X_ACCEPTED], scalar[X_DEPARTED] = accepted_at, departed_at
    scalar[X_MAX_LATENCY], scalar[X_ACTIVE_READS] = max_latency, active_reads
