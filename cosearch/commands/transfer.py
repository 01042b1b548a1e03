"""`cosearch transfer`: a bank of finished searches, from which later ones start."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pimsim.console import quiet, write_json

if TYPE_CHECKING:
    from cosearch.transfer.prior import Similar

COMMAND = typer.Typer(
    help="Keep finished searches in a bank, and see which of them resemble a run; `cosearch run --transfer BANK` starts from those.",
    no_args_is_help=True,
)

_BANK = typer.Option("--bank", help="Bank file; without it, bank.db in the cache folder.")
_JSON = typer.Option("--json", help="Write a JSON object to FILE (- = standard output).")


@COMMAND.command()
def add(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder of a finished search.")],
    bank: Annotated[Path | None, _BANK] = None,
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Anchors evaluated side by side.")] = 1,
) -> None:
    """Put a finished search into the bank; its supernet scores the anchors, which takes as long as so many candidates."""
    from cosearch.progress import Progress
    from cosearch.runfolder import open_run
    from cosearch.transfer.bank import Bank, bank_file
    from cosearch.transfer.finished import task_of

    task = task_of(open_run(folder), jobs, Progress())
    into = Bank(bank_file(bank), create=True)
    into.add(task)
    print(f"{into.path}: {task.name} on {task.dataset} with {len(task.trials)} trials; {len(into.tasks())} tasks in all")


@COMMAND.command(name="list")
def list_(bank: Annotated[Path | None, _BANK] = None, json: Annotated[str | None, _JSON] = None) -> None:
    """The searches in the bank."""
    from cosearch.transfer.bank import Bank, bank_file

    opened = Bank(bank_file(bank))
    rows = [
        {"digest": task.digest, "name": task.name, "dataset": task.dataset, "space": task.space, "device": task.device}
        | {"trials": len(task.trials)}
        for task in opened.tasks()
    ]
    write_json({"bank": str(opened.path), "tasks": rows}, json)
    if not quiet(json):
        _table(rows, right=("trials",))


@COMMAND.command()
def show(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder.")],
    bank: Annotated[Path | None, typer.Option("--bank", help="Bank file; without it, the run's copy, else as for `list`.")] = None,
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Anchors evaluated side by side.")] = 1,
    json: Annotated[str | None, _JSON] = None,
) -> None:
    """How similar the searches in a bank are to a run, and which values of genes a search like it starts with."""
    from cosearch.problem import TransferSection
    from cosearch.progress import Progress
    from cosearch.runfolder import open_run
    from cosearch.transfer.bank import Bank, bank_file
    from cosearch.transfer.finished import evaluated_anchors
    from cosearch.transfer.prior import compare, designs_of
    from cosearch.transfer.start import source_bank, told

    run = open_run(folder)
    opened = Bank(bank) if bank is not None else source_bank(run) or Bank(bank_file(None))
    section = run.problem.transfer or TransferSection()
    anchors = evaluated_anchors(run, jobs, Progress(quiet(json)))
    similar = compare(opened.tasks(), anchors, run.problem.goal, section.similarity)
    genes = _shares(designs_of(similar, run.problem.goal))
    write_json({"bank": str(opened.path), "tasks": [_row(one) for one in similar], "genes": genes}, json)
    if not quiet(json):
        _table([_row(one) for one in similar], right=("similarity", "weight"))
        print(told(similar, section))
        leading = [(name, *next(iter(values.items()))) for name, values in genes.items()]
        leading.sort(key=lambda found: -found[2])
        _table([{"gene": name, "mostly": value, "share": round(share, 2)} for name, value, share in leading], right=("share",))


def _row(one: Similar) -> dict[str, Any]:
    task = one.task
    named = {"digest": task.digest, "name": task.name, "dataset": task.dataset, "space": task.space, "device": task.device}
    return named | {"similarity": round(one.similarity, 4), "weight": round(one.weight, 4)}


def _shares(designs: list[tuple[float, dict[str, Any]]]) -> dict[str, dict[str, float]]:
    """Weight of every value of every gene among the designs, the greatest first, values as JSON text."""
    import json

    shares: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for weight, genes in designs:
        for name, value in genes.items():
            shares[name][json.dumps(value)] += weight
    return {name: dict(sorted(values.items(), key=lambda pair: -pair[1])) for name, values in shares.items()}


def _table(rows: list[dict[str, Any]], right: tuple[str, ...]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    if not rows:
        return
    table = Table(box=None, header_style="bold")
    for heading in rows[0]:
        table.add_column(heading, justify="right" if heading in right else "left")
    for row in rows:
        table.add_row(*(escape(str(value)) for value in row.values()))
    Console(width=180).print(table)
