"""Trains a zoo model or a genotype alone with several seeds, and sums the seeds up."""

from __future__ import annotations

import csv
import io
import json
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from pimsim import configs
from pimsim.errors import ConfigError, unknown_name
from pimsim.spec.base import Spec, validate

if TYPE_CHECKING:
    from supernet.final import FinalSettings
    from supernet.genotype import Genotype
    from supernet.zoo_training import ZooSettings
    from workloads.data import Dataset
    from workloads.zoo.base import CtrModel

Say = Callable[[str], None]


class PresetModel(Spec):
    """One model of a preset."""

    source: str
    published_auc: float | None = Field(None, ge=0, le=1)
    """Test AUC of the source."""
    model: dict[str, Any] = Field(default_factory=dict)
    """Keys of the model's file that differ from the shipped one."""
    training: dict[str, Any] = Field(default_factory=dict)
    """Settings beside the preset's own."""


class Preset(Spec):
    """Sizes and settings of several models on one data set: a file of `configs/training/`."""

    summary: str
    source: str
    dataset: str
    training: dict[str, Any] = Field(default_factory=dict)
    """Settings (`supernet.zoo_training.ZooSettings`) of all models."""
    models: dict[str, PresetModel] = Field(min_length=1)


def load_preset(name: str, dataset: str) -> tuple[Path, Preset]:
    """A preset by shipped name (`bars` for `bars_<data set>`) or from a file, and its path.

    Raises:
        ConfigError: unknown name, unreadable file, or a preset of another data set.
    """
    base = dataset.partition(":")[0]
    shipped = configs.names("training")
    path = configs.resolve("training", f"{name}_{base}" if f"{name}_{base}" in shipped else name)
    preset = validate(Preset, configs.read_yaml(path), str(path))
    if preset.dataset != base:
        raise ConfigError(f"{path}: dataset: {preset.dataset!r}: the preset of another data set than --data {dataset}")
    return path, preset


@dataclass(frozen=True)
class Job:
    """What is trained, without its seed."""

    name: str
    network: CtrModel | Genotype
    settings: ZooSettings | FinalSettings
    dataset: Dataset
    published_auc: float | None = None

    def folder(self) -> Path:
        """A run folder that goes with the network, the settings and the data: runs/train/<model>-<data set>-<digest>."""
        facts = [self.network.model_dump(mode="json"), self.settings.model_dump(mode="json"), self.dataset.digest]
        digest = sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:8]
        return Path("runs") / "train" / f"{self.name}-{self.dataset.name.partition(':')[0]}-{digest}"


def load_job(name: str, data: str, preset: str | None, changes: Mapping[str, Any]) -> Job:
    """A zoo model by name or from its YAML file, or a genotype by shipped name or from its JSON file, ready to train.

    Args:
        name: of the model.
        data: of the data set, which gives the tables.
        preset: sizes and settings of zoo models; None for the shipped sizes and the default settings.
        changes: settings by key, and keys of a zoo model's file by `model.KEY`.

    Raises:
        ConfigError: an unknown name or key, or an invalid value.
        DataError: the data set is not there.
    """
    from supernet.provider import provider as genotypes
    from workloads.data import open_dataset

    if Path(name).suffix == ".json" or name in genotypes.names():
        if preset is not None:
            raise ConfigError(f"--preset {preset}: presets are of zoo models; {name} is a genotype")
        return _genotype_job(name, open_dataset(data), changes)
    model = {key.removeprefix("model."): value for key, value in changes.items() if key.startswith("model.")}
    training = {key: value for key, value in changes.items() if not key.startswith("model.")}
    published = None
    if preset is not None:
        path, found = load_preset(preset, data)
        if name not in found.models:
            raise ConfigError(f"{path}: models: {unknown_name('model', name, found.models)}")
        chosen, published = found.models[name], None if changes else found.models[name].published_auc
        model, training = {**chosen.model, **model}, {**found.training, **chosen.training, **training}
    return _zoo_job(name, open_dataset(data), model, training, published)


def _zoo_job(name: str, dataset: Dataset, model: dict[str, Any], training: dict[str, Any], published: float | None) -> Job:
    from supernet.zoo_training import ZooSettings
    from workloads.zoo import provider
    from workloads.zoo.datasets import fields_of

    settings = validate(ZooSettings, training, "training settings")
    network = provider.model(name, fields_of(dataset.schema), model)
    outputs = network.network().nodes[-1].operator.out_shape
    if outputs != (1,):
        raise ConfigError(f"{name}: {outputs} outputs: a model of one click is trained, with outputs (1,)")
    return Job(Path(name).stem, network, settings, dataset, published)


def _genotype_job(name: str, dataset: Dataset, changes: Mapping[str, Any]) -> Job:
    from cosearch.commands.genotype import read_genotype
    from supernet.final import FinalSettings

    for key in changes:
        if key.startswith("model."):
            raise ConfigError(f"--set {key}: a genotype has no such keys; edit its file")
    path = Path(name) if Path(name).suffix == ".json" else configs.config_root() / "genotypes" / f"{name}.json"
    return Job(path.stem, read_genotype(path)[0], validate(FinalSettings, dict(changes), "training settings"), dataset)


