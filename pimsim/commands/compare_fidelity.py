"""`pimsim compare-fidelity`: closed forms beside the event engine on a fixed draw of operators, devices and overrides."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from pimsim.console import quiet, write_json

if TYPE_CHECKING:
    from pimsim.analytic.compare import Comparison


def compare_fidelity(
    points: Annotated[int, typer.Option("--points", min=12, help="Points to draw.")] = 520,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the draw.")] = 0,
    json: Annotated[str | None, typer.Option("--json", help="Write a JSON object to FILE (- = standard output).")] = None,
) -> None:
    """Measure the error of analytic against event fidelity, and the rank correlation between them."""
    from pimsim.analytic.compare import compare

    said = time.monotonic()

    def progress(done: int, total: int) -> None:
        nonlocal said
        watched = sys.stderr.isatty()
        if done == total or time.monotonic() - said > (0.2 if watched else 10):
            said = time.monotonic()
            print(f"{done} of {total} points", end="\r" if watched and done < total else "\n", file=sys.stderr, flush=True)

    found = compare(points, seed, progress)
    write_json(found.to_json(), json)
    if not quiet(json):
        _print(found)


def _print(found: Comparison) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console() if sys.stdout.isatty() else Console(width=140)
    table = Table("operator", "device", "points", "median error", "p95 error", "worst", box=None, header_style="bold")
    for column in table.columns[2:]:
        column.justify = "right"
    for row in found.groups():
        table.add_row(row["operator"], row["device"], str(row["points"]), *(f"{row[key]:.1%}" for key in ("median", "p95", "worst")))
    console.print(table)
    figures = found.to_json()
    console.print(
        f"{figures['points']} points: median error {figures['median_relative_error']:.2%}, 95th percentile "
        f"{figures['p95_relative_error']:.2%}, Kendall tau {figures['kendall_tau']:.4f}"
    )


COMMAND = compare_fidelity
