"""How fast search algorithms find the Pareto front of two problems of which every point is known.

`tabulated`: 8 genes of 5 choices, two rough, conflicting objectives (`cosearch.testing.algorithms.TabulatedSpace`). `hardware`: an
HBM-PIM-like device around one recommender, every design of the space simulated once; latency, energy and area. The figure is the
hypervolume of what was found as a share of the true front's, in the box from the best value to the median of all points (the hardware's on
a logarithmic scale). Nothing is trained.

    python benchmarks/search_algorithms.py [--seeds 5] [--only NAME ...] [--problem tabulated|hardware]
"""

from __future__ import annotations

import argparse
import itertools
import time
from typing import Any

import numpy as np

from cosearch.algorithms import Result, find_algorithm
from cosearch.algorithms.local_search import polished
from cosearch.candidate import Candidate, HardwareSpace, JointSpace
from cosearch.metrics import objectives_of
from cosearch.pareto import front_indices, hypervolume
from cosearch.testing.algorithms import TabulatedSpace
from supernet.space import load_space

AT = {"tabulated": (60, 240), "hardware": (30, 90)}
"""Candidates after which the front is measured."""
ALGORITHMS: dict[str, dict[str, Any]] = {
    "random": {},
    "local_search": {},
    "nsga3": {},
    "nsga2": {},
    "evolution": {},
    "evolution, polish 1/3": {"name": "evolution", "polish": 1},
    "rl": {},
    "tpe": {},
    "gp": {},
}
"""Default settings; of the polished run's budget, a third is local search. The costly `gp` stops at the first count."""
GENES = {
    "dram.channels": (8, 16, 32, 64),
    "unit.units_per_channel": (2, 4, 8, 16),
    "unit.simd_lanes": (8, 16, 32),
    "mapping.embedding": ("host", "pim"),
    "mapping.matmul": ("host", "pim"),
}


class OneModel:
    """A model space with a single network: what is left of the joint space is the hardware."""

    def __init__(self) -> None:
        self.model = load_space("tiny").sample(np.random.default_rng(0))

    def sample(self, rng: np.random.Generator) -> Any:
        return self.model

    def mutate(self, model: Any, rng: np.random.Generator) -> Any:
        return model

    def crossover(self, first: Any, second: Any, rng: np.random.Generator) -> Any:
        return first

    def genes(self) -> dict[str, Any]:
        return {}

    def to_flat(self, model: Any) -> dict[str, Any]:
        return {}

    def from_flat(self, flat: dict[str, Any]) -> Any:
        return self.model


class Hardware(JointSpace):
    """Every device of the space, simulated once."""

    OBJECTIVES = ("latency_us", "energy_uj", "area_mm2")

    def __init__(self, workload: str = "dlrm", batch: int = 64) -> None:
        from cosearch.evaluator import hardware_metrics
        from pimsim.api import CostCache, load_workload, simulate

        super().__init__(OneModel(), HardwareSpace("hbm_pim", GENES), hardware_share=1.0)
        named, costs = load_workload(workload), CostCache()
        self.points: dict[str, np.ndarray] = {}
        for choices in itertools.product(*self.genes().values()):
            genome = self.from_flat(dict(zip(self.genes(), choices, strict=True)))
            if genome is not None:
                report = simulate(self.hardware.device(genome.hardware), named, batch, costs=costs)
                self.points[genome.digest()] = np.log(objectives_of(hardware_metrics(report), self.OBJECTIVES))
        self.table = np.array(list(self.points.values()))

    def result(self, genome: Candidate) -> Result:
        """What the simulator said of it."""
        return Result(tuple(float(value) for value in self.points[genome.digest()]))


def settings_of(name: str, budget: int) -> dict[str, Any]:
    """An algorithm's settings for a budget."""
    settings = {"name": name, "candidates": budget} | ALGORITHMS[name]
    if settings.get("polish"):
        settings |= {"candidates": budget - budget // 3, "polish": budget // 3}
    return settings


def shares(space: Any, name: str, counts: tuple[int, ...], seed: int) -> list[float]:
    """Share of the true front's hypervolume after each number of candidates."""
    settings = settings_of(name, counts[-1])
    kind = find_algorithm(settings["name"])
    chosen = kind.Settings(**settings)
    algorithm = polished(kind(space, chosen, seed), space, chosen)
    values: list[tuple[float, ...]] = []
    while len(values) < counts[-1] and (generation := algorithm.ask()):
        results = [space.result(genome) for genome in generation]
        algorithm.tell(results)
        values += [result.objectives for result in results]
    low, high = space.table.min(axis=0), np.quantile(space.table, 0.5, axis=0)
    whole = hypervolume(space.table[front_indices(space.table)], low, high)
    return [hypervolume(np.array(values[:count]), low, high) / whole for count in counts]


def main() -> None:
    """Prints a Markdown table for each problem."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", nargs="*", choices=ALGORITHMS, default=list(ALGORITHMS))
    parser.add_argument("--problem", nargs="*", choices=("tabulated", "hardware"), default=["tabulated", "hardware"])
    arguments = parser.parse_args()
    for problem in arguments.problem:
        space: Any = TabulatedSpace(genes=8, choices=5) if problem == "tabulated" else Hardware()
        print(f"\n{problem}: {len(space.table):,} points, {len(front_indices(space.table))} on the true front, {arguments.seeds} seeds")
        heads = ["algorithm", *(f"after {count}" for count in AT[problem]), "processor ms a candidate"]
        print(f"\n| {' | '.join(heads)} |\n{'|---' * len(heads)}|")
        for name in arguments.only:
            counts = AT[problem][:1] if name == "gp" else AT[problem]
            start = time.process_time()
            found = np.array([shares(space, name, counts, seed) for seed in range(arguments.seeds)])
            cost = 1000 * (time.process_time() - start) / (arguments.seeds * counts[-1])
            cells = [f"{mean:.3f} ± {spread:.3f}" for mean, spread in zip(found.mean(axis=0), found.std(axis=0, ddof=1), strict=True)]
            cells += ["-"] * (len(AT[problem]) - len(counts))
            print(f"| {name} | {' | '.join(cells)} | {cost:.1f} |", flush=True)


if __name__ == "__main__":
    main()
