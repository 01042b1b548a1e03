"""The last job of a first-come-first-served server in closed form beside the engine's servers."""

from __future__ import annotations

import numpy as np
import pytest

from pimsim.analytic.backlog import backlog, last_share
from pimsim.engine.reducers import serve


@pytest.mark.parametrize("seed", range(5))
def test_the_last_job_is_done_when_the_engine_has_done_it(seed: int) -> None:
    """Whatever the earlier stage takes and the server needs for a unit of work, from one set of kept jobs."""
    rng = np.random.default_rng(seed)
    server, position, work = rng.integers(0, 6, 300), rng.integers(0, 101, 300), rng.integers(1, 9, 300)
    jobs = backlog(server, position / 100, work)
    assert len(jobs.share) < 60
    for before in (0, 100, 400, 1500, 6000, 40_000):
        for each in (0, 1, 3, 20):
            assert jobs.done(before, each) == pytest.approx(serve(server, position * before // 100, work * each).max(), abs=1e-6)


def test_by_hand() -> None:
    """Two jobs of one server: idle between them, or behind one another; work begun early; nothing to do."""
    jobs = backlog(np.array([0, 0]), np.array([0.5, 1.0]), np.array([4, 2]))
    assert jobs.done(20, 1) == 22 and jobs.done(2, 1) == 7
    assert backlog(np.array([0]), np.array([1.0]), np.array([4]), np.array([3])).done(20, 1) == 21
    assert backlog(*[np.empty(0, np.int64)] * 3).done(20, 1) == 0
    keys, share = last_share(np.array([3, 1, 3]), np.array([0.2, 0.5, 0.9]))
    assert keys.tolist() == [1, 3] and share.tolist() == [0.5, 0.9]
