"""NSGA-III (Deb and Jain, IEEE Trans. Evolutionary Computation, 2014): like NSGA-II, but the last front that still fits in part is thinned
by reference directions spread evenly over the objectives instead of by crowding; meant for four objectives and more.

Reference directions (Das and Dennis, as many as fit the population) and survival are pymoo's; variation is the space's own. Parents are
drawn at random, the smaller violation winning between infeasible ones, as published.
"""

from __future__ import annotations

from functools import cache
from math import comb
from typing import Any

import numpy as np

from cosearch.algorithms.nsga2 import NSGA2


class NSGA3(NSGA2):
    """Reference-point search."""

    class Settings(NSGA2.Settings):
        """As for NSGA-II."""

    def survive(self, values: np.ndarray, violation: np.ndarray) -> list[int]:
        """See `NSGA2.survive`."""
        from pymoo.algorithms.moo.nsga3 import ReferenceDirectionSurvival

        directions = reference_directions(values.shape[1], self.settings.population)
        kept = self._with_pymoo(ReferenceDirectionSurvival(directions), values, violation)
        self.order = violation[kept][:, None]
        return kept


@cache
def reference_directions(objectives: int, most: int) -> Any:
    """The finest even grid of directions with no more than `most` points; (points, objectives), every row sums to 1."""
    from pymoo.util.ref_dirs import get_reference_directions

    parts = 1
    while objectives > 1 and comb(objectives + parts, parts + 1) <= most:
        parts += 1
    return get_reference_directions("das-dennis", objectives, n_partitions=parts)


ALGORITHM = NSGA3
