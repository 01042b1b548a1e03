"""A search as a YAML file: data, model space, hardware space, objectives, algorithm and training settings, as frozen specs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from pydantic import Field, PositiveInt, SerializeAsAny, field_validator, model_validator

from cosearch.algorithms import AlgorithmSettings, find_algorithm
from cosearch.goal import Constraint, Goal
from cosearch.metrics import METRICS
from pimsim import configs
from pimsim.errors import ConfigError, unknown_name
from pimsim.spec.base import Spec, validate

Choice = bool | int | float | str


class FinalSection(Spec):
    """What happens to the winner after the search."""

    pick: Literal["logloss", "knee"] = "logloss"
    """Which point of the front is retrained: the best supernet log loss, or the knee of the front."""
    rerank: PositiveInt = 1
    """Networks of the front, those with the best supernet log loss, that are trained alone first; the best of them on the validation rows
    is the winner. Needs `pick: logloss`."""
    training: dict[str, Any] = Field(default_factory=dict)
    """Settings of `supernet.final.FinalSettings`."""
    seeds: PositiveInt = 1
    """Trainings of the winner, and of every baseline, with the search's seed, the next one and so on."""
    baselines: tuple[str, ...] = ()
    """Models, as `cosearch train` takes them, trained on the same data with the same bounds on epochs and patience."""
    preset: str | None = None
    """Published sizes and settings of the baselines: `bars`, or a file."""

    @model_validator(mode="after")
    def _one_way_to_pick(self) -> Self:
        if self.rerank > 1 and self.pick != "logloss":
            raise ValueError(f"rerank: {self.rerank} with pick: {self.pick}; allowed with pick: logloss")
        return self


class PrefilterSection(Spec):
    """Which proposals of the algorithm are scored."""

    proxy: str
    """A zero-cost proxy of `supernet.proxies`."""
    draw: int = Field(default=4, ge=2)
    """Of so many proposals with networks of similar size only the one with the best proxy is scored."""

    @field_validator("proxy", mode="after")
    @classmethod
    def _known_proxy(cls, value: str) -> str:
        from supernet.proxies import PROXIES

        if value not in PROXIES:
            raise ValueError(unknown_name("proxy", value, PROXIES))
        return value


class TransferSection(Spec):
    """How a search starts from finished ones."""

    bank: str | None = None
    """File of the bank; `bank.db` in the cache folder if None."""
    similarity: float = Field(default=0.3, gt=0, le=1)
    """Tasks below it are not used; when none reaches it, the search is the one without transfer."""
    uniform: float = Field(default=0.2, gt=0, lt=1)
    """Probability that a gene is drawn from the space instead of taken from a design: nothing is ever out of reach."""


