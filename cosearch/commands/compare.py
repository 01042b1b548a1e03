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

    table = Table("run", "data", "candidates", "front", "hypervolume", "in joint front", box=None, header_style="bold")
    for name in facts["objectives"]:
        table.add_column(f"best {METRICS[name].label}", justify="right")
    for run in facts["runs"]:
        best = [f"{run['best'][name]:.5g}" for name in facts["objectives"]]
        counts = (str(run["candidates"]), str(run["front"]), f"{run['hypervolume']:.4f}", str(run["in_joint_front"]))
        table.add_row(run["folder"], run["dataset"], *counts, *best)
    console = Console()
    console.print(table)
    if len({run["dataset_digest"] for run in facts["runs"]}) > 1:
        console.print("These runs used different data: their log losses cannot be compared.")


COMMAND = compare