def train(job: Job, seeds: int, folder: Path, say: Say) -> dict[str, Any]:
    """Trains with seeds 0, 1 ... `seeds` - 1, or goes on where it stopped, and sums up.

    Args:
        job: what.
        seeds: how many.
        folder: gets `seed<i>/` (see `supernet.zoo_training.train_zoo`, `supernet.final.train_alone`), `result.json` and `runs.csv`.
        say: gets a line an epoch.

    Returns:
        What is in `result.json`: of AUC and log loss on the test rows the mean and, from two seeds on, the sample standard
        deviation; multiply-accumulates and trained values; mean processor seconds of an epoch; and every run.

    Raises:
        RunError: the folder belongs to another model, other settings or other data.
    """
    from supernet.runs import save_atomically

    runs = [train_seed(job, seed, folder / f"seed{seed}", say) for seed in range(seeds)]
    macs, parameters = job_size(job)
    result = {
        "model": job.name,
        "data": job.dataset.name,
        "seeds": seeds,
        **{key: spread([run["test"][key] for run in runs]) for key in ("auc", "logloss")},
        "published_auc": job.published_auc,
        "macs": macs,
        "parameters": parameters,
        "seconds_per_epoch": statistics.mean(run["seconds_per_epoch"] for run in runs),
        "settings": job.settings.model_dump(mode="json"),
        "runs": runs,
    }
    save_atomically(result, folder / "result.json")
    (folder / "runs.csv").write_text(_csv(runs), encoding="utf-8")
    return result


def train_seed(job: Job, seed: int, folder: Path, say: Say) -> dict[str, Any]:
    """One run, in a folder of its own: its scores, epochs and processor seconds of an epoch."""
    from supernet.genotype import Genotype

    run = _genotype_run if isinstance(job.network, Genotype) else _zoo_run
    return {"seed": seed, **run(job, seed, folder, lambda line: say(f"{job.name}, seed {seed}: {line}"))}


def _zoo_run(job: Job, seed: int, folder: Path, say: Say) -> dict[str, Any]:
    from supernet.zoo_training import Epoch, train_zoo

    def progress(epoch: Epoch) -> None:
        say(f"epoch {epoch.number}, validation AUC {epoch.valid.auc:.5f}, {epoch.cpu_seconds:.1f} s of processor time")

    done = train_zoo(job.network, job.dataset, job.settings, folder, seed, progress)  # type: ignore[arg-type]
    assert done.test is not None
    scores = {"valid": done.valid._asdict(), "test": done.test._asdict()}
    return {**scores, "epochs": len(done.history), "best_epoch": done.best_epoch, "seconds_per_epoch": done.cpu_seconds_per_epoch}


def _genotype_run(job: Job, seed: int, folder: Path, say: Say) -> dict[str, Any]:
    from supernet.final import train_alone
    from supernet.runs import Progress

    def progress(at: Progress) -> None:
        say(f"epoch {at.done} of {at.total} at most, validation log loss {at.loss:.5f}")

    done = train_alone(job.network, job.dataset, job.settings, folder, seed, progress)  # type: ignore[arg-type]
    assert done.test is not None
    scores = {"valid": done.valid._asdict(), "test": done.test._asdict()}
    return {**scores, "epochs": done.epochs, "best_epoch": done.best_epoch, "seconds_per_epoch": done.seconds / done.epochs}


def job_size(job: Job) -> tuple[int, int]:
    """Multiply-accumulates of one sample, and trained values with the tables."""
    import math

    from supernet.genotype import Genotype
    from supernet.lowering import count

    schema = job.dataset.schema
    if isinstance(job.network, Genotype):
        macs, parameters = count(job.network.canonical(), len(schema.dense), len(schema.sparse))
        tables = zip(schema.cardinalities, job.network.for_tables(len(schema.sparse)), strict=True)
        return macs, parameters + sum(rows * dim for rows, (dim, _) in tables)
    network = job.network.network()
    return network.macs, sum(math.prod(shape) for shape in network.parameter_shapes().values())


def spread(values: list[float]) -> dict[str, float | None]:
    """Mean and, of two or more, the sample standard deviation."""
    return {"mean": statistics.mean(values), "std": statistics.stdev(values) if len(values) > 1 else None}


def _csv(runs: list[dict[str, Any]]) -> str:
    """One line a run."""
    flat = [
        {f"{key}_{part}" if isinstance(value, dict) else key: v for key, value in run.items() for part, v in _parts(value)} for run in runs
    ]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(flat[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return text.getvalue()


def _parts(value: Any) -> list[tuple[str, Any]]:
    return list(value.items()) if isinstance(value, dict) else [("", value)]