class Problem(Spec):
    """One search."""

    name: str
    """Shown in reports."""
    dataset: tuple[str, ...] = Field(min_length=1)
    """Data sets in order of preference: the first one found is used."""
    space: str
    """Model space: a name under `configs/spaces/` or a file."""
    device: str
    """Base device: a name under `configs/devices/` or a file."""
    hardware: dict[str, tuple[Choice, ...]]
    """The hardware space: dotted keys of the device file, each with its choices."""
    objectives: tuple[str, ...] = ("logloss", "latency_us", "energy_uj")
    """Two or more metrics; each has its own better direction."""
    constraints: dict[str, str] = Field(default_factory=dict)
    """Bounds that a candidate must keep to be on the front, each `<= NUMBER` or `>= NUMBER` by metric."""
    algorithm: SerializeAsAny[AlgorithmSettings]
    """The search algorithm, chosen by `name` (or by the path of its file), with its settings."""
    prefilter: PrefilterSection | None = None
    """Score only the most promising of the algorithm's proposals; None: all of them."""
    transfer: TransferSection | None = None
    """Start from the best designs of similar tasks in a bank; None: from random ones."""
    batch: PositiveInt = 64
    """Samples in one simulated batch."""
    arrivals: str = "closed"
    """How batches arrive, as for `pimsim run --arrivals`; with `closed`, one after the other, every latency is the same."""
    trace_samples: PositiveInt = 1024
    """Samples of the training data whose embedding indices drive the simulator."""
    seed: int = Field(default=1, ge=0)
    """Seed of everything."""
    supernet: dict[str, Any] = Field(default_factory=dict)
    """Settings of `supernet.training.TrainingSettings`."""
    scoring: dict[str, Any] = Field(default_factory=dict)
    """Settings of `supernet.scoring.ScoringSettings`."""
    final: FinalSection = FinalSection()
    """The winner's retraining."""

    @classmethod
    def model_for(cls, part: str, tree: Any) -> type[AlgorithmSettings] | None:
        """The settings class that the section's own `name` asks for."""
        if part != "algorithm" or not isinstance(tree, dict):
            return None
        try:
            return find_algorithm(str(tree.get("name", ""))).Settings
        except ConfigError:
            return None

    @field_validator("algorithm", mode="before")
    @classmethod
    def _discover_algorithm(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        try:
            return find_algorithm(str(value.get("name"))).Settings.model_validate(value)
        except ConfigError as error:
            raise ValueError(f"name: {error}") from None

    @field_validator("dataset", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("hardware")
    @classmethod
    def _distinct_choices(cls, value: dict[str, tuple[Choice, ...]]) -> dict[str, tuple[Choice, ...]]:
        for key, choices in value.items():
            if not choices or len(set(map(repr, choices))) != len(choices):
                raise ValueError(f"{key}: {list(choices)}: needs one or more distinct choices")
        return value

    @field_validator("constraints", mode="after")
    @classmethod
    def _readable_bounds(cls, value: dict[str, str]) -> dict[str, str]:
        for metric, text in value.items():
            Constraint.parse(metric, text)
        return value

    @field_validator("arrivals", mode="after")
    @classmethod
    def _readable_arrivals(cls, value: str) -> str:
        from pimsim.engine.arrivals import parse_arrivals

        try:
            parse_arrivals(value, 1, np.random.SeedSequence(0))
        except ConfigError as error:
            raise ValueError(str(error).partition(": ")[2]) from None
        return value

    @property
    def goal(self) -> Goal:
        """What the search is after."""
        bounds = tuple(Constraint.parse(metric, text) for metric, text in self.constraints.items())
        return Goal(self.objectives, bounds, self.algorithm.penalty)

    @model_validator(mode="after")
    def _known_objectives(self) -> Self:
        for name in self.objectives:
            if name not in METRICS:
                raise ValueError(f"objectives: {unknown_name('metric', name, METRICS)}")
        if len(set(self.objectives)) != len(self.objectives) or len(self.objectives) < 2:
            raise ValueError(f"objectives: {list(self.objectives)}: needs two or more different metrics")
        return self


def load_problem(name_or_path: str | Path, overrides: dict[str, Any] | None = None) -> Problem:
    """A search by shipped name or file, with dotted overrides; `hardware.dram.channels` replaces one gene's choices.

    Raises:
        ConfigError: one line with file, dotted key, value and what is allowed.
    """
    path = configs.resolve("searches", name_or_path)
    tree = configs.read_yaml(path)
    for key, value in (overrides or {}).items():
        section, _, gene = key.partition(".")
        if gene and section == "hardware" and isinstance(tree.get("hardware"), dict):
            tree["hardware"][gene] = value
        else:
            configs.set_dotted(tree, key, value)
    _locate(tree.get("algorithm"), "name", ".py", path.parent)
    _locate(tree.get("transfer"), "bank", "", path.parent)
    problem = validate(Problem, tree, str(path))
    for field in ("space", "device"):  # a path stands relative to the search file
        beside = path.parent / getattr(problem, field)
        if beside.suffix in {".yaml", ".yml"} and beside.is_file():
            problem = problem.model_copy(update={field: str(beside)})
    return problem


def _locate(section: Any, key: str, ending: str, folder: Path) -> None:
    """Makes the path of a file absolute: it stands relative to the search file, else to the working directory."""
    name = section.get(key) if isinstance(section, dict) else None
    if isinstance(name, str) and name.endswith(ending):
        section[key] = str(((folder / name) if (folder / name).is_file() else Path(name).expanduser()).resolve())


def section_settings(model: type[Spec], problem: Problem, section: str, where: str = "search") -> Any:
    """One of the settings sections (`supernet`, `scoring`, `final.training`) as the model its package asks for.

    A section without a `seed` of its own gets the search's.

    Raises:
        ConfigError: unknown key or bad value, in one line.
    """
    tree: Any = problem
    for part in section.split("."):
        tree = getattr(tree, part)
    if "seed" in model.model_fields:
        tree = {"seed": problem.seed} | tree
    try:
        return validate(model, tree, "")
    except ConfigError as error:
        raise ConfigError(f"{where}: {section}.{str(error).removeprefix(': ')}") from None
