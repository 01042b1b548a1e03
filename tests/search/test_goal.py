"""Constraints and the scalar of loss and complexity: their arithmetic, their files, and what a search does with them."""

from __future__ import annotations

import csv
import functools
import math
from pathlib import Path

import numpy as np
import pytest

from cosearch.algorithms.evolution import Evolution
from cosearch.candidate import Candidate, HardwareSpace, JointSpace
from cosearch.fronts import front_of, pareto_rows, pick_trial, why_no_front, write_pareto
from cosearch.goal import Complexity, Constraint, Goal, Penalty
from cosearch.loop import Search
from cosearch.pareto import best_indices, ranks
from cosearch.pool import Metrics, WorkerPool
from cosearch.problem import load_problem
from cosearch.store import Trial, TrialStore
from cosearch.testing.algorithms import TabulatedSpace
from pimsim.errors import ConfigError, RunError
from supernet.space import load_space

OBJECTIVES = ("logloss", "latency_us")


def test_a_bound_counts_by_its_share() -> None:
    upper, lower = Constraint.parse("latency_us", "<= 50"), Constraint.parse("auc", ">=0.8")
    assert (upper.violation(50), upper.violation(75)) == (0, 0.5)
    assert lower.violation(0.9) == 0
    assert lower.violation(0.6) == pytest.approx(0.25)
    assert Constraint.parse("power_w", "<= 0").violation(3) == 3
    goal = Goal(OBJECTIVES, (upper, lower))
    assert goal.result({"logloss": 0.3, "latency_us": 60.0, "auc": 0.4}) == ((0.3, 60.0), pytest.approx(0.2 + 0.5))
    assert goal.needed == ("logloss", "latency_us", "auc")
    with pytest.raises(ValueError, match="'auc' is not modelled"):
        goal.result({"logloss": 0.3, "latency_us": 60.0, "auc": None})


def test_constrained_ranks_are_those_of_a_brute_force() -> None:
    rng = np.random.default_rng(4)
    values, violation = rng.integers(0, 6, (40, 2)).astype(float), np.maximum(rng.integers(-3, 4, 40), 0) / 3

    def dominates(i: int, j: int) -> bool:
        if violation[i] != violation[j]:
            return bool(violation[i] < violation[j])
        return bool((values[i] <= values[j]).all() and (values[i] < values[j]).any())

    left, expected = set(range(40)), {}
    for level in range(40):
        free = {i for i in left if not any(dominates(j, i) for j in left)}
        expected |= dict.fromkeys(free, level)
        left -= free
    rank = ranks(values, violation)
    assert rank.tolist() == [expected[i] for i in range(40)]
    best = {tuple(values[i]) for i in best_indices(values, violation)}
    assert best == {tuple(values[i]) for i in range(40) if rank[i] == 0}
    infeasible = best_indices(values, violation + 1)
    assert set(infeasible) == set(best_indices(values, violation))


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("constraints.latency", "<= 5", "constraints.*unknown metric 'latency'"),
        ("constraints.latency_us", "50", "latency_us: '50': expected '<= NUMBER' or '>= NUMBER'"),
        ("constraints.latency_us", "<= nan", "latency_us: '<= nan': expected"),
        ("arrivals", "poisson:-1", "arrivals.*'poisson:-1'"),
        ("algorithm.penalty", {"complexity": {"auc": {"weight": 1, "reference": 1}}}, "'auc' is no complexity"),
        ("algorithm.penalty", {"complexity": {"macs": {"weight": -1, "reference": 1}}}, "greater than or equal to 0"),
        ("algorithm.penalty", {"complexity": {}}, "at least 1"),
    ],
)
def test_mistakes_are_told_in_one_line(key: str, value: object, told: str) -> None:
    with pytest.raises(ConfigError, match=told) as error:
        load_problem("tiny", {key: value})
    assert "\n" not in str(error.value)


def penalty(weight: float, reference: float = 1.0) -> Penalty:
    return Penalty(complexity={"latency_us": Complexity(weight=weight, reference=reference)})


