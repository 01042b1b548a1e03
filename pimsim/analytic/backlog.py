"""Jobs that come while an earlier stage goes on, each to a first-come-first-served server: when the last is done, in closed form.

A server is done `work` after a job from which on it never idles, so that its last job ends at the maximum over its jobs of "ready, and
then this job and all after it". Ready clocks are shares of the earlier stage's time; only jobs on the upper hull of (share, work) can be
that maximum, whatever the time of the stage and of a unit of work, and only these are kept.

Not modelled: an earlier stage whose pace changes on the way.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Backlog:
    """Jobs that may decide when the last one is done.

    Attributes:
        share: (k,) share of the earlier stage's time after which each is ready.
        work: (k,) work of each and of those after it on its server.
    """

    share: FloatArray
    work: FloatArray

    def done(self, before: float, each: float) -> float:
        """Time at which the last job is done, if the earlier stage takes `before` and a unit of work `each`."""
        return float((self.share * before + self.work * each).max(initial=0.0))


def backlog(server: IntArray, share: FloatArray, work: IntArray, early: IntArray | int = 0) -> Backlog:
    """Jobs in closed form.

    Args:
        server: (n,) server of each.
        share: (n,) share of the earlier stage's time after which it is ready.
        work: (n,) its work.
        early: (n,) work that the server can do before the job is ready.
    """
    order = np.lexsort((share, server))
    total = np.cumsum(work[order])
    last = np.searchsorted(server[order], server[order], side="right") - 1
    after = (total[last] - total + work[order] - np.broadcast_to(early, len(order))[order]).astype(float)
    points = share[order]
    hull: list[tuple[float, float]] = []
    for at in np.lexsort((after, points))[::-1]:  # from the last ready on: a point counts if its work is above all seen and bulges out
        x, y = float(points[at]), float(after[at])
        if hull and y <= hull[-1][1]:
            continue
        while len(hull) > 1 and _within(hull[-2], hull[-1], (x, y)):
            hull.pop()
        hull.append((x, y))
    found = np.array(hull, float).reshape(-1, 2)
    return Backlog(found[:, 0], found[:, 1])


def _within(first: tuple[float, float], middle: tuple[float, float], last: tuple[float, float]) -> bool:
    """Whether the middle point of three lies on or below the line through the others."""
    return (middle[1] - first[1]) * (first[0] - last[0]) <= (last[1] - first[1]) * (first[0] - middle[0])


def last_share(key: IntArray, share: FloatArray) -> tuple[IntArray, FloatArray]:
    """The distinct keys of jobs, and the share at which the last job of each is ready."""
    found, inverse = np.unique(key, return_inverse=True)
    last = np.zeros(len(found))
    np.maximum.at(last, inverse.reshape(-1), share)
    return found, last
