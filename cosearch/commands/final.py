"""`cosearch final`: one candidate and baselines alone, with several seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pimsim.console import quiet, write_json


def final(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Run folder; results go to DIR/final and into its report.")],
    pick: Annotated[
        str | None, typer.Option("--pick", help="knee or logloss of the front, or a candidate's id; without it the one in best/.")
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Trainings of every model, from the search's seed on.")] = 3,
    baseline: Annotated[
        list[str] | None, typer.Option("--baseline", help="Also train a zoo model or a genotype, by name or file; may be repeated.")
    ] = None,
    preset: Annotated[str | None, typer.Option("--preset", help="Published sizes and settings of the baselines: bars, or a file.")] = None,
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Models trained side by side; results do not depend on it.")] = 1,
    json: Annotated[str | None, typer.Option("--json", help="Write a JSON object to FILE (- = standard output).")] = None,
) -> None:
    """Train a candidate and baselines with several seeds, test each once, compare. The same command again resumes; more seeds add to it."""
    from cosearch.export import exported_id
    from cosearch.final import FinalStudy, final_study
    from cosearch.fronts import pick_trial
    from cosearch.progress import Progress
    from cosearch.report.page import write_report
    from cosearch.runfolder import open_run
    from cosearch.store import TrialStore

    run = open_run(folder)
    stored = TrialStore(folder, run.problem.objectives).finished()
    trials = [stored[id] for id in sorted(stored)]
    trial = pick_trial(trials, run.problem, pick or exported_id(folder) or run.problem.final.pick)
    facts = final_study(run, trial, FinalStudy(seeds, tuple(baseline or ()), preset), jobs, Progress(quiet=quiet(json)))
    write_report(run, trials)
    write_json(facts, json)
    if not quiet(json):
        print_final(facts)


def print_final(facts: dict[str, Any]) -> None:
    """The models side by side, and the candidate minus each baseline."""
    from rich.console import Console
    from rich.table import Table

    seeds, candidate = len(facts["seeds"]), f"candidate {facts['id']}"
    models = Table("model", box=None, header_style="bold")
    for heading in ("test AUC", "test log loss", "MACs", "latency (us)", "energy (uJ)"):
        models.add_column(heading, justify="right", no_wrap=True)
    for row in facts["models"]:
        costs = (_figure(row[key]) for key in ("latency_us", "energy_uj"))
        name = candidate if row["kind"] == "searched" else row["model"]
        models.add_row(name, _spread(row["auc"]), _spread(row["logloss"]), f"{row['macs']:,}", *costs)
    gaps = Table(f"{candidate} less", "test AUC", "test log loss", box=None, header_style="bold")
    for row in facts["differences"]:
        gaps.add_row(row["baseline"], _gap(row["auc"]), _gap(row["logloss"]))
    console = Console(width=150)
    console.print(f"\n[bold]Trained alone[/bold] with {seeds} seed{'s' * (seeds > 1)}, each tested once on {facts['test_rows']:,} rows")
    console.print(models)
    if facts["differences"]:
        console.print(gaps)
    console.print("in brackets: 95 % over the test rows" + (", +- the standard deviation over seeds" if seeds > 1 else ""))
    for row in facts["models"]:
        if row["not_simulated"]:
            console.print(f"{row['model']}: not simulated: {row['not_simulated']}", soft_wrap=True)


def _spread(scores: dict[str, float | None]) -> str:
    std = "" if scores["std"] is None else f" +- {scores['std']:.4f}"
    return f"{scores['mean']:.4f}{std}{_interval(scores)}"


def _gap(estimate: dict[str, float | None]) -> str:
    return "n/a" if estimate["value"] is None else f"{estimate['value']:+.4f}{_interval(estimate)}"


def _interval(estimate: dict[str, float | None]) -> str:
    return "" if estimate["low"] is None else f" \\[{estimate['low']:.4f}, {estimate['high']:.4f}]"


def _figure(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.4g}"


COMMAND = final
