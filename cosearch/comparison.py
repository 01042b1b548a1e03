"""Several runs side by side, in one common box of objectives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from cosearch.fronts import front_of
from cosearch.metrics import METRICS, objectives_of
from cosearch.pareto import hypervolume, not_dominated
from cosearch.runfolder import RunFolder, open_run
from cosearch.store import Trial, TrialStore
from pimsim.errors import RunError


def compare_runs(folders: list[Path]) -> dict[str, Any]:
    """Hypervolume and best objectives of every run's front.

    The hypervolume is the share of the box between the best and the worst value that any front of these runs has, stretched by a
    tenth at the bad end so that the extreme points count.

    Raises:
        RunError: an unreadable run, a run without a finished candidate, or different objectives.
    """
    runs = [_front(folder) for folder in folders]
    objectives = runs[0][0].problem.objectives
    for run, _, _ in runs[1:]:
        if run.problem.objectives != objectives:
            theirs = ", ".join(run.problem.objectives)
            raise RunError(f"{run.path}: its objectives are {theirs}; those of {folders[0]} are {', '.join(objectives)}")
    values = [np.array([objectives_of(t.metrics, objectives) for t in front]) for _, _, front in runs]
    every = np.concatenate(values)
    low, high = every.min(axis=0), every.max(axis=0)
    high = high + 0.1 * np.where(high > low, high - low, 1.0)
    joint = not_dominated(every)
    firsts = np.cumsum([0, *(len(v) for v in values)])
    return {
        "objectives": list(objectives),
        "runs": [
            {
                "folder": str(run.path),
                "dataset": run.resolved["dataset"],
                "dataset_digest": run.resolved["dataset_digest"],
                "seed": run.problem.seed,
                "candidates": count,
                "front": len(front),
                "hypervolume": hypervolume(points, low, high),
                "in_joint_front": int(joint[first : first + len(points)].sum()),
                "best": {n: METRICS[n].sign * float(v) for n, v in zip(objectives, points.min(axis=0), strict=True)},
                "points": [{"id": t.id, **{n: t.metrics[n] for n in objectives}} for t in front],
            }
            for (run, count, front), points, first in zip(runs, values, firsts, strict=False)
        ],
    }


def _front(folder: Path) -> tuple[RunFolder, int, list[Trial]]:
    run = open_run(folder)
    trials = list(TrialStore(folder, run.problem.objectives).finished().values())
    front = front_of(trials, run.problem.goal)
    if not front:
        raise RunError(f"{folder}: no finished candidate")
    return run, len(trials), front
