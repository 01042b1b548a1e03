"""A pre-filter in front of any algorithm: of several proposals only the one with the most promising network is scored.

The algorithm proposes `draw` times as many candidates a generation. They are ordered by multiply-accumulates and cut into groups of `draw`;
each group sends the network that a zero-cost proxy promises most of. Proxies grow with size, and among networks of a size they have to
choose by something else, so the cheap end of the front stays. The algorithm is told None, "could not be evaluated", for the others:
it never proposes them again and learns nothing from them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, NamedTuple

from cosearch.algorithms import Algorithm, AlgorithmSettings, G, Result
from cosearch.candidate import Candidate

if TYPE_CHECKING:
    from workloads.data import Dataset


class Promise(NamedTuple):
    """What is known of a proposal before it is scored."""

    macs: float
    """Multiply-accumulates of a sample."""
    quality: float
    """The proxy; more is better."""


class Prefiltered(Generic[G]):
    """An algorithm of which only the best of every `draw` proposals are evaluated.

    Args:
        algorithm: Made with `proposing(settings, draw)`.
        draw: Proposals for one evaluation.
        promise: Of a proposal; the same for the same proposal whenever it is asked.
    """

    Settings = AlgorithmSettings

    def __init__(self, algorithm: Algorithm[G], draw: int, promise: Callable[[G], Promise]) -> None:
        self.algorithm, self.draw, self.promise = algorithm, draw, promise
        self.proposed, self.sent = 0, list[int]()

    def ask(self) -> list[G]:
        """The best of every group, in the order proposed."""
        proposals = self.algorithm.ask()
        promises = [self.promise(proposal) for proposal in proposals]
        order = sorted(range(len(proposals)), key=lambda i: (promises[i].macs, i))
        groups = (order[start : start + self.draw] for start in range(0, len(order), self.draw))
        self.proposed, self.sent = len(proposals), sorted(max(group, key=lambda i: (promises[i].quality, -i)) for group in groups)
        return [proposals[i] for i in self.sent]

    def tell(self, results: list[Result | None]) -> None:
        """Results of those sent, None for the others."""
        told = dict(zip(self.sent, results, strict=True))
        self.algorithm.tell([told.get(i) for i in range(self.proposed)])


def proposing(settings: AlgorithmSettings, draw: int) -> AlgorithmSettings:
    """The settings with `draw` times the children, so that as many as before are evaluated."""
    return settings.model_copy(update={"children": settings.children * draw})


class NetworkPromise:
    """The promise of a candidate's network by a proxy of `supernet.proxies`.

    Args:
        dataset: The search's.
        proxy: Name of the proxy.
        seed: Of its rows and fresh weights.
    """

    def __init__(self, dataset: Dataset, proxy: str, seed: int) -> None:
        from supernet.proxies import ProxyScorer

        self.scorer, self.proxy = ProxyScorer(dataset, seed), proxy
        self.known: dict[str, Promise] = {}

    def __call__(self, candidate: Candidate) -> Promise:
        digest = candidate.model.digest()
        if digest not in self.known:
            found = self.scorer.score(candidate.model, ("macs", self.proxy))
            self.known[digest] = Promise(found["macs"], found[self.proxy])
        return self.known[digest]
