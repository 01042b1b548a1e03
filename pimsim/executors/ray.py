"""A Ray cluster: the one that `RAY_ADDRESS` names, else a cluster of this machine alone, started and ended with the run."""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar

from pimsim.errors import ConfigError
from pimsim.executors import ATTEMPTS, WorkerDied

T = TypeVar("T")
R = TypeVar("R")


class RayExecutor(Generic[T, R]):
    """Runs tasks on `jobs` actors of one CPU each, wherever the cluster puts them.

    The packages of this product must be installed on every node; tasks and results travel through Ray's object store.

    Raises:
        ConfigError: Ray is not installed.
    """

    def __init__(self, factory: Callable[[], Callable[[T], R]], jobs: int) -> None:
        try:
            import ray
        except ImportError:
            raise ConfigError("--executor ray: Ray is not installed; pip install 'pim-cosearch[ray]'") from None
        self.ray, self.factory, self.jobs = ray, factory, jobs
        self._started = not ray.is_initialized()
        if self._started:
            address = os.environ.get("RAY_ADDRESS")
            ray.init(
                address=address,
                num_cpus=None if address else jobs,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        self._actor = ray.remote(num_cpus=1)(_Worker)
        self._idle: list[Any] = [self._actor.remote(factory) for _ in range(jobs)]

    def run(self, tasks: Sequence[T], stop: Callable[[], bool] = lambda: False) -> Iterator[tuple[T, R | WorkerDied]]:
        """Yields every task with its result as it finishes."""
        waiting = deque((task, 1) for task in tasks)
        running: dict[Any, tuple[T, int, Any]] = {}
        while waiting or running:
            while waiting and self._idle and not stop():
                (task, attempt), actor = waiting.popleft(), self._idle.pop()
                running[actor.do.remote(task)] = task, attempt, actor
            if not running:
                return
            for reference in self.ray.wait(list(running), num_returns=1, timeout=0.5)[0]:
                task, attempt, actor = running.pop(reference)
                try:
                    result = self.ray.get(reference)
                except self.ray.exceptions.RayActorError:
                    self._idle.append(self._actor.remote(self.factory))
                    if attempt < ATTEMPTS:
                        waiting.appendleft((task, attempt + 1))
                    else:
                        yield task, WorkerDied()
                    continue
                self._idle.append(actor)
                yield task, result

    def close(self) -> None:
        """Ends the actors, and the cluster if it was started here."""
        for actor in self._idle:
            self.ray.kill(actor)
        self._idle = []
        if self._started:
            self.ray.shutdown()


class _Worker:
    """One actor: makes the function once, then turns tasks into results."""

    def __init__(self, factory: Callable[[], Callable[[Any], Any]]) -> None:
        self._work = factory()

    def do(self, task: Any) -> Any:
        """The result of one task."""
        return self._work(task)


EXECUTOR = RayExecutor
