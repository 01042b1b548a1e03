"""Writes a command log: as CSV, and as a Chrome/Perfetto timeline."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pimsim.dram.standard import Command, common_timing, evaluate, resolve_timing, standard_of
from pimsim.errors import TraceError
from pimsim.spec.dram import DramSpec

COLUMNS = ("cycle", "command", "channel", "rank", "bankgroup", "bank", "row", "column")


def _opened(path: Path) -> Any:
    opener = gzip.open if path.suffix == ".gz" else open
    return opener(path, "wt", encoding="utf-8")


def write_csv(path: Path, log: NDArray[np.void], spec: DramSpec) -> None:
    """One command a line: cycle, command, channel, rank, bank group, bank, row, column; -1 where a command has none.

    The first command of an activation in two steps is written ACT1.

    Raises:
        TraceError: the file cannot be written.
    """
    names = [command.name for command in Command]
    if standard_of(spec).act2_within:
        names[Command.ACT] = "ACT1"
    try:
        with _opened(path) as handle:
            handle.write(",".join(COLUMNS) + "\n")
            for row in log[list(COLUMNS)].tolist():
                handle.write(f"{row[0]},{names[row[1]]}," + ",".join(map(str, row[2:])) + "\n")
    except OSError as error:
        raise TraceError(f"--commands {path}: cannot be written: {error.strerror}") from None


def write_timeline(path: Path, log: NDArray[np.void], spec: DramSpec) -> None:
    """Chrome trace events: a process for each channel, a thread for each bank and each rank, a slice for each command.

    Times are microseconds. A slice lasts as long as the command keeps its bank, rank or data bus busy (nRCD, nRP, nRFC, nBL).

    Raises:
        TraceError: the file cannot be written.
    """
    try:
        with _opened(path) as handle:
            handle.write('{"displayTimeUnit": "ns", "traceEvents": [\n')
            handle.write(",\n".join(json.dumps(event) for event in _events(log, spec)))
            handle.write("\n]}\n")
    except OSError as error:
        raise TraceError(f"--timeline {path}: cannot be written: {error.strerror}") from None


def durations(spec: DramSpec) -> dict[Command, int]:
    """Clocks that a command's slice lasts."""
    timing = common_timing(spec)
    opening, burst = timing["nRCD"], timing["nBL"]
    return {
        Command.ACT: opening,
        Command.PRE: timing["nRP"],
        Command.PREA: timing["nRP"],
        Command.REF: timing["nRFC"],
        Command.REFPB: timing.get("nRFCpb", 1),
        Command.REFSB: timing.get("nRFCsb", 1),
        Command.ACT2: 1,
        Command.CAS_RD: 1,
        Command.CAS_WR: 1,
        Command.RD: burst,
        Command.RDA: burst,
        Command.WR: burst,
        Command.WRA: burst,
    }


def _events(log: NDArray[np.void], spec: DramSpec) -> Iterator[dict[str, Any]]:
    clock_us = resolve_timing(spec)["tCK_ps"] * 1e-6
    lasts = durations(spec)
    data_after = {Command.RD: evaluate(standard_of(spec).read_latency, resolve_timing(spec)) - lasts[Command.RD]}
    threads: dict[tuple[int, str], int] = {}
    for entry in log:
        command = Command(int(entry["command"]))
        channel = int(entry["channel"])
        name = f"rank {entry['rank']}"
        if entry["bank"] >= 0:
            name += f" group {entry['bankgroup']} bank {entry['bank']}"
        if (channel, name) not in threads:
            threads[channel, name] = len(threads)
            yield {"ph": "M", "name": "thread_name", "pid": channel, "tid": threads[channel, name], "args": {"name": name}}
        details = {key: int(entry[key]) for key in ("cycle", "row", "column") if entry[key] >= 0}
        if command in data_after:
            details["data_at_cycle"] = int(entry["cycle"]) + data_after[command]
        yield {
            "ph": "X",
            "name": command.name,
            "cat": "dram",
            "pid": channel,
            "tid": threads[channel, name],
            "ts": int(entry["cycle"]) * clock_us,
            "dur": lasts[command] * clock_us,
            "args": details,
        }
