"""Runs the tiny search again and again, killing it at random moments; test_kill_and_resume.py starts it as a process of its own.

Every session is a fork of this process, which has imported everything and computed nothing, so that sessions start in no time.
Usage: python kill_driver.py FOLDER KILLS SEED; prints one JSON object.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path

import numpy as np
import optuna  # noqa: F401 - before the forks
import sqlalchemy  # noqa: F401

import supernet.export
import supernet.final
import supernet.scoring  # noqa: F401
from cosearch.problem import load_problem
from cosearch.progress import Progress
from cosearch.run import Budget, run_search
from cosearch.store import TrialStore
from pimsim.errors import RunError

OBJECTIVES = ("logloss", "latency_us", "energy_uj")


def session(folder: Path, jobs: int = 1) -> int:
    """Starts `cosearch run` in a child process; returns its id."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        run_search(load_problem("tiny"), folder, Budget(jobs=jobs), ["kill_driver"], Progress(quiet=True))
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def stored(folder: Path) -> dict[int, str]:
    """Digest of every finished trial, read in a child so that this process stays as it is."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            trials = TrialStore(folder, OBJECTIVES).finished()
            text = json.dumps({id: t.digest for id, t in trials.items()})
        except RunError:
            text = "{}"  # killed before the first trial
        os.write(write, text.encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        text = pipe.read()
    os.waitpid(pid, 0)
    return {int(id): digest for id, digest in json.loads(text).items()}


def main(root: Path, kills: int, seed: int) -> dict:
    """One uninterrupted run, one on two workers, one killed `kills` times and then left to end."""
    start = time.monotonic()
    whole = os.waitstatus_to_exitcode(os.waitpid(session(root / "whole"), 0)[1])
    seconds = time.monotonic() - start
    two = os.waitstatus_to_exitcode(os.waitpid(session(root / "two", jobs=2), 0)[1])
    rng, before, moments, lost = np.random.default_rng(seed), {}, [], []
    for _ in range(kills):
        pid = session(root / "killed")
        time.sleep(float(rng.uniform(0.05, 0.6)) * seconds)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        after = stored(root / "killed")
        lost += [id for id in before if after.get(id) != before[id]]
        moments.append(len(after))
        before = after
    resumed = os.waitstatus_to_exitcode(os.waitpid(session(root / "killed"), 0)[1])
    return {"exits": [whole, two, resumed], "finished_at_kills": moments, "lost": lost, "seconds": seconds}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))
