"""DRAMsim3 beside our controller where both follow the same policy: reads, one rank, the interleaved map, hardly a repeated address.

Outside of that the two simulators differ by design: DRAMsim3 merges outstanding reads of one address, serves the banks in turn with a
row-hit cap, keeps eight commands for each bank behind its queue, and staggers refresh over ranks.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from pimsim.engine.dram import replay
from pimsim.spec.dram import ControllerSpec, DramSpec

GOLDEN = Path(__file__).parents[3] / "shared" / "golden" / "dram"
PRESETS = {"ddr4": ("8Gb_x8", "3200AA"), "ddr5": ("16Gb_x8", "4800BN"), "hbm2": ("4Gb", "2000")}


def _rows() -> list[dict[str, str]]:
    path = GOLDEN / "reference_runs.csv"
    if not path.exists():
        return []
    with path.open() as handle:
        rows = [row for row in csv.DictReader(handle) if row["simulator"] == "dramsim3"]
    alike = [row for row in rows if row["reads"] == row["requests"] and "_r2" not in row["config"] and ".m1." in row["trace"]]
    return [row for row in alike if "emb128" not in row["trace"] or row["interval"] != "0"]  # emb128 repeats 43 % of its addresses


ROWS = _rows()


def test_reference_runs_are_there() -> None:
    if not GOLDEN.exists():
        pytest.skip(f"no reference data at {GOLDEN}")
    assert len(ROWS) >= 20


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['config']}-{row['trace']}-{row['interval']}")
def test_cycles_are_within_three_per_cent(row: dict[str, str]) -> None:
    standard = row["config"].split("_")[1]
    closed = "closed" in row["config"]
    controller = ControllerSpec(
        refresh="off" if "noref" in row["config"] else "on",
        row_policy="auto-precharge" if closed else "open",
        read_queue=64 if closed else 32,  # its 32 entries and the eight commands that each of a stream's four banks holds behind them
    )
    organisation, speed = PRESETS[standard]
    spec = DramSpec(standard=standard, organisation=organisation, speed=speed, controller=controller)
    with np.load(GOLDEN / "traces" / f"{row['trace']}.npz") as trace:
        result = replay(spec, trace["address"], trace["is_write"], interval=int(row["interval"]))
    assert result.cycles == pytest.approx(int(row["cycles"]), rel=0.03)
