"""The rank check of a run: networks of its space trained alone, scored by its supernet and by supernets trained in other ways."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cosearch.alone import train_networks
from cosearch.calibrate import calibrate, proxies_of
from cosearch.problem import section_settings
from cosearch.progress import Progress
from cosearch.runfolder import RunFolder
from cosearch.steps import Steps

if TYPE_CHECKING:
    from supernet.genotype import Genotype
    from supernet.sampling import Strategy
    from workloads.data import Dataset


@dataclass(frozen=True)
class RankStudy:
    """What a rank check does.

    Attributes:
        models: Networks trained alone.
        seed: Of the networks, their training and the bootstrap.
        top_k: Size of the short list whose regret is measured.
        draws: Bootstrap draws.
        strategies: Further ways to sample in the supernet's training, each of which trains one more supernet.
    """

    models: int = 40
    seed: int = 0
    top_k: int = 5
    draws: int = 2000
    strategies: tuple[Strategy, ...] = ()


def rank_check(run: RunFolder, study: RankStudy, jobs: int, progress: Progress) -> dict[str, Any]:
    """Trains networks alone in `rank/alone/`, scores them in every way, writes `rank/networks.csv`; finished parts are only read.

    Returns:
        `networks`, `truth` (best, median, worst log loss alone) and `ways`: for every way of scoring its name, its statistics (see
        `supernet.rank.rank_statistics`, each `value`, `low`, `high`) and `tau_below_shipped`, how far its tau lies below the run's own.
        `proxies`: the same for every zero-cost proxy (signs turned so that a positive tau speaks for it); `calibrated`: the same for
        the run's scores calibrated on the other networks, with `features`, `loo_rmse` and `spread` of `rank/calibration.json`.

    Raises:
        RunError: the run has no finished supernet, or a network could not be trained.
    """
    import numpy as np

    from supernet.rank import draw_networks
    from supernet.training import open_supernet
    from workloads.data import open_dataset

    dataset = open_dataset(run.resolved["dataset"])
    space = open_supernet(run.path / "supernet", dataset).space
    networks = draw_networks(space, study.models, study.seed)
    alone = train_networks(run, networks, run.path / "rank" / "alone", study.seed, jobs, progress)
    scores = {
        name: _scores(folder, dataset, settings, networks, name, progress)
        for name, folder, settings in _ways(run, study, dataset, progress)
    }
    proxies = proxies_of(dataset, networks, study.seed, progress)
    truth = [found["logloss"] for found in alone]
    calibration, held_out = calibrate(run, scores[_own_way(run, scores)], proxies, truth, study.seed)
    by_proxy = {name: [found[name] for found in proxies] for name in proxies[0]}
    _write_networks(run.path / "rank" / "networks.csv", networks, alone, scores | by_proxy | {"calibrated": held_out})
    told = _Told(study, truth, next(iter(scores.values())))
    best, median, worst = np.percentile(truth, [0, 50, 100]).tolist()
    fit = {"features": [f.name for f in calibration.features], "loo_rmse": calibration.loo_rmse, "spread": calibration.spread}
    return {
        "networks": len(truth),
        "top_k": study.top_k,
        "truth": {"best": best, "median": median, "worst": worst},
        "ways": [told(name, values) for name, values in scores.items()],
        "proxies": [told(name, [-value for value in values]) for name, values in by_proxy.items()],
        "calibrated": told("calibrated on the other networks", held_out) | fit,
    }


def _ways(run: RunFolder, study: RankStudy, dataset: Dataset, progress: Progress) -> Iterator[tuple[str, Path, Any]]:
    """Every way of scoring: name, folder of its supernet, scoring settings."""
    from supernet.scoring import ScoringSettings
    from supernet.training import TrainingSettings, open_supernet, train_supernet

    scoring = section_settings(ScoringSettings, run.problem, "scoring")
    training = section_settings(TrainingSettings, run.problem, "supernet")
    plain = scoring.model_copy(update={"head_rows": 0})
    space = open_supernet(run.path / "supernet", dataset).space
    folders = {training.sampling: run.path / "supernet"}
    for strategy in study.strategies:
        if strategy not in folders:
            folders[strategy] = run.path / "rank" / f"supernet-{strategy}"
            with Steps(progress, f"supernet {strategy}") as steps:
                train_supernet(space, dataset, training.model_copy(update={"sampling": strategy}), folders[strategy], steps)
    for strategy, folder in folders.items():
        yield f"{strategy}, last layer refitted", folder, scoring.model_copy(update={"head_rows": scoring.head_rows or 4096})
        yield f"{strategy}, as trained", folder, plain


def _own_way(run: RunFolder, names: Iterable[str]) -> str:
    """The way in which the search itself scored: the first one with or without a refit, as its settings say."""
    from supernet.scoring import ScoringSettings

    refitted = section_settings(ScoringSettings, run.problem, "scoring").head_rows > 0
    return next(name for name in names if name.endswith("refitted") == refitted)


def _scores(folder: Path, dataset: Dataset, settings: Any, networks: list[Genotype], name: str, progress: Progress) -> list[float]:
    from supernet.scoring import Scorer

    scorer, scores = Scorer(folder, dataset, settings), []
    with progress.phase(name, len(networks)) as update:
        for network in networks:
            scores.append(float(scorer.score(network).logloss))
            update(len(scores))
    return scores


class _Told:
    """Turns the scores of one way into statistics beside the first way's.

    Args:
        study: top k, draws and seed.
        truth: Log loss alone.
        first: Scores of the first way.
    """

    def __init__(self, study: RankStudy, truth: list[float], first: list[float]) -> None:
        self.study, self.truth, self.first = study, truth, first

    def __call__(self, name: str, scores: list[float]) -> dict[str, Any]:
        from supernet.rank import rank_statistics, tau_difference

        study = self.study
        found = rank_statistics(scores, self.truth, study.top_k, study.draws, study.seed)
        below = None if scores is self.first else asdict(tau_difference(self.first, scores, self.truth, study.draws, study.seed))
        return {"name": name, **{key: asdict(estimate) for key, estimate in found.items()}, "tau_below_shipped": below}


def _write_networks(path: Path, networks: list[Genotype], alone: list[dict[str, float]], scores: dict[str, list[float]]) -> None:
    """One line a network: digest, log loss and AUC alone, every score."""
    draft = path.with_name(path.name + ".part")
    with draft.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(["genotype_digest", "logloss_alone", "auc_alone", *scores])
        for index, (network, found) in enumerate(zip(networks, alone, strict=True)):
            writer.writerow([network.digest(), found["logloss"], found["auc"], *(values[index] for values in scores.values())])
    os.replace(draft, path)
