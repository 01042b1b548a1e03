"""The commands of `cosearch` on one tiny run: what they print, what they write, and one line for every kind of bad input."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cosearch.cli import main


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished tiny run, made by the command itself."""
    root = tmp_path_factory.mktemp("cli")
    os.environ["COSEARCH_CACHE"] = str(root / "cache")
    done = subprocess.run(
        [sys.executable, "-m", "cosearch.cli", "run", "tiny", "--out", str(root / "run")],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (root / "stdout").write_text(done.stdout)
    (root / "stderr").write_text(done.stderr)
    yield root / "run"
    del os.environ["COSEARCH_CACHE"]


def cosearch(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: object) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of one command, run in this process."""
    monkeypatch.setattr(sys, "argv", ["cosearch", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        main()
    out, err = capsys.readouterr()
    return int(end.value.code or 0), out, err


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    return lambda *arguments: cosearch(capsys, monkeypatch, *arguments)


def refused(result: tuple[int, str, str], *parts: str) -> None:
    """Exit status 2 and one line that says all of this."""
    status, _, err = result
    lines = [line for line in err.splitlines() if not line.startswith("data:")]
    assert status == 2, err
    assert len(lines) == 1 and lines[0].startswith("error: "), err
    for part in parts:
        assert part in lines[0]


def test_run_says_the_data_and_ends_with_table_and_report(run_folder: Path) -> None:
    err, out = (run_folder.parent / "stderr").read_text(), (run_folder.parent / "stdout").read_text()
    assert err.splitlines()[0].startswith("data: the synthetic click log")
    assert "Pareto front of 24 candidates" in out
    assert out.splitlines()[-1] == f"report: {run_folder / 'report.html'}"
    names = {path.name for path in run_folder.iterdir()}
    assert {"run.yaml", "provenance.json", "trials.parquet", "pareto.csv", "report.html", "supernet", "best"} <= names


def test_exported_pair_gives_the_reported_figures(run_folder: Path) -> None:
    from typer.testing import CliRunner

    from pimsim.cli import app

    best = run_folder / "best"
    metrics = json.loads((best / "metrics.json").read_text())
    files = ["--device", str(best / "device.yaml"), "--workload", str(best / "workload.json")]
    answer = json.loads(CliRunner().invoke(app, ["run", *files, "--json", "-"]).stdout)
    row = next(r for r in rows(run_folder / "pareto.csv") if r["id"] == str(metrics["id"]))
    assert answer["latency_us"]["mean"] == float(row["latency_us"]) == metrics["hardware"]["latency_us"]
    assert answer["energy_uj_per_sample"]["total"] == float(row["energy_uj"]) == metrics["hardware"]["energy_uj"]
    assert answer["area_mm2"] == float(row["area_mm2"])
    assert answer["batch"] == 16


def test_exported_model_gives_the_reported_test_score_without_the_package(run_folder: Path) -> None:
    from workloads.data import open_dataset

    best = run_folder / "best"
    metrics = json.loads((best / "metrics.json").read_text())
    test = open_dataset(metrics["dataset"]).open_test("test of an export", best.parent / "opened.log")
    import numpy as np

    np.savez(best.parent / "test.npz", dense=test.dense, sparse=test.sparse)
    program = (
        "import sys, numpy, torch\n"
        "sys.path = [p for p in sys.path if 'main' not in p or 'site-packages' in p]\n"
        f"sys.path.insert(0, {str(best)!r})\n"
        "from model import load\n"
        f"rows = numpy.load({str(best.parent / 'test.npz')!r})\n"
        f"logit = load({str(best)!r})(torch.from_numpy(rows['dense']), torch.from_numpy(rows['sparse']))\n"
        f"numpy.save({str(best.parent / 'logit.npy')!r}, logit.detach().numpy())\n"
        "assert not {'cosearch', 'supernet', 'workloads', 'pimsim'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=best, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    from sklearn.metrics import log_loss, roc_auc_score

    logit = np.load(best.parent / "logit.npy").astype(np.float64)
    assert roc_auc_score(test.label, logit) == pytest.approx(metrics["test"]["auc"], abs=1e-6)
    assert log_loss(test.label, 1 / (1 + np.exp(-logit))) == pytest.approx(metrics["test"]["logloss"], abs=1e-6)


def test_status_report_compare_and_export(run_folder: Path, command, tmp_path: Path) -> None:
    status, out, _ = command("status", run_folder, "--json", "-")
    facts = json.loads(out)
    assert status == 0 and facts["finished"] == 24 and facts["exported"] and not facts["running"]
    front = rows(run_folder / "pareto.csv")
    assert facts["front"] == len(front)
    before = (run_folder / "pareto.csv").read_bytes()
    assert command("report", run_folder)[0] == 0
    assert (run_folder / "pareto.csv").read_bytes() == before
    compared = json.loads(command("compare", run_folder, run_folder, "--json", "-")[1])
    assert [r["front"] for r in compared["runs"]] == [len(front)] * 2
    assert [r["in_joint_front"] for r in compared["runs"]] == [len(front)] * 2
    assert compared["runs"][0]["hypervolume"] == compared["runs"][1]["hypervolume"] > 0
    assert command("export", run_folder, "--pick", "knee", "--to", tmp_path / "design")[0] == 0
    for name in ("device.yaml", "workload.json", "weights.pt", "simulation.json"):
        assert (tmp_path / "design" / name).read_bytes() == (run_folder / "best" / name).read_bytes()
    assert f"cosearch export reproduced --pick {front[0]['id']} " in exported_script(command, run_folder, front[0]["id"], tmp_path)


def exported_script(command, run_folder: Path, pick: str, tmp_path: Path) -> str:
    assert command("export", run_folder, "--pick", pick, "--to", tmp_path / "point")[0] == 0
    return (tmp_path / "point" / "REPRODUCE.sh").read_text()


def test_export_leaves_what_is_not_an_export_alone(run_folder: Path, command, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "metrics.json").write_text("{}")
    refused(command("export", run_folder, "--pick", "knee", "--to", tmp_path / "mine"), "mine: exists and is not an export")
    assert (tmp_path / "mine" / "metrics.json").read_text() == "{}"
    for place in (tmp_path / "mine" / "metrics.json", tmp_path / "mine" / "metrics.json" / "x"):
        refused(command("export", run_folder, "--pick", "knee", "--to", place), "cannot be written")
    refused(command("export", run_folder, "--pick", "99999", "--to", tmp_path / "y"), "--pick '99999'", "0 to 23")
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]


def test_a_folder_killed_before_its_first_file_was_whole_is_taken_up(tmp_path: Path) -> None:
    from cosearch.problem import load_problem
    from cosearch.runfolder import RunFolder

    (tmp_path / "run.yaml.part").write_text("name: ti")
    with RunFolder(tmp_path, load_problem("tiny"), {}).claimed(["cosearch"]):
        pass
    assert "tiny" in (tmp_path / "run.yaml").read_text()


def test_an_exported_network_is_described_with_its_own_fields(run_folder: Path, command) -> None:
    model = run_folder / "best" / "model.json"
    metrics = json.loads((run_folder / "best" / "metrics.json").read_text())
    own = json.loads(command("genotype", model, "--json", "-")[1])
    assert (own["dense_fields"], own["sparse_fields"]) == (4, 12)
    assert (own["macs_live"], own["parameters_live"]) == (metrics["macs"], metrics["parameters"])
    assert own["digest"] == metrics["genotype_digest"]
    assert json.loads(command("genotype", model, "--dataset", "avazu", "--json", "-")[1])["sparse_fields"] == 23
    refused(command("genotype", run_folder / "best" / "metrics.json"), "metrics.json", "unknown key")


def test_tables_fit_eighty_columns(run_folder: Path, command, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    from cosearch.commands.run import print_front
    from cosearch.runfolder import open_run
    from cosearch.store import TrialStore

    monkeypatch.setenv("COLUMNS", "80")
    run = open_run(run_folder)
    trials = list(TrialStore(run_folder, run.problem.objectives).finished().values())
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    print_front(trials, run.problem, run_folder, None)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()
    table = lines[2:-2]
    assert all(len(line) <= 80 and "…" not in line for line in table) and "pareto.csv" in lines[-2]
    shown = re.sub(r"\x1b\[[0-9;]*m", "", command("compare", run_folder, run_folder)[1])
    assert "…" not in shown and all(len(line) <= 80 for line in shown.splitlines())


def test_report_is_one_file_with_the_figures(run_folder: Path) -> None:
    page = (run_folder / "report.html").read_text()
    metrics = json.loads((run_folder / "best" / "metrics.json").read_text())
    assert f"{metrics['test']['auc']:.4f}" in page
    assert "supernet scores" in page and "trained from scratch" in page
    assert "<link" not in page and "src=" not in page.partition("<script>")[0]
    simulation = json.loads((run_folder / "best" / "simulation.json").read_text())
    assert all(operator["name"] in page for operator in simulation["operators"])


def test_same_command_again_changes_nothing(run_folder: Path, command) -> None:
    before = {name: (run_folder / name).read_bytes() for name in ("pareto.csv", "best/metrics.json", "best/weights.pt")}
    status, _, err = command("run", "tiny", "--out", run_folder)
    assert status == 0, err
    assert {name: (run_folder / name).read_bytes() for name in before} == before


def test_another_configuration_is_refused_by_its_first_key(run_folder: Path, command) -> None:
    refused(command("run", "tiny", "--out", run_folder, "--set", "seed=4"), "seed is 4, but this run began with 3")
    refused(command("run", "tiny", "--out", run_folder, "--set", "batch=32"), "batch is 32", "16")


def test_bad_input_is_one_line(command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = ("--out", tmp_path / "x")
    refused(command("run", "tiy", *out), "'tiy'", "did you mean 'tiny'")
    refused(command("run", tmp_path / "none.yaml", *out), "none.yaml: no such file")
    refused(command("run", "tiny", *out, "--set", "algoritm.children=2"), "algoritm: unknown key", "did you mean 'algorithm'")
    refused(command("run", "tiny", *out, "--set", "algorithm.childen=2"), "algorithm.childen", "did you mean 'children'")
    refused(command("run", "tiny", *out, "--set", "algorithm.name=evoluton"), "did you mean 'evolution'")
    refused(command("run", "tiny", *out, "--set", "algorithm.name=[evolution]"), "unknown algorithm", "did you mean 'evolution'")
    refused(command("run", "tiny", *out, "--jobs", "0"), "--jobs")
    refused(command("run", "tiny"), "--out")
    refused(command("run", "nosuch", *out), "unknown search 'nosuch'")
    refused(command("run", "tiny", *out, "--set", "supernet.epoch=2"), "supernet.epoch: unknown key", "did you mean 'epochs'")
    refused(command("run", "tiny", *out, "--set", "objectives=[logloss, latencyus]"), "did you mean 'latency_us'")
    refused(command("run", "tiny", *out, "--set", "hardware.dram.chanels=[1]"), "did you mean 'channels'")
    refused(command("run", "tiny", *out, "--set", "hardware.dram.channels=[-1]"), "hardware.dram.channels", "-1")
    refused(command("run", "tiny", *out, "--set", "hardware={dram.channels: [-1]}"), "hardware.dram.channels", "-1")
    refused(command("run", "tiny", *out, "--executor", "rays"), "--executor", "allowed: local")
    refused(command("run", "tiny", *out, "--set", "nonsense"), "expected KEY=VALUE")
    monkeypatch.setenv("COSEARCH_DATA", str(tmp_path / "nowhere"))
    monkeypatch.setenv("COSEARCH_CACHE", str(tmp_path / "cache"))
    refused(command("run", "tiny", *out, "--set", "dataset=[frappe]"), "frappe", str(tmp_path / "nowhere"))
    assert not (tmp_path / "x").exists()


def test_unreadable_run_folders_are_one_line(command, tmp_path: Path) -> None:
    refused(command("status", tmp_path / "none"), "no such run folder")
    refused(command("status", tmp_path), "not a run folder")
    (tmp_path / "run.yaml").write_text("name: [unclosed")
    refused(command("report", tmp_path), "run.yaml", "not valid YAML")
    (tmp_path / "run.yaml").write_text("name: x\n")
    refused(command("compare", tmp_path), "run.yaml", "resolved: missing")
    refused(command("run", "tiny", "--out", tmp_path / "run.yaml"), "run.yaml", "cannot be written")


def rows(path: Path) -> list[dict[str, str]]:
    """A CSV file's rows."""
    import csv

    with path.open(newline="") as handle:
        return list(csv.DictReader(handle))
