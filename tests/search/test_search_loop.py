"""The search loop with a fake evaluator: replay, workers, failures. Algorithms, spaces, store and workers are real."""

from __future__ import annotations

import functools
import os
import signal
from pathlib import Path

import pytest

from cosearch.algorithms.evolution import Evolution
from cosearch.candidate import Candidate, HardwareSpace, JointSpace
from cosearch.evaluator import TRACE, write_trace
from cosearch.fronts import front_of
from cosearch.goal import Goal
from cosearch.loop import Search
from cosearch.pool import Metrics, WorkerPool
from cosearch.store import Trial, TrialStore
from pimsim.errors import ConfigError, RunError
from supernet.space import load_space

OBJECTIVES = ("logloss", "latency_us", "energy_uj")
GOAL = Goal(OBJECTIVES)
GENES = {"dram.channels": (16, 32, 64), "unit.simd_lanes": (8, 16), "mapping.matmul": ("pim", "host")}


class DigestEvaluator:
    """Figures that depend on nothing but the candidate's digests; can be told to fail, to raise or to die."""

    def __init__(self, fail: str = "", die_once: str = "") -> None:
        self.fail, self.die_once = fail, die_once

    def evaluate(self, candidate: Candidate, known: Metrics) -> Metrics:
        if self.die_once and not Path(self.die_once).exists():
            Path(self.die_once).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        digest = candidate.digest()
        if self.fail and digest[0] in self.fail:
            raise ConfigError(f"trial of {digest[0]} is refused")
        model = int(candidate.model.digest()[:8], 16) / 2**32
        logloss = known["logloss"] if known else 0.3 + 0.1 * model
        return {"logloss": logloss, "auc": 0.9, "latency_us": int(digest[:4], 16) / 3, "energy_uj": int(digest[4:8], 16) / 7}


@pytest.fixture(scope="module")
def space() -> JointSpace:
    return JointSpace(load_space("tiny"), HardwareSpace("hbm_pim", GENES))


def search(folder: Path, space: JointSpace, jobs: int = 1, candidates: int = 40, seed: int = 5, **more) -> Search:
    folder.mkdir(exist_ok=True)
    settings = Evolution.Settings(name="evolution", population=12, sample=4, children=5)
    evaluator = functools.partial(DigestEvaluator, **more.pop("evaluator", {}))
    store = TrialStore(folder, OBJECTIVES, create=True)
    return Search(Evolution(space, settings, seed), store, WorkerPool(evaluator, jobs), GOAL, GENES, candidates, **more)


def facts(trials: list[Trial]) -> list:
    return [(t.id, t.generation, t.digest, t.metrics, t.error) for t in trials]


def test_workers_do_not_change_the_trials_not_even_when_one_is_killed(tmp_path: Path, space: JointSpace) -> None:
    alone = search(tmp_path / "one", space).run()
    two = search(tmp_path / "two", space, jobs=2, evaluator={"die_once": str(tmp_path / "died")})
    assert facts(two.run()) == facts(alone)
    two.pool.close()
    assert (tmp_path / "died").exists()
    assert len(alone) == 40
    assert len({t.digest for t in alone}) == 40


def test_stopped_and_resumed_equals_uninterrupted(tmp_path: Path, space: JointSpace) -> None:
    whole = search(tmp_path / "whole", space).run()
    seen: list[int] = []
    for limit in (3, 15, 33):
        seen.clear()
        part = search(tmp_path / "parts", space, stop=lambda n=limit: len(seen) >= n, finished=lambda t: seen.append(t.id))
        assert len(part.run()) == limit
    assert facts(search(tmp_path / "parts", space).run()) == facts(whole)


def test_a_longer_search_begins_with_the_shorter_one(tmp_path: Path, space: JointSpace) -> None:
    short = search(tmp_path, space, candidates=19).run()
    longer = search(tmp_path, space, candidates=31).run()
    assert len(short) == 19
    assert facts(longer)[:19] == facts(short)
    assert facts(longer) == facts(search(tmp_path / "fresh", space, candidates=31).run())


