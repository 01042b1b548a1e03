"""What the open-page kernels share: candidates as integers, ready clocks bank by bank, names of array entries."""

from __future__ import annotations

from pimsim.kernels.timing import inlined

# commands as `PairTables` numbers them; the last two belong to ranks
RD, WR, ACT, PRE, PREA, REF = 0, 1, 2, 3, 4, 5
# rows of `age[read or write]`, a key for each bank: the oldest request to the open row, the oldest other one; and what the bank
# offers: a column command (of the active request if there is one), an ACT, a PRE, a column command of the active request alone
HIT, MISS, COLUMN, OPEN, CLOSE, ACTIVE = 0, 1, 2, 3, 4, 5
# rows of `slot[read or write]`: waiting requests in no order; PLACE is bank and row, or -1
PLACE, KEY, BURST, ARRIVED, COUNTED = 0, 1, 2, 3, 4
# columns of `rank_state`
R_OPEN, R_ACTIVE, R_SINCE, R_CLOCKS, R_WINDOW = 0, 1, 2, 3, 4
# columns of `per_bank`: commands first
P_HITS, P_MISSES, P_CONFLICTS, P_LATENCY = 4, 5, 6, 7
# columns of `flight`, the reads whose clocks are known: at most AHEAD of them; `busy[t % CLOCKS]` is t if one has a command then
F_BANK, F_ROW, F_ARRIVE, F_REQUEST, F_PRE, F_ACT, F_RD = 0, 1, 2, 3, 4, 5, 6
AHEAD, CLOCKS = 8, 1024
# entries of `scalar`
# fmt: off
(
    X_NOW, X_PHASE, X_BASE, X_OFFER, X_READS, X_WRITES, X_MODE, X_ACTIVE_READS, X_ACTIVE_WRITES, X_REFRESH, X_MAINT_HEAD,
    X_MAINT, X_ACCEPTED, X_DEPARTED, X_MAX_LATENCY, X_FORWARDED, X_COALESCED, X_NEXT,
) = range(18)
# fmt: on
SCALARS = 18
DONE, STUCK, MAINTENANCE_FULL, MORE = 0, 2, 3, 4

# A candidate: clocks to wait, then two bits of order, then the key, which is 34 bits of age and 7 of its slot (or active bank).
NONE = 1 << 62
WAIT = 43
LOW = (1 << WAIT) - 1
QUEUED = 1 << 41  # goes after requests of the active buffer that are ready in the same clock
LATER = 1 << 42  # with two command buses, row commands go after column commands of the same clock
ORDER = QUEUED | LATER
AGE = 7
SLOT = 127
ROW_BITS = 32


@inlined
def soonest(ready, age, lanes, now):
    """Least candidate of one kind over all banks."""
    best = NONE
    for i in range(lanes):
        best = min(best, (max(ready[i] - now, 0) << WAIT) | age[i])
    return best


@inlined
def soonest_of_three(column_ready, column_age, act_ready, act_age, pre_ready, pre_age, lanes, now):
    """Least candidate of three kinds over all banks."""
    best = NONE
    for i in range(lanes):
        a = (max(column_ready[i] - now, 0) << WAIT) | column_age[i]
        b = (max(act_ready[i] - now, 0) << WAIT) | act_age[i]
        c = (max(pre_ready[i] - now, 0) << WAIT) | pre_age[i]
        best = min(min(best, a), min(b, c))
    return best


@inlined
def oldest_at(place, key, entries, where):
    """Least key of the requests to one bank and row, or NONE."""
    best = NONE
    for i in range(entries):
        best = min(best, key[i] if place[i] == where else NONE)
    return best


@inlined
def oldest_elsewhere(place, key, entries, where):
    """Least key of the requests to the same bank and other rows, or NONE."""
    best = NONE
    for i in range(entries):
        other = place[i] ^ where
        best = min(best, key[i] if 0 < other < (1 << ROW_BITS) else NONE)
    return best


@inlined
def holds(slot, entries, where, burst):
    """Whether a request to this burst waits in a queue."""
    found = 0
    for i in range(entries):
        found |= 1 if (slot[PLACE, i] == where) & (slot[BURST, i] == burst) else 0
    return found != 0


@inlined
def record(delay, reach, ready, lanes, x, b, t):
    """Updates the ready clocks after a command of one bank."""
    for y in range(4):
        far = reach[x, y]
        if far == 2:
            for i in range(lanes):
                ready[y, i] = max(ready[y, i], t + delay[x, b, y, i])
        elif far == 1:
            ready[y, b] = max(ready[y, b], t + delay[x, b, y, b])


@inlined
def whole_rank_ready(last, to_rank, y, r, ranks):
    """First clock at which no constraint forbids PREA (0) or REF (1) at a rank."""
    at = 0
    for x in range(6):
        for other in range(ranks):
            clocks = to_rank[x, y, 0 if other == r else 1]
            if clocks > 0:
                at = max(at, last[x, other] + clocks)
    return at


@inlined
def record_rank(from_rank, ready, x, r, ranks, banks, t):
    """Updates the ready clocks after PREA (0) or REF (1)."""
    width = banks // ranks
    for y in range(4):
        for i in range(banks):
            clocks = from_rank[x, y, 0 if i // width == r else 1]
            if clocks > 0:
                ready[y, i] = max(ready[y, i], t + clocks)


@inlined
def offer_commands(age, b, closed, waits, protect, later):
    """What a bank offers of one queue, from its oldest hit and its oldest other request; `waits`: its active request has the row."""
    hit = age[HIT, b]
    miss = age[MISS, b]
    age[COLUMN, b] = min(hit | QUEUED, age[ACTIVE, b])
    age[OPEN, b] = miss | later if closed else NONE
    age[CLOSE, b] = NONE if closed | waits | (protect & (hit < miss)) else miss | later


@inlined
def close_row(age, b, later):
    """Every waiting request of a bank misses from now on."""
    miss = min(age[HIT, b], age[MISS, b])
    age[HIT, b] = NONE
    age[MISS, b] = miss
    age[COLUMN, b] = NONE
    age[OPEN, b] = miss | later
    age[CLOSE, b] = NONE


@inlined
def record_window(history, rank_state, act_ready, window, clocks, r, width, t):
    """Updates the ready clocks of ACT after one more activation of a rank."""
    at = rank_state[r, R_WINDOW]
    history[r, at] = t
    at = at + 1 if at + 1 < window else 0
    rank_state[r, R_WINDOW] = at
    until = history[r, at] + clocks
    for i in range(r * width, (r + 1) * width):
        act_ready[i] = max(act_ready[i], until)
