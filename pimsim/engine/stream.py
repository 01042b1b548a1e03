"""Command streams of processing-in-memory kernels on the command-level engine: in order, refresh included, no controller.

Modelling decisions:
    * One command a clock, in the order given, each at its earliest legal clock.
    * Bank -1 addresses all banks of the channel at once and counts as one activation in the activation window.
    * When nREFI falls due before the next command, every bank is closed (PREA), refreshed (REF) and its row opened again; the
      stream then goes on.

Not modelled: two commands in one clock on the two buses of HBM; activation in two steps and a stopped data clock (LPDDR5).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pimsim.dram.standard import Command, common_timing, evaluate, resolve_timing, standard_of
from pimsim.engine.tables import lower
from pimsim.errors import ConfigError
from pimsim.spec.dram import DramSpec

IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class StreamResult:
    """What a command stream took on one channel.

    Attributes:
        cycles: Clock at which the data of the last column command has moved and the last command has been issued.
        clocks: Clock of each command of the stream, (n,).
        counts: Commands issued by name, refreshes and re-opened rows included.
    """

    cycles: int
    clocks: IntArray
    counts: dict[str, int]


def issue_stream(spec: DramSpec, commands: NDArray[np.int64], column_gap: int | None = None, begin: int = 0) -> StreamResult:
    """Issues commands one after another on one channel.

    Args:
        spec: The memory; `spec.controller.refresh` turns periodic refresh on or off.
        commands: (n, 3) or (n, 4) int64 rows of command code (`Command`), bank within the channel (-1 = all banks at once),
            row (any integer; kept to open it again after a refresh) and, optionally, the least clocks after the previous command.
        column_gap: Least clocks between two column commands, beside the constraint tables (a unit slower than the bank).
        begin: First clock at which a command may go.

    Raises:
        ConfigError: an impossible specification.
        ValueError: unknown command or bank, ACT on an open bank, or a column command on a closed one.
    """
    from pimsim.kernels import stream

    commands = np.asarray(commands, np.int64)
    if commands.ndim != 2 or commands.shape[1] not in (3, 4):
        raise ValueError(f"commands: shape {commands.shape}: must be (n, 3) or (n, 4)")
    if column_gap is not None and column_gap < 0:
        raise ConfigError(f"column_gap: {column_gap}: must not be negative")
    if commands.shape[1] == 3:
        commands = np.column_stack([commands, np.ones(len(commands), np.int64)])
    if spec.controller.refresh not in ("on", "off"):
        raise ConfigError(f"dram.controller.refresh: {spec.controller.refresh!r}: command streams know on and off")
    tables, timing = lower(spec, all_commands=True), resolve_timing(spec)
    ranks, groups, banks, windows, longest = (int(x) for x in tables.shape)
    _check(commands, banks)
    nodes = ranks + groups + banks
    clocks, counts = np.zeros(len(commands), np.int64), np.zeros(len(Command), np.int64)
    status, at = stream.issue(
        tables,
        np.zeros((nodes, len(Command)), np.int64),
        np.full((windows, nodes, longest), -(1 << 40), np.int64),
        np.zeros((windows, nodes), np.int64),
        np.full(banks, stream.CLOSED, np.int64),
        commands,
        column_gap or 0,
        spec.controller.refresh == "on",
        timing["nREFI"],
        begin,
        clocks,
        counts,
    )
    if status != stream.OK:
        code, bank = int(commands[at, 0]), int(commands[at, 1])
        why = "open" if status == stream.NOT_CLOSED else "closed"
        raise ValueError(f"command {at} ({Command(code).name} bank {bank}): the bank is {why}")
    return StreamResult(_finish(spec, commands, clocks), clocks, {c.name: int(counts[c]) for c in Command if counts[c]})


def _check(commands: IntArray, banks: int) -> None:
    known = np.isin(commands[:, 0], [c for c in Command if c < Command.REFPB])
    if not known.all():
        at = int((~known).argmax())
        raise ValueError(f"command {at}: unknown code {commands[at, 0]}")
    outside = (commands[:, 1] < -1) | (commands[:, 1] >= banks)
    if outside.any():
        at = int(outside.argmax())
        raise ValueError(f"command {at}: bank {commands[at, 1]}: must be -1 or in 0..{banks - 1}")


def _finish(spec: DramSpec, commands: IntArray, clocks: IntArray) -> int:
    """Clock at which the last data beat has moved and the last command has been issued."""
    if not len(clocks):
        return 0
    timing = common_timing(spec)
    after = np.ones(len(Command), np.int64)
    after[[Command.RD, Command.RDA]] = evaluate(standard_of(spec).read_latency, timing)
    after[[Command.WR, Command.WRA]] = evaluate("nCWL + nBL", timing)
    return int((clocks + after[commands[:, 0]]).max())
