"""Transfer on tabulated tasks: the bank, what similarity sees, what starting from similar tasks saves, and that a prior is safe."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from cosearch.algorithms import Result, find_algorithm
from cosearch.goal import Constraint, Goal
from cosearch.testing.algorithms import TabulatedSpace
from cosearch.transfer.anchors import ANCHORS, anchor_genomes, similarity
from cosearch.transfer.bank import Bank, Task
from cosearch.transfer.prior import BEST, TASKS, Primed, best_designs, compare, designs_of
from pimsim.errors import RunError

GOAL = Goal(("logloss", "latency_us"))


class JointTask(TabulatedSpace):
    """Every point of a small joint space: log loss by a quadratic whose optimum is near its family's, latency the same for all tasks."""

    def __init__(self, family: int, member: int) -> None:
        self.genes_count, self.choices = 6, 5
        points = np.array(list(itertools.product(range(5), repeat=6)), dtype=float) / 4
        shared, own = np.random.default_rng([5, family]), np.random.default_rng([6, family, member])
        away = points - (shared.uniform(0, 1, 6) + own.normal(0, 0.08, 6))
        between = shared.normal(0, 0.15, (6, 6))
        logloss = (shared.uniform(0.3, 1, 6) * away**2).sum(1) + np.einsum("ni,ij,nj->n", away, between, away)
        latency = np.exp(points @ np.random.default_rng(9).uniform(0.2, 1.2, 6))
        self.table = np.stack([logloss + own.normal(0, 0.02, len(points)), latency], axis=1)
        self.scalar = self.table @ (1.0, 0.05)
        self.name = f"{family}-{member}"

    def place(self, genome) -> int:
        return int(np.ravel_multi_index(genome, (5,) * 6))

    def metrics(self, genome) -> dict[str, float | None]:
        return dict(zip(GOAL.objectives, map(float, self.table[self.place(genome)]), strict=True))

    def searched(self, space, seed: int):
        """What evolution asks of a space whose genomes this task evaluates, one after the other."""
        kind = find_algorithm("evolution")
        algorithm = kind(space, kind.Settings(name="evolution", population=24, sample=8, children=4), seed)
        while True:
            generation = algorithm.ask()
            yield from generation
            algorithm.tell([Result((float(self.scalar[self.place(genome)]),), 0.0) for genome in generation])

    def evaluations(self, space, seed: int) -> int:
        """How many candidates until one of the best 0.1 % is found, at most 300."""
        target = np.quantile(self.scalar, 0.001)
        asked = enumerate(itertools.islice(self.searched(space, seed), 300), 1)
        return next((n for n, genome in asked if self.scalar[self.place(genome)] <= target), 300)

    def banked(self) -> Task:
        trials = tuple((self.to_flat(genome), self.metrics(genome)) for genome in itertools.islice(self.searched(self, 77), 150))
        return Task(self.name, self.name, "data", "space", "device", self.anchors(), trials)

    def anchors(self):
        return tuple(self.metrics(genome) for genome in anchor_genomes(self))


@pytest.fixture(scope="module")
def tasks() -> list[Task]:
    return [JointTask(family, member).banked() for family in range(3) for member in (1, 2, 3)]


def test_a_bank_gives_back_what_was_added_and_a_task_replaces_itself(tmp_path, tasks):
    path = tmp_path / "new" / "bank.db"
    bank = Bank(path, create=True)
    for task in (tasks[1], tasks[0], tasks[1]):
        bank.add(task)
    assert Bank(path).tasks() == [tasks[0], tasks[1]]
    bank.copy_to(tmp_path / "copy.db")
    bank.add(tasks[2])
    assert len(bank.tasks()) == 3 and Bank(tmp_path / "copy.db").tasks() == [tasks[0], tasks[1]]


def test_what_is_no_bank_is_refused(tmp_path):
    with pytest.raises(RunError, match="no such bank"):
        Bank(tmp_path / "none.db")
    (tmp_path / "text.db").write_text("logloss,auc\n" * 100)
    with pytest.raises(RunError, match=r"text\.db: not a readable bank"):
        Bank(tmp_path / "text.db", create=True)
    (tmp_path / "empty.db").touch()
    with pytest.raises(RunError, match="version 0, allowed: 1"):
        Bank(tmp_path / "empty.db")


def test_anchors_of_spaces_agree_in_the_genes_they_share():
    small, large = TabulatedSpace(genes=3, choices=5), TabulatedSpace(genes=5, choices=5)
    assert [genome[:3] for genome in anchor_genomes(large)] == anchor_genomes(small)
    assert len(set(anchor_genomes(large))) == ANCHORS


def test_similarity_is_that_of_the_objective_in_which_tasks_agree_least():
    def results(*columns):
        return [Result(values) for values in zip(*columns, strict=True)]

    rising, falling = (1.0, 2.0, 3.0, 4.0), (4.0, 3.0, 2.0, 1.0)
    own = results(rising, rising, rising)
    assert similarity(own, own) == 1
    assert similarity(own, results(rising, falling, rising)) == -1
    assert similarity(own, results((1.0, 3.0, 2.0, 4.0), rising, rising)) == pytest.approx(4 / 6)
    assert similarity(own, results(rising, (5.0,) * 4, rising)) == 1  # equal for all: orders nothing
    assert similarity(own, [None, *results(rising, rising, rising)[1:3], None]) == 1
    assert similarity(own, [None] * 4) == similarity(own, results(*[(5.0,) * 4] * 3)) == 0


