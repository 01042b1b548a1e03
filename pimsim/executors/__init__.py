"""Where independent pieces of work run: this process, other processes of this machine, a Ray cluster. Results do not depend on it.

An executor is a class `EXECUTOR` in a file of this folder, named as users name it:

    EXECUTOR(factory, jobs).run(tasks, stop)   yields (task, result) in the order of finishing
    EXECUTOR(factory, jobs).close()            ends the workers

`factory` is called once in every worker and returns the function that turns a task into a result; all three must be picklable. A worker
that dies is replaced and its task tried again; after `ATTEMPTS` times the result is `WorkerDied`. Once `stop()` is true no further task
begins.
"""

from __future__ import annotations

from dataclasses import dataclass

ATTEMPTS = 3
"""How often a task is tried whose worker died."""


@dataclass(frozen=True)
class WorkerDied:
    """Stands for the result of a task whose worker died each time."""

    why: str = f"its worker process died {ATTEMPTS} times (out of memory?)"
