"""What a run's rank check lets one expect of its candidates: log loss alone, with an error estimate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cosearch.progress import Progress
from cosearch.runfolder import RunFolder
from cosearch.store import Trial
from pimsim.errors import DataError

if TYPE_CHECKING:
    from supernet.calibration import Calibration, Expected
    from supernet.genotype import Genotype
    from workloads.data import Dataset

CALIBRATION = Path("rank") / "calibration.json"


def proxies_of(dataset: Dataset, networks: list[Genotype], seed: int, progress: Progress) -> list[dict[str, float]]:
    """Every zero-cost proxy of every network."""
    from supernet.proxies import ProxyScorer

    scorer, found = ProxyScorer(dataset, seed), list[dict[str, float]]()
    with progress.phase("zero-cost proxies", len(networks)) as update:
        for network in networks:
            found.append(scorer.score(network))
            update(len(found), "")
    return found


def calibrate(
    run: RunFolder, scores: list[float], proxies: list[dict[str, float]], alone: list[float], seed: int
) -> tuple[Calibration, list[float]]:
    """Fits the run's calibration and writes `rank/calibration.json`; see `supernet.calibration.fit_calibration`."""
    from supernet.calibration import feature_values, fit_calibration

    rows = [feature_values(score, found) for score, found in zip(scores, proxies, strict=True)]
    calibration, held_out = fit_calibration(rows, alone, seed)
    calibration.save(run.path / CALIBRATION)
    return calibration, held_out


def expected(run: RunFolder, trials: list[Trial]) -> dict[int, Expected]:
    """What to expect of trials, by id; nothing where the run has no calibration, or needs data for it that are not there.

    Raises:
        RunError: a damaged calibration.
    """
    path = run.path / CALIBRATION
    if not path.exists():
        return {}
    from supernet.calibration import Calibration, feature_values
    from supernet.proxies import ProxyScorer
    from workloads.data import open_dataset

    calibration = Calibration.load(path)
    try:
        scorer = ProxyScorer(open_dataset(run.resolved["dataset"]), calibration.proxy_seed) if calibration.proxies else None
    except DataError:
        return {}
    found = {}
    for trial in trials:
        proxies = scorer.score(trial.candidate.model, calibration.proxies) if scorer else {}
        found[trial.id] = calibration.expect(feature_values(float(trial.metrics["logloss"] or 0.0), proxies))
    return found
