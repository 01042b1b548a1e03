"""`cosearch run` from beginning to end: data, supernet, index trace, search, front, the winner trained alone beside baselines, report."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cosearch.algorithms import Algorithm, FlatSpace, find_algorithm
from cosearch.algorithms.local_search import polished
from cosearch.alone import best_alone
from cosearch.candidate import Candidate, HardwareSpace, JointSpace
from cosearch.evaluator import TRACE, CandidateEvaluator, write_trace
from cosearch.export import export_winner
from cosearch.final import FinalStudy, baseline_jobs, final_study
from cosearch.fronts import front_of, pick_trial, write_pareto
from cosearch.interrupt import Interrupt
from cosearch.loop import Deadline, Search
from cosearch.pool import WorkerPool
from cosearch.prefilter import NetworkPromise, Prefiltered, proposing
from cosearch.problem import Problem, section_settings
from cosearch.progress import Progress
from cosearch.report.page import write_report
from cosearch.runfolder import RunFolder
from cosearch.steps import Steps
from cosearch.store import Trial, TrialStore
from cosearch.transfer.start import freeze, source_bank, starting_space
from pimsim.errors import DataError

if TYPE_CHECKING:
    from workloads.data import Dataset


@dataclass(frozen=True)
class Budget:
    """How much a session may do.

    Attributes:
        jobs: Workers.
        executor: Where they run: a file of `pimsim/executors/`.
        candidates: Candidates in all, instead of the search file's number.
        minutes: Wall time of the search; None = no limit. Training the winner comes on top.
    """

    jobs: int = 1
    candidates: int | None = None
    minutes: float | None = None
    executor: str = "local"


@dataclass(frozen=True)
class Finished:
    """What a session of a run ended with.

    Attributes:
        trials: Every finished trial.
        picked: Id of the trial that was trained alone, or None when the session was interrupted or no trial keeps the constraints.
        interrupted: True when a signal ended the search early.
    """

    trials: list[Trial]
    picked: int | None
    interrupted: bool


def run_search(problem: Problem, folder: Path, budget: Budget, argv: list[str], progress: Progress) -> Finished:
    """Runs a search in a folder, or takes it up where it stopped.

    Raises:
        PimsimError: bad input, in one line.
    """
    with Interrupt() as interrupt:
        return _run(with_training_settings(problem), folder, budget, argv, progress, interrupt)


def _run(problem: Problem, folder: Path, budget: Budget, argv: list[str], progress: Progress, interrupt: Interrupt) -> Finished:
    from supernet.space import load_space

    space = load_space(problem.space)
    hardware = HardwareSpace(problem.device, problem.hardware, problem.goal.needed)
    dataset = choose_dataset(problem, progress)
    space = space.for_tables(len(dataset.schema.sparse))
    run = RunFolder(folder, problem, _resolved(dataset, space, hardware, problem.algorithm.name))
    baseline_jobs(run, FinalStudy.of(run))  # a misspelt one is known before anything is trained
    bank = source_bank(run)
    with run.claimed(argv):
        freeze(run, bank)
        train(run, space, dataset, progress)
        write_trace(dataset, max(problem.trace_samples, problem.batch), problem.seed, folder / TRACE)
        trials = _search(run, JointSpace(space, hardware), dataset, budget, interrupt, progress)
        write_pareto(folder / "pareto.csv", trials, problem)
        found = front_of(trials, problem.goal) and not interrupt.requested
        winner = _winner(run, trials, budget.jobs, progress) if found else None
        if winner is not None:
            export_winner(run, winner, dataset, progress)
            final_study(run, winner, FinalStudy.of(run), budget.jobs, progress)
        write_report(run, trials)
        return Finished(trials, winner.id if winner else None, interrupt.requested)


def _winner(run: RunFolder, trials: list[Trial], jobs: int, progress: Progress) -> Trial:
    """The front point that is exported."""
    if run.problem.final.rerank > 1:
        return best_alone(run, trials, jobs, progress)
    return pick_trial(trials, run.problem, run.problem.final.pick)


def with_training_settings(problem: Problem) -> Problem:
    """The problem with every setting of its training sections spelled out, seeds included.

    Raises:
        ConfigError: an unknown key or a bad value in one of them.
    """
    from supernet.final import FinalSettings
    from supernet.scoring import ScoringSettings
    from supernet.training import TrainingSettings

    full = {}
    for section, model in (("supernet", TrainingSettings), ("scoring", ScoringSettings), ("final.training", FinalSettings)):
        full[section] = section_settings(model, problem, section).model_dump(mode="json")
    final = problem.final.model_copy(update={"training": full["final.training"]})
    return problem.model_copy(update={"supernet": full["supernet"], "scoring": full["scoring"], "final": final})


def choose_dataset(problem: Problem, progress: Progress) -> Dataset:
    """The first data set of the problem's list that is there; says which and where.

    Raises:
        DataError: none is there.
    """
    from workloads.data import data_root, find_dataset, open_dataset
    from workloads.data.adapters.base import adapter, missing_files
    from workloads.data.location import cache_root

    name = find_dataset(problem.dataset)
    synthetic = name.partition(":")[0] == "synthetic"
    missing = problem.dataset[: problem.dataset.index(name)]
    if synthetic:
        why = f" ({', '.join(missing)} not found in {data_root()})" if missing else ""
        progress.say(f"data: the synthetic click log with planted interactions{why}")
    else:
        chosen = adapter(name)
        raw = not missing_files(chosen, data_root() / chosen.folder)
        progress.say(f"data: {name} found at {data_root()}" if raw else f"data: {name} found in the cache {cache_root()}")
    dataset = open_dataset(name, progress.say)
    rows = ", ".join(f"{count:,} {split}" for split, count in dataset.rows.items())
    progress.say(f"data: {rows} rows; {len(dataset.schema.sparse)} sparse and {len(dataset.schema.dense)} dense fields")
    if not dataset.schema.sparse:
        raise DataError(f"{name}: no sparse fields; a recommender needs at least one")
    return dataset


def _resolved(dataset: Dataset, space: Any, hardware: HardwareSpace, algorithm: str) -> dict[str, Any]:
    """What the names of the search file mean here and now."""
    from pimsim.api import load_device

    own = {"algorithm_digest": hashlib.sha256(Path(algorithm).read_bytes()).hexdigest()[:16]} if algorithm.endswith(".py") else {}
    return own | {
        "dataset": dataset.name,
        "dataset_digest": dataset.digest,
        "space_digest": space.digest(),
        "device_digest": load_device(hardware.base).digest(),
    }


def train(run: RunFolder, space: Any, dataset: Dataset, progress: Progress) -> None:
    """Trains the run's supernet, or finds it trained."""
    from supernet.training import TrainingSettings, train_supernet

    settings = section_settings(TrainingSettings, run.problem, "supernet")
    with Steps(progress, "supernet") as steps:
        train_supernet(space, dataset, settings, run.path / "supernet", steps)