def test_the_tasks_of_the_same_family_are_used(tasks):
    for family in range(3):
        similar = compare(tasks, JointTask(family, 0).anchors(), GOAL, 0.3)
        assert {one.task.name[0] for one in similar[:TASKS]} == {str(family)}
        assert [one.weight > 0 for one in similar] == [True] * TASKS + [False] * (len(tasks) - TASKS)
        assert sum(one.weight for one in similar) == pytest.approx(1)
        assert sum(weight for weight, _ in designs_of(similar, GOAL)) == pytest.approx(1)


def test_best_designs_are_the_front_and_keep_the_constraints_of_the_search_that_asks(tasks):
    known = {tuple(genes.values()): metrics for genes, metrics in tasks[0].trials}
    front = best_designs(tasks[0], GOAL)
    assert len(front) == BEST
    beaten = [any(_dominates(other, known[tuple(genes.values())]) for other in known.values()) for genes in front]
    whole = sum(not any(_dominates(other, metrics) for other in known.values()) for metrics in known.values())
    assert beaten == [False] * min(whole, BEST) + [True] * max(0, BEST - whole)
    bound = float(np.median([metrics["latency_us"] for metrics in known.values()]))
    bounded = best_designs(tasks[0], Goal(GOAL.objectives, (Constraint.parse("latency_us", f"<= {bound}"),)))
    assert all(known[tuple(genes.values())]["latency_us"] <= bound for genes in bounded)
    assert best_designs(tasks[0], Goal(("logloss", "area_mm2"))) == []  # nothing known of the area


def _dominates(one, other) -> bool:
    return all(one[key] <= other[key] for key in GOAL.objectives) and one != other


@pytest.mark.parametrize("family", range(3))
def test_similar_tasks_save_evaluations_even_with_the_anchors_charged(tasks, family):
    from scipy.stats import wilcoxon

    task = JointTask(family, 0)
    primed = Primed(task, designs_of(compare(tasks, task.anchors(), GOAL, 0.3), GOAL), 0.2)
    plain = [task.evaluations(task, seed) for seed in range(20)]
    transferred = [ANCHORS + task.evaluations(primed, seed) for seed in range(20)]
    assert np.median(transferred) <= 0.6 * np.median(plain)
    assert wilcoxon(transferred, plain, alternative="less").pvalue < 0.05


def test_designs_of_unlike_tasks_save_less_and_are_not_used(tasks):
    task = JointTask(1, 0)
    similar = compare(tasks, task.anchors(), GOAL, 0.3)
    unlike = [one.task for one in similar[-TASKS:]]
    assert designs_of(compare(unlike, task.anchors(), GOAL, 0.3), GOAL) == []
    forced = [(1 / TASKS / BEST, genes) for other in unlike for genes in best_designs(other, GOAL)]
    wrong = [task.evaluations(Primed(task, forced, 0.2), seed) for seed in range(20)]
    right = [task.evaluations(Primed(task, designs_of(similar, GOAL), 0.2), seed) for seed in range(20)]
    assert np.median(right) < np.median(wrong)
    assert max(wrong) < 300  # nothing is out of reach


def test_a_gene_is_kept_with_the_stated_probability_and_foreign_ones_are_ignored():
    space = TabulatedSpace(genes=3, choices=4)
    foreign = {"g0": 3, "g1": 17, "hardware.unit.lanes": 8, "model.blocks.9.dense_op": "fc"}  # g1 has no 17, g2 was not known
    primed = Primed(space, [(1.0, foreign)], 0.2)
    draws = np.array([primed.sample(np.random.default_rng(seed)) for seed in range(4000)])
    shares = np.array([np.bincount(column, minlength=4) for column in draws.T]) / len(draws)
    assert shares[0] == pytest.approx([0.05, 0.05, 0.05, 0.85], abs=0.02)
    assert shares[1:].ravel() == pytest.approx(0.25, abs=0.03)


def test_true_and_one_are_different_values_and_lists_are_tuples():
    class Mixed(TabulatedSpace):
        def genes(self):
            return {"g0": (False, True), "g1": ((0,), (0, 1)), "g2": (0, 1)}

    primed = Primed(Mixed(genes=3, choices=2), [(1.0, {"g0": 1, "g1": [0, 1], "g2": True})], 0.2)
    assert primed.designs == [{"g1": (0, 1)}]


def test_a_design_that_is_invalid_here_leaves_the_space_as_it_is():
    class Refusing(TabulatedSpace):
        def from_flat(self, flat):
            return None if flat["g0"] == 0 else super().from_flat(flat)

    primed = Primed(Refusing(genes=2, choices=3), [(1.0, {"g0": 0})], 1e-9)
    assert {primed.sample(np.random.default_rng(seed)) for seed in range(200)} == set(itertools.product(range(3), repeat=2))


@pytest.mark.parametrize("name", ["evolution", "nsga2", "nsga3", "tpe", "local_search", "random"])
def test_any_algorithm_starts_near_the_designs(name):
    space, kind = TabulatedSpace(), find_algorithm(name)
    design = dict.fromkeys(space.genes(), 2)

    def share(start):
        generation = kind(start, kind.Settings(name=name, children=8), 1).ask()
        return float(np.mean(np.array(generation) == 2))

    assert share(Primed(space, [(1.0, design)], 0.2)) > 0.6 > 2 * share(space)
