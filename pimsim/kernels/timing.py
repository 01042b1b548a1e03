"""Earliest clocks of commands from the constraint tables: what every kernel shares.

Nodes are numbered ranks first, then bank groups, then banks; `ready[node, command]` is the first clock at which no constraint
at that node forbids the command. A command is legal at the maximum over its rank, bank group and bank.
"""

from __future__ import annotations

from typing import Any

from numba import njit

# Without reference counts on arrays (nothing here allocates) and with helpers inlined by LLVM, the controller runs twice as fast.
OPTIONS: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy", "_nrt": False}
kernel = njit(**OPTIONS)
inlined = njit(**OPTIONS, forceinline=True)

CHANNEL, RANK, SIBLING, BANKGROUP, BANK = 0, 1, 2, 3, 4
NEVER = 1 << 62


@inlined
def earliest(ready, command, rank, group, bank, ranks, groups):
    """First clock at which the constraints allow `command` at one bank."""
    at = ready[rank, command]
    other = ready[ranks + group, command]
    if other > at:
        at = other
    other = ready[ranks + groups + bank, command]
    if other > at:
        at = other
    return at


@inlined
def record(constraints, start, ready, history, position, command, rank, group, bank, ranks, groups, clock):
    """Updates `ready` after `command` at `clock`. For commands of a whole rank, `group` and `bank` have no constraints."""
    for k in range(start[command], start[command + 1]):
        scope = constraints[k, 0]
        after = constraints[k, 1]
        until = (clock + constraints[k, 2]) | constraints[k, 5]
        if scope == BANK:
            node = ranks + groups + bank
        elif scope == BANKGROUP:
            node = ranks + group
        else:
            node = rank if scope != CHANNEL else 0
        slot = constraints[k, 4]
        if slot >= 0:  # counts from the window-th last command at this node
            window = constraints[k, 3]
            p = position[slot, node]
            history[slot, node, p] = clock
            p = p + 1 if p + 1 < window else 0
            position[slot, node] = p
            until = (history[slot, node, p] + constraints[k, 2]) | constraints[k, 5]
        if scope == CHANNEL or scope == SIBLING:
            for r in range(ranks):
                if (scope == CHANNEL or r != rank) and until > ready[r, after]:
                    ready[r, after] = until
        elif until > ready[node, after]:
            ready[node, after] = until
