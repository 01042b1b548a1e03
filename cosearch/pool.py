"""Evaluates candidates on a fixed set of worker processes, or in this process for one job; the figures are the same.

Every worker, and this process while it evaluates, computes on one thread, so that no sum depends on how many threads share it.
A worker that dies is replaced and its candidate tried again; workers end by themselves when their parent is killed.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from typing import Protocol

from cosearch.candidate import Candidate
from pimsim.errors import PimsimError

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
    attempts: int = 0


@dataclass(frozen=True)
class Outcome:
    """What came of a task: metrics, or one line that says why there are none."""

    metrics: Metrics
    error: str | None
    seconds: float


ATTEMPTS = 3
"""How often a candidate is tried whose worker died."""

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
_worker: Evaluator | None = None


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


class WorkerPool:
    """Runs tasks on `jobs` processes, each with its own evaluator made by `factory` (picklable) once."""

    def __init__(self, factory: Callable[[], Evaluator], jobs: int) -> None:
        self.factory, self.jobs = factory, jobs
        self._local: Evaluator | None = None
        self._executor: ProcessPoolExecutor | None = None

    def run(self, tasks: list[Task], stop: Callable[[], bool]) -> Iterator[tuple[Task, Outcome]]:
        """Yields every task with its outcome as it finishes; once `stop()` is true no further task begins."""
        return self._run_here(tasks, stop) if self.jobs == 1 else self._run_there(tasks, stop)

    def close(self) -> None:
        """Ends the workers."""
        if self._executor is not None:
            self._executor.shutdown(wait=True, cancel_futures=True)
            self._executor = None

    def _run_here(self, tasks: list[Task], stop: Callable[[], bool]) -> Iterator[tuple[Task, Outcome]]:
        if self._local is None:
            self._local = self.factory()
        with one_thread():
            for task in tasks:
                if stop():
                    return
                yield task, attempt(self._local, task)

    def _run_there(self, tasks: list[Task], stop: Callable[[], bool]) -> Iterator[tuple[Task, Outcome]]:
        waiting, running = deque(tasks), {}
        while waiting or running:
            while waiting and len(running) < self.jobs and not stop():
                task = waiting.popleft()
                running[self._submit(task)] = task
            if not running:
                return
            done, _ = wait(running, timeout=0.5, return_when=FIRST_COMPLETED)
            for future in done:
                task = running.pop(future)
                try:
                    yield task, future.result()
                except BrokenProcessPool:
                    self._executor = None
                    if task.attempts + 1 < ATTEMPTS:
                        waiting.appendleft(Task(task.id, task.candidate, task.known, task.attempts + 1))
                    else:
                        yield task, Outcome({}, f"its worker process died {ATTEMPTS} times (out of memory?)", 0.0)

    def _submit(self, task: Task) -> Future[Outcome]:
        if self._executor is not None:
            try:
                return self._executor.submit(_evaluate, task)
            except BrokenProcessPool:
                self._executor = None
        executor = ProcessPoolExecutor(self.jobs, get_context("spawn"), _start_worker, (self.factory,))
        before = {name: os.environ.get(name) for name in _THREADS}
        os.environ.update(dict.fromkeys(_THREADS, "1"))  # for the workers; libraries already loaded here do not notice
        try:
            future = executor.submit(_evaluate, task)
        finally:
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})
        self._executor = executor
        return future


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


def _start_worker(factory: Callable[[], Evaluator]) -> None:
    """Runs once in every worker: leaves interrupts to the parent, ends with the parent, makes the evaluator."""
    global _worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _worker = factory()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _evaluate(task: Task) -> Outcome:
    assert _worker is not None
    return attempt(_worker, task)
