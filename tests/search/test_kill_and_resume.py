"""A real search, killed by SIGKILL at random moments and resumed, and on two workers: the same files as uninterrupted on one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    root = tmp_path_factory.mktemp("killed")
    driver = Path(__file__).with_name("kill_driver.py")
    environment = os.environ | {"COSEARCH_CACHE": str(root / "cache"), "OMP_WAIT_POLICY": "passive"}
    command = [sys.executable, str(driver), str(root), "5", "2"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout.splitlines()[-1])
    assert facts["exits"] == [0, 0, 0], done.stderr
    return root, facts


def test_five_kills_change_nothing(runs: tuple[Path, dict]) -> None:
    root, facts = runs
    assert facts["lost"] == []
    assert (root / "killed" / "pareto.csv").read_bytes() == (root / "whole" / "pareto.csv").read_bytes()
    assert same_trials(root / "killed", root / "whole")
    assert (root / "killed" / "best" / "metrics.json").read_text() == (root / "whole" / "best" / "metrics.json").read_text()


def test_two_workers_change_nothing(runs: tuple[Path, dict]) -> None:
    root, _ = runs
    assert (root / "two" / "pareto.csv").read_bytes() == (root / "whole" / "pareto.csv").read_bytes()
    assert same_trials(root / "two", root / "whole")


def same_trials(one: Path, other: Path) -> bool:
    """Equal rows of trials.parquet, wall times aside."""
    import pyarrow.parquet as pq

    first, second = (pq.read_table(folder / "trials.parquet").drop_columns("seconds") for folder in (one, other))
    assert first.num_rows == 24
    return first.equals(second)
