"""Explaining a candidate of a real small run: its figures are the search's own, its neighbours differ in one gene."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from cosearch.cli import app
from cosearch.evaluator import CandidateEvaluator
from cosearch.explain import smaller_networks
from cosearch.runfolder import open_run
from cosearch.store import TrialStore
from supernet.rank import draw_networks
from supernet.space import load_space


@pytest.fixture(scope="module")
def explained(small_run):
    """A small run and the explanation of its knee."""
    target = small_run / "explained.json"
    done = CliRunner().invoke(app, ["explain", str(small_run), "knee", "--json", str(target)])
    assert done.exit_code == 0, done.output
    assert "One hardware gene changed" in done.output and "One part of the network less" in done.output
    return open_run(small_run), json.loads(target.read_text())


def test_its_figures_are_those_of_the_search(explained):
    _, facts = explained
    assert facts["metrics"] == facts["stored"]
    shares = sum(row["share"] for row in facts["operators"])
    assert shares == pytest.approx(1)


def test_every_other_choice_of_every_gene_is_there_once_and_is_what_the_evaluator_says(explained):
    run, facts = explained
    trial = TrialStore(run.path, run.problem.objectives).finished()[facts["id"]]
    own = dict(trial.candidate.hardware)
    expected = [(key, choice) for key, choices in run.problem.hardware.items() for choice in choices if choice != own[key]]
    assert [(row["gene"], row["other"]) for row in facts["hardware"]] == expected
    evaluator = CandidateEvaluator(run.problem, run.path, run.resolved["dataset"])
    row = next(row for row in facts["hardware"] if row["error"] is None)
    changed = type(trial.candidate)(trial.candidate.model, tuple(sorted((own | {row["gene"]: row["other"]}).items())))
    assert row["latency_us"] == evaluator.evaluate(changed, {"logloss": 0.1, "auc": 0.9})["latency_us"]


def test_smaller_networks_are_of_the_space_and_compute_something_else(explained):
    _, facts = explained
    assert facts["model"] and all(row["genotype_digest"] != facts["digest"] for row in facts["model"])
    for name in ("tiny", "quickstart", "quickstart_tables", "nasrec_full", "extended"):
        space = load_space(name).for_tables(3)
        for model in draw_networks(space, 5, 1):
            found = list(smaller_networks(model, space))
            assert found and all(space.contains(smaller) for _, smaller in found)
            assert model.digest() not in {smaller.digest() for _, smaller in found}
            assert len({what for what, _ in found}) == len(found)


def test_an_id_that_is_not_there_is_one_line(explained):
    run, _ = explained
    done = CliRunner().invoke(app, ["explain", str(run.path), "999"])
    assert done.exit_code != 0 and "999" in str(done.exception)
