"""The reinforcement-learning controller: its gradient, its masks, its phases, and what it is worth on a co-design problem in a table."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import numpy as np
import pytest

from cosearch.algorithms import Result, find_algorithm
from cosearch.algorithms.rl import RL, Batch, Masks, Policy, chebyshev
from cosearch.candidate import Candidate, HardwareSpace, JointSpace
from cosearch.testing.algorithms import Genome, TabulatedSpace
from supernet.space import load_space


class CoDesign(TabulatedSpace):
    """Four hardware genes and four of a network; every hardware gene has its best value beside another network.

    The error falls with the network's widths, the cost rises with them and with each unit that does not fit its layer. Of two
    neighbouring units no more than six steps together are buildable, and the first two must not both be of the smallest kind.
    """

    HARDWARE = 4

    def __init__(self, genes: int = 8, choices: int = 5) -> None:
        self.genes_count, self.choices = genes, choices
        digits = np.array(list(itertools.product(range(choices), repeat=genes)))
        points = digits / (choices - 1)
        units, widths = points[:, :4], points[:, 4:]
        towards = np.array([0.9, 0.3, 0.7, 0.5])
        error = ((widths - towards) ** 2).sum(axis=1) + 0.4 * (widths[:, 0] - widths[:, 3]) ** 2
        cost = (0.2 + 0.3 * widths.sum(axis=1)) * (0.5 + ((units - widths[:, ::-1]) ** 2).sum(axis=1)) + 0.1 * units.sum(axis=1)
        rough = np.random.default_rng(5).normal(0, 0.01, (len(points), 2))
        self.table = np.stack([error, cost], axis=1) + rough
        steps = digits[:, :3] + digits[:, 1:4]
        self.valid = (steps <= 6).all(axis=1) & (digits[:, 0] + digits[:, 1] > 0)
        self.refused = 0

    def place(self, genome: Genome) -> int:
        return int(np.ravel_multi_index(genome, (self.choices,) * self.genes_count))

    def sample(self, rng: np.random.Generator) -> Genome:
        while not self.valid[self.place(genome := super().sample(rng))]:
            pass
        return genome

    def mutate(self, genome: Genome, rng: np.random.Generator) -> Genome:
        while not self.valid[self.place(child := super().mutate(genome, rng))]:
            pass
        return child

    def crossover(self, first: Genome, second: Genome, rng: np.random.Generator) -> Genome:
        child = super().crossover(first, second, rng)
        return child if self.valid[self.place(child)] else first

    def genes(self) -> dict[str, tuple[int, ...]]:
        names = [f"{'hardware' if i < self.HARDWARE else 'model'}.g{i}" for i in range(self.genes_count)]
        return {name: tuple(range(self.choices)) for name in names}

    def from_flat(self, flat: dict[str, int]) -> Genome | None:
        genome = super().from_flat(flat)
        valid = bool(self.valid[self.place(genome)])
        self.refused += not valid
        return genome if valid else None


def controller(space: Any, seed: int = 1, **settings: Any) -> RL:
    return RL(space, RL.Settings(name="rl", **settings), seed)


def generations(algorithm: Any, space: CoDesign, candidates: int, **told: Any) -> list[list[Genome]]:
    asked: list[list[Genome]] = []
    while sum(map(len, asked)) < candidates and (generation := algorithm.ask()):
        asked.append(generation)
        algorithm.tell([space.result(genome, **told) for genome in generation])
    return asked


def a_batch(rng: np.random.Generator, policy: Policy) -> tuple[Batch, np.ndarray]:
    """Five random episodes of genes with 3, 2 and 4 choices, of which one is masked in some episodes and one gene is not free in some."""
    choices = rng.integers([3, 2, 4], size=(5, 3))
    taken = np.zeros((5, 9))
    taken[np.arange(5)[:, None], policy.first + choices] = 1
    allowed = (taken > 0) | (rng.random((5, 9)) < 0.7)
    free = np.repeat(rng.random((5, 3)) < 0.7, [3, 2, 4], axis=1)
    batch = Batch(rng.dirichlet(np.ones(2), size=5), taken, allowed, free, rng.normal(size=5))
    logs = np.where(allowed, policy.log_probabilities(batch.weights, allowed), 0.0)
    return batch, (logs * taken * free).sum(axis=1) + rng.normal(0, 0.3, size=5)


def test_gradient_is_that_of_the_clipped_objective() -> None:
    import torch

    rng = np.random.default_rng(0)
    for _ in range(5):
        policy = Policy(2, [3, 2, 4])
        policy.theta = rng.normal(size=(2, 9))
        batch, old = a_batch(rng, policy)
        theta = torch.tensor(policy.theta, requires_grad=True)
        logits = (torch.tensor(batch.weights) @ theta).masked_fill(~torch.tensor(batch.allowed), -1e30)
        logs = torch.cat([torch.log_softmax(part, dim=1) for part in logits.split([3, 2, 4], dim=1)], dim=1)
        entropies = torch.stack([-(part.exp() * part).sum(dim=1) for part in logs.split([3, 2, 4], dim=1)], dim=1)
        free = torch.tensor(batch.free[:, policy.first])
        chosen = torch.where(torch.tensor(batch.taken * batch.free) > 0, logs, 0.0).sum(dim=1)
        ratio, advantage = (chosen - torch.tensor(old)).exp(), torch.tensor(batch.advantage)
        clipped = torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage)
        goal = (clipped + 0.1 * (entropies * free).sum(dim=1) / free.sum(dim=1).clamp(min=1)).mean()
        goal.backward()
        assert np.allclose(policy.gradient(batch, old, clip=0.2, entropy=0.1), theta.grad.numpy(), atol=1e-10)


def test_policy_finds_the_best_arm() -> None:
    space = CoDesign(genes=8, choices=3)
    algorithm = controller(space, phases=("joint",), entropy=0.0)
    generation = algorithm.ask()
    for _ in range(60):
        algorithm.tell([Result((float(genome[5] != 1),)) for genome in generation])
        generation = algorithm.ask()
    chances = np.exp(algorithm.policy.log_probabilities(np.ones((1, 1)), np.ones((1, 24), dtype=bool)))[0]
    assert chances[15:18].argmax() == 1 and chances[16] > 0.95


def test_masked_draws_follow_the_masked_distribution() -> None:
    logits = np.array([[0.5, 0.0, -0.5], [0.0, 1.0, 0.0]])
    valid = {(0, 0), (0, 1), (0, 2), (1, 1), (1, 2)}  # (2, ...) is a dead end
    chance = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    first = chance[0, :2] / chance[0, :2].sum()
    wanted = {(0, b): first[0] * chance[1, b] for b in range(3)} | {(1, b): first[1] * chance[1, b] / chance[1, 1:].sum() for b in (1, 2)}
    masks, rng, counts = Masks([3, 3]), np.random.default_rng(0), Counter[tuple[int, ...]]()
    for _ in range(20000):
        keys = logits + rng.gumbel(size=(2, 3))
        counts[masks.draw(np.argsort(-keys, axis=1).tolist(), lambda prefix: prefix if prefix in valid else None)] += 1
    assert set(counts) == valid
    for leaf, share in wanted.items():
        assert counts[leaf] / 20000 == pytest.approx(share, abs=0.015)
    assert {(2,), (1, 0)} <= masks.dead
    assert masks.allowed((1, 2)) == [True, True, False, False, True, True]


def test_no_invalid_device_is_drawn_and_none_is_tried_twice() -> None:
    space = CoDesign()
    asked = list(itertools.chain(*generations(controller(space), space, 400)))
    assert all(space.valid[space.place(genome)] for genome in asked)
    devices = {genome[:4] for genome in itertools.product(range(5), repeat=4)}
    invalid = sum(not space.valid[space.place((*device, 0, 0, 0, 0))] for device in devices)
    assert 0 < space.refused < invalid  # a refused device is known from then on, whatever network it is drawn with


def test_only_valid_devices_of_the_simulator_are_drawn() -> None:
    hardware = HardwareSpace("hbm_pim", {"mapping.embedding": ("host", "pim"), "mapping.tables": ("row", "striped")})
    space = JointSpace(load_space("tiny"), hardware)
    algorithm = controller(space, phases=("hardware", "joint"), startup=2, children=6)
    drawn: list[Candidate] = []
    while len(drawn) < 40:
        drawn += (generation := algorithm.ask())
        algorithm.tell([Result((float(dict(candidate.hardware)["mapping.tables"] == "row"),)) for candidate in generation])
    devices = Counter(candidate.hardware for candidate in drawn)
    wanted = (("mapping.embedding", "host"), ("mapping.tables", "striped"))  # what the reward asks for and no device can do
    assert wanted not in devices and hardware.device(wanted) is None
    assert devices[("mapping.embedding", "pim"), ("mapping.tables", "striped")] > 20


def test_a_phase_changes_its_own_half_only() -> None:
    space = CoDesign()
    algorithm = controller(space, phases=("model", "hardware", "joint"), phase=24, startup=16, children=8)
    both = False
    for number in range(16):
        front = [genome for genome, _ in algorithm.front]
        generation = algorithm.ask()
        hardware_kept = [genome[:4] in {best[:4] for best in front} for genome in generation]
        model_kept = [genome[4:] in {best[4:] for best in front} for genome in generation]
        if 1 <= number <= 3:
            assert all(hardware_kept) and not all(model_kept)
        if 4 <= number <= 6:
            assert all(model_kept) and not all(hardware_kept)
        both = both or (number > 6 and any(not h and not m for h, m in zip(hardware_kept, model_kept, strict=True)))
        algorithm.tell([space.result(genome) for genome in generation])
    assert both


def test_learning_in_a_phase_leaves_the_other_half_alone() -> None:
    space = CoDesign()
    algorithm = controller(space, phases=("hardware",), startup=8)
    generations(algorithm, space, 8)
    before = algorithm.policy.theta.copy()
    algorithm.policy.moments[:] = 0
    algorithm.tell([space.result(genome) for genome in algorithm.ask()])
    moved = np.abs(algorithm.policy.theta - before).max(axis=0)
    assert (moved[20:] == 0).all() and (moved[:20] > 0).any()


def test_constraints_come_first_in_the_reward() -> None:
    algorithm = controller(CoDesign())
    good, fair, bad = Result((0.5, 0.5)), Result((1.0, 1.0)), Result((0.0, 0.0), 1.0)
    algorithm.memory.extend([good, fair, Result((2.0, 2.0)), Result((0.0, 0.0), 0.5), Result((0.0, 0.0), 2.0)])
    rewards = [algorithm._reward(result, np.array([0.5, 0.5])) for result in (good, fair, bad, None)]
    assert rewards == pytest.approx([0.9, 0.7, 0.2, 0.0])  # good and fair are equal to themselves


class NoGenes(TabulatedSpace):
    """One candidate: what has no choice is no gene of a joint space."""

    def sample(self, rng: np.random.Generator) -> Genome:
        return (0,) * self.genes_count

    def genes(self) -> dict[str, tuple[int, ...]]:
        return {}


def test_a_space_of_one_candidate_ends() -> None:
    algorithm = controller(NoGenes(genes=2, choices=2))
    assert algorithm.ask() == [(0, 0)]
    algorithm.tell([Result((1.0, 1.0))])
    assert algorithm.ask() == []


def test_weights_choose_the_end_of_the_front() -> None:
    values = np.array([[0.0, 9.0], [1.0, 1.0], [9.0, 0.0]])
    assert [int(np.argmin(chebyshev(values, values, np.array(w)))) for w in ((0.95, 0.05), (0.5, 0.5), (0.05, 0.95))] == [0, 1, 2]


def evaluations_to_the_best(name: str, space: CoDesign, seed: int, most: int = 600, share: float = 0.001, **settings: Any) -> int:
    """Candidates until one of the best `share` of all valid points by the sum of the objectives is found; `most` where none is."""
    threshold = np.quantile(space.table.sum(axis=1)[space.valid], share)
    kind = find_algorithm(name)
    algorithm, count = kind(space, kind.Settings(name=name, **settings), seed), 0
    while count < most:
        generation = algorithm.ask()
        results = [space.result(genome, scalar=True) for genome in generation]
        for place, result in enumerate(results):
            if result.objectives[0] <= threshold:
                return count + place + 1
        algorithm.tell(results)
        count += len(generation)
    return most


def test_reaches_the_best_sooner_than_random_search() -> None:
    space = CoDesign()
    learnt, drawn = ([evaluations_to_the_best(name, space, seed) for seed in range(12)] for name in ("rl", "random"))
    assert sum(a < b for a, b in zip(learnt, drawn, strict=True)) >= 10, (learnt, drawn)  # p < 0.02 in a sign test
    assert np.median(learnt) < 0.5 * np.median(drawn), (learnt, drawn)
