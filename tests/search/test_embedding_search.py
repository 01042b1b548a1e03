"""A search with a dim and a precision for each table, from the command to the exported pair."""

from __future__ import annotations

import csv
import json

import pytest
import yaml
from typer.testing import CliRunner

from cosearch.candidate import Candidate
from cosearch.cli import app
from cosearch.evaluator import CandidateEvaluator
from cosearch.runfolder import open_run
from cosearch.store import TrialStore
from pimsim.cli import app as pimsim
from pimsim.configs import config_root

SPACE = {"embedding_dim": 8, "table_dims": [2, 4, 8], "table_bits": [32, 8, 4], "embedding_bits": [32]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("tables")
    own = yaml.safe_load((config_root() / "spaces" / "tiny.yaml").read_text()) | SPACE | {"name": "tiny_tables"}
    (place / "space.yaml").write_text(yaml.safe_dump(own))
    search = yaml.safe_load((config_root() / "searches" / "tiny.yaml").read_text()) | {"space": "space.yaml", "seed": 5}
    search |= {"objectives": ["logloss", "latency_us", "memory_bytes"], "supernet": {"epochs": 0.3}, "dataset": ["synthetic:rows=3000"]}
    search["algorithm"] |= {"candidates": 6, "population": 4, "sample": 2}
    search["final"] |= {"training": {"epochs": 1}}
    (place / "search.yaml").write_text(yaml.safe_dump(search))
    done = CliRunner().invoke(app, ["run", str(place / "search.yaml"), "--out", str(place / "run")])
    assert done.exit_code == 0, done.output
    return place / "run"


def test_front_report_and_export_show_the_tables(folder):
    with (folder / "pareto.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    fields = len(json.loads((folder / "best" / "model.json").read_text())["schema"]["sparse"])
    trials = TrialStore(folder, ("logloss", "latency_us", "memory_bytes")).finished()
    for row in rows:
        model = trials[int(row["id"])].candidate.model
        assert row["embedding_dims"] == " ".join(map(str, model.embedding_dims)) and len(model.embedding_dims) == fields
        assert row["table_bits"] == " ".join(map(str, model.table_bits))
    assert len({trial.candidate.model.embedding_dims for trial in trials.values()}) > 2
    best = json.loads((folder / "best" / "metrics.json").read_text())
    model = trials[best["id"]].candidate.model
    page = (folder / "report.html").read_text()
    pairs = zip(model.embedding_dims, model.table_bits, strict=True)
    assert all(f'<td class="n">{dim}</td><td class="n">{bits}</td>' in page for dim, bits in pairs)
    assert f'<td class="n">{" ".join(map(str, model.table_bits))}</td>' in page


def test_the_exported_pair_gives_the_figures_of_the_front(folder):
    best = json.loads((folder / "best" / "metrics.json").read_text())
    with (folder / "pareto.csv").open() as handle:
        row = next(row for row in csv.DictReader(handle) if int(row["id"]) == best["id"])
    arguments = ["--device", str(folder / "best" / "device.yaml"), "--workload", str(folder / "best" / "workload.json")]
    done = CliRunner().invoke(pimsim, ["run", *arguments, "--json", str(folder / "again.json")])
    assert done.exit_code == 0, done.output
    again = json.loads((folder / "again.json").read_text())
    assert again["latency_us"]["mean"] == float(row["latency_us"])
    assert again["energy_uj_per_sample"]["total"] == float(row["energy_uj"])


def test_memory_feels_the_tables_and_nothing_else_does(folder):
    run = open_run(folder)
    evaluator = CandidateEvaluator(run.problem, folder, run.resolved["dataset"])
    rows, score = evaluator.dataset.schema.cardinalities, {"logloss": 0.5, "auc": 0.6}
    trial = TrialStore(folder, run.problem.objectives).finished()[0]
    model, found = trial.candidate.model, []
    for dims, bits in ((8, 32), (8, 4), (2, 4)):
        changed = model.model_copy(update={"embedding_dims": (dims,) * len(rows), "table_bits": (bits,) * len(rows)})
        found.append(evaluator.evaluate(Candidate(changed, trial.candidate.hardware), score))
    assert found[0]["memory_bytes"] - found[1]["memory_bytes"] == sum(rows) * (32 - 4)
    assert found[1]["memory_bytes"] - found[2]["memory_bytes"] == sum(rows) * (4 - 1)
    assert len({(metrics["macs"], metrics["parameters"]) for metrics in found}) == 1


def test_explain_shows_every_table_and_takes_from_each(folder):
    target = folder / "explained.json"
    done = CliRunner().invoke(app, ["explain", str(folder), "logloss", "--json", str(target)])
    assert done.exit_code == 0, done.output
    facts = json.loads(target.read_text())
    trial = TrialStore(folder, ("logloss", "latency_us", "memory_bytes")).finished()[facts["id"]]
    model = trial.candidate.model
    assert [(table["dim"], table["bits"]) for table in facts["tables"]] == list(zip(model.embedding_dims, model.table_bits, strict=True))
    first = facts["tables"][0]["name"]
    assert f"tables: {first} {model.embedding_dims[0]} x {model.table_bits[0]} bit" in done.output
    changes = [row["change"] for row in facts["model"] if row["change"].startswith("table ")]
    smaller = sum(dim > 2 for dim in model.embedding_dims) + sum(bits > 4 for bits in model.table_bits)
    assert len(changes) == smaller and facts["metrics"] == facts["stored"]


def test_the_same_command_finds_the_run_finished(folder):
    before = (folder / "pareto.csv").read_bytes()
    done = CliRunner().invoke(app, ["run", str(folder.parent / "search.yaml"), "--out", str(folder)])
    assert done.exit_code == 0 and (folder / "pareto.csv").read_bytes() == before
