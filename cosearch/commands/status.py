"""`cosearch status`: how far a run is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pimsim.console import quiet, write_json


def status(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Run folder.")],
    json: Annotated[str | None, typer.Option("--json", help="Write a JSON object to FILE (- = standard output).")] = None,
) -> None:
    """How far a run is, while it runs or after."""
    from cosearch.fronts import front_of
    from cosearch.runfolder import is_running, open_run
    from cosearch.store import TrialStore

    run = open_run(folder)
    stored = TrialStore(folder, run.problem.objectives).finished() if (folder / "trials.db").is_file() else {}
    trials = list(stored.values())
    finished = [t for t in trials if t.error is None]
    facts = {
        "name": run.problem.name,
        "dataset": run.resolved["dataset"],
        "running": is_running(folder),
        "finished": len(finished),
        "failed": len(trials) - len(finished),
        "candidates": run.problem.algorithm.total,
        "front": len(front_of(trials, run.problem.goal)),
        "best_logloss": min((t.metrics["logloss"] for t in finished), default=None),
        "seconds_per_candidate": sum(t.seconds for t in trials) / len(trials) if trials else None,
        "exported": (folder / "best" / "metrics.json").is_file(),
    }
    write_json(facts, json)
    if not quiet(json):
        for name, value in facts.items():
            text = "n/a" if value is None else f"{value:.4f}" if isinstance(value, float) else value
            print(f"{name.replace('_', ' '):22} {text}")


COMMAND = status
