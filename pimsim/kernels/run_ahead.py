"""Reads at low load: all clocks of a read when it is accepted, without choosing among candidates command by command.

While only reads are outstanding, and few, every command usually goes where the reads before have left room, and nothing that
comes later changes its clock. So an accepted read gets its PRE, ACT and RD at once, and is entered into a list of reads in
flight; when the clock has passed its RD, its commands are entered into the state of the channel. A read whose commands would
change the order of those before it - one that overtakes them, or takes a clock that they had - is left to the controller, as is
whatever else needs a choice: writes, refresh. `stop` then turns the list into waiting and active requests.
"""

from __future__ import annotations  # noqa: I001

# fmt: off
from pimsim.kernels.candidates import (
    ACT, ACTIVE, AGE, AHEAD, ARRIVED, BURST, CLOCKS, COLUMN, COUNTED, F_ACT, F_ARRIVE, F_BANK, F_PRE, F_RD, F_REQUEST, F_ROW, HIT, KEY,
    MISS, NONE, PLACE, PRE, P_CONFLICTS, P_HITS, P_LATENCY, P_MISSES, QUEUED, RD, ROW_BITS, R_ACTIVE, R_OPEN, R_SINCE,
    R_WINDOW, SLOT, X_ACCEPTED, X_ACTIVE_READS, X_BASE, X_DEPARTED, X_MAX_LATENCY, X_NEXT, X_NOW, X_OFFER, X_READS,
    X_REFRESH, WR, offer_commands, oldest_at, oldest_elsewhere, record, soonest,
)
# fmt: on
from pimsim.kernels.timing import inlined, kernel

NO_ACT, ALREADY = -1, -2  # F_ACT of a read that finds its row open, and of one whose row was opened before


@kernel
def run_ahead_fits(tables):
    """Whether commands of one bank leave those of others alone, but for RD after RD and ACT after ACT; on one command bus."""
    delay, reach, shape, options = tables[0], tables[1], tables[4], tables[5]
    if options[9] != 0 or reach[RD, ACT] > 1 or reach[RD, PRE] > 1:
        return False
    if options[3] < AHEAD or min(options[5], options[6]) < 3:  # room for all; see `stop` for the mode
        return False
    for y in range(4):
        if reach[PRE, y] > (1 if y == ACT else 0) or (y != ACT and reach[ACT, y] > 1):
            return False
    for b in range(shape[1]):
        for i in range(shape[1]):
            if delay[RD, b, RD, i] < 2:
                return False
        for x in range(4):
            for y in range(4):
                if delay[x, b, y, b] != delay[x, 0, y, 0]:
                    return False
    return delay[ACT, 0, RD, 0] >= 1


@inlined
def offered(arrival, interval, base, p):
    """Clock from which a request is offered."""
    return arrival[p] if arrival.shape[0] > 0 else (base + p) * interval


@inlined
def remember(history, rank_state, r, window, t):
    """Enters an activation in the window of its rank, where later ones may already be; returns the clock of the oldest."""
    at = rank_state[r, R_WINDOW]
    if history[r, at] >= t:
        return history[r, at]
    history[r, at] = t
    k = at
    for _ in range(window - 1):
        before = k - 1 if k > 0 else window - 1
        if history[r, before] <= t:
            break
        history[r, k] = history[r, before]
        history[r, before] = t
        k = before
    at = at + 1 if at + 1 < window else 0
    rank_state[r, R_WINDOW] = at
    return history[r, at]


@inlined
def record_others(delay, reach, ready, lanes, x, b, t):
    """The part of `record` that concerns several banks."""
    for y in range(4):
        if reach[x, y] == 2:
            for i in range(lanes):
                ready[y, i] = max(ready[y, i], t + delay[x, b, y, i])


