"""`pimsim validate`: published numbers beside ours."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from pimsim.console import quiet, write_json

if TYPE_CHECKING:
    from validation.run import Verdict


def validate(
    only: Annotated[list[str] | None, typer.Option("--only", help="Run this case, or all that begin with it: HBMPIM.")] = None,
    json: Annotated[str | None, typer.Option("--json", help="Write a JSON object to FILE (- = standard output).")] = None,
) -> None:
    """Compare the simulator with published numbers and reference simulators; exit status 1 if an unexplained case is out of tolerance."""
    from pimsim.errors import ConfigError

    try:
        from validation.run import run_cases
    except ImportError:
        raise ConfigError("pimsim validate: the references come with a checkout of the sources, not with the installed package") from None
    verdicts = list(run_cases(only, _say))
    write_json({"cases": [verdict.to_json() for verdict in verdicts]}, json)
    if not quiet(json):
        _print(verdicts)
    if any(verdict.failed for verdict in verdicts):
        raise SystemExit(1)


def _say(id: str) -> None:
    if sys.stderr.isatty():
        print(f"{id:40}", end="\r", file=sys.stderr, flush=True)


def _print(verdicts: list[Verdict]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("case", "metric", "published", "ours", "error", "allowed", "status", "verdict", box=None, header_style="bold")
    for column in table.columns[2:6]:
        column.justify = "right"
    notes = []
    for verdict in verdicts:
        case = verdict.case
        table.add_row(
            case.id,
            case.metric,
            "-" if case.published is None else f"{case.published:,.4g} {case.unit}",
            "-" if verdict.simulated is None or case.published is None else f"{verdict.simulated:,.4g}",
            "" if verdict.relative_error is None else f"{verdict.relative_error:+.2%}",
            "" if case.tolerance is None else f"{case.tolerance:.1%}",
            case.status,
            _word(verdict),
        )
        note = verdict.skipped or (case.known_gap if verdict.ok is False else None)
        if note:
            notes.append(f"{case.id}: {note}")
    console = Console() if sys.stdout.isatty() else Console(width=160)
    console.print(table)
    for note in notes:
        console.print(note, markup=False, highlight=False)


def _word(verdict: Verdict) -> str:
    if verdict.ok is None:
        return "not modelled" if verdict.case.not_modelled else "skipped"
    return "ok" if verdict.ok else "known gap" if verdict.case.known_gap else "FAILED"


COMMAND = validate
