"""Final training: a candidate and baselines of the zoo, each alone with several seeds, tested once, on the same rows and device."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cosearch.alone import train_all
from cosearch.evaluator import TRACE, CandidateEvaluator
from cosearch.problem import section_settings
from cosearch.progress import Progress
from cosearch.runfolder import RunFolder, open_run
from cosearch.store import Trial
from cosearch.train import Job, job_size, load_job, spread, train_seed
from pimsim.errors import ConfigError, PimsimError
from pimsim.graph import IndexSource, Workload

if TYPE_CHECKING:
    from supernet.predictions import Estimate

RESULT = Path("final") / "result.json"


@dataclass(frozen=True)
class FinalStudy:
    """What is trained beside the candidate's first network.

    Attributes:
        seeds: Trainings of every model, with the search's seed, the next one and so on.
        baselines: Models as `cosearch train` takes them.
        preset: Published sizes and settings of the baselines.
    """

    seeds: int = 1
    baselines: tuple[str, ...] = ()
    preset: str | None = None

    @classmethod
    def of(cls, run: RunFolder) -> FinalStudy:
        """What the search file asks for."""
        return cls(run.problem.final.seeds, run.problem.final.baselines, run.problem.final.preset)


def baseline_jobs(run: RunFolder, study: FinalStudy) -> list[Job]:
    """The baselines, bounded by the epochs and the patience of the candidate's own training; without a preset also of its batch.

    A genotype is trained with all of the candidate's settings.

    Raises:
        ConfigError: an unknown model or preset, or one given twice.
    """
    from supernet.final import FinalSettings
    from supernet.genotype import Genotype

    if len(set(study.baselines)) < len(study.baselines):
        raise ConfigError(f"final.baselines: {list(study.baselines)}: needs different models")
    settings = section_settings(FinalSettings, run.problem, "final.training")
    names = ("epochs", "patience", "threads") + (() if study.preset else ("batch",))
    budget = {name: getattr(settings, name) for name in names}
    found = [load_job(name, run.resolved["dataset"], study.preset, budget) for name in study.baselines]
    return [replace(job, settings=settings) if isinstance(job.network, Genotype) else job for job in found]


def final_study(run: RunFolder, trial: Trial, study: FinalStudy, jobs: int, progress: Progress) -> dict[str, Any]:
    """Trains what is not trained yet, and writes `final/result.json`.

    Returns:
        What is in the file. `models`: the candidate first, then the baselines, each with its runs; of `auc` and `logloss` on the test
        rows `mean` and sample `std` over the seeds and the interval `low` to `high` of the mean over the test rows; `macs`; `latency_us`
        and `energy_uj` on the candidate's device, or `not_simulated`. `differences`: the candidate minus each baseline, `value`, `low`,
        `high`, paired row by row.

    Raises:
        RunError: a model could not be trained.
    """
    from supernet.predictions import Predictions, figures, paired_difference
    from supernet.runs import save_atomically

    todo = Trainings(run.path, trial.candidate.model.to_json(), study)
    models = todo.models(run)
    tasks = [(place, seed) for place in range(len(models)) for seed in todo.seeds(run)]
    last = "last test log loss {:.4f}".format
    runs = train_all(todo, tasks, jobs, progress, "final training", run.path, lambda one: last(one["test"]["logloss"]))
    rows, told = [], []
    for place, job in enumerate(models):
        own = [runs[place, seed] for seed in todo.seeds(run)]
        told.append([Predictions.load(todo.folder(run, job, seed)) for seed in todo.seeds(run)])
        macs, parameters = job_size(job)
        row: dict[str, Any] = {"model": job.name, "kind": "zoo" if place else "searched"}
        row |= {name: _scores([one["test"][name] for one in own], estimate) for name, estimate in figures(told[-1]).items()}
        row |= {"macs": macs, "parameters": parameters, **_hardware(run, trial, job if place else None), "runs": own}
        rows.append(row)
    differences = [
        {"baseline": job.name, **{name: _plain(found) for name, found in paired_difference(told[0], theirs).items()}}
        for job, theirs in zip(models[1:], told[1:], strict=True)
    ]
    facts = {"version": 1, "id": trial.id, "dataset": run.resolved["dataset"], "test_rows": len(told[0][0].label)}
    facts |= {"seeds": todo.seeds(run), "preset": study.preset, "batch": run.problem.batch, "models": rows, "differences": differences}
    save_atomically(facts, run.path / RESULT)
    return facts


@dataclass(frozen=True)
class Trainings:
    """Makes, once in a worker, the function that trains one model with one seed; picklable.

    Attributes:
        path: Of the run.
        genotype: The candidate's, as JSON.
        study: What is trained.
    """

    path: Path
    genotype: str
    study: FinalStudy

    def __call__(self) -> Callable[[tuple[int, int]], dict[str, Any]]:
        run = open_run(self.path)
        models = self.models(run)

        def train(task: tuple[int, int]) -> dict[str, Any]:
            job, seed = models[task[0]], task[1]
            found = train_seed(job, seed, self.folder(run, job, seed), lambda line: None)
            del found["seconds_per_epoch"]  # equal runs give equal files
            return found

        return train

    def models(self, run: RunFolder) -> list[Job]:
        """The candidate, then the baselines."""
        from supernet.final import FinalSettings
        from supernet.genotype import Genotype
        from workloads.data import open_dataset

        settings = section_settings(FinalSettings, run.problem, "final.training")
        return [
            Job("searched", Genotype.from_json(self.genotype), settings, open_dataset(run.resolved["dataset"])),
            *baseline_jobs(run, self.study),
        ]

    def seeds(self, run: RunFolder) -> list[int]:
        """The search's seed and those after it."""
        return [run.problem.seed + i for i in range(self.study.seeds)]

    def folder(self, run: RunFolder, job: Job, seed: int) -> Path:
        """Where a training lives: the candidate's first one where an export looks for it."""
        if job.name != "searched":
            return self.path / "final" / job.folder().name / f"seed{seed}"
        own = self.path / "final" / job.network.digest()  # type: ignore[union-attr]
        return own if seed == run.problem.seed else own / f"seed{seed}"