@kernel
def stop(tables, state, column, head, count, now):
    """Turns the reads in flight into waiting and active ones: commands before clock `now` have gone, the others have not.

    The mode is not kept: with fewer writes than both watermarks the next choice that waits or takes a queued request sets it. No more
    than two writes can come before that choice, as two RDs are two clocks apart.
    """
    delay, reach, _, _, shape, options, _ = tables
    scalar, ready, last, history, slot, free, age, open_row, active, rank_state, per_bank, _, flight, busy = state
    banks, lanes, window, window_clocks = shape[1], shape[2], shape[3], shape[4]
    width, entries, read_latency, base = banks // shape[0], slot.shape[2], options[8], scalar[X_BASE]
    reads = active_reads = 0
    for i in range(count):
        at = flight[(head + i) & (AHEAD - 1)]
        b, row, arrive, request, pre, act, t = at[F_BANK], at[F_ROW], at[F_ARRIVE], at[F_REQUEST], at[F_PRE], at[F_ACT], at[F_RD]
        r = b // width
        for c in (pre, act, t):
            if c >= now:
                busy[c & (CLOCKS - 1)] = -1
        if 0 <= pre < now:
            per_bank[b, P_CONFLICTS] += 1
            per_bank[b, PRE] += 1
            rank_state[r, R_OPEN] -= 1
            open_row[b] = -1
            last[PRE, r] = max(last[PRE, r], pre)
            record(delay, reach, ready, lanes, PRE, b, pre)
        if 0 <= act < now:
            per_bank[b, P_MISSES] += 1 if pre < 0 else 0
            per_bank[b, ACT] += 1
            if rank_state[r, R_OPEN] == 0:
                rank_state[r, R_SINCE] = act
            rank_state[r, R_OPEN] += 1
            open_row[b] = row
            last[ACT, r] = max(last[ACT, r], act)
            record(delay, reach, ready, lanes, ACT, b, act)
            if window > 0:
                until = remember(history, rank_state, r, window, act) + window_clocks
                for j in range(r * width, (r + 1) * width):
                    ready[ACT, j] = max(ready[ACT, j], until)
        if t < now:
            per_bank[b, P_HITS] += 1 if act == NO_ACT else 0
            per_bank[b, RD] += 1
            per_bank[b, P_LATENCY] += t + read_latency - arrive
            scalar[X_MAX_LATENCY] = max(scalar[X_MAX_LATENCY], t + read_latency - arrive)
            scalar[X_DEPARTED] = max(scalar[X_DEPARTED], t + read_latency)
            last[RD, r] = max(last[RD, r], t)
            record(delay, reach, ready, lanes, RD, b, t)
        elif act == ALREADY or 0 <= act < now:
            active[b] = arrive
            age[0, ACTIVE, b] = request << AGE | b
            rank_state[r, R_ACTIVE] += 1
            active_reads += 1
        else:
            s = free[0, reads] & SLOT
            reads += 1
            slot[0, PLACE, s] = b << ROW_BITS | row
            slot[0, KEY, s] = request << AGE | s
            slot[0, BURST, s] = column[request - base]
            slot[0, ARRIVED, s] = arrive
            slot[0, COUNTED, s] = 1 if 0 <= pre < now else 0
    for i in range(count):
        b = flight[(head + i) & (AHEAD - 1), F_BANK]
        where = b << ROW_BITS | max(open_row[b], 0)
        hit, miss = oldest_at(slot[0, PLACE], slot[0, KEY], entries, where), oldest_elsewhere(slot[0, PLACE], slot[0, KEY], entries, where)
        age[0, HIT, b] = hit if open_row[b] >= 0 else NONE
        age[0, MISS, b] = miss if open_row[b] >= 0 else min(hit, miss)
        offer_commands(age[0], b, open_row[b] < 0, active[b] >= 0, options[0] == 1, QUEUED)
    scalar[X_READS], scalar[X_ACTIVE_READS] = reads, active_reads


@inlined
def settle(own, far, delay, reach, ready, last, history, open_row, rank_state, per_bank, shape, at, now):
    """Enters the commands of a read that has gone into the state of the channel: what still binds at clock `now`, and the counts."""
    ranks, banks, lanes, window, window_clocks = shape[0], shape[1], shape[2], shape[3], shape[4]
    _, _, act_pre, act_act, rd_pre, rd_act, rd_rd, rd_wr, act_wr = own
    width = banks // ranks
    b, pre, act, rd = at[F_BANK], at[F_PRE], at[F_ACT], at[F_RD]
    r = b // width if ranks > 1 else 0
    ready[RD, b] = max(ready[RD, b], rd + rd_rd)
    ready[WR, b] = max(ready[WR, b], max(act + act_wr, rd + rd_wr))
    ready[ACT, b] = max(ready[ACT, b], max(act + act_act, rd + rd_act))
    ready[PRE, b] = max(ready[PRE, b], max(act + act_pre, rd + rd_pre))
    if rd + far[2] > now:
        record_others(delay, reach, ready, lanes, RD, b, rd)
    if act >= 0:
        if act + far[1] > now:
            record_others(delay, reach, ready, lanes, ACT, b, act)
        if window > 0:
            until = remember(history, rank_state, r, window, act) + window_clocks
            if until > now:
                for i in range(r * width, (r + 1) * width):
                    ready[ACT, i] = max(ready[ACT, i], until)
        open_row[b] = at[F_ROW]
        last[ACT, r] = max(last[ACT, r], act)
        per_bank[b, ACT] += 1
        if pre >= 0:
            last[PRE, r] = max(last[PRE, r], pre)
            per_bank[b, PRE] += 1
            per_bank[b, P_CONFLICTS] += 1
        else:
            if rank_state[r, R_OPEN] == 0:
                rank_state[r, R_SINCE] = act
            rank_state[r, R_OPEN] += 1
            per_bank[b, P_MISSES] += 1
    elif act == NO_ACT:
        per_bank[b, P_HITS] += 1
    last[RD, r] = max(last[RD, r], rd)
    per_bank[b, RD] += 1


