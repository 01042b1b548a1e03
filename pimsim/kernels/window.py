"""Reads of one channel through a controller's window, command by command but nothing else: what the closed forms ask about look-ups.

The policy is that of `frfcfs.py` for open rows, first ready first come, and reads that nothing interrupts: no refresh, no writes, no
merging. The bursts of one look-up that wait are one entry with a count, so that there is little to look through: a window of 32 bursts
holds eight look-ups of four. Entries are in order of age; the best column command and the best row command are kept until something
that bears on them changes.
"""

from __future__ import annotations

from pimsim.kernels.timing import NEVER, inlined, kernel

ACT, PRE, RD = 0, 1, 2
# scopes of `delay`
BANK, GROUP, RANK, SIBLING, CHANNEL = 0, 1, 2, 3, 4
# columns of `options`
O_BANKS, O_GROUPS, O_RANKS, O_WINDOW, O_READ, O_DUAL, O_EDGE, O_OPENING, O_RUNS_ON, O_FAW, O_FAW_CHANNEL = range(11)
OPTIONS = 11
# rows of `entry`: bank, row, bursts that wait, look-up
BANK_OF, ROW_OF, LEFT, AGE = 0, 1, 2, 3
LONG_AGO = -(1 << 40)


@inlined
def note(delay, ready, command, bank, group, rank, clock, first, ranks):
    """Enters a command into the ready clocks of banks, groups and ranks (these from `first` on)."""
    for after in range(3):
        for scope in range(3):
            gap = delay[command, after, scope]
            if gap > 0:
                at = bank if scope == BANK else group if scope == GROUP else rank
                if clock + gap > ready[after, at]:
                    ready[after, at] = clock + gap
        if ranks > 1:
            for r in range(first, first + ranks):
                gap = max(delay[command, after, CHANNEL], 0 if r == rank else delay[command, after, SIBLING])
                if clock + gap > ready[after, r]:
                    ready[after, r] = clock + gap


@inlined
def compacted(entry, head, tail):
    """Moves the entries that still wait to the front; returns their number."""
    kept = 0
    for i in range(head, tail):
        if entry[LEFT, i] > 0:
            for field in range(4):
                entry[field, kept] = entry[field, i]
            kept += 1
    return kept


@inlined
def clock_of(ready, command, node, b, now):
    """Earliest clock of a command at a bank."""
    t = max(ready[command, b], now)
    return max(t, max(ready[command, node[0, b]], ready[command, node[1, b]]))


@inlined
def reaches(delay, command, after):
    """Whether a command delays one of other banks by more than its own clock."""
    one_rank = max(delay[command, after, GROUP], delay[command, after, RANK])
    return max(one_rank, max(delay[command, after, SIBLING], delay[command, after, CHANNEL])) > 1


