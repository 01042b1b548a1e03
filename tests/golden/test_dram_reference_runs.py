"""Every reference run in Ramulator 2.1: cycles and row statistics equal, mean latency to the printed digits.

Measured deviation at the time of writing: 0 cycles on all rows. Row hits, misses and conflicts differ by the writes that are
still queued when Ramulator stops counting (at most a write queue).
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from pimsim.dram.standard import Command
from pimsim.engine.dram import replay
from pimsim.spec.dram import ControllerSpec, DramSpec

PRESETS = {
    "ddr4": ("8Gb_x8", "3200AA"),
    "ddr5": ("16Gb_x8", "4800BN"),
    "gddr6": ("8Gb_x16", "14000_1350mV"),
    "hbm2": ("4Gb", "2000"),
    "lpddr5": ("8Gb_x16", "6400"),
}
GOLDEN = Path(__file__).parents[2].parent / "shared" / "golden" / "dram"


def _rows() -> list[dict[str, str]]:
    path = GOLDEN / "reference_runs.csv"
    if not path.exists():
        return []
    with path.open() as handle:
        rows = [row for row in csv.DictReader(handle) if row["simulator"] == "ramulator2.1"]
    return [row for row in rows if row["standard"].startswith(tuple(PRESETS))]


ROWS = _rows()


def spec_of(config: str) -> DramSpec:
    controller = ControllerSpec(
        scheduler="frfcfs-row-hit" if "rowhit" in config else "frfcfs",
        refresh="off" if "noref" in config else "on",
        row_policy="closed" if "closed" in config else "open",
    )
    standard = config.split("_")[1]
    organisation, speed = PRESETS[standard]
    ranks = 2 if "_r2" in config else 1
    return DramSpec(standard=standard, organisation=organisation, speed=speed, ranks=ranks, controller=controller)


def test_reference_runs_are_there():
    if not GOLDEN.exists():
        pytest.skip(f"no reference data at {GOLDEN}")
    assert len(ROWS) >= 50


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['config']}-{row['trace']}-{row['interval']}")
def test_reference_run_is_equal(row):
    with np.load(GOLDEN / "traces" / f"{row['trace']}.npz") as trace:
        result = replay(spec_of(row["config"]), trace["address"], trace["is_write"], interval=int(row["interval"]))
    assert result.cycles == int(row["cycles"])
    assert result.mean_read_latency_cycles == pytest.approx(float(row["mean_read_latency_cycles"]), abs=2e-4)
    counted = np.array([float(row[name]) for name in ("row_hits", "row_misses", "row_conflicts")])
    ours = np.array([result.row_hits, result.row_misses, result.row_conflicts])
    assert ours.sum() == result.requests
    if result.writes == 0:
        assert ours.tolist() == counted.tolist()
    assert np.abs(ours - counted).max() <= 32


LOGS = sorted((GOLDEN / "commands").glob("*.cmd.csv.gz")) if GOLDEN.exists() else []
NAMES = {"PREpb": "PRE", "PREab": "PREA", "REFab": "REF"}


@pytest.mark.parametrize("path", LOGS, ids=lambda path: path.name.removesuffix(".cmd.csv.gz"))
def test_command_log_is_equal(path):
    """The first 5,000 requests of four traces: every command at the same clock and bank, every read at the same latency."""
    import gzip

    name = path.name.removesuffix(".ramulator_frfcfs.cmd.csv.gz")
    with np.load(GOLDEN / "traces" / f"{name.removesuffix('.5k')}.100k.npz") as trace:
        address, is_write = trace["address"][:5000], trace["is_write"][:5000]
    result = replay(spec_of("ram_ddr4_3200_r1"), address, is_write, log_commands=True)
    with gzip.open(path, "rt") as handle:
        reference = [
            (
                int(entry["clock"]),
                NAMES.get(entry["command"], entry["command"]),
                int(entry["Rank"]),
                int(entry["BankGroup"]),
                int(entry["Bank"]),
            )
            for entry in csv.DictReader(handle)
        ]
    log = result.command_log
    ours = [
        (int(e["cycle"]), Command(e["command"]).name, int(e["rank"]), int(e["bankgroup"]), int(e["bank"])) for e in log[: len(reference)]
    ]
    assert ours == reference
    assert (log["cycle"][len(reference) :] > result.cycles).all()  # only writes that drain after the last read
    with np.load(path.with_name(path.name.replace(".cmd.csv.gz", ".lat.npz"))) as latency:
        reads = ~is_write
        if len(latency["arrive"]) == len(address):
            assert (latency["arrive"][reads] == result.arrived[reads]).all()
            assert (latency["depart"][reads] == result.departed[reads]).all()