def _search(run: RunFolder, space: JointSpace, dataset: Dataset, budget: Budget, interrupt: Interrupt, progress: Progress) -> list[Trial]:
    problem = run.problem
    total = budget.candidates or problem.algorithm.total
    deadline = Deadline(budget.minutes)
    evaluator = functools.partial(CandidateEvaluator, problem, run.path, run.resolved["dataset"])
    pool = WorkerPool(evaluator, budget.jobs, budget.executor)
    store = TrialStore(run.path, problem.objectives, create=True)

    def stop() -> bool:
        return interrupt.requested or deadline.passed()

    interrupt.gentle = True
    try:
        start = starting_space(run, space, pool, stop, progress)
        if start is None:
            return []
        algorithm = polished(_algorithm(problem, start, dataset), start, problem.algorithm)
        with progress.phase("search", total, done=0) as update:
            return Search(algorithm, store, pool, problem.goal, problem.hardware, total, stop, _reporter(update)).run()
    finally:
        interrupt.gentle = False
        pool.close()


def _algorithm(problem: Problem, space: FlatSpace[Candidate], dataset: Dataset) -> Algorithm[Candidate]:
    """The algorithm of the search, behind a pre-filter if it asks for one."""
    kind, settings, chosen = find_algorithm(problem.algorithm.name), problem.algorithm, problem.prefilter
    if chosen is None:
        return kind(space, settings, problem.seed)
    promise = NetworkPromise(dataset, chosen.proxy, problem.seed)
    return Prefiltered(kind(space, proposing(settings, chosen.draw), problem.seed), chosen.draw, promise)


def _reporter(update: Callable[[int, str], None]) -> Callable[[Trial], None]:
    """Counts finished trials and remembers the best log loss."""
    count, failed, best = 0, 0, float("inf")

    def finished(trial: Trial) -> None:
        nonlocal count, failed, best
        count += 1
        failed += trial.error is not None
        best = min(best, trial.metrics.get("logloss") or best)
        remark = f"best log loss {best:.4f}" + (f", {failed} failed" if failed else "")
        update(count, remark)

    return finished
