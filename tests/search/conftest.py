"""A small finished run, for the commands that look at one."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from cosearch.cli import app


@pytest.fixture(scope="module")
def small_run(tmp_path_factory):
    """Folder of a search of four candidates, one for each test module."""
    folder = tmp_path_factory.mktemp("small") / "run"
    quick = ["--set", "algorithm.candidates=4", "--set", "algorithm.population=4", "--set", "algorithm.sample=2"]
    quick += ["--set", "supernet.epochs=0.2", "--set", "final.training.epochs=1"]
    done = CliRunner().invoke(app, ["run", "tiny", "--out", str(folder), *quick])
    assert done.exit_code == 0, done.output
    return folder
