"""Evaluates candidates on an executor; the figures are the same on any.

Every worker, and this process while it evaluates, computes on one thread, so that no sum depends on how many threads share it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from cosearch.candidate import Candidate
from pimsim.discovery import implementation
from pimsim.errors import PimsimError
from pimsim.executors import WorkerDied

Metrics = dict[str, float | None]


class Evaluator(Protocol):
    """Measures candidates."""

    def evaluate(self, candidate: Candidate, known: Metrics) -> Metrics:
        """Every metric of one candidate.

        Args:
            candidate: What to measure.
            known: Metrics already known of another candidate with the same model (`logloss`, `auc`), or nothing.
        """


@dataclass(frozen=True)
class Task:
    """One candidate to evaluate."""

    id: int
    candidate: Candidate
    known: Metrics


@dataclass(frozen=True)
class Outcome:
    """What came of a task: metrics, or one line that says why there are none."""

    metrics: Metrics
    error: str | None
    seconds: float


def attempt(evaluator: Evaluator, task: Task) -> Outcome:
    """Evaluates one task; an unexpected failure is tried once more, then reported. Bad input is reported at once."""
    start = time.perf_counter()
    for last in (False, True):
        try:
            return Outcome(evaluator.evaluate(task.candidate, task.known), None, time.perf_counter() - start)
        except PimsimError as error:
            return Outcome({}, str(error), time.perf_counter() - start)
        except Exception as error:
            if last:
                return Outcome({}, f"{type(error).__name__}: {error}".splitlines()[0], time.perf_counter() - start)
    raise AssertionError("unreachable")


@dataclass(frozen=True)
class Measure:
    """Makes an evaluator once in a worker and turns tasks into outcomes; `factory` is picklable."""

    factory: Callable[[], Evaluator]

    def __call__(self) -> Callable[[Task], Outcome]:
        evaluator = self.factory()

        def outcome(task: Task) -> Outcome:
            with one_thread():
                return attempt(evaluator, task)

        return outcome


class WorkerPool:
    """Runs tasks on `jobs` workers of an executor, each with its own evaluator made by `factory` (picklable) once."""

    def __init__(self, factory: Callable[[], Evaluator], jobs: int, executor: str = "local") -> None:
        self._executor = implementation("pimsim.executors", "EXECUTOR", "executor", executor)(Measure(factory), jobs)

    def run(self, tasks: list[Task], stop: Callable[[], bool]) -> Iterator[tuple[Task, Outcome]]:
        """Yields every task with its outcome as it finishes; once `stop()` is true no further task begins."""
        for task, outcome in self._executor.run(tasks, stop):
            yield task, Outcome({}, outcome.why, 0.0) if isinstance(outcome, WorkerDied) else outcome

    def close(self) -> None:
        """Ends the workers."""
        self._executor.close()


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch and the linear algebra libraries compute on one thread inside the `with` block."""
    import torch
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    with threadpool_limits(1):
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(before)
