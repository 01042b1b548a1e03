"""Flat genomes, and local search as the last phase of a run: what it finds, what it costs, and that it is replayed and taken further."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest

from cosearch.algorithms.evolution import Evolution
from cosearch.algorithms.local_search import polished
from cosearch.candidate import Candidate, HardwareSpace, JointSpace
from cosearch.fronts import front_of
from cosearch.goal import Goal
from cosearch.loop import Search
from cosearch.pool import Metrics, WorkerPool
from cosearch.problem import load_problem
from cosearch.runfolder import RunFolder
from cosearch.store import Trial, TrialStore
from pimsim.errors import RunError
from supernet.space import load_space

GENES = {
    "dram.channels": (4, 8, 16),
    "mapping.tables": ("row", "striped"),
    "mapping.embedding": ("host", "pim"),
    "mapping.matmul": ("host", "pim"),
    "unit.simd_lanes": (16,),
}
GOAL = Goal(("logloss", "latency_us"))


@pytest.fixture(scope="module")
def space() -> JointSpace:
    return JointSpace(load_space("tiny"), HardwareSpace("hbm_pim", GENES))


class Separable:
    """Latency is a product of a model part and a hardware part: the same hardware is best for every model."""

    def __init__(self, scored: str = "") -> None:
        self.scored = scored

    def evaluate(self, candidate: Candidate, known: Metrics) -> Metrics:
        number = int(candidate.model.digest()[:8], 16) / 2**32
        if not known and self.scored:
            with Path(self.scored).open("a") as log:
                log.write("x")
        hardware = dict(candidate.hardware)
        factor = 1 + sum(GENES[key].index(hardware[key]) for key in GENES)
        return {"logloss": 0.3 + 0.1 * number, "auc": 0.9, "latency_us": (1.1 - number) * factor}


def searched(folder: Path, space: JointSpace, candidates: int = 30, polish: int = 0, **more) -> list[Trial]:
    folder.mkdir(exist_ok=True)
    settings = Evolution.Settings(name="evolution", population=12, sample=4, children=7, candidates=candidates, polish=polish)
    algorithm = polished(Evolution(space, settings, 5), space, settings)
    pool = WorkerPool(functools.partial(Separable, str(folder / "scored")), 1)
    store = TrialStore(folder, GOAL.objectives, create=True)
    return Search(algorithm, store, pool, GOAL, GENES, more.pop("total", settings.total), **more).run()


def facts(trials: list[Trial]) -> list:
    return [(t.id, t.digest, t.metrics) for t in trials]


def test_flat_genomes_come_back(space: JointSpace) -> None:
    genes = space.genes()
    assert list(genes)[:4] == ["hardware.mapping.embedding", "hardware.mapping.matmul", "hardware.mapping.tables", "hardware.dram.channels"]
    assert "hardware.unit.simd_lanes" not in genes and all(len(choices) > 1 for choices in genes.values())
    for index in range(30):
        rng = np.random.default_rng(index)
        genome = space.sample(rng)
        flat = space.to_flat(genome)
        assert set(flat) == set(genes) and all(value in genes[name] for name, value in flat.items())
        assert space.from_flat(flat) == genome
        other = space.to_flat(space.mutate(genome, rng))
        assert sum(other[name] != flat[name] for name in genes) == 1
    flat |= {"hardware.mapping.tables": "striped", "hardware.mapping.embedding": "host"}
    assert space.from_flat(flat) is None


@pytest.mark.parametrize("name", ["tiny", "quickstart", "nasrec_full", "extended"])
def test_flat_genes_span_the_space(name: str) -> None:
    space = load_space(name).for_tables(3)
    size = 1
    for choices in space.genes().values():
        size *= len(choices)
    assert size == space.size()
    genotype = space.sample(np.random.default_rng(1))
    assert space.from_flat(space.to_flat(genotype)) == genotype


def test_polish_mends_hardware_and_scores_no_new_model_first(tmp_path: Path, space: JointSpace) -> None:
    plain = searched(tmp_path / "plain", space)
    trials = searched(tmp_path / "run", space, polish=40)
    assert facts(trials)[:30] == facts(plain)
    assert len(trials) == 70

    def missed(found: list[Trial]) -> int:
        return sum(any(GENES[key].index(value) for key, value in t.candidate.hardware) for t in front_of(found, GOAL))

    assert missed(plain) > 0
    assert missed(trials) == 0
    known = {t.candidate.model.digest() for t in plain}
    first_new = next((t.id for t in trials[30:] if t.candidate.model.digest() not in known), 70)
    assert first_new > 40
    # every hardware neighbour of the front is looked at before the first new model
    assert (tmp_path / "run" / "scored").stat().st_size == len({t.candidate.model.digest() for t in trials})


def test_polish_is_replayed_and_taken_further(tmp_path: Path, space: JointSpace) -> None:
    whole = searched(tmp_path / "whole", space, polish=40)
    seen: list[int] = []
    searched(tmp_path / "parts", space, polish=40, stop=lambda: len(seen) >= 37, finished=lambda t: seen.append(t.id))
    assert len(seen) == 37
    assert facts(searched(tmp_path / "parts", space, polish=12)) == facts(whole)[:42]
    assert facts(searched(tmp_path / "parts", space, polish=40)) == facts(whole)
    assert facts(searched(tmp_path / "parts", space, polish=40, total=20)) == facts(whole)[:20]


def test_a_polished_run_is_extended_by_polish_alone(tmp_path: Path) -> None:
    def claim(candidates: int, polish: int) -> None:
        problem = load_problem("tiny", {"algorithm.candidates": candidates, "algorithm.polish": polish})
        with RunFolder(tmp_path, problem, {}).claimed(["cosearch"]):
            pass

    for candidates, polish in ((20, 0), (24, 0), (24, 8), (24, 16)):
        claim(candidates, polish)
    with pytest.raises(RunError, match=r"algorithm\.candidates is 30, but this run began with 24"):
        claim(30, 16)
