"""This process for one job, else a fixed set of worker processes on this machine."""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from typing import Any, Generic, TypeVar

from pimsim.executors import ATTEMPTS, WorkerDied

T = TypeVar("T")
R = TypeVar("R")

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
_work: Callable[[Any], Any] | None = None


class LocalExecutor(Generic[T, R]):
    """Runs tasks on `jobs` processes that compute on one thread each; they end by themselves when their parent is killed."""

    def __init__(self, factory: Callable[[], Callable[[T], R]], jobs: int) -> None:
        self.factory, self.jobs = factory, jobs
        self._here: Callable[[T], R] | None = None
        self._pool: ProcessPoolExecutor | None = None

    def run(self, tasks: Sequence[T], stop: Callable[[], bool] = lambda: False) -> Iterator[tuple[T, R | WorkerDied]]:
        """Yields every task with its result as it finishes."""
        return self._run_here(tasks, stop) if self.jobs == 1 else self._run_there(tasks, stop)

    def close(self) -> None:
        """Ends the workers."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None

    def _run_here(self, tasks: Sequence[T], stop: Callable[[], bool]) -> Iterator[tuple[T, R | WorkerDied]]:
        if self._here is None:
            self._here = self.factory()
        for task in tasks:
            if stop():
                return
            yield task, self._here(task)

    def _run_there(self, tasks: Sequence[T], stop: Callable[[], bool]) -> Iterator[tuple[T, R | WorkerDied]]:
        waiting = deque((task, 1) for task in tasks)
        running: dict[Future[R], tuple[T, int]] = {}
        while waiting or running:
            while waiting and len(running) < self.jobs and not stop():
                task, attempt = waiting.popleft()
                running[self._submit(task)] = task, attempt
            if not running:
                return
            done, _ = wait(running, timeout=0.5, return_when=FIRST_COMPLETED)
            for future in done:
                task, attempt = running.pop(future)
                try:
                    yield task, future.result()
                except BrokenProcessPool:
                    self._pool = None
                    if attempt < ATTEMPTS:
                        waiting.appendleft((task, attempt + 1))
                    else:
                        yield task, WorkerDied()

    def _submit(self, task: T) -> Future[R]:
        if self._pool is not None:
            try:
                return self._pool.submit(_do, task)
            except BrokenProcessPool:
                self._pool = None
        pool = ProcessPoolExecutor(self.jobs, get_context("spawn"), _start_worker, (self.factory,))
        before = {name: os.environ.get(name) for name in _THREADS}
        os.environ.update(dict.fromkeys(_THREADS, "1"))  # for the workers; libraries already loaded here do not notice
        try:
            future = pool.submit(_do, task)
        finally:
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})
        self._pool = pool
        return future


def _start_worker(factory: Callable[[], Callable[[Any], Any]]) -> None:
    """Runs once in every worker: leaves interrupts to the parent, ends with the parent, makes the function."""
    global _work
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _work = factory()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _do(task: Any) -> Any:
    assert _work is not None
    return _work(task)


EXECUTOR = LocalExecutor
