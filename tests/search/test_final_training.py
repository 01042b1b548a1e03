"""A finished run's winner with more seeds and baselines: the table, resuming, adding seeds, bad names."""

from __future__ import annotations

import json
import statistics
import sys

import pytest
from typer.testing import CliRunner

from cosearch.cli import app
from cosearch.cli import main as main_cli

BASELINES = ["--baseline", "fm", "--baseline", "deepfm"]


def final(run, *more):
    done = CliRunner().invoke(app, ["final", str(run), *more])
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture(scope="module")
def study(small_run):
    output = final(small_run, "--seeds", "2", *BASELINES)
    return output, json.loads((small_run / "final" / "result.json").read_text())


def test_every_model_has_mean_spread_and_interval_over_its_own_runs(study):
    _, facts = study
    assert [row["model"] for row in facts["models"]] == ["searched", "fm", "deepfm"]
    for row in facts["models"]:
        assert [one["seed"] for one in row["runs"]] == facts["seeds"] == [3, 4]
        for name in ("auc", "logloss"):
            values = [one["test"][name] for one in row["runs"]]
            assert row[name]["mean"] == pytest.approx(statistics.mean(values))
            assert row[name]["std"] == pytest.approx(statistics.stdev(values)) and row[name]["std"] > 0
            assert row[name]["low"] < row[name]["mean"] < row[name]["high"]
        assert row["macs"] > 0 and row["latency_us"] > 0 and row["energy_uj"] > 0, row["not_simulated"]
        assert all(one["epochs"] == 1 for one in row["runs"])  # the candidate's bound


def test_differences_are_those_of_the_means(study):
    _, facts = study
    ours, *theirs = facts["models"]
    for row, difference in zip(theirs, facts["differences"], strict=True):
        assert difference["baseline"] == row["model"]
        for name in ("auc", "logloss"):
            assert difference[name]["value"] == pytest.approx(ours[name]["mean"] - row[name]["mean"])
            assert difference[name]["low"] < difference[name]["value"] < difference[name]["high"]


def test_the_candidate_keeps_the_figures_of_its_export_and_of_the_simulator(small_run, study):
    best, ours = json.loads((small_run / "best" / "metrics.json").read_text()), study[1]["models"][0]
    assert best["id"] == study[1]["id"] and best["macs"] == ours["macs"]
    assert ours["runs"][0]["test"] == {name: best["test"][name] for name in ("logloss", "auc")}
    assert best["hardware"]["latency_us"] == ours["latency_us"]


def test_each_model_opened_the_test_rows_once_and_a_second_call_trains_nothing(small_run, study):
    logs = {path: path.read_text() for path in (small_run / "final").rglob("test_opened.log")}
    assert len(logs) == 6 and all(len(text.splitlines()) == 1 for text in logs.values())
    before = (small_run / "final" / "result.json").read_bytes()
    final(small_run, "--seeds", "2", *BASELINES)
    assert (small_run / "final" / "result.json").read_bytes() == before
    assert {path: path.read_text() for path in (small_run / "final").rglob("test_opened.log")} == logs


def test_table_and_report_show_it(small_run, study):
    output, facts = study
    page = (small_run / "report.html").read_text()
    for row in facts["models"]:
        assert f"{row['auc']['mean']:.4f}" in output and f"{row['auc']['mean']:.4f}" in page
    assert "deepfm" in output and "deepfm" in page and "DeLong" in page


def test_a_wrong_baseline_is_one_line_and_known_before_a_run_begins(small_run, tmp_path, monkeypatch, capsys):
    begin = ["run", "tiny", "--out", tmp_path / "x", "--set", "final.baselines=[depfm]"]
    for arguments in (["final", small_run, "--baseline", "depfm"], begin):
        monkeypatch.setattr(sys, "argv", ["cosearch", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main_cli()
        error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
        assert end.value.code == 2 and len(error) == 1 and "deepfm" in error[0]
    assert not (tmp_path / "x").exists()


def test_an_exported_network_as_baseline_is_trained_as_the_candidate_is(small_run, study):
    final(small_run, "--seeds", "1", "--baseline", str(small_run / "best" / "model.json"))
    facts = json.loads((small_run / "final" / "result.json").read_text())
    ours, theirs = facts["models"]
    assert (ours["runs"], ours["macs"], ours["latency_us"]) == (theirs["runs"], theirs["macs"], theirs["latency_us"])
    assert facts["differences"][0]["auc"] == {"value": 0, "low": 0, "high": 0}
