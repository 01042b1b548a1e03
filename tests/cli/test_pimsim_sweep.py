"""`pimsim sweep`: points, rows that survive a kill, the same table on any executor, one clear line for bad input."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from pimsim.graph import Gather, MatMul, Table, Workload
from pimsim.sweep.plan import SweepSpec
from pimsim.sweep.run import run_sweep


def pimsim(*arguments: object, **more: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pimsim.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **more)


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """A sweep of 12 points over a small model; four of them ask for no channel."""
    tables = (Table(name="a", rows=5000, dim=16, pooling=20), Table(name="b", rows=300, dim=16))
    operators = (Gather(name="look_up", tables=tables), MatMul(name="fc", inputs=("look_up",), out_features=8, in_features=32))
    Workload(name="small", operators=operators).save(tmp_path / "small.json")
    tree = {
        "device": "ddr4_3200",
        "workload": str(tmp_path / "small.json"),
        "set": {"host.cache_embeddings": False},
        "parameters": {"dram.channels": [1, 2, 0], "dram.timing.nRCD": [22, 60], "batch": {"low": 4, "high": 8, "steps": 2}},
    }
    path = tmp_path / "sweep.yaml"
    path.write_text(yaml.safe_dump(tree, sort_keys=False))
    return path


def test_rows_charts_and_resume(sweep: Path, tmp_path: Path) -> None:
    done = pimsim("sweep", sweep, "--out", tmp_path / "one")
    assert done.returncode == 0, done.stderr
    table = pq.read_table(tmp_path / "one" / "results.parquet").to_pylist()
    assert [row["id"] for row in table] == list(range(12))
    assert [(row["dram.channels"], row["dram.timing.nRCD"], row["batch"]) for row in table[:3]] == [(1, 22, 4), (1, 22, 8), (1, 60, 4)]
    assert table[2]["latency_us"] > table[0]["latency_us"] > table[4]["latency_us"] > 0  # slower activation; more channels
    assert all((row["error"] is None) == (row["latency_us"] is not None) for row in table)
    assert [row["id"] for row in table if row["error"] is not None] == [8, 9, 10, 11]
    assert "fastest" in done.stdout and "4 points failed" in done.stdout and list((tmp_path / "one").glob("*.svg"))
    alone = pimsim("run", "--device", "ddr4_3200", "--workload", sweep.parent / "small.json", "--batch", 8, "--set", "dram.channels=2",
                   "--set", "dram.timing.nRCD=60", "--set", "host.cache_embeddings=false", "--json", "-")  # fmt: skip
    assert json.loads(alone.stdout)["latency_us"]["mean"] == table[7]["latency_us"]

    journal = tmp_path / "one" / "results.jsonl"
    before = (tmp_path / "one" / "results.parquet").read_bytes()
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join(lines[:5]) + lines[5][:20])  # as a kill leaves it
    again = pimsim("sweep", sweep, "--out", tmp_path / "one", "--jobs", 2)
    assert again.returncode == 0 and "5 of 12 points" in again.stderr
    assert (tmp_path / "one" / "results.parquet").read_bytes() == before


def test_killed_sweep_goes_on(sweep: Path, tmp_path: Path) -> None:
    tree = yaml.safe_load(sweep.read_text())
    tree["parameters"]["batch"] = {"low": 1, "high": 50}
    sweep.write_text(yaml.safe_dump(tree, sort_keys=False))
    command = [sys.executable, "-m", "pimsim.cli", "sweep", str(sweep), "--out", str(tmp_path / "killed"), "--jobs", "2"]
    run = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True)
    journal = tmp_path / "killed" / "results.jsonl"
    until = time.monotonic() + 60
    while time.monotonic() < until and (not journal.exists() or journal.stat().st_size < 1500):
        time.sleep(0.05)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    kept = journal.read_bytes().count(b"\n")
    assert 0 < kept < 300
    spec = SweepSpec.model_validate(tree)
    seen: list[int] = []
    run_sweep(spec, tmp_path / "killed", progress=lambda done, total: seen.append(done))
    assert seen[0] == kept and seen[-1] == 300
    run_sweep(spec, tmp_path / "whole")
    assert (tmp_path / "killed" / "results.parquet").read_bytes() == (tmp_path / "whole" / "results.parquet").read_bytes()


def test_ray_gives_the_same_table(sweep: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'pim-cosearch[ray]'")
    spec = SweepSpec.model_validate(yaml.safe_load(sweep.read_text()))
    run_sweep(spec, tmp_path / "local")
    run_sweep(spec, tmp_path / "ray", jobs=2, executor="ray")
    assert (tmp_path / "ray" / "results.parquet").read_bytes() == (tmp_path / "local" / "results.parquet").read_bytes()


def test_points() -> None:
    grid = {
        "device": "ddr4_3200",
        "workload": "rm1",
        "parameters": {"batch": [1, 2], "dram.channels": {"low": 1, "high": 16, "steps": 5, "log": True}},
    }
    points = SweepSpec.model_validate(grid).all_points()
    assert [point["dram.channels"] for point in points[:5]] == [1, 2, 4, 8, 16] and len(points) == 10
    drawn = SweepSpec.model_validate(grid | {"method": "random", "samples": 6, "seed": 3}).all_points()
    assert len({json.dumps(point) for point in drawn}) == 6 and all(1 <= point["dram.channels"] <= 16 for point in drawn)
    assert drawn == SweepSpec.model_validate(grid | {"method": "random", "samples": 6, "seed": 3}).all_points()
    listed = {"device": "ddr4_3200", "workload": "rm1", "method": "list", "points": [{"batch": 3}, {"dram.channels": 2}]}
    assert SweepSpec.model_validate(listed).all_points() == [{"batch": 3}, {"dram.channels": 2}]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"parameters": {}}, "method grid takes `parameters`"),
        ({"workload": None}, "give workload or kernel"),
        ({"parameters": {"batch": {"low": 0.5, "high": 2}}}, "parameters.batch: steps is missing"),
        ({"methods": "grid"}, "methods: unknown key; did you mean 'method'"),
        ({"parameters": {"dram.chanels": [1]}}, "dram.chanels: unknown key; did you mean 'channels'"),
        ({"device": "ddr9"}, "every point failed, the first: unknown device 'ddr9'"),
    ],
)
def test_bad_sweeps_are_one_line(sweep: Path, tmp_path: Path, change: dict[str, object], message: str) -> None:
    tree = yaml.safe_load(sweep.read_text()) | change
    sweep.write_text(yaml.safe_dump({key: value for key, value in tree.items() if value is not None}))
    done = pimsim("sweep", sweep, "--out", tmp_path / "bad")
    lines = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert done.returncode == 2 and len(lines) == 1 and message in lines[0] and "Traceback" not in done.stderr


def test_other_sweeps_folder_is_refused(sweep: Path, tmp_path: Path) -> None:
    spec = SweepSpec.model_validate(yaml.safe_load(sweep.read_text()))
    run_sweep(spec, tmp_path / "one")
    sweep.write_text(sweep.read_text().replace("22", "23"))
    done = pimsim("sweep", sweep, "--out", tmp_path / "one")
    assert done.returncode == 2 and "holds another sweep" in done.stderr
    assert pimsim("sweep", sweep, "--out", tmp_path / "x", "--executor", "rya").stderr.strip().endswith("(allowed: local, ray)")
