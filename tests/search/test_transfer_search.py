"""Transfer between real small searches: into the bank, a start from it that is resumed to the bit, the fall-back, the commands."""

from __future__ import annotations

import dataclasses
import json
import sys

import pytest
import yaml
from typer.testing import CliRunner

from cosearch.cli import app
from cosearch.cli import main as main_cli
from cosearch.export import frozen_bank
from cosearch.problem import load_problem
from cosearch.runfolder import open_run
from cosearch.store import TrialStore
from cosearch.transfer.bank import Bank

QUICK = {"algorithm.candidates": 4, "algorithm.population": 4, "algorithm.sample": 2, "supernet.epochs": 0.2, "final.training.epochs": 1}


def cosearch(*arguments):
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    return done.output


def search(folder, *more):
    sets = [part for key, value in QUICK.items() for part in ("--set", f"{key}={value}")]
    return cosearch("run", "tiny", "--out", folder, *sets, *more)


@pytest.fixture(scope="module")
def bank(small_run):
    path = small_run.parent / "bank.db"
    cosearch("transfer", "add", small_run, "--bank", path)
    return path


@pytest.fixture(scope="module")
def transferred(bank):
    """A search of another seed, not interrupted; it has the first one's supernet, so that the two are certainly similar."""
    folder = bank.parent / "whole"
    output = search(folder, "--transfer", bank, "--set", "seed=4", "--set", "supernet.seed=3", "--set", "scoring.seed=3")
    assert "transfer: starts from the best designs of tiny on synthetic:rows=4000 (similarity " in output, output
    return folder


def digests(folder):
    return [trial.digest for _, trial in sorted(TrialStore(folder, ("logloss",)).finished().items())]


def test_a_search_is_banked_with_its_trials_and_a_second_time_only_read(small_run, bank):
    assert "1 tasks in all" in cosearch("transfer", "add", small_run, "--bank", bank)
    (task,) = Bank(bank).tasks()
    assert [metrics for _, metrics in task.trials] == [t.metrics for _, t in sorted(TrialStore(small_run, ("logloss",)).finished().items())]
    facts = json.loads(cosearch("transfer", "list", "--bank", bank, "--json", "-"))
    assert [(row["name"], row["space"], row["trials"]) for row in facts["tasks"]] == [("tiny", "tiny", 4)]


def test_candidates_are_near_the_banked_ones(bank, transferred):
    (task,) = Bank(bank).tasks()
    run = open_run(transferred)
    first = [trial.candidate for _, trial in sorted(TrialStore(transferred, ("logloss",)).finished().items())]
    banked = [{name: value for name, value in genes.items() if name.startswith("hardware.")} for genes, _ in task.trials]
    equal = [max(sum(dict(c.hardware)[k.removeprefix("hardware.")] == v for k, v in genes.items()) for genes in banked) for c in first]
    assert len(first) == 4 and sum(equal) >= 0.7 * 4 * len(run.problem.hardware)


def test_a_resumed_search_starts_from_the_bank_as_it_was(bank, transferred, tmp_path):
    own = tmp_path / "bank.db"
    own.write_bytes(bank.read_bytes())
    sets = ["--transfer", own, "--set", "seed=4", "--set", "supernet.seed=3", "--set", "scoring.seed=3"]
    search(tmp_path / "run", *sets, "--max-candidates", "2")
    own.unlink()
    search(tmp_path / "run", *sets)
    assert (tmp_path / "run" / "pareto.csv").read_bytes() == (transferred / "pareto.csv").read_bytes()
    assert digests(tmp_path / "run") == digests(transferred)


def test_without_a_similar_task_the_search_is_the_one_without_transfer(small_run, bank, tmp_path):
    (task,) = Bank(bank).tasks()
    opposite = tuple({key: None if value is None else -value for key, value in metrics.items()} for metrics in task.anchors)
    Bank(tmp_path / "unlike.db", create=True).add(dataclasses.replace(task, anchors=opposite))
    output = search(tmp_path / "run", "--transfer", tmp_path / "unlike.db")
    assert "the nearest, tiny, has -1.00): the search is the one without transfer" in output
    assert (tmp_path / "run" / "pareto.csv").read_bytes() == (small_run / "pareto.csv").read_bytes()
    assert digests(tmp_path / "run") == digests(small_run)


def test_an_export_holds_the_bank(transferred):
    best = transferred / "best"
    assert (best / "search_bank.db").read_bytes() == frozen_bank(open_run(transferred)).read_bytes()
    assert yaml.safe_load((best / "search.yaml").read_text())["transfer"]["bank"] == "search_bank.db"
    assert load_problem(best / "search.yaml").transfer.bank == str((best / "search_bank.db").resolve())


def test_show_tells_what_a_run_starts_from(transferred):
    facts = json.loads(cosearch("transfer", "show", transferred, "--json", "-"))
    (row,) = facts["tasks"]
    assert row["name"] == "tiny" and 0.3 <= row["similarity"] < 1 and row["weight"] == 1  # another seed draws another index trace
    assert facts["genes"] and all(sum(values.values()) == pytest.approx(1) for values in facts["genes"].values())
    assert "hardware.dram.channels" in cosearch("transfer", "show", transferred)


def test_bad_input_is_one_line(tmp_path, monkeypatch, capsys):
    cases = [
        (["run", "tiny", "--out", tmp_path / "x", "--transfer", tmp_path / "none.db"], "none.db: no such bank"),
        (["run", "tiny", "--out", tmp_path / "x", "--set", "transfer={similarity: 2}"], "transfer.similarity"),
        (["transfer", "list", "--bank", tmp_path / "none.db"], "none.db: no such bank"),
        (["transfer", "add", tmp_path / "none"], "no such run folder"),
    ]
    for arguments, part in cases:
        monkeypatch.setattr(sys, "argv", ["cosearch", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main_cli()
        *before, error = capsys.readouterr().err.splitlines()
        assert end.value.code == 2 and error.startswith("error: ") and part in error, error
        assert all(line.startswith("data: ") for line in before)
    assert not (tmp_path / "x").exists()
