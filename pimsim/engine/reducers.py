"""Ranks whose read data end at reducers: instructions on shared wires, reads on the command-level engine, results in turn on a bus.

Three steps, each exact on its own; the clocks of one are the arrivals of the next:

    deliver       instructions of a fixed size, one after another on the wires that a channel's (or a rank's) instructions share
    read_rank     the row reads of one rank on its own FR-FCFS controller, not before their instructions arrive
    serve         first come, first served on one adder or bus

Modelling decisions:
    * A reducer in the buffer chip (`rank`) sees the rank's data bus: the rank's standard timing.
    * A reducer in the DRAM chip takes data before they reach the rank's bus: reads of different bank groups (`bankgroup`) or banks
      (`bank`) do not wait for each other; reads of one reducer are spaced by nCCDL. Commands are made in the chip, so that they do not
      occupy a command bus. Activations still share nRRDS, nRRDL and nFAW, and refresh closes the whole rank.
    * Such a reducer reads the bursts of one row piece with one instruction: one column command with the length of all of them.

Not modelled: an instruction queue that is full holds up the wires; column accesses that a reducer's result takes from its bank group.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pimsim.dram.standard import Command, Constraint, Standard, standard_of
from pimsim.engine.channel import Requests, channel
from pimsim.engine.tables import lower
from pimsim.spec.dram import DramSpec

IntArray = NDArray[np.int64]
Level = Literal["rank", "bankgroup", "bank"]
READS = {Command.RD, Command.RDA}


def serve(server: IntArray, ready: IntArray, service: IntArray) -> IntArray:
    """When each job is done, first come, first served, one at a time on each server.

    Args:
        server: (n,) server of each job.
        ready: (n,) time at which it comes; jobs that come at the same time go in order.
        service: (n,) time that it occupies the server.
    """
    order = np.lexsort((ready, server))
    done = np.empty(len(order), np.int64)
    starts = np.flatnonzero(np.diff(server[order], prepend=-1))
    for jobs in np.split(order, starts[1:]) if len(order) else ():
        total = np.cumsum(service[jobs])
        done[jobs] = np.maximum.accumulate(ready[jobs] - (total - service[jobs])) + total
    return done


def deliver(wires: IntArray, ready: IntArray, bits: int, bits_per_clock: int) -> IntArray:
    """Clock at which each instruction of `bits` bits has crossed its wires; both (n,) in the order of sending."""
    sent = serve(wires, ready * bits_per_clock, np.full(len(wires), bits, np.int64))
    return -(-sent // bits_per_clock)


@dataclass(frozen=True)
class RankReads:
    """What the reads of one rank took.

    Attributes:
        ready: (n,) clock of the last data beat of each read.
        counts: Commands by name.
    """

    ready: IntArray
    counts: dict[str, int]


def ending_at(standard: Standard, level: Level, bursts: int) -> Standard:
    """The standard of a memory whose reads end at reducers of a level, `bursts` bursts a read."""
    if level == "rank":
        return standard
    extra = f"{bursts - 1} * nCCDL"

    def adapted(constraint: Constraint) -> Constraint | None:
        before, after = set(constraint.preceding), set(constraint.following)
        if before <= READS and after <= READS:
            spacing = replace(constraint, level=level, latency=f"{bursts} * nCCDL")
            return spacing if constraint.level == "bankgroup" else None
        if before & READS:
            return replace(constraint, latency=f"{constraint.latency} + {extra}")
        return constraint

    kept = tuple(c for c in map(adapted, standard.constraints) if c is not None)
    return replace(standard, constraints=kept, two_cycle={}, read_latency=f"{standard.read_latency} + {extra}")


def read_rank(spec: DramSpec, level: Level, bursts: int, bank: IntArray, row: IntArray, column: IntArray, due: IntArray) -> RankReads:
    """Reads of one rank on its own controller.

    Args:
        spec: The memory; ranks and channels are taken as one.
        level: Where the data end.
        bursts: Bursts of one read (1 at rank level).
        bank: (n,) bank within the rank.
        row: (n,) row.
        column: (n,) first burst within the row.
        due: (n,) clock at which the read may be considered, non-decreasing.

    Raises:
        PimsimError: timing that leaves no time for requests.
    """
    one = spec.model_copy(update={"ranks": 1, "channels": 1})
    tables = lower(one, standard=ending_at(standard_of(one), level, bursts))
    simulated = channel(tables, len(bank))
    simulated.serve(Requests(bank, row, column, np.zeros(len(bank), bool), due))
    commands = simulated.counted().commands
    counts = {command.name: int(commands[command]) for command in Command if commands[command]}
    if "RD" in counts:
        counts["RD"] *= bursts
    return RankReads(simulated.departed, counts)
