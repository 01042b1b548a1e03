"""`cosearch report`: writes report.html again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Run folder.")],
    figure: Annotated[Path | None, typer.Option("--figure", help="Also write the Pareto plot to FILE.svg or FILE.png.")] = None,
) -> None:
    """Write report.html and pareto.csv from the trials stored so far, while a run goes on or after."""
    from cosearch.fronts import write_pareto
    from cosearch.report.page import write_figure, write_report
    from cosearch.runfolder import open_run
    from cosearch.store import TrialStore

    run = open_run(folder)
    stored = TrialStore(folder, run.problem.objectives).finished()
    trials = [stored[id] for id in sorted(stored)]
    write_pareto(folder / "pareto.csv", trials, run.problem)
    print(write_report(run, trials))
    if figure is not None:
        print(write_figure(run, trials, figure))


COMMAND = report