def test_failed_candidates_are_kept_with_their_reason(tmp_path: Path, space: JointSpace) -> None:
    trials = search(tmp_path, space, evaluator={"fail": "0123"}).run()
    failed = [t for t in trials if t.error]
    assert failed and len(failed) < len(trials)
    assert all(t.error == f"trial of {t.digest[0]} is refused" and not t.metrics for t in failed)
    assert not set(t.id for t in front_of(trials, GOAL)) & {t.id for t in failed}
    assert facts(search(tmp_path, space).run()) == facts(trials)  # stored failures are results too


def test_nothing_works_is_said_at_once(tmp_path: Path, space: JointSpace) -> None:
    with pytest.raises(RunError, match=r"no candidate of the first generation .* is refused"):
        search(tmp_path, space, evaluator={"fail": "0123456789abcdef"}).run()


def test_trials_of_another_search_are_refused(tmp_path: Path, space: JointSpace) -> None:
    search(tmp_path, space, candidates=12).run()
    with pytest.raises(RunError, match=r"trials\.db: trial 0 is not what this search asks"):
        search(tmp_path, space, candidates=12, seed=6).run()


def test_store_survives_and_refuses_garbage(tmp_path: Path, space: JointSpace) -> None:
    trials = search(tmp_path, space, candidates=12).run()
    assert facts(list(TrialStore(tmp_path, OBJECTIVES).finished().values())) == facts(trials)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "trials.db").write_bytes(b"not a database" * 400)
    with pytest.raises(RunError, match=r"trials\.db: not a readable trial database"):
        TrialStore(tmp_path / "bad", OBJECTIVES)
    with pytest.raises(RunError, match="no trials yet"):
        TrialStore(tmp_path / "none", OBJECTIVES)


def test_parquet_has_a_row_per_trial(tmp_path: Path, space: JointSpace) -> None:
    import pyarrow.parquet as pq

    trials = search(tmp_path, space, candidates=20, evaluator={"fail": "0"}).run()
    table = pq.read_table(tmp_path / "trials.parquet").to_pylist()
    assert [row["digest"] for row in table] == [t.digest for t in trials]
    assert [row["logloss"] for row in table] == [t.metrics.get("logloss") for t in trials]
    assert {row["dram.channels"] for row in table} <= {16, 32, 64}


def test_front_keeps_the_first_of_equal_points(tmp_path: Path, space: JointSpace) -> None:
    trials = search(tmp_path, space, candidates=12).run()
    twin = Trial(99, 9, trials[0].candidate, "twin", trials[0].metrics)
    assert 99 not in [t.id for t in front_of([*trials, twin], GOAL)]


def test_a_hardware_space_without_a_device_says_why_at_once() -> None:
    with pytest.raises(ConfigError, match=r"no valid combination.*unknown hbm2 timing name.*'nFOO'"):
        HardwareSpace("hbm_pim", {"dram.timing.nFOO": (3,)})


def test_a_damaged_trace_is_refused_before_it_fails_candidates(tmp_path: Path) -> None:
    (tmp_path / TRACE).write_text("x")
    with pytest.raises(ConfigError, match=TRACE):
        write_trace(None, 1, 0, tmp_path / TRACE)


def test_hardware_mistakes_are_told_apart_from_masks() -> None:
    with pytest.raises(ConfigError, match=r"hardware\.dram\.chanels: unknown key; did you mean 'channels'"):
        HardwareSpace("hbm_pim", {"dram.chanels": (1, 2)})
    with pytest.raises(ConfigError, match=r"hardware\.dram\.channels: 'four'"):
        HardwareSpace("hbm_pim", {"dram.channels": (4, "four")})
    with pytest.raises(ConfigError, match="objectives or constraints: 'energy_uj': not modelled for device ddr5_4800"):
        HardwareSpace("ddr5_4800", {"dram.channels": (1, 2)}, ("logloss", "latency_us", "energy_uj"))
    masked = HardwareSpace("hbm_pim", {"mapping.tables": ("row", "striped"), "mapping.embedding": ("host", "pim")})
    import numpy as np

    drawn = {tuple(v for _, v in masked.sample(np.random.default_rng(i))) for i in range(40)}
    assert drawn == {("host", "row"), ("pim", "row"), ("pim", "striped")}
