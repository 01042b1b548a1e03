"""The search loop: ask a generation, evaluate it on the workers, store every trial as it finishes, tell, repeat.

Resuming is replaying: the loop asks the algorithm from the beginning and takes the results of trials that are already
stored instead of evaluating them. The algorithm's state is therefore never saved, and a resumed run cannot differ from an
uninterrupted one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cosearch.algorithms import Algorithm
from cosearch.candidate import Candidate
from cosearch.goal import Goal, Result
from cosearch.pool import Metrics, Outcome, Task, WorkerPool
from cosearch.store import Trial, TrialStore
from pimsim.errors import RunError

MODEL_METRICS = ("logloss", "auc")
"""Metrics that belong to the model alone and are not computed twice for equal models."""


@dataclass
class Search:
    """One search over the trials of a run folder.

    Attributes:
        algorithm: Fresh ask/tell algorithm.
        store: Where finished trials are kept.
        pool: Who evaluates.
        goal: Turns metrics into what the algorithm is told.
        choices: Choices of every hardware gene (recorded with the trials).
        candidates: How many candidates to evaluate in all.
        stop: True when no further candidate shall begin (a signal, a time limit).
        finished: Called with every trial that becomes known, replayed ones included, in order of becoming known.
    """

    algorithm: Algorithm[Candidate]
    store: TrialStore
    pool: WorkerPool
    goal: Goal
    choices: dict[str, tuple[Any, ...]]
    candidates: int
    stop: Callable[[], bool] = lambda: False
    finished: Callable[[Trial], None] = lambda trial: None
    trials: dict[int, Trial] = field(default_factory=dict)

    def run(self) -> list[Trial]:
        """Searches to the end, or until `stop()`.

        Returns:
            Every trial among the first `candidates`, in order of id; fewer if stopped or if the space is used up.

        Raises:
            RunError: not one candidate of the first generation could be evaluated, or the stored trials are not this search's.
        """
        stored = self.store.finished()
        generation = 0
        while len(self.trials) < self.candidates:
            asked = self.algorithm.ask()
            first = len(self.trials)
            wanted = dict(enumerate(asked[: self.candidates - first], start=first))
            self._evaluate(wanted, generation, stored)
            if any(id not in self.trials for id in wanted) or len(wanted) < len(asked) or not wanted:
                break  # stopped, or the last generation was cut short: nothing more will be asked
            self._give_up_if_nothing_works(generation)
            self.algorithm.tell([self._result(self.trials[id]) for id in wanted])
            self.store.write_parquet(list(self.trials.values()))
            generation += 1
        self.store.write_parquet(list(self.trials.values()))
        return [self.trials[id] for id in sorted(self.trials)]

    def _evaluate(self, wanted: dict[int, Candidate], generation: int, stored: dict[int, Trial]) -> None:
        """Finds or makes the trials of one generation."""
        tasks = []
        for id, candidate in wanted.items():
            if id in stored:
                self._check_replay(stored[id], candidate)
                self._know(stored[id])
            else:
                tasks.append((id, candidate))
        scores = {t.candidate.model.digest(): t.metrics for t in self.trials.values() if t.error is None}
        work = [Task(id, candidate, _model_part(scores.get(candidate.model.digest(), {}))) for id, candidate in tasks]
        for task, outcome in self.pool.run(work, self.stop):
            trial = self._trial(task, outcome, generation)
            self.store.add(trial, self.choices)
            self._know(trial)

    def _trial(self, task: Task, outcome: Outcome, generation: int) -> Trial:
        error = outcome.error
        if error is None:
            try:
                self.goal.result(outcome.metrics)
            except ValueError as problem:
                error = str(problem)
        metrics = outcome.metrics if error is None else {}
        return Trial(task.id, generation, task.candidate, task.candidate.digest(), metrics, error, round(outcome.seconds, 4))

    def _know(self, trial: Trial) -> None:
        self.trials[trial.id] = trial
        self.finished(trial)

    def _check_replay(self, trial: Trial, candidate: Candidate) -> None:
        if trial.digest != candidate.digest():
            path = self.store.folder / "trials.db"
            raise RunError(f"{path}: trial {trial.id} is not what this search asks (another version wrote it); use a new folder")

    def _result(self, trial: Trial) -> Result | None:
        return None if trial.error is not None else self.goal.result(trial.metrics)

    def _give_up_if_nothing_works(self, generation: int) -> None:
        if generation == 0 and all(t.error is not None for t in self.trials.values()):
            first = self.trials[min(self.trials)]
            raise RunError(f"no candidate of the first generation could be evaluated; trial {first.id}: {first.error}")


def _model_part(metrics: Metrics) -> Metrics:
    return {name: metrics[name] for name in MODEL_METRICS if name in metrics}


class Deadline:
    """A limit in minutes from now; None = no limit."""

    def __init__(self, minutes: float | None) -> None:
        self.at = None if minutes is None else time.monotonic() + 60 * minutes

    def passed(self) -> bool:
        """True once the time is over."""
        return self.at is not None and time.monotonic() >= self.at
