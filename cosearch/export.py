"""Takes a candidate out of a run: the network trained alone, its device, its workload, its figures, and how to get them again."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from cosearch.evaluator import TRACE, CandidateEvaluator, hardware_metrics
from cosearch.problem import section_settings
from cosearch.progress import Progress
from cosearch.runfolder import RunFolder
from cosearch.steps import Steps
from cosearch.store import Trial
from cosearch.transfer.start import frozen_bank
from pimsim.errors import RunError
from pimsim.graph import Workload
from pimsim.report import Report

if TYPE_CHECKING:
    from supernet.final import FinalResult
    from workloads.data import Dataset


def export_winner(run: RunFolder, trial: Trial, dataset: Dataset, progress: Progress) -> Path:
    """Exports the picked trial into `best/`, unless it lies there already."""
    best = run.path / "best"
    if not _holds(best, trial):
        export_trial(run, trial, dataset, best, progress, pick=run.problem.final.pick)
    return best


def export_trial(run: RunFolder, trial: Trial, dataset: Dataset, to: Path, progress: Progress, pick: str) -> Path:
    """Trains a trial's network alone, tests it once, and writes everything about it into a folder, all or nothing.

    A folder that exists is replaced only if it is empty or holds an earlier export.

    Raises:
        RunError: the folder holds something else or cannot be written, or the simulator no longer gives the trial's figures.
    """
    shown, to = to, to.resolve()
    draft = to.with_name(f".{to.name}.part")
    try:
        if to.exists() and not _replaceable(to):
            raise RunError(f"{shown}: exists and is not an export; give a new folder")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)  # before the training: a place that cannot be written is known at once
        result = train_winner(run, trial, dataset, progress)
        _write(run, trial, dataset, result, draft, pick)
        shutil.rmtree(to, ignore_errors=True)
        os.replace(draft, to)
    except OSError as error:
        raise RunError(f"{shown}: cannot be written: {error.strerror}") from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return shown


def _replaceable(folder: Path) -> bool:
    """True for an empty folder and for one with the files of an export (other programs write a `metrics.json`, too)."""
    names = {path.name for path in folder.iterdir()}
    return not names or {"metrics.json", "weights.pt", "workload.json", "REPRODUCE.sh"} <= names


def train_winner(run: RunFolder, trial: Trial, dataset: Dataset, progress: Progress) -> FinalResult:
    """The trial's network trained from scratch in the run's `final/` folder, or found there."""
    from supernet.final import FinalSettings, train_alone

    model = trial.candidate.model
    settings = section_settings(FinalSettings, run.problem, "final.training")
    with Steps(progress, "training the winner") as steps:
        return train_alone(model, dataset, settings, run.path / "final" / model.digest(), run.problem.seed, steps)


def _write(run: RunFolder, trial: Trial, dataset: Dataset, result: FinalResult, folder: Path, pick: str) -> None:
    from supernet.export import export_model
    from supernet.model import schema_dict

    export_model(trial.candidate.model, schema_dict(dataset.schema), result.model, folder)
    report = _write_hardware(run, trial, folder)
    metrics = {
        "id": trial.id,
        "pick": pick,
        "digest": trial.digest,
        "genotype_digest": trial.candidate.model.digest(),
        "weights": "trained alone from scratch, not the supernet's",
        "valid": {"logloss": result.valid.logloss, "auc": result.valid.auc},
        "test": {"logloss": result.test.logloss, "auc": result.test.auc, "rows": dataset.rows["test"]},
        "supernet_score": {name: trial.metrics[name] for name in ("logloss", "auc")},
        "hardware": hardware_metrics(report),
        "batch": run.problem.batch,
        "macs": trial.metrics["macs"],
        "parameters": trial.metrics["parameters"],
        "seed": run.problem.seed,
        **{name: run.resolved[name] for name in ("dataset", "dataset_digest")},
    }
    _write_json(folder / "metrics.json", metrics)
    _write_search(run, folder)
    script = folder / "REPRODUCE.sh"
    names = {"id": trial.id, "name": run.problem.name, "dataset": run.resolved["dataset"]}
    arrivals = "" if run.problem.arrivals == "closed" else f" --arrivals {run.problem.arrivals}"
    script.write_text(_SCRIPT.format(**names, arrivals=arrivals, **metrics["hardware"]))
    script.chmod(0o755)


def _write_hardware(run: RunFolder, trial: Trial, folder: Path) -> Report:
    """Writes device, workload and trace, and simulates from these files as `pimsim run` would."""
    from pimsim.api import load_device, simulate

    evaluator = CandidateEvaluator(run.problem, run.path, run.resolved["dataset"])
    device = evaluator.device(trial.candidate).model_dump(mode="json")
    (folder / "device.yaml").write_text(yaml.safe_dump(device, sort_keys=False, allow_unicode=True), encoding="utf-8")
    shutil.copyfile(run.path / TRACE, folder / TRACE)
    evaluator.workload(trial.candidate.model).save(folder / "workload.json")
    device_file, workload_file = load_device(folder / "device.yaml"), Workload.load(folder / "workload.json")
    report = simulate(device_file, workload_file, arrivals=run.problem.arrivals)
    for name, now in hardware_metrics(report).items():
        if now != trial.metrics.get(name, now):
            then = f"{name} is {now} now, but {trial.metrics[name]} in the search: another version ran it"
            raise RunError(f"{run.path}: candidate {trial.id}: {then}")
    _write_json(folder / "simulation.json", report.to_json())
    return report


def _write_search(run: RunFolder, folder: Path) -> None:
    """Writes the search file that leads here, with the files it names that are not shipped."""
    tree = run.problem.model_dump(mode="json")
    for field in ("space", "device"):
        source = Path(tree[field])
        if source.is_file():
            shutil.copyfile(source, folder / f"search_{field}.yaml")
            tree[field] = f"search_{field}.yaml"
    if tree["algorithm"]["name"].endswith(".py"):
        shutil.copyfile(tree["algorithm"]["name"], folder / "search_algorithm.py")
        tree["algorithm"]["name"] = "search_algorithm.py"
    if tree["transfer"]:
        shutil.copyfile(frozen_bank(run), folder / "search_bank.db")
        tree["transfer"]["bank"] = "search_bank.db"
    tree["dataset"] = [run.resolved["dataset"]]
    (folder / "search.yaml").write_text(yaml.safe_dump(tree, sort_keys=False, allow_unicode=True), encoding="utf-8")


def exported_id(run: Path) -> str | None:
    """Id of the candidate in a run's `best/`, or None where there is none."""
    try:
        return str(json.loads((run / "best" / "metrics.json").read_text(encoding="utf-8"))["id"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _holds(folder: Path, trial: Trial) -> bool:
    try:
        return json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["digest"] == trial.digest
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


_SCRIPT = """#!/bin/sh
# Candidate {id} of the search {name!r} on {dataset}: {latency_us:.6g} us per batch, {energy_uj:.6g} uJ per sample.
set -eu
cd "$(dirname "$0")"
echo "Latency and energy, from device.yaml and workload.json:"
pimsim run --device device.yaml --workload workload.json{arrivals}
echo "The search and this folder again, into ./reproduced and ./reproduced/candidate-{id} (minutes):"
cosearch run search.yaml --out reproduced
cosearch export reproduced --pick {id} --to reproduced/candidate-{id}
"""