def _hardware(run: RunFolder, trial: Trial, job: Job | None) -> dict[str, Any]:
    """Latency and energy on the candidate's device: the candidate's own, or those of a baseline there."""
    names = ("latency_us", "energy_uj")
    if job is None:
        return {name: trial.metrics[name] for name in names} | {"not_simulated": None}
    from cosearch.evaluator import hardware_metrics
    from pimsim.api import simulate
    from supernet.genotype import Genotype

    evaluator = CandidateEvaluator(run.problem, run.path, run.resolved["dataset"])
    try:
        workload = evaluator.workload(job.network) if isinstance(job.network, Genotype) else _zoo_workload(run, job)
        report = simulate(evaluator.device(trial.candidate), workload, arrivals=run.problem.arrivals)
    except PimsimError as error:
        return dict.fromkeys(names) | {"not_simulated": str(error)}
    return {name: hardware_metrics(report)[name] for name in names} | {"not_simulated": None}


def _zoo_workload(run: RunFolder, job: Job) -> Workload:
    """A zoo model over the run's index trace; tables that repeat a field's (`<field>.linear`) take its look-ups."""
    from workloads.indices.trace import load_npz, save_npz

    folder = run.path / "final" / job.folder().name
    indices = IndexSource(kind="file", path=TRACE)
    workload: Workload = job.network.workload(job.name, indices, run.problem.batch)  # type: ignore[union-attr]
    fields = load_npz(run.path / TRACE)
    names = [table.name for gather in workload.gathers for table in gather.tables]
    save_npz(folder / TRACE, {name: fields[name if name in fields else name.rpartition(".")[0]] for name in names})
    return workload.model_copy(update={"folder": str(folder.resolve())})


def _scores(values: list[float], estimate: Estimate) -> dict[str, float | None]:
    return spread(values) | {name: value for name, value in _plain(estimate).items() if name != "value"}


def _plain(estimate: Estimate) -> dict[str, float | None]:
    """As JSON, which has no not-a-number."""
    return {name: value if math.isfinite(value) else None for name, value in asdict(estimate).items()}
