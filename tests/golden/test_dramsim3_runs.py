"""DRAMsim3 beside our controller where both follow the same policy: reads, one rank, the interleaved map, hardly a repeated address.

Outside of that the two simulators differ by design: DRAMsim3 merges outstanding reads of one address, serves the banks in turn with a
row-hit cap, keeps eight commands for each bank behind its queue, and staggers refresh over ranks.
"""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from validation.cases.dram import comparable, ours

GOLDEN = Path(__file__).parents[3] / "shared" / "golden" / "dram"


def _rows() -> list[dict[str, str]]:
    path = GOLDEN / "reference_runs.csv"
    if not path.exists():
        return []
    with path.open() as handle:
        return [row for row in csv.DictReader(handle) if row["simulator"] == "dramsim3" and comparable(row)]


ROWS = _rows()


def test_reference_runs_are_there() -> None:
    if not GOLDEN.exists():
        pytest.skip(f"no reference data at {GOLDEN}")
    assert len(ROWS) >= 20


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['config']}-{row['trace']}-{row['interval']}")
def test_cycles_are_within_three_per_cent(row: dict[str, str]) -> None:
    assert ours(row).cycles == pytest.approx(int(row["cycles"]), rel=0.03)
