"""Networks trained alone with a run's final settings, their test rows closed: the truth of a rank check, the short list of a search."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cosearch.fronts import front_of
from cosearch.problem import section_settings
from cosearch.progress import Progress
from cosearch.runfolder import RunFolder
from cosearch.store import Trial
from pimsim.discovery import implementation
from pimsim.errors import RunError
from pimsim.executors import WorkerDied

if TYPE_CHECKING:
    from supernet.genotype import Genotype


def train_networks(
    run: RunFolder, networks: list[Genotype], folder: Path, seed: int, jobs: int, progress: Progress
) -> list[dict[str, float]]:
    """Validation `logloss`, `auc` and `seconds` of each network; those finished in the folder are only read.

    Raises:
        RunError: one could not be trained.
    """
    from supernet.final import FinalSettings
    from supernet.rank import TrainAlone

    settings = section_settings(FinalSettings, run.problem, "final.training").model_dump(mode="json")
    factory = TrainAlone(run.resolved["dataset"], settings, folder, seed)
    texts = [network.to_json() for network in networks]
    found = train_all(factory, texts, jobs, progress, "networks alone", folder, lambda one: f"last {one['logloss']:.4f}")
    return [found[text] for text in texts]


def train_all(
    factory: Callable[[], Callable[[Any], Any]],
    tasks: list[Any],
    jobs: int,
    progress: Progress,
    phase: str,
    folder: Path,
    remark: Callable[[Any], str],
) -> dict[Any, Any]:
    """What came of each task; `jobs` processes each make the function that does one with the factory, `remark` is told of the last one.

    Raises:
        RunError: one could not be done.
    """
    executor = implementation("pimsim.executors", "EXECUTOR", "executor", "local")(factory, jobs)
    found: dict[Any, Any] = {}
    try:
        with progress.phase(phase, len(tasks)) as update:
            for task, result in executor.run(tasks):
                if isinstance(result, WorkerDied):
                    raise RunError(f"{folder}: {phase}: one could not be trained: {result.why}")
                found[task] = result
                update(len(found), remark(result))
    finally:
        executor.close()
    return found


def best_alone(run: RunFolder, trials: list[Trial], jobs: int, progress: Progress) -> Trial:
    """Of the `final.rerank` front points with the best supernet log loss, the one whose network trained alone validates best.

    NASRec re-ranks its fifteen best in this way. `final/rerank.json` keeps both figures of every point.
    """
    from supernet.runs import save_atomically

    front = sorted(front_of(trials, run.problem.goal), key=lambda t: (t.metrics["logloss"], t.id))
    points = list({t.candidate.model.digest(): t for t in reversed(front)}.values())[::-1][: run.problem.final.rerank]
    found = train_networks(run, [t.candidate.model for t in points], run.path / "final", run.problem.seed, jobs, progress)
    rows = [
        {"id": t.id, "digest": t.candidate.model.digest(), "logloss_supernet": t.metrics["logloss"], "logloss_alone": alone["logloss"]}
        for t, alone in zip(points, found, strict=True)
    ]
    save_atomically({"version": 1, "points": rows}, run.path / "final" / "rerank.json")
    place = min(range(len(points)), key=lambda i: (found[i]["logloss"], points[i].id))
    progress.say(f"of {len(points)} networks trained alone, candidate {points[place].id} validates best: {found[place]['logloss']:.4f}")
    return points[place]
