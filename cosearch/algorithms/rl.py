"""A reinforcement-learning controller with phases: first the network, then the hardware, then both; inspired by SCORCH.

After SCORCH (Liu and Karanth, ISQED 2024), of which the phases and what is predicted (network, dataflow, voltage and clock, network on
chip) are public, the policy, the reward and the code are not; what is missing is our design:

* **Policy**: a categorical distribution for each gene of `FlatSpace.genes`, its logits linear in the weights that an episode gives the
  objectives, so that one controller learns the whole front. An episode draws one genome.
* **Reward**: the episode's weights are drawn evenly over all mixes of objectives, and its genome is compared with the latest `memory`
  results under these weights: the reward is the share of them that it beats. Feasible beats infeasible, less violation beats more (Deb
  2000), then the smaller augmented Chebyshev value (ParEGO, Knowles 2006) of the objectives' ranks, so that neither scales nor
  penalty factors matter. What could not be evaluated beats nothing. A moving average of rewards is the baseline.
* **Update**: proximal policy optimisation (Schulman et al., 2017) with an entropy bonus: `epochs` steps of Adam on a generation, the ratio
  of probabilities clipped. With `epochs: 1` nothing is clipped, which is REINFORCE (Williams, 1992).
* **Phases**: in the phase `model` or `hardware` only the genes of that half are drawn and learnt; the other half is that of the best
  candidate so far under the episode's weights.
* **Masks**: a choice of the hardware from which no valid device can be reached any more has probability zero: see `Masks`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Literal

import numpy as np
from pydantic import Field, PositiveFloat, PositiveInt

from cosearch.algorithms import AlgorithmSettings, FlatSpace, G, Result, Unseen, split, trial_rng
from cosearch.pareto import best_indices

Phase = Literal["model", "hardware", "joint"]


class Policy:
    """Independent categorical genes; logits = weights @ theta.

    Attributes:
        theta: (objectives, choices), the choices of all genes side by side.
        first: (genes,), where each gene's choices begin.
    """

    ADAM = (0.9, 0.999, 1e-8)

    def __init__(self, objectives: int, sizes: list[int]) -> None:
        self.first = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)
        self.gene = np.repeat(np.arange(len(sizes)), sizes)
        self.theta = np.zeros((objectives, len(self.gene)))
        self.moments = np.zeros((2, *self.theta.shape))
        self.steps = 0

    def log_probabilities(self, weights: np.ndarray, allowed: np.ndarray) -> np.ndarray:
        """Logarithms of the probabilities of all choices, (episodes, choices); -inf where masked.

        Args:
            weights: (episodes, objectives).
            allowed: (episodes, choices), True where not masked; at least one for every gene.
        """
        logits = np.where(allowed, weights @ self.theta, -np.inf)
        logits = logits - np.maximum.reduceat(logits, self.first, axis=1)[:, self.gene]
        return np.asarray(logits - np.log(np.add.reduceat(np.exp(logits), self.first, axis=1))[:, self.gene])

    def gradient(self, batch: Batch, old: np.ndarray, clip: float, entropy: float) -> np.ndarray:
        """Gradient of the clipped objective and the mean entropy of a free gene by theta, (objectives, choices).

        Args:
            batch: What was drawn.
            old: (episodes,), logarithm of each episode's probability when it was drawn.
            clip: Farthest that a ratio of probabilities counts from 1.
            entropy: Weight of the entropy.
        """
        logs = self.log_probabilities(batch.weights, batch.allowed)
        chances, logs = np.exp(logs), np.where(batch.allowed, logs, 0.0)
        ratio = np.exp((logs * batch.taken * batch.free).sum(axis=1) - old)
        moves = np.where(batch.advantage > 0, ratio < 1 + clip, ratio > 1 - clip)
        spread = -np.add.reduceat(chances * logs, self.first, axis=1)[:, self.gene]
        free_genes = np.maximum(batch.free[:, self.first].sum(axis=1), 1)
        by_logit = (batch.advantage * ratio * moves)[:, None] * (batch.taken - chances)
        by_logit += (entropy / free_genes)[:, None] * -chances * (logs + spread)
        return np.asarray(batch.weights.T @ (by_logit * batch.free)) / len(ratio)

    def learn(self, batch: Batch, settings: RL.Settings) -> None:
        """Steps of Adam (Kingma and Ba, 2015) up the gradient."""
        logs = np.where(batch.allowed, self.log_probabilities(batch.weights, batch.allowed), 0.0)
        old = (logs * batch.taken * batch.free).sum(axis=1)
        first, second, least = self.ADAM
        for _ in range(settings.epochs):
            slope = self.gradient(batch, old, settings.clip, settings.entropy)
            self.steps += 1
            self.moments[0] = first * self.moments[0] + (1 - first) * slope
            self.moments[1] = second * self.moments[1] + (1 - second) * slope**2
            mean, square = self.moments[0] / (1 - first**self.steps), self.moments[1] / (1 - second**self.steps)
            self.theta += settings.learning_rate * mean / (np.sqrt(square) + least)


@dataclass(frozen=True)
class Batch:
    """A generation's episodes.

    Attributes:
        weights: (episodes, objectives), each row sums to 1.
        taken: (episodes, choices), 1 for the choice taken of every gene.
        allowed: (episodes, choices), False for choices that lead to no device.
        free: (episodes, choices), True for the genes that the phase draws.
        advantage: (episodes,), reward less baseline.
    """

    weights: np.ndarray
    taken: np.ndarray
    allowed: np.ndarray
    free: np.ndarray
    advantage: np.ndarray


class Masks:
    """Draws the hardware gene by gene, never into a dead end.

    Choices are tried in the order of their perturbed logits (Gumbel: the same as drawing without replacement). Where no device is left,
    the draw steps back by one gene, and the prefix is remembered as dead. What comes out is distributed exactly as the product of the
    genes' masked distributions, without looking ahead at devices that nobody draws.

    Args:
        sizes: Number of choices of each hardware gene.
    """

    REFUSALS = 200
    """Refused devices in one draw, at most."""

    def __init__(self, sizes: list[int]) -> None:
        self.sizes = sizes
        self.dead: set[tuple[int, ...]] = set()

    def draw(self, order: list[list[int]], make: Callable[[tuple[int, ...]], G | None]) -> G | None:
        """The first genome along the order that is valid, or None after `REFUSALS`.

        Args:
            order: For each hardware gene the choices to try, best first.
            make: The genome with these choices, or None where there is no such device.
        """
        refused = 0

        def descend(prefix: tuple[int, ...]) -> G | None:
            nonlocal refused
            if prefix in self.dead or refused >= self.REFUSALS:
                return None
            if len(prefix) == len(self.sizes):
                if (genome := make(prefix)) is None:
                    refused += 1
                    self.dead.add(prefix)
                return genome
            for choice in order[len(prefix)]:
                if (genome := descend((*prefix, choice))) is not None:
                    return genome
            if all((*prefix, choice) in self.dead for choice in range(self.sizes[len(prefix)])):
                self.dead.add(prefix)
            return None

        return descend(())

    def allowed(self, choices: tuple[int, ...]) -> list[bool]:
        """For every choice of every hardware gene, in order: not known to be dead after the choices before it."""
        return [(*choices[:i], c) not in self.dead for i, size in enumerate(self.sizes) for c in range(size)]


@dataclass
class Episode(Generic[G]):
    """A genome and the generator's index that drew it; `free` is None where the policy did not draw it."""

    genome: G
    index: int
    free: np.ndarray | None = None


