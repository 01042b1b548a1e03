"""Search algorithms: the conformance suite for each, what only evolution promises, Pareto arithmetic against hand-made sets."""

from __future__ import annotations

import numpy as np
import pytest

from cosearch.algorithms import Result, Unseen
from cosearch.algorithms.evolution import Evolution
from cosearch.algorithms.local_search import Neighbourhood
from cosearch.algorithms.nsga3 import reference_directions
from cosearch.pareto import crowding, front_indices, hypervolume, knee, ranks
from cosearch.testing.algorithms import AlgorithmConformance, TabulatedSpace
from pimsim.discovery import implementations


class TestRandom(AlgorithmConformance):
    name = "random"


class TestEvolution(AlgorithmConformance):
    name = "evolution"
    settings = {"population": 24, "sample": 8, "children": 6}  # noqa: RUF012

    def test_first_generation_is_the_population(self) -> None:
        algorithm = self.make(TabulatedSpace())
        assert len(algorithm.ask()) == 24
        algorithm.tell([Result((1.0, 1.0))] * 24)
        assert len(algorithm.ask()) == 6

    def test_oldest_leave(self) -> None:
        space = TabulatedSpace()
        algorithm = self.make(space)
        first = algorithm.ask()
        algorithm.tell([space.result(g) for g in first])
        second = algorithm.ask()
        algorithm.tell([space.result(g) for g in second])
        assert [g for g, _ in algorithm.population] == first[6:] + second


class TestNSGA2(AlgorithmConformance):
    name = "nsga2"
    settings = {"population": 16}  # noqa: RUF012

    def test_nothing_better_is_ever_lost(self) -> None:
        space = TabulatedSpace()
        algorithm = self.make(space)
        self.drive(algorithm, space, 200)
        kept = {space.digest(genome) for genome, _ in algorithm.survivors}
        assert len(kept) == 16
        values = np.array([result.objectives for _, result in algorithm.survivors])
        asked = self.drive(self.make(space), space, 200)
        everything = np.array([space.result(g).objectives for g in asked])
        for column in (0, 1):
            assert values[:, column].min() == everything[:, column].min()

    def test_feasible_survive_first(self) -> None:
        space = TabulatedSpace()
        bound = float(np.quantile(space.table[:, 0], 0.02))
        algorithm = self.make(space)
        asked = self.drive(algorithm, space, 200, bound=bound)
        feasible = sum(space.result(g, bound=bound).violation == 0 for g in asked)
        assert feasible > 20
        assert all(result.violation == 0 for _, result in algorithm.survivors)


class TestNSGA3(AlgorithmConformance):
    name = "nsga3"
    settings = {"population": 16}  # noqa: RUF012

    def test_directions_fit_the_population(self) -> None:
        assert [len(reference_directions(count, 16)) for count in (1, 2, 3, 4)] == [1, 16, 15, 10]
        assert np.allclose(reference_directions(3, 16).sum(axis=1), 1)


class TestTPE(AlgorithmConformance):
    name = "tpe"
    settings = {"startup": 24}  # noqa: RUF012
    candidates = 48


class TestGP(AlgorithmConformance):
    name = "gp"
    settings = {"startup": 12}  # noqa: RUF012
    candidates = 14


class TestRL(AlgorithmConformance):
    name = "rl"
    settings = {"startup": 16}  # noqa: RUF012


class TestLocalSearch(AlgorithmConformance):
    name = "local_search"
    settings = {"population": 8}  # noqa: RUF012

    def test_ends_where_no_neighbour_is_better(self) -> None:
        space = TabulatedSpace(genes=4, choices=4)
        around = Neighbourhood(space, Unseen(space))
        around.unseen.claim((0, 0, 0, 0))
        asked = [(0, 0, 0, 0)]
        around.learn(asked, [space.result(asked[0])])
        while generation := around.nearest(5):
            around.learn(generation, [space.result(g) for g in generation])
            asked += generation
        values = {g: space.result(g).objectives for g in asked}
        assert len(values) == len(asked) < 4**4
        for point, _ in around.front:
            near = [(*point[:i], digit, *point[i + 1 :]) for i in range(4) for digit in range(4)]
            assert set(near) <= set(values)  # all of them were looked at


def test_every_algorithm_has_its_conformance_suite() -> None:
    tested = {suite.name for suite in AlgorithmConformance.__subclasses__() if suite.__module__ == __name__}
    assert tested == set(implementations("cosearch.algorithms", "ALGORITHM"))


def _front_found(name: str, seed: int, candidates: int = 240) -> float:
    """Hypervolume reached after a number of candidates, as a share of the true front's."""
    space = TabulatedSpace(genes=8, choices=5)
    kind = implementations("cosearch.algorithms", "ALGORITHM")[name]
    algorithm = kind(space, kind.Settings(name=name), seed)
    values: list[tuple[float, ...]] = []
    while len(values) < candidates:
        told = [space.result(g) for g in algorithm.ask()]
        algorithm.tell(told)
        values += [result.objectives for result in told]
    low, high = space.table.min(axis=0), np.quantile(space.table, 0.5, axis=0)
    return hypervolume(np.array(values), low, high) / hypervolume(space.table[space.front()], low, high)


def test_evolution_beats_random_search() -> None:
    pairs = [(_front_found("evolution", seed), _front_found("random", seed)) for seed in range(5)]
    assert all(evolved > drawn for evolved, drawn in pairs), pairs
    assert np.mean([e - d for e, d in pairs]) > 0.2, pairs


def test_front_keeps_one_of_equal_points() -> None:
    values = np.array([[1.0, 2.0], [2.0, 1.0], [1.0, 2.0], [2.0, 2.0], [0.5, 3.0]])
    assert front_indices(values) == [0, 1, 4]


def test_ranks_and_crowding() -> None:
    values = np.array([[0.0, 4.0], [1.0, 2.0], [4.0, 0.0], [2.0, 4.0], [5.0, 5.0]])
    rank = ranks(values, np.zeros(5))
    assert rank.tolist() == [0, 0, 0, 1, 2]
    distance = crowding(values, rank)
    assert np.isinf(distance[[0, 2, 3, 4]]).all()
    assert distance[1] == pytest.approx(4 / 4 + 4 / 4)


def test_hypervolume_of_a_known_set() -> None:
    low, high = np.zeros(2), np.array([2.0, 4.0])
    assert hypervolume(np.array([[1.0, 2.0]]), low, high) == pytest.approx(0.25)
    assert hypervolume(np.array([[0.0, 2.0], [1.0, 0.0]]), low, high) == pytest.approx(0.75)
    assert hypervolume(np.array([[3.0, 3.0]]), low, high) == 0.0


def test_knee_is_the_corner() -> None:
    assert knee(np.array([[0.0, 10.0], [1.0, 1.0], [10.0, 0.0]])) == 1


def test_evolution_settings_refuse_nonsense() -> None:
    with pytest.raises(ValueError, match="crossover"):
        Evolution.Settings(name="evolution", crossover=1.5)
