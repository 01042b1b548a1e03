"""Measures a candidate: the supernet's score of its model, the simulator's report of the model on its device."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cosearch.candidate import Candidate
from cosearch.pool import Metrics
from cosearch.problem import Problem, section_settings
from pimsim.graph import IndexSource, Workload
from pimsim.report import Report
from pimsim.spec.device import DeviceSpec
from supernet.genotype import Genotype

if TYPE_CHECKING:
    from workloads.data import Dataset

TRACE = "indices.npz"


class CandidateEvaluator:
    """Scores models with the run's supernet and costs them with the simulator.

    The supernet's score of a model is a pure function of the model; the simulator's cost of an operator is cached per device.

    Args:
        problem: The search.
        folder: Run folder, with a trained supernet in `supernet/` and the index trace.
        dataset: Name of the data set in use.
    """

    def __init__(self, problem: Problem, folder: Path, dataset: str) -> None:
        from pimsim.api import CostCache

        self.problem, self.folder, self.dataset_name = problem, folder, dataset
        self.costs = CostCache()

    def evaluate(self, candidate: Candidate, known: Metrics) -> Metrics:
        """Every metric of `cosearch.metrics.METRICS`."""
        from pimsim.api import simulate
        from supernet.lowering import count, weight_bytes

        workload = self.workload(candidate.model)
        report = simulate(self.device(candidate), workload, arrivals=self.problem.arrivals, costs=self.costs)
        score = known or self.score(candidate.model)
        schema = self.dataset.schema
        counts = len(schema.dense), len(schema.sparse)
        macs, parameters = count(candidate.model, *counts)
        tables = sum(gather.table_bytes for gather in workload.gathers)
        memory = tables + weight_bytes(candidate.model, *counts)
        return {**score, **hardware_metrics(report), "macs": macs, "parameters": parameters, "memory_bytes": memory}

    def score(self, model: Genotype) -> Metrics:
        """Validation log loss and AUC with the supernet's weights."""
        score = self._scorer.score(model)
        return {"logloss": float(score.logloss), "auc": float(score.auc)}

    def device(self, candidate: Candidate) -> DeviceSpec:
        """The base device with the candidate's hardware genes."""
        from pimsim.api import load_device

        return load_device(self.problem.device, dict(candidate.hardware))

    def workload(self, model: Genotype) -> Workload:
        """A model as an operator graph over the run's index trace."""
        from supernet.lowering import to_workload

        name = f"{self.problem.name}-{model.digest()}"
        source = IndexSource(kind="file", path=TRACE)
        workload = to_workload(model, self.dataset.schema, name, source, self.problem.batch)
        return workload.model_copy(update={"folder": str(self.folder.resolve())})

    @cached_property
    def dataset(self) -> Dataset:
        """The data set, opened once."""
        from workloads.data import open_dataset

        return open_dataset(self.dataset_name)

    @cached_property
    def _scorer(self) -> Any:
        from supernet.scoring import Scorer, ScoringSettings

        settings = section_settings(ScoringSettings, self.problem, "scoring")
        return Scorer(self.folder / "supernet", self.dataset, settings)


def hardware_metrics(report: Report) -> Metrics:
    """The simulator's share of the metrics."""
    latency, energy = report.latency_us["mean"], report.energy_uj_per_sample["total"]
    return {
        "latency_us": latency,
        "latency_p99_us": report.latency_us["p99"],
        "energy_uj": energy,
        "edp_uj_us": None if energy is None else energy * latency,
        "area_mm2": report.area_mm2,
        "power_w": report.power_w,
        "throughput_samples_per_s": report.throughput_samples_per_s,
    }


def write_trace(dataset: Dataset, samples: int, seed: int, path: Path) -> None:
    """Writes the embedding indices that drive the simulator: consecutive training samples, at most once per run.

    Raises:
        ConfigError: the file is there and damaged (each candidate would fail of it, and be kept as failed).
    """
    import os

    from workloads.indices.trace import load_npz, save_npz, trace_from_split

    if path.exists():
        load_npz(path)
    else:
        draft = path.with_name(path.name + ".part")
        save_npz(draft, trace_from_split(dataset.split("train"), dataset.schema, samples, seed=seed))
        os.replace(draft, path)
