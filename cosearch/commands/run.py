"""`cosearch run`: the joint search."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from cosearch.problem import Problem
    from cosearch.store import Trial


def run(
    search: Annotated[str, typer.Argument(help="Search file, or the name of a shipped one.")],
    out: Annotated[Path, typer.Option("--out", help="Run folder; the same command again resumes.")],
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Worker processes; results do not depend on it.")] = 1,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Override a search key: algorithm.children=4.")] = None,
    max_candidates: Annotated[int | None, typer.Option("--max-candidates", min=1, help="Candidates in all.")] = None,
    max_minutes: Annotated[float | None, typer.Option("--max-minutes", help="Limit of the search's wall time.")] = None,
    executor: Annotated[str, typer.Option("--executor", help="Where candidates are evaluated: local or ray.")] = "local",
    transfer: Annotated[str | None, typer.Option("--transfer", metavar="BANK", help="Start from a bank's similar searches.")] = None,
) -> None:
    """Search models and hardware together; resume by the same command."""
    from cosearch.fronts import why_no_front
    from cosearch.problem import load_problem
    from cosearch.progress import Progress
    from cosearch.run import Budget, run_search
    from pimsim.configs import parse_override
    from pimsim.discovery import implementation
    from pimsim.errors import ConfigError

    implementation("pimsim.executors", "EXECUTOR", "--executor", executor)
    if max_minutes is not None and not max_minutes > 0:
        raise ConfigError(f"--max-minutes: {max_minutes}: must be above 0")
    bank = {} if transfer is None else {"transfer.bank": transfer}
    problem = load_problem(search, dict(parse_override(text) for text in set_ or []) | bank)
    budget = Budget(jobs, max_candidates, max_minutes, executor)
    try:
        done = run_search(problem, out, budget, sys.argv, Progress())
    except KeyboardInterrupt:
        print("interrupted: what was finished is kept; the same command goes on", file=sys.stderr)
        raise SystemExit(130) from None
    print_front(done.trials, problem, out, done.picked)
    total = max_candidates or problem.algorithm.total
    _print_study(out, done.picked)
    if max_minutes is not None and len(done.trials) < total and not done.interrupted:
        print(f"--max-minutes {max_minutes:g}: {len(done.trials)} of {total} candidates; the same command goes on", file=sys.stderr)
    if done.interrupted:
        print(f"interrupted: {len(done.trials)} candidates kept; the same command goes on", file=sys.stderr)
        raise SystemExit(130)
    if missed := why_no_front(done.trials, problem.goal):
        print(missed, file=sys.stderr)
        raise SystemExit(1)


def print_front(trials: list[Trial], problem: Problem, folder: Path, picked: int | None) -> None:
    """The Pareto table, the winner's test figures, and where the report lies."""
    import json

    from rich.console import Console

    from cosearch.fronts import front_table

    console = Console(width=None if sys.stdout.isatty() else 180)
    table = front_table(trials, problem, picked)
    narrow = Console(width=1000).measure(table).maximum > console.width
    if narrow:
        table = front_table(trials, problem, picked, hardware=False)
    failed = sum(t.error is not None for t in trials)
    console.print(f"\n[bold]Pareto front[/bold] of {len(trials)} candidates" + (f" ({failed} failed)" if failed else ""))
    console.print(table)
    if narrow:
        console.print(f"the hardware of each: {folder / 'pareto.csv'}, or a wider terminal", soft_wrap=True)
    best = folder / "best" / "metrics.json"
    if picked is not None and best.is_file():
        test = json.loads(best.read_text(encoding="utf-8"))["test"]
        figures = f"test AUC {test['auc']:.4f}, test log loss {test['logloss']:.4f}"
        console.print(f"* trained alone: {figures}; exported to {folder / 'best'}", soft_wrap=True)
    console.print(f"report: {folder / 'report.html'}", soft_wrap=True)


def _print_study(folder: Path, picked: int | None) -> None:
    """The winner beside baselines or with several seeds, if the search asked for either."""
    import json

    from cosearch.commands.final import print_final
    from cosearch.final import RESULT

    if picked is None:
        return
    facts = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    if len(facts["models"]) > 1 or len(facts["seeds"]) > 1:
        print_final(facts)


COMMAND = run
