"""Placement of operators: equal to brute force on random graphs, right at the ends of the link's range, the simulator's own schedule."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from cosearch.placement.additive import _minimum_cut, is_chain, place_additive
from cosearch.placement.makespan import makespan_ps, place_makespan
from cosearch.placement.problem import SIDES, Crossing, Job, Option, Problem, additive_cost
from pimsim.engine.orchestrate import schedule
from pimsim.errors import ConfigError
from pimsim.graph import Input, Workload
from pimsim.units.cost import HOST, MEMORY, OperatorCost

HOLDS = {"host": ((HOST,), (HOST, MEMORY)), "pim": ((MEMORY,),)}


def draw(seed: int, most: int = 12, chain: bool = False, **crossing) -> Problem:
    """A random problem: most operators run on either side, some on one only; some results are large."""
    rng = np.random.default_rng([seed, 1])
    jobs = []
    for number in range(int(rng.integers(1, most + 1))):
        if chain:
            inputs = (f"n{number - 1}",) if number else ()
        else:
            count = min(number, int(rng.integers(0, 4)))
            inputs = tuple(f"n{i}" for i in sorted(rng.choice(number, count, replace=False))) if count else ()
        sides = SIDES if rng.random() < 0.8 else (SIDES[int(rng.integers(2))],)
        options = {}
        for side in sides:
            holds = HOLDS[side][int(rng.integers(len(HOLDS[side])))]
            options[side] = Option(int(rng.integers(1, 1000)), float(rng.integers(1, 1000)), holds)
        jobs.append(Job(f"n{number}", inputs, options, float(rng.integers(1, 2000)), float(rng.integers(0, 50))))
    drawn = crossing or {
        "gbps": float(rng.uniform(0.5, 20)),
        "latency_ps": float(rng.integers(0, 200)),
        "pj_per_byte": float(rng.uniform(0, 1)),
    }
    return Problem(jobs, Crossing(**drawn), capacity_bytes=float(rng.choice([math.inf, 60.0])))


def every_placement(problem: Problem):
    names = [job.name for job in problem.jobs]
    for sides in itertools.product(SIDES, repeat=len(names)):
        placement = dict(zip(names, sides, strict=True))
        if all(side in problem.by_name[name].options for name, side in placement.items()):
            yield placement


@pytest.mark.parametrize("objective", ["time", "energy"])
def test_additive_placement_equals_brute_force_on_200_graphs(objective):
    for seed in range(200):
        problem = draw(seed, most=10 if seed % 10 else 12, chain=seed % 3 == 0)
        best = min(additive_cost(problem, placement, objective) for placement in every_placement(problem))
        found = additive_cost(problem, place_additive(problem, objective), objective)
        assert found == pytest.approx(best, rel=1e-9), seed
        both = [additive_cost(problem, problem.all_on(side), objective) for side in SIDES]
        assert found <= min(both) * (1 + 1e-9)


def test_a_chain_by_dynamic_programming_costs_what_the_minimum_cut_costs():
    for seed in range(40):
        problem = draw(seed, most=40, chain=True)
        assert is_chain(problem)
        costs = [additive_cost(problem, place(problem, "energy"), "energy") for place in (place_additive, _minimum_cut)]
        assert costs[0] == pytest.approx(costs[1], rel=1e-9)


def test_makespan_equals_brute_force_on_200_graphs_within_the_memory():
    refused = 0
    for seed in range(200):
        problem = draw(seed, most=7 if seed % 10 else 10)
        times = [makespan_ps(problem, placement) for placement in every_placement(problem) if problem.feasible(placement)]
        if not times:
            refused += 1
            with pytest.raises(ConfigError, match="no placement is possible"):
                place_makespan(problem)
            continue
        placement = place_makespan(problem)
        assert problem.feasible(placement)
        assert makespan_ps(problem, placement) == min(times), seed
    assert refused < 40


def test_large_graphs_are_never_worse_than_either_side_alone():
    for seed in range(6):
        problem = draw(1000 + seed, most=30)
        problem = Problem(problem.jobs, problem.crossing)
        found = makespan_ps(problem, place_makespan(problem))
        assert found <= min(makespan_ps(problem, problem.all_on(side)) for side in SIDES)


def test_a_link_without_bandwidth_leaves_what_is_connected_on_one_side():
    for seed in range(60):
        problem = draw(seed, most=9, gbps=0.0)
        try:
            placement = place_additive(problem, "time")
        except ConfigError:
            continue
        for job in problem.jobs:
            assert all(placement[name] == placement[job.name] for name in job.inputs)


def test_a_free_link_puts_every_operator_where_it_is_cheapest():
    for seed in range(60):
        problem = draw(seed, gbps=math.inf)
        placement = place_additive(problem, "energy")
        for job in problem.jobs:
            costs = {side: option.energy_pj for side, option in job.options.items()}
            assert costs[placement[job.name]] == min(costs.values())


def test_a_result_that_several_readers_share_crosses_once():
    cheap, dear = Option(1, 1.0), Option(1, 1000.0)
    readers = [Job(f"r{i}", ("a",), {"pim": cheap, "host": dear}) for i in range(5)]
    problem = Problem([Job("a", (), {"host": cheap}, result_bytes=10), *readers], Crossing(gbps=1.0, pj_per_byte=3.0))
    placement = place_additive(problem, "energy")
    assert additive_cost(problem, placement, "energy") == pytest.approx(1 + 5 + 30)


def test_the_makespan_is_that_of_the_simulators_schedule():
    for seed in range(60):
        problem = draw(seed, most=12, gbps=math.inf)
        rng = np.random.default_rng(seed)
        placement = {job.name: list(job.options)[int(rng.integers(len(job.options)))] for job in problem.jobs}
        options = {job.name: job.options[placement[job.name]] for job in problem.jobs}
        costs = {name: OperatorCost(placement[name], int(o.time_ps), o.holds) for name, o in options.items()}
        graph = Workload(name="w", operators=tuple(Input(name=job.name, inputs=job.inputs, elements=1) for job in problem.jobs))
        spans = schedule(graph, costs, [0])[0]
        assert makespan_ps(problem, placement) == max(span.end_ps for span in spans.values()), seed


def test_host_units_and_link_work_side_by_side():
    jobs = [
        Job("a", (), {"host": Option(100, 1.0, (HOST,))}, result_bytes=50),
        Job("b", (), {"pim": Option(80, 1.0, (MEMORY,))}),
        Job("c", ("a", "b"), {"pim": Option(10, 1.0, (MEMORY,))}),
    ]
    problem = Problem(jobs, Crossing(gbps=1.0, latency_ps=20))
    placement = place_makespan(problem)
    assert makespan_ps(problem, placement) == 100 + 20 + 50 * 1e3 + 10  # one byte takes 1 ns at 1 GB/s


def test_bad_graphs_are_refused():
    with pytest.raises(ConfigError, match="b: reads c, not before it"):
        Problem([Job("b", ("c",), {"host": Option(1, 1)}), Job("c", (), {"host": Option(1, 1)})])
    with pytest.raises(ConfigError, match="b: runs on neither side"):
        Problem([Job("b", (), {})])
    with pytest.raises(ConfigError, match="no placement is possible"):
        one, two = Job("a", (), {"host": Option(1, 1)}), Job("b", ("a",), {"pim": Option(1, 1)})
        place_additive(Problem([one, two], Crossing(gbps=0.0)), "time")
