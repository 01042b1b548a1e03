"""Runs a sweep: points that are not finished yet, on an executor, each kept as it finishes."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from pimsim.discovery import implementation
from pimsim.errors import ConfigError
from pimsim.executors import WorkerDied
from pimsim.sweep.measure import Measure, Point
from pimsim.sweep.plan import SweepSpec
from pimsim.sweep.store import SweepStore


def run_sweep(
    spec: SweepSpec, folder: Path, jobs: int = 1, executor: str = "local", progress: Callable[[int, int], None] = lambda done, total: None
) -> SweepStore:
    """Measures every point that the folder does not hold yet; the same call again goes on where an interrupted one stopped.

    Args:
        spec: The sweep.
        folder: Its folder.
        jobs: Workers; the table does not depend on it.
        executor: Where they run: a file of `pimsim/executors/`.
        progress: Called with (finished points, all points).

    Raises:
        ConfigError: unknown executor or missing packages.
        RunError: the folder holds another sweep.
    """
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise ConfigError("pimsim sweep: pyarrow is not installed; pip install 'pim-cosearch[sweep]'") from None
    make = implementation("pimsim.executors", "EXECUTOR", "--executor", executor)
    store = SweepStore(folder, spec)
    total = len(store.points)
    waiting = [Point(id, values) for id, values in enumerate(store.points) if id not in store.rows]
    progress(len(store.rows), total)
    if waiting:
        workers = make(Measure(spec), min(jobs, len(waiting)))
        written = time.monotonic()
        try:
            for point, figures in workers.run(waiting):
                store.add(point.id, {"error": figures.why} if isinstance(figures, WorkerDied) else figures)
                progress(len(store.rows), total)
                if time.monotonic() - written > 2:
                    store.write_parquet()
                    written = time.monotonic()
        finally:
            workers.close()
            store.write_parquet()
    else:
        store.write_parquet()
    return store