class RL(Generic[G]):
    """Policy-gradient search in phases."""

    class Settings(AlgorithmSettings):
        """The controller's settings."""

        phases: tuple[Phase, ...] = Field(default=("model", "hardware", "joint"), min_length=1)
        """What is free, one phase after the other; the last lasts to the end."""
        phase: PositiveInt = 32
        """Candidates in each phase but the last: a number, no share, so that a run can be taken further."""
        startup: PositiveInt = 24
        """Random candidates before the first phase."""
        learning_rate: PositiveFloat = 0.3
        """Step of Adam, in logits."""
        epochs: PositiveInt = 4
        """Steps on each generation; 1 is REINFORCE."""
        clip: PositiveFloat = 0.2
        """Farthest that the ratio of new to old probability counts from 1."""
        entropy: float = Field(default=0.02, ge=0)
        """Weight of the mean entropy of the genes that are free."""
        memory: PositiveInt = 64
        """Latest results that a candidate is compared with."""

    DRAWS = 64
    """Draws for one candidate until it is new, the later the hotter."""

    def __init__(self, space: FlatSpace[G], settings: Settings, seed: int) -> None:
        self.space, self.settings, self.seed = space, settings, seed
        self.asked = 0
        self.unseen = Unseen(space)
        genes = space.genes()
        hardware = [name for name in genes if name.startswith("hardware.")]
        self.genes = {name: genes[name] for name in hardware} | genes
        self.masks = Masks([len(genes[name]) for name in hardware])
        self.policy: Policy | None = None
        self.episodes: list[Episode[G]] = []
        self.memory: deque[Result] = deque(maxlen=settings.memory)
        self.front: list[tuple[G, Result]] = []
        self.baseline = 0.5

    def ask(self) -> list[G]:
        """Random candidates first, then draws of the policy."""
        first = self.asked
        count = self.settings.children if first else self.settings.startup
        self.asked += count
        drawn = (self._draw(index) for index in range(first, self.asked))
        self.episodes = [episode for episode in drawn if episode is not None]
        return [episode.genome for episode in self.episodes]

    def tell(self, results: list[Result | None]) -> None:
        """The policy moves towards what beats the latest results."""
        told = [result for result in results if result is not None]
        if not told or not self.genes:
            return
        self.memory.extend(told)
        known = self.front + [(e.genome, result) for e, result in zip(self.episodes, results, strict=True) if result is not None]
        self.front = [known[i] for i in best_indices(*split(result for _, result in known))]
        if self.policy is None:
            self.policy = Policy(len(told[0].objectives), [len(choices) for choices in self.genes.values()])
        weights = np.array([self._weights(episode.index) for episode in self.episodes])
        rewards = np.array([self._reward(result, row) for result, row in zip(results, weights, strict=True)])
        self.policy.learn(self._batch(weights, rewards - self.baseline), self.settings)
        self.baseline += 0.1 * (float(rewards.mean()) - self.baseline)

    def _phase(self, index: int) -> Phase:
        place = max(0, index - self.settings.startup) // self.settings.phase
        return self.settings.phases[min(place, len(self.settings.phases) - 1)]

    def _free(self, phase: Phase) -> np.ndarray:
        """True for the choices of genes that a phase draws; all of them where the phase has none."""
        assert self.policy is not None
        names = [phase == "joint" or name.startswith(f"{phase}.") for name in self.genes]
        return np.array(names if any(names) else [True] * len(names))[self.policy.gene]

    def _weights(self, index: int) -> np.ndarray:
        """Weights of the objectives in one episode, even over the simplex."""
        objectives = len(self.memory[0].objectives)
        return np.random.default_rng(np.random.SeedSequence([self.seed, index, 1])).dirichlet(np.ones(objectives))

    def _draw(self, index: int) -> Episode[G] | None:
        rng = trial_rng(self.seed, index)
        if self.policy is not None:
            free = self._free(self._phase(index))
            weights = self._weights(index)
            held = self._places(self._best(weights))
            logits = np.where(free, weights @ self.policy.theta, 0.0)
            for attempt in range(self.DRAWS):
                keys = logits / (1 + attempt / 4) + rng.gumbel(size=len(logits))
                genome = self._made(np.where(free, keys, np.where(held, np.inf, -np.inf)))
                if genome is not None and self.unseen.claim(genome):
                    return Episode(genome, index, free)
        genome = self.unseen.sample(rng)
        return None if genome is None else Episode(genome, index)

    def _made(self, keys: np.ndarray) -> G | None:
        """The genome with the greatest key of every gene among those that make a device."""
        assert self.policy is not None
        each = np.split(keys, self.policy.first[1:])
        hardware = len(self.masks.sizes)
        chosen = [int(np.argmax(one)) for one in each]

        def make(prefix: tuple[int, ...]) -> G | None:
            places = (*prefix, *chosen[hardware:])
            return self.space.from_flat({name: choices[i] for (name, choices), i in zip(self.genes.items(), places, strict=True)})

        return self.masks.draw([[int(i) for i in np.argsort(-one, kind="stable")] for one in each[:hardware]], make)

    def _best(self, weights: np.ndarray) -> G:
        """The front's genome with the smallest scalar."""
        values = split(result for _, result in self.front)[0]
        return self.front[int(np.argmin(chebyshev(values, values, weights)))][0]

    def _reward(self, result: Result | None, weights: np.ndarray) -> float:
        """Share of the memory that a result beats, an equal one counting half; 0 for none."""
        if result is None:
            return 0.0
        values, violation = split(self.memory)
        others, own = chebyshev(values, values, weights), chebyshev(np.array([result.objectives]), values, weights)[0]
        better = (result.violation < violation) | ((result.violation == violation) & (own < others))
        equal = (result.violation == violation) & (own == others)
        return float(np.mean(better + 0.5 * equal))

    def _places(self, genome: G) -> np.ndarray:
        """True for the choice that a genome has of every gene, (choices,)."""
        assert self.policy is not None
        flat, taken = self.space.to_flat(genome), np.zeros(len(self.policy.gene), dtype=bool)
        taken[self.policy.first + [choices.index(flat[name]) for name, choices in self.genes.items()]] = True
        return taken

    def _batch(self, weights: np.ndarray, advantage: np.ndarray) -> Batch:
        """The generation as arrays; what was drawn at random counts as drawn with all genes free."""
        assert self.policy is not None
        everything = np.ones(len(self.policy.gene), dtype=bool)
        taken = np.array([self._places(episode.genome) for episode in self.episodes])
        free = np.array([everything if episode.free is None else episode.free for episode in self.episodes])
        allowed = np.ones_like(taken)
        for row, mine in zip(allowed, taken, strict=True):
            chosen = np.flatnonzero(mine) - self.policy.first
            hardware = self.masks.allowed(tuple(int(i) for i in chosen[: len(self.masks.sizes)]))
            row[: len(hardware)] = hardware
        return Batch(weights, taken, allowed, free, advantage)


def chebyshev(values: np.ndarray, among: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Augmented Chebyshev scalar (ParEGO's, rho 0.05) of the objectives' ranks among other points, (points,); smaller is better.

    Args:
        values: (points, objectives), minimised.
        among: (others, objectives).
        weights: (objectives,), sum 1.
    """
    ranks = (values[:, None, :] > among[None, :, :]).mean(axis=1)
    return np.asarray((ranks * weights).max(axis=1) + 0.05 * (ranks @ weights))


ALGORITHM = RL
