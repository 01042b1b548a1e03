"""`cosearch export`: takes one candidate out of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def export(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Run folder.")],
    pick: Annotated[str, typer.Option("--pick", help="knee or logloss of the front, or a candidate's id.")],
    to: Annotated[Path, typer.Option("--to", help="Folder to write.")],
) -> None:
    """Train one candidate alone, test it once, and write model, device, workload and figures into a folder.

    The weights are always those of the network trained alone (minutes, unless this run has trained it before).
    """
    from cosearch.export import export_trial
    from cosearch.fronts import pick_trial
    from cosearch.progress import Progress
    from cosearch.runfolder import open_run
    from cosearch.store import TrialStore
    from workloads.data import open_dataset

    run = open_run(folder)
    stored = TrialStore(folder, run.problem.objectives).finished()
    trial = pick_trial([stored[id] for id in sorted(stored)], run.problem, pick)
    progress = Progress()
    print(export_trial(run, trial, open_dataset(run.resolved["dataset"], progress.say), to, progress, pick))


COMMAND = export
