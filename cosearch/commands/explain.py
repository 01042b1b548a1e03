"""`cosearch explain`: where a candidate's time goes, and what each choice is worth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pimsim.console import quiet, write_json


def explain(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Run folder.")],
    pick: Annotated[str, typer.Argument(metavar="ID", help="A candidate's id, or knee or logloss of the front.")],
    json: Annotated[str | None, typer.Option("--json", help="Write a JSON object to FILE (- = standard output).")] = None,
) -> None:
    """Explain a candidate: operators, what-if for every hardware gene, and the network with one part less at a time."""
    from cosearch.explain import explain
    from cosearch.fronts import pick_trial
    from cosearch.progress import Progress
    from cosearch.runfolder import open_run
    from cosearch.store import TrialStore

    run = open_run(folder)
    stored = TrialStore(folder, run.problem.objectives).finished()
    trial = pick_trial([stored[id] for id in sorted(stored)], run.problem, pick)
    facts = explain(run, trial, Progress(quiet=quiet(json)))
    write_json(facts, json)
    if not quiet(json):
        _print(facts)


def _print(facts: dict[str, Any]) -> None:
    from rich.console import Console

    console = Console(width=140)
    own = facts["metrics"]
    figures = f"log loss {own['logloss']:.4f}, {_plain(own['latency_us'])} us, {_plain(own['energy_uj'])} uJ a sample"
    console.print(f"candidate {facts['id']}: {figures}")
    if alone := facts["expected_alone"]:
        outside = "" if alone["inside"] else ", outside the range of the rank check's networks"
        console.print(f"expected log loss alone: {alone['logloss']:.4f} +- {alone['error']:.4f}{outside}")
    if len({(table["dim"], table["bits"]) for table in facts["tables"]}) > 1:
        console.print("tables: " + ", ".join(f"{table['name']} {table['dim']} x {table['bits']} bit" for table in facts["tables"]))
    busy = ", ".join(f"{name} {share:.0%}" for name, share in facts["utilisation"].items())
    console.print(f"busy: {busy}; bottleneck: {facts['bottleneck']}\n")
    console.print(_operators(facts["operators"]))
    console.print("\n[bold]One hardware gene changed[/bold] (figures against this candidate's)")
    console.print(_what_if(facts["hardware"], own))
    console.print("\n[bold]One part of the network less[/bold] (log loss by the supernet)")
    console.print(_ablation(facts["model"], own))


def _operators(rows: list[dict[str, Any]]) -> Any:
    table = _table("operator", "kind", "unit", "latency (us)", "stall (us)", "energy (uJ a batch)", "share", "limited by", left=3)
    for row in rows:
        if row["unit"] != "-":
            figures = (_plain(row[name]) for name in ("latency_us", "stall_us", "energy_uj"))
            table.add_row(row["name"], row["kind"], row["unit"], *figures, f"{row['share']:.1%}", row["limited_by"])
    return table


def _what_if(rows: list[dict[str, Any]], own: dict[str, Any]) -> Any:
    table = _table("gene", "value", "latency", "energy", "area", left=1)
    for row in rows:
        changes = (_change(row[name], own[name]) for name in ("latency_us", "energy_uj", "area_mm2"))
        cells = tuple(changes) if row["error"] is None else ("no such device", "", "")
        table.add_row(row["gene"], f"{row['value']} to {row['other']}", *cells)
    return table


def _ablation(rows: list[dict[str, Any]], own: dict[str, Any]) -> Any:
    table = _table("change", "log loss", "latency", "energy", "multiply-accumulates", left=1)
    for row in sorted(rows, key=lambda row: row["logloss"]):
        changes = (_change(row[name], own[name]) for name in ("latency_us", "energy_uj", "macs"))
        table.add_row(row["change"], f"{row['logloss'] - own['logloss']:+.4f}", *changes)
    return table


def _table(*headings: str, left: int) -> Any:
    from rich.table import Table

    table = Table(box=None, header_style="bold")
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="left" if number < left or heading == "limited by" else "right")
    return table


def _plain(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.4g}"


def _change(value: float | None, own: float | None) -> str:
    if value is None or not own:
        return "n/a"
    return "same" if value == own else f"{value / own - 1:+.1%}"


COMMAND = explain
