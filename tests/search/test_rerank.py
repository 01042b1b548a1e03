"""The short list of a search: trained alone with the test rows closed, the best on the validation rows wins."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from cosearch.cli import app
from cosearch.problem import load_problem
from pimsim.errors import ConfigError

QUICK = ["--set", "algorithm.candidates=12", "--set", "algorithm.population=6", "--set", "algorithm.sample=2"]
QUICK += ["--set", "supernet.epochs=0.2", "--set", "final.training.epochs=1"]


def test_the_network_that_validates_best_alone_wins_and_is_the_only_one_tested(tmp_path):
    done = CliRunner().invoke(
        app, ["run", "tiny", "--out", str(tmp_path / "run"), *QUICK, "--set", "final.pick=logloss", "--set", "final.rerank=3"]
    )
    assert done.exit_code == 0, done.output
    points = json.loads((tmp_path / "run" / "final" / "rerank.json").read_text())["points"]
    assert len({point["digest"] for point in points}) == len(points) > 1
    supernet = [point["logloss_supernet"] for point in points]
    assert supernet == sorted(supernet)
    best = min(points, key=lambda point: point["logloss_alone"])
    metrics = json.loads((tmp_path / "run" / "best" / "metrics.json").read_text())
    assert metrics["id"] == best["id"]
    opened = {path.parent.name for path in (tmp_path / "run" / "final").glob("*/test_opened.log")}
    assert opened == {best["digest"]}
    alone = json.loads((tmp_path / "run" / "final" / best["digest"] / "result.json").read_text())
    assert alone["valid"]["logloss"] == best["logloss_alone"]
    assert alone["test"] is not None


def test_a_short_list_does_not_go_with_the_knee():
    with pytest.raises(ConfigError, match="final: rerank: 3 with pick: knee; allowed with pick: logloss"):
        load_problem("tiny", {"final.pick": "knee", "final.rerank": 3})