def test_penalty_is_the_published_formula() -> None:
    metrics: Metrics = {"logloss": 0.45, "auc": 0.8, "latency_us": 30.0, "energy_uj": 4.0}
    terms = {"latency_us": Complexity(weight=0.1, reference=60), "energy_uj": Complexity(weight=10, reference=2)}
    assert Penalty(complexity=terms).value(metrics) == pytest.approx(math.log10(0.45 + 0.1 * 0.5 + 10 * 2))
    assert Penalty(complexity=terms, floor=0.4).value(metrics) == pytest.approx(math.log10(0.05 + 0.05 + 20))
    assert Penalty(complexity=terms, performance="auc").value(metrics) == pytest.approx(math.log10(0.2 + 0.05 + 20))
    assert Penalty(complexity=terms, floor=0.5).value(metrics) == pytest.approx(math.log10(1e-6 + 0.05 + 20))
    assert Goal(OBJECTIVES, (), penalty(0.0)).result(metrics).objectives == (math.log10(0.45),)


def test_a_heavier_penalty_never_picks_a_more_complex_point() -> None:
    table = TabulatedSpace().table
    figures = [{"logloss": float(a) + 1, "latency_us": float(b) + 1} for a, b in table]
    picked = []
    for weight in (0.0, 0.01, 0.1, 0.3, 1.0, 3.0, 10.0, 1e6):
        values = [penalty(weight).value(m) for m in figures]
        picked.append(int(np.argmin(values)))
        doubled = [penalty(weight, 2.0).value({**m, "latency_us": 2 * m["latency_us"]}) for m in figures]
        assert doubled == values  # complexity and reference in another unit
    assert picked[0] == int(np.argmin(table[:, 0])) and picked[-1] == int(np.argmin(table[:, 1]))
    complexity = [table[i, 1] for i in picked]
    assert complexity == sorted(complexity, reverse=True) and len(set(picked)) > 3


class HardwareTradeOff:
    """Log loss from the model's digest, latency from the number of channels: a bound on latency leaves some channels only."""

    def evaluate(self, candidate: Candidate, known: Metrics) -> Metrics:
        hardware = dict(candidate.hardware)
        logloss = 0.3 + 0.1 * int(candidate.model.digest()[:8], 16) / 2**32
        return {
            "logloss": logloss,
            "auc": 0.9,
            "latency_us": 640.0 / hardware["dram.channels"],
            "energy_uj": float(hardware["dram.channels"]),
        }


def searched(folder: Path, bound: str) -> tuple[list[Trial], Goal]:
    genes = {"dram.channels": (2, 4, 8, 16), "unit.simd_lanes": (8, 16)}
    space = JointSpace(load_space("tiny"), HardwareSpace("hbm_pim", genes))
    settings = Evolution.Settings(name="evolution", population=12, sample=4, children=6)
    goal = Goal(("logloss", "energy_uj"), (Constraint.parse("latency_us", bound),))
    folder.mkdir()
    store = TrialStore(folder, goal.objectives, create=True)
    pool = WorkerPool(functools.partial(HardwareTradeOff), 1)
    return Search(Evolution(space, settings, 5), store, pool, goal, genes, 60).run(), goal


def test_the_front_keeps_the_constraints(tmp_path: Path) -> None:
    trials, goal = searched(tmp_path / "run", "<= 80")
    front = front_of(trials, goal)
    feasible = [t for t in trials if t.metrics["latency_us"] <= 80]
    assert 0 < len(feasible) < len(trials)
    assert front and {t.id for t in front} <= {t.id for t in feasible}
    best = min(feasible, key=lambda t: t.metrics["logloss"])
    assert front[0].metrics["logloss"] == best.metrics["logloss"] > min(t.metrics["logloss"] for t in trials) - 1e-12
    late = [t for t in trials if t.id >= 36]
    assert sum(t in feasible for t in late) / len(late) > 0.6  # parents are feasible, random search would give a half
    assert why_no_front(trials, goal) is None


def test_no_feasible_candidate_is_said_with_the_nearest(tmp_path: Path) -> None:
    trials, goal = searched(tmp_path / "run", "<= 30")
    problem = load_problem("tiny", {"objectives": list(goal.objectives), "constraints.latency_us": "<= 30"})
    assert pareto_rows(trials, problem) == []
    told = why_no_front(trials, problem.goal)
    assert told is not None
    near = next(t for t in trials if f"candidate {t.id} comes nearest" in told)
    assert near.metrics["latency_us"] == 40 and "latency_us 40, allowed latency_us <= 30" in told
    with pytest.raises(RunError, match="comes nearest"):
        pick_trial(trials, problem, "knee")
    assert pick_trial(trials, problem, str(near.id)) is near
    write_pareto(tmp_path / "pareto.csv", trials, problem)
    header = next(csv.reader((tmp_path / "pareto.csv").open()))
    assert header[:4] == ["id", "logloss", "auc", "latency_us"] and {"latency_p99_us", "edp_uj_us", "memory_bytes"} <= set(header)