@kernel
def walk(delay, options, bank, row, bursts, due, marks, entry, active, ready, open_row, busy, node, last_act, out):
    """Serves the look-ups of one channel in order of coming.

    Args:
        delay: (3, 3, 5) clocks from ACT, PRE, RD to ACT, PRE, RD by scope; a scope of one rank holds a channel's, too.
        options: (11,) banks, groups and ranks of the channel; window; clocks from RD to the last beat; two command buses; commands on odd
            clocks; clocks from ACT to ACT2 at most (-1: one step); clocks for which the data clock runs on (0: always); clocks of four
            activations, and whether all ranks share them.
        bank, row, bursts: (n,) of each look-up.
        due: (n,) clock before which it does not come; (0,) all at once.
        marks: (2,) bursts after which the clock is noted.
        entry, active, ready, open_row, busy, node, last_act: Room to work in.
        out: (4,) clock of the last beat, RD clocks at both marks, activations.
    """
    banks, groups, ranks, window = options[O_BANKS], options[O_GROUPS], options[O_RANKS], options[O_WINDOW]
    dual, edge, within, runs_on, faw = options[O_DUAL], options[O_EDGE], options[O_OPENING], options[O_RUNS_ON], options[O_FAW]
    first_rank = banks + groups
    row_to_column = reaches(delay, ACT, RD) or reaches(delay, PRE, RD)
    column_to_row = reaches(delay, RD, ACT) or reaches(delay, RD, PRE)
    for b in range(banks):
        node[0, b] = banks + b // (banks // groups)
        node[1, b] = first_rank + b // (banks // ranks)
    ready[:, : first_rank + ranks] = 0
    open_row[:banks] = -1
    busy[:banks] = 0
    last_act[:, :] = LONG_AGO
    n = bank.shape[0]
    by_due = due.shape[0] > 0
    now, offer = 1, due[0] if by_due else 0
    p = 0
    left = bursts[0]
    head = tail = 0
    capacity = entry.shape[1]
    waiting = n_active = served = activations = 0
    opening = -1  # bank whose ACT2 is still to come
    opening_age = opening_row = deadline = 0
    expiry = LONG_AGO
    last = 0
    column_clock = row_clock = -1  # before `now`: look again
    column = chosen = row_of = -1
    while True:
        if p < n and offer < now and waiting < window:
            if tail > head and entry[AGE, tail - 1] == p and entry[LEFT, tail - 1] > 0:
                entry[LEFT, tail - 1] += 1
            else:
                if tail == capacity:
                    tail = compacted(entry, head, tail)
                    head = 0
                    column_clock = row_clock = -1
                b = bank[p]
                entry[BANK_OF, tail], entry[ROW_OF, tail], entry[LEFT, tail], entry[AGE, tail] = b, row[p], 1, p
                if open_row[b] == row[p]:
                    if column_clock >= now:
                        t = clock_of(ready, RD, node, b, now) | edge
                        if t < column_clock:
                            column_clock, column, chosen = t, tail, -1
                elif row_clock >= now:
                    if open_row[b] >= 0:
                        t = NEVER if busy[b] == 1 else clock_of(ready, PRE, node, b, now)
                    else:
                        t = NEVER if opening >= 0 else clock_of(ready, ACT, node, b, now) | edge
                    if t < row_clock:
                        row_clock, row_of = t, tail
                tail += 1
            waiting += 1
            offer = now
            left -= 1
            if left == 0:
                p += 1
                if p < n:
                    left = bursts[p]
                    if by_due and due[p] > offer:
                        offer = due[p]
        if waiting == 0 and n_active == 0 and opening < 0 and p >= n:
            break
        while head < tail and entry[LEFT, head] == 0:
            head += 1
        if column_clock < now:
            column_clock = NEVER
            column = chosen = -1
            from_clock = now | edge
            for i in range(n_active):
                t = clock_of(ready, RD, node, active[0, i], now) | edge
                if t < column_clock or (t == column_clock and active[1, i] < active[1, chosen]):
                    column_clock, chosen = t, i
            for i in range(head, tail):
                if column_clock <= from_clock:
                    break
                b = entry[BANK_OF, i]
                if open_row[b] == entry[ROW_OF, i] and entry[LEFT, i] > 0:
                    t = clock_of(ready, RD, node, b, now) | edge
                    if t < column_clock:
                        column_clock, column, chosen = t, i, -1
        if row_clock < now:
            row_clock = NEVER
            row_of = -1
            for i in range(head, tail):
                if row_clock <= now:
                    break
                if entry[LEFT, i] == 0:
                    continue
                b = entry[BANK_OF, i]
                if open_row[b] < 0:
                    t = NEVER if opening >= 0 else clock_of(ready, ACT, node, b, now) | edge
                elif open_row[b] == entry[ROW_OF, i] or busy[b] == 1:
                    continue
                else:
                    t = clock_of(ready, PRE, node, b, now)
                if t < row_clock:
                    row_clock, row_of = t, i
        first = min(column_clock, row_clock)
        if opening >= 0 and (first > now or deadline <= now):  # the second step of an activation fills an idle clock
            open_row[opening] = opening_row
            active[0, n_active], active[1, n_active] = opening, opening_age
            n_active += 1
            opening = -1
            now += 1
            column_clock = row_clock = -1
            continue
        if p < n and waiting < window:
            arrival = max(offer, now - 1) + 1
            if arrival <= now:
                arrival = now + 1
            if arrival <= first:
                now = arrival
                continue
        by_column = column_clock < row_clock
        if column_clock == row_clock:
            by_column = dual == 1 or chosen >= 0 or entry[AGE, column] < entry[AGE, row_of]
        t = first
        also = by_column and dual == 1 and row_clock == t
        if by_column:
            if runs_on > 0 and t >= expiry:
                t += 1  # the data clock starts again
            expiry = t + runs_on
            if chosen >= 0:
                b = active[0, chosen]
                busy[b] = 0
                n_active -= 1
                active[0, chosen], active[1, chosen] = active[0, n_active], active[1, n_active]
                if not also:
                    row_clock = -1
            else:
                b = entry[BANK_OF, column]
                waiting -= 1
                entry[LEFT, column] -= 1
            if row_of >= 0 and entry[BANK_OF, row_of] == b:
                also = False
                row_clock = -1
            note(delay, ready, RD, b, node[0, b], node[1, b], t, first_rank, ranks)
            last = t
            served += 1
            if served == marks[0]:
                out[1] = t
            if served == marks[1]:
                out[2] = t
            column_clock = -1
            if column_to_row:
                row_clock = -1
        if also or not by_column:
            b = entry[BANK_OF, row_of]
            row_clock = -1
            if row_to_column:
                column_clock = -1
            if open_row[b] < 0:
                activations += 1
                note(delay, ready, ACT, b, node[0, b], node[1, b], t, first_rank, ranks)
                if faw > 0:
                    shared = options[O_FAW_CHANNEL] == 1
                    which = 0 if shared else node[1, b] - first_rank
                    until = (last_act[which, 0] + faw) | edge
                    last_act[which, 0], last_act[which, 1], last_act[which, 2] = last_act[which, 1], last_act[which, 2], t
                    for r in range(first_rank, first_rank + ranks):
                        if (shared or r == node[1, b]) and until > ready[ACT, r]:
                            ready[ACT, r] = until
                busy[b] = 1
                age, here = entry[AGE, row_of], entry[ROW_OF, row_of]
                waiting -= 1
                entry[LEFT, row_of] -= 1
                if within >= 0:
                    opening, opening_age, opening_row, deadline = b, age, here, t + within
                else:
                    open_row[b] = here
                    active[0, n_active], active[1, n_active] = b, age
                    n_active += 1
                    if clock_of(ready, RD, node, b, t) <= column_clock:
                        column_clock = -1
            else:
                open_row[b] = -1
                note(delay, ready, PRE, b, node[0, b], node[1, b], t, first_rank, ranks)
                if column >= 0 and entry[BANK_OF, column] == b:
                    column_clock = -1
        now = t + 1
    out[0] = last + options[O_READ]
    out[3] = activations
