"""A finished run as a task: its anchors, which its supernet scores, and its trials as genes by name."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from cosearch.candidate import HardwareSpace, JointSpace
from cosearch.evaluator import CandidateEvaluator
from cosearch.interrupt import Interrupt
from cosearch.pool import Metrics, WorkerPool
from cosearch.progress import Progress
from cosearch.runfolder import RunFolder, is_running
from cosearch.store import TrialStore
from cosearch.transfer.anchors import ANCHORS
from cosearch.transfer.bank import Task
from cosearch.transfer.start import anchor_figures
from pimsim.errors import RunError

if TYPE_CHECKING:
    from workloads.data import Dataset


def task_of(run: RunFolder, jobs: int, progress: Progress) -> Task:
    """What a bank keeps of a run. Anchors that the run has not evaluated yet are evaluated, into its folder.

    Raises:
        RunError: the run is still going, or has no trials or no finished supernet.
    """
    trials = TrialStore(run.path, run.problem.objectives).finished().values()
    done = [trial for trial in sorted(trials, key=lambda trial: trial.id) if trial.error is None]
    if not done:
        raise RunError(f"{run.path}: no finished trials; nothing to learn from")
    space = _space(run, _dataset(run))
    anchors = evaluated_anchors(run, jobs, progress)
    problem = run.problem
    kept = tuple((space.to_flat(trial.candidate), trial.metrics) for trial in done)
    return Task(run.config_digest(), problem.name, run.resolved["dataset"], space.models.name, problem.device, tuple(anchors), kept)


def evaluated_anchors(run: RunFolder, jobs: int, progress: Progress) -> list[Metrics]:
    """Figures of a run's anchors, read or evaluated.

    Raises:
        RunError: the run is still going, has no finished supernet, or the evaluation was interrupted.
    """
    from supernet.training import open_supernet

    if is_running(run.path):
        raise RunError(f"{run.path}: a cosearch run is using this folder; wait until it is finished")
    dataset = _dataset(run)
    open_supernet(run.path / "supernet", dataset)  # or else every anchor fails of it and is kept as failed
    pool = WorkerPool(functools.partial(CandidateEvaluator, run.problem, run.path, run.resolved["dataset"]), jobs)
    with Interrupt() as interrupt:
        interrupt.gentle = True
        try:
            anchors = anchor_figures(run, _space(run, dataset), pool, lambda: interrupt.requested, progress)
        finally:
            interrupt.gentle = False
            pool.close()
    if len(anchors) < ANCHORS:
        raise RunError(f"{run.path}: interrupted after {len(anchors)} of {ANCHORS} anchors; the same command goes on")
    return anchors


def _dataset(run: RunFolder) -> Dataset:
    from workloads.data import open_dataset

    return open_dataset(run.resolved["dataset"])


def _space(run: RunFolder, dataset: Dataset) -> JointSpace:
    """The joint space that the run searched."""
    from supernet.space import load_space

    models = load_space(run.problem.space).for_tables(len(dataset.schema.sparse))
    return JointSpace(models, HardwareSpace(run.problem.device, run.problem.hardware, run.problem.goal.needed))
