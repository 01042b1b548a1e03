"""The DRAM engine beside Ramulator 2.1 and DRAMsim3, on every run of the reference folder."""

from __future__ import annotations

import csv
from functools import cache
from typing import Any

import numpy as np

from pimsim.engine.dram import ReplayResult, replay
from pimsim.spec.dram import ControllerSpec, DramSpec
from validation.run import golden

PRESETS = {
    "ddr4": ("8Gb_x8", "3200AA"),
    "ddr5": ("16Gb_x8", "4800BN"),
    "gddr6": ("8Gb_x16", "14000_1350mV"),
    "hbm2": ("4Gb", "2000"),
    "lpddr5": ("8Gb_x16", "6400"),
}


@cache
def _runs(simulator: str) -> list[tuple[dict[str, str], ReplayResult]]:
    with golden("dram", "reference_runs.csv").open() as handle:
        rows = [row for row in csv.DictReader(handle) if row["simulator"] == simulator]
    return [(row, ours(row)) for row in rows if row["standard"].startswith(tuple(PRESETS)) and comparable(row)]


def comparable(row: dict[str, str]) -> bool:
    """All runs of Ramulator; of DRAMsim3 those whose policy is ours: reads, one rank, interleaved map, hardly a repeated address."""
    if row["simulator"] == "ramulator2.1":
        return True
    alike = row["reads"] == row["requests"] and "_r2" not in row["config"] and ".m1." in row["trace"]
    return alike and ("emb128" not in row["trace"] or row["interval"] != "0")


def ours(row: dict[str, str]) -> ReplayResult:
    """Our replay of one reference run."""
    config, theirs = row["config"], row["simulator"] == "dramsim3"
    closed = "closed" in config
    policy: Any = "open" if not closed else "auto-precharge" if theirs else "closed"
    controller = ControllerSpec(
        scheduler="frfcfs-row-hit" if "rowhit" in config else "frfcfs",
        refresh="off" if "noref" in config else "on",
        row_policy=policy,
        read_queue=64 if closed and theirs else 32,  # its 32 entries and the eight commands that each of four banks holds behind them
    )
    standard = config.split("_")[1]
    organisation, speed = PRESETS[standard]
    spec = DramSpec(standard=standard, organisation=organisation, speed=speed, ranks=2 if "_r2" in config else 1, controller=controller)
    with np.load(golden("dram", "traces", f"{row['trace']}.npz")) as trace:
        return replay(spec, trace["address"], trace["is_write"], interval=int(row["interval"]))


def worst_cycles(simulator: str) -> float:
    """Largest relative deviation of the cycles over all runs."""
    return max(abs(ours.cycles / int(row["cycles"]) - 1) for row, ours in _runs(simulator))


def worst_latency(simulator: str) -> float:
    """Largest relative deviation of the mean read latency over all runs."""
    deviations = [
        abs(ours.mean_read_latency_cycles / float(row["mean_read_latency_cycles"]) - 1)
        for row, ours in _runs(simulator)
        if ours.mean_read_latency_cycles is not None
    ]
    return max(deviations)
