"""`cosearch compare`: several runs side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pimsim.console import quiet, write_json


def compare(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Run folders with the same objectives.")],
    json: Annotated[str | None, typer.Option("--json", help="Write a JSON object to FILE (- = standard output).")] = None,
) -> None:
    """Fronts of several runs: hypervolume in one common box, best value of every objective, share of the joint front."""
    from cosearch.comparison import compare_runs

    facts = compare_runs(folders)
    write_json(facts, json)
    if not quiet(json):
        _print(facts)


def _print(facts: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    from cosearch.metrics import METRICS

    runs = facts["runs"]
    table = Table("run", box=None, header_style="bold")
    table.columns[0].no_wrap = True
    for run in runs:
        table.add_column(run["folder"], justify="right", overflow="fold")
    table.add_row("data", *(run["dataset"] for run in runs))
    for name in ("candidates", "front", "in_joint_front"):
        table.add_row(name.replace("_", " "), *(str(run[name]) for run in runs))
    table.add_row("hypervolume", *(f"{run['hypervolume']:.4f}" for run in runs))
    for name in facts["objectives"]:
        table.add_row(f"best {METRICS[name].label}", *(f"{run['best'][name]:.5g}" for run in runs))
    console = Console()
    console.print(table)
    if len({run["dataset_digest"] for run in facts["runs"]}) > 1:
        console.print("These runs used different data: their log losses cannot be compared.")


COMMAND = compare
