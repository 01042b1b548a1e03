"""Exact placements for additive cost: dynamic programming along a chain, a minimum cut on any graph.

Minimum cut (two sides, costs that add up, crossings that cost at least nothing): the source stands for the host, the sink for the units.
An operator's edge to the sink carries its cost on the host, the edge from the source its cost at the units, so that a cut pays
exactly the side that it is given. A result is moved once however many read it on the other side: an auxiliary vertex per result and
direction is dragged along by any reader and pays the crossing on its one edge to the producer. Source: Kolmogorov and Zabih, *What
Energy Functions Can Be Minimized via Graph Cuts?* (2004), for the construction of unary and pairwise terms.
"""

from __future__ import annotations

import math

from cosearch.placement.problem import SIDES, Objective, Problem, Side, additive_cost, crossing_cost, operator_cost
from pimsim.errors import ConfigError


def place_additive(problem: Problem, objective: Objective) -> dict[str, Side]:
    """The cheapest placement; ties go to the host.

    Raises:
        ConfigError: no placement is possible.

    The memory at the units is not looked at: a limit that binds makes the problem a knapsack (`cosearch.placement.makespan` searches
    under one).
    """
    placement = _along_chain(problem, objective) if is_chain(problem) else _minimum_cut(problem, objective)
    if not math.isfinite(additive_cost(problem, placement, objective)):
        raise ConfigError("placement: no placement is possible: operators that only one side can run must exchange results")
    return placement


def is_chain(problem: Problem) -> bool:
    """True when every operator reads the one before it and nothing else."""
    expected = [()] + [(job.name,) for job in problem.jobs[:-1]]
    return all(tuple(dict.fromkeys(job.inputs)) == before for job, before in zip(problem.jobs, expected, strict=True))


def _along_chain(problem: Problem, objective: Objective) -> dict[str, Side]:
    best: dict[Side, tuple[float, tuple[Side, ...]]] = {side: (0.0, ()) for side in SIDES}
    before = None
    for job in problem.jobs:
        moved = crossing_cost(problem, before, objective) if before is not None else 0.0
        found: dict[Side, tuple[float, tuple[Side, ...]]] = {}
        for side in SIDES:
            own = operator_cost(job, side, objective)
            ways = [(best[last][0] + own + (moved if last != side else 0.0), (*best[last][1], side)) for last in SIDES]
            found[side] = min(ways, key=lambda way: way[0])
        best, before = found, job
    cheapest = min((best[side] for side in SIDES), key=lambda way: way[0])[1]
    return dict(zip((job.name for job in problem.jobs), cheapest, strict=True))


def _minimum_cut(problem: Problem, objective: Objective) -> dict[str, Side]:
    import networkx as nx

    graph = nx.DiGraph()
    source, sink = ("host",), ("pim",)
    graph.add_nodes_from([source, sink])

    def edge(start: object, end: object, cost: float) -> None:
        """An edge that a cut pays where `start` lies on the host's side and `end` on the units'; networkx: no capacity = infinite."""
        graph.add_edge(start, end, **({"capacity": cost} if math.isfinite(cost) else {}))

    for job in problem.jobs:
        edge(job.name, sink, operator_cost(job, "host", objective))
        edge(source, job.name, operator_cost(job, "pim", objective))
        readers, moved = problem.readers[job.name], crossing_cost(problem, job, objective)
        if readers and moved > 0:
            there, back = (job.name, "to pim"), (job.name, "to host")
            edge(job.name, there, moved)
            edge(back, job.name, moved)
            for reader in readers:
                edge(there, reader, math.inf)
                edge(reader, back, math.inf)
    try:
        _, (host_side, _) = nx.minimum_cut(graph, source, sink)
    except nx.NetworkXUnbounded:
        raise ConfigError("placement: no placement is possible: operators that only one side can run must exchange results") from None
    return {job.name: "host" if job.name in host_side else "pim" for job in problem.jobs}
