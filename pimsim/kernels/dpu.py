"""Tasklets of a multithreaded processor that share one issue slot a cycle and one DMA engine (UPMEM's DPU), cycle-exact.

A tasklet's program is a row of steps: some instructions, the last of which may start a DMA transfer that the tasklet waits for, or be
a barrier. Two instructions of one tasklet are at least `distance` cycles apart; each cycle the tasklet that has been ready longest
issues. Transfers are served one at a time in the order of their instructions. Rounds in which every running tasklet issues once and
nothing else happens repeat with a fixed period; they are skipped at once.
"""

from __future__ import annotations

import numpy as np
from numba import njit

NOTHING, BARRIER = 0, -1
NEVER = 1 << 62


@njit(cache=True)
def _steady_rounds(order, count, ready, left, clock, distance, others, issue):
    """Whole rounds of `count` tasklets that repeat before anything else happens, and their period; fills the first round's cycles."""
    at = clock
    least = left[order[0]]
    for j in range(count):
        at = max(ready[order[j]], at)
        issue[j] = at
        at += 1
        least = min(least, left[order[j]])
    span = issue[count - 1] - issue[0]
    if span < distance:
        period = distance
    elif span == count - 1:
        period = count
    else:
        return 0, 0
    rounds = least - 1
    if others < NEVER:
        rounds = min(rounds, (others - 1 - issue[count - 1]) // period + 1)
    return max(rounds, 0), period


@njit(cache=True)
def _sort(order, ready, tasklets):
    """Puts tasklets in order of readiness, equal ones by number; fast when little has changed since the last time."""
    for i in range(1, tasklets):
        k = order[i]
        place = i
        while place > 0:
            before = order[place - 1]
            if ready[before] < ready[k] or (ready[before] == ready[k] and before < k):
                break
            order[place] = before
            place -= 1
        order[place] = k


@njit(cache=True)
def _run_one(steps, offsets, tasklets, distance):
    """Cycles, instructions and DMA cycles of one processor whose tasklets' programs begin at `offsets`."""
    pc = offsets[:tasklets].copy()
    left = np.zeros(tasklets, np.int64)
    ready = np.full(tasklets, NEVER)
    waiting = np.full(tasklets, NEVER)
    order = np.arange(tasklets)
    issue = np.zeros(tasklets, np.int64)
    alive, blocked, clock, engine, issued, moved, end = 0, 0, 0, 0, 0, 0, 0
    for k in range(tasklets):
        if pc[k] < offsets[k + 1]:
            left[k], ready[k] = steps[pc[k], 0], 0
            alive += 1
    while alive > 0:
        _sort(order, ready, tasklets)
        limit = max(ready[order[0]], clock) + distance
        count = 1
        while count < tasklets and ready[order[count]] < limit:
            count += 1
        others = ready[order[count]] if count < tasklets else NEVER
        rounds, period = _steady_rounds(order, count, ready, left, clock, distance, others, issue)
        if rounds > 0:
            shift = (rounds - 1) * period
            for j in range(count):
                left[order[j]] -= rounds
                ready[order[j]] = issue[j] + shift + distance
            clock = issue[count - 1] + shift + 1
            issued += rounds * count
            continue
        ahead = 0
        while ahead < count and left[order[ahead]] > 1 and issue[ahead] < others:
            k = order[ahead]
            left[k] -= 1
            ready[k] = issue[ahead] + distance
            ahead += 1
        if ahead > 0:
            clock = issue[ahead - 1] + 1
            issued += ahead
            continue
        k = order[0]
        now = max(ready[k], clock)
        clock = now + 1
        issued += 1
        left[k] -= 1
        ready[k] = now + distance
        end = max(end, clock)
        if left[k] > 0:
            continue
        action = steps[pc[k], 1]
        pc[k] += 1
        if action > 0:
            engine = max(engine, now) + action
            moved += action
            ready[k] = max(ready[k], engine)
            end = max(end, engine)
        if pc[k] == offsets[k + 1]:
            alive -= 1
            ready[k] = NEVER
        else:
            left[k] = steps[pc[k], 0]
            if action == BARRIER:
                waiting[k], ready[k] = ready[k], NEVER
                blocked += 1
        if blocked > 0 and blocked == alive:
            blocked = 0
            for j in range(tasklets):
                if waiting[j] < NEVER:
                    ready[j], waiting[j] = max(waiting[j], clock), NEVER
    return end, issued, moved


@njit(cache=True, nogil=True)
def run_tasklets(steps, offsets, tasklets, distance):
    """Runs many processors, each from cycle 0.

    Args:
        steps: (n, 2) int64: instructions (at least 1), and what the last of them does: DMA cycles, 0 for nothing, -1 for a barrier of all
            tasklets that are still running (never a program's last step).
        offsets: (processors * tasklets + 1,) int64: first step of each tasklet's program, processor by processor.
        tasklets: Tasklets of a processor.
        distance: Least cycles between two instructions of one tasklet.

    Returns:
        (processors, 3) int64: cycle after the last instruction or transfer, instructions issued, cycles the DMA engine was busy.
    """
    processors = (len(offsets) - 1) // tasklets
    result = np.zeros((processors, 3), np.int64)
    for p in range(processors):
        mine = offsets[p * tasklets : (p + 1) * tasklets + 1]
        result[p, 0], result[p, 1], result[p, 2] = _run_one(steps, mine, tasklets, distance)
    return result