@inlined
def place(own, far, delay, ready, open_row, rank_state, shape, flight, busy, head, count, last_act, last_rd, gone_act, now, b, here):
    """Clocks of PRE and ACT (negative: none) and RD of a read accepted at clock `now`, and whether it leaves the reads in flight alone.

    Commands go as soon as they can and their clock is free. That is the policy as long as nothing in flight would have to give way: to
    a command that comes earlier and close, or to the RD of an active read, which goes before queued requests in the same clock.
    """
    pre_act, act_rd, act_pre, act_act, rd_pre, rd_act = own[:6]
    window, window_clocks = shape[3], shape[4]
    open_now = open_row[b]
    pre_from, act_from, rd = max(now, ready[PRE, b]), max(now, ready[ACT, b]), max(now, ready[RD, b])
    fits = count < AHEAD
    same = False
    for i in range(count):
        same |= flight[(head + i) & (AHEAD - 1), F_BANK] == b
    if same:  # goes after the others of its bank, unless it finds its row open first, or closes it first
        for i in range(count):
            at = flight[(head + i) & (AHEAD - 1)]
            if at[F_BANK] == b:
                fits &= (at[F_PRE] < now) | (here != open_now)
                open_now = at[F_ROW]
                fits &= (at[F_ACT] != NO_ACT) | (at[F_RD] < now) | (here == open_now)
                rd = max(rd, at[F_RD] + 1)
                pre_from = max(pre_from, max(at[F_ACT] + act_pre, at[F_RD] + rd_pre))
                act_from = max(act_from, max(at[F_ACT] + act_act, at[F_RD] + rd_act))
    pre = -1
    act = NO_ACT
    early = False  # before commands of others, or so soon after them that they bind
    if open_now != here:
        act = act_from
        is_open = rank_state[b // (shape[1] // shape[0]) if shape[0] > 1 else 0, R_OPEN]
        if open_now >= 0:
            pre = pre_from
            while busy[pre & (CLOCKS - 1)] == pre:
                pre += 1
            act = max(act, pre + pre_act)
            fits &= is_open >= count + 2  # some bank stays open: clocks with none are counted command by command
        else:
            fits &= (is_open > 0) | (count == 0)
        if act < last_act + far[1]:
            early = True
            for i in range(count):
                at = flight[(head + i) & (AHEAD - 1)]
                if at[F_ACT] <= act:
                    act = max(act, at[F_ACT] + delay[ACT, at[F_BANK], ACT, b])
        while busy[act & (CLOCKS - 1)] == act:
            act += 1
        rd = max(rd, act + act_rd)
        if count > 0 and act < last_act + window_clocks:
            near = 0
            for i in range(count):
                near += 1 if abs(flight[(head + i) & (AHEAD - 1), F_ACT] - act) < window_clocks else 0
            fits &= (near == 0) | (near < window) & (gone_act + window_clocks <= act)
    if rd < last_rd + far[0]:
        early = True
        for i in range(count):
            at = flight[(head + i) & (AHEAD - 1)]
            if at[F_RD] <= rd:
                fits &= (act < 0) | (at[F_ACT] != NO_ACT) | (at[F_RD] < rd)
                rd = max(rd, at[F_RD] + delay[RD, at[F_BANK], RD, b])
    if act >= 0:
        fits &= busy[rd & (CLOCKS - 1)] != rd
    else:
        while busy[rd & (CLOCKS - 1)] == rd:
            rd += 1
    if early:
        for i in range(count):
            at = flight[(head + i) & (AHEAD - 1)]
            other, gap = at[F_BANK], at[F_RD] - rd
            fits &= (gap >= delay[RD, b, RD, other]) | (-gap >= delay[RD, other, RD, b])
            gap = at[F_ACT] - act
            apart = (gap > 0) & (gap >= delay[ACT, b, ACT, other]) | (gap < 0) & (-gap >= delay[ACT, other, ACT, b])
            fits &= apart | (act < 0) | (at[F_ACT] < 0)
    return pre, act, rd, fits & (rd < now + CLOCKS)


@kernel
def take_active(delay, ready, lanes, age, open_row, active, rank_state, width, flight, busy, departed, count, now, read_latency):
    """Makes up to two active reads reads in flight, in the order of their RDs; returns the clock of the last one."""
    rd = -1
    for i in range(count):
        b = soonest(ready[RD], age[0, ACTIVE], lanes, now) & SLOT
        rd = max(now, ready[RD, b])
        if i > 0:
            rd = max(rd, flight[0, F_RD] + delay[RD, flight[0, F_BANK], RD, b])
        at = flight[i]
        at[F_BANK], at[F_ROW], at[F_ARRIVE], at[F_REQUEST] = b, open_row[b], active[b], age[0, ACTIVE, b] >> AGE
        at[F_PRE], at[F_ACT], at[F_RD] = -1, ALREADY, rd
        busy[rd & (CLOCKS - 1)] = rd
        if departed.shape[0] > 0:
            departed[at[F_REQUEST]] = rd + read_latency
        active[b] = -1
        age[0, ACTIVE, b] = age[0, COLUMN, b] = NONE
        rank_state[b // width, R_ACTIVE] -= 1
    return rd


@kernel
def run_ahead(tables, state, bank, row, column, is_write, arrival, interval, arrived, departed):
    """Serves reads; arguments as in `open_page.simulate`, scalars in `state.scalar`. At most two active reads are outstanding then."""
    delay, reach, _, _, shape, options, longest = tables
    scalar, ready, last, history, _, _, age, open_row, active, rank_state, per_bank, _, flight, busy = state
    ranks, banks, lanes, read_latency = shape[0], shape[1], shape[2], options[8]
    n = bank.shape[0]
    keep = arrived.shape[0] > 0
    now, base, p, offer = scalar[X_NOW], scalar[X_BASE], scalar[X_NEXT], scalar[X_OFFER]
    until = scalar[X_REFRESH] - 2 * AHEAD
    accepted_at, departed_at, max_latency = scalar[X_ACCEPTED], scalar[X_DEPARTED], scalar[X_MAX_LATENCY]
    own = (
        max(delay[PRE, 0, ACT, 0], 1),
        delay[ACT, 0, RD, 0],
        delay[ACT, 0, PRE, 0],
        delay[ACT, 0, ACT, 0],
        max(delay[RD, 0, PRE, 0], 1),
        delay[RD, 0, ACT, 0],
        delay[RD, 0, RD, 0],
        delay[RD, 0, WR, 0],
        delay[ACT, 0, WR, 0],
    )
    far_rd = far_act = 0  # to other banks
    for i in range(1, banks):
        far_rd, far_act = max(far_rd, delay[RD, 0, RD, i]), max(far_act, delay[ACT, 0, ACT, i])
    far = (far_rd, far_act, max(longest[RD, RD], longest[RD, WR]))
    gone_act = last[ACT, 0]  # latest ACT outside of `flight`; of all: `last_act`
    for r in range(1, ranks):
        gone_act = max(gone_act, last[ACT, r])
    last_act = gone_act
    head, count, width = 0, scalar[X_ACTIVE_READS], banks // ranks
    last_rd = take_active(delay, ready, lanes, age, open_row, active, rank_state, width, flight, busy, departed, count, now, read_latency)

    while True:
        while count > 0 and flight[head, F_RD] < now:
            settle(own, far, delay, reach, ready, last, history, open_row, rank_state, per_bank, shape, flight[head], now)
            gone_act = max(gone_act, flight[head, F_ACT])
            done = flight[head, F_RD] + read_latency
            latency = done - flight[head, F_ARRIVE]
            per_bank[flight[head, F_BANK], P_LATENCY] += latency
            max_latency = max(max_latency, latency)
            departed_at = max(departed_at, done)
            head = (head + 1) & (AHEAD - 1)
            count -= 1
        if now >= until or p + 1 >= n or is_write[p]:
            break
        b = bank[p] & SLOT
        pre, act, rd, fits = place(
            own, far, delay, ready, open_row, rank_state, shape, flight, busy, head, count, last_act, last_rd, gone_act, now, b, row[p]
        )
        if not fits:
            break
        at = flight[(head + count) & (AHEAD - 1)]
        at[F_BANK], at[F_ROW], at[F_ARRIVE], at[F_REQUEST] = b, row[p], now - 1, base + p
        at[F_PRE], at[F_ACT], at[F_RD] = pre, act, rd
        count += 1
        last_act, last_rd = max(last_act, act), max(last_rd, rd)
        if act >= 0:
            busy[act & (CLOCKS - 1)] = act
            if pre >= 0:
                busy[pre & (CLOCKS - 1)] = pre
        busy[rd & (CLOCKS - 1)] = rd
        accepted_at = now - 1
        if keep:
            arrived[base + p] = now - 1
            departed[base + p] = rd + read_latency
        p += 1
        offer = max(now, offered(arrival, interval, base, p))
        now = min(offer + 1, until)

    scalar[X_NOW], scalar[X_NEXT], scalar[X_OFFER] = now, p, offer
    scalar[X_ACCEPTED], scalar[X_DEPARTED], scalar[X_MAX_LATENCY] = accepted_at, departed_at, max_latency
    scalar[X_READS] = scalar[X_ACTIVE_READS] = 0
    if count > 0:
        stop(tables, state, column, head, count, now)
