"""A placement problem: operators with their cost at either place, links between the places, and the memory at the units.

A placement gives every operator a side, `host` or `pim`. A result that is read on the other side crosses the link once, however many
operators read it there. What a placement costs is either *additive* (the sum of all operators and crossings: energy, or the time of a
machine that does one thing at a time) or its *makespan* (host, units and link work side by side; `cosearch.placement.makespan`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from pimsim.errors import ConfigError

Side = Literal["host", "pim"]
SIDES: tuple[Side, Side] = ("host", "pim")
Placement = Mapping[str, Side]


@dataclass(frozen=True)
class Option:
    """An operator on one side.

    Attributes:
        time_ps: From start to result.
        energy_pj: Dynamic energy.
        holds: Resources that it occupies for that time.
    """

    time_ps: float
    energy_pj: float
    holds: tuple[str, ...] = ()


@dataclass(frozen=True)
class Job:
    """One operator.

    Attributes:
        name: Unique.
        inputs: Names of the operators whose results it reads.
        options: The sides that it can run on (at least one) and what it costs there.
        result_bytes: Bytes that cross the link where a reader stands on the other side.
        resident_bytes: Memory at the units that it needs there (tables, stationary weights).
    """

    name: str
    inputs: tuple[str, ...]
    options: Mapping[Side, Option]
    result_bytes: float = 0.0
    resident_bytes: float = 0.0


@dataclass(frozen=True)
class Crossing:
    """What it takes to move a result from one side to the other.

    Attributes:
        gbps: Bandwidth in GB/s; 0: nothing crosses, `math.inf`: bytes take no time.
        latency_ps: Fixed time of each crossing.
        pj_per_byte: Energy.
    """

    gbps: float = math.inf
    latency_ps: float = 0.0
    pj_per_byte: float = 0.0

    def time_ps(self, size: float) -> float:
        """Time to move `size` bytes."""
        if self.gbps <= 0:
            return math.inf
        return self.latency_ps + size / self.gbps * 1e3

    def energy_pj(self, size: float) -> float:
        """Energy to move `size` bytes; infinite where nothing crosses."""
        return math.inf if self.gbps <= 0 else size * self.pj_per_byte


@dataclass(frozen=True)
class Problem:
    """Operators in topological order, the link and the memory.

    Raises:
        ConfigError: an operator without a side, or one that reads what does not stand before it.
    """

    jobs: Sequence[Job]
    crossing: Crossing = field(default_factory=Crossing)
    capacity_bytes: float = math.inf
    """Memory at the units."""

    def __post_init__(self) -> None:
        known: set[str] = set()
        for job in self.jobs:
            if not job.options:
                raise ConfigError(f"placement: {job.name}: runs on neither side")
            missing = [name for name in job.inputs if name not in known]
            if missing or job.name in known:
                raise ConfigError(f"placement: {job.name}: {'stands twice' if not missing else f'reads {missing[0]}, not before it'}")
            known.add(job.name)

    @cached_property
    def by_name(self) -> dict[str, Job]:
        """Every operator by its name."""
        return {job.name: job for job in self.jobs}

    @cached_property
    def readers(self) -> dict[str, tuple[str, ...]]:
        """Who reads each operator's result."""
        found: dict[str, list[str]] = {job.name: [] for job in self.jobs}
        for job in self.jobs:
            for name in dict.fromkeys(job.inputs):
                found[name].append(job.name)
        return {name: tuple(readers) for name, readers in found.items()}

    def crosses(self, name: str, placement: Placement) -> bool:
        """True when some reader of the result stands on the other side."""
        return any(placement[reader] != placement[name] for reader in self.readers[name])

    def resident(self, placement: Placement) -> float:
        """Bytes that a placement keeps at the units."""
        return sum(job.resident_bytes for job in self.jobs if placement[job.name] == "pim")

    def feasible(self, placement: Placement) -> bool:
        """True when every operator can run where it stands and the memory suffices."""
        return all(placement[job.name] in job.options for job in self.jobs) and self.resident(placement) <= self.capacity_bytes

    def all_on(self, side: Side) -> dict[str, Side]:
        """Every operator on one side, as far as it can run there."""
        return {job.name: side if side in job.options else next(iter(job.options)) for job in self.jobs}


Objective = Literal["time", "energy"]


def additive_cost(problem: Problem, placement: Placement, objective: Objective) -> float:
    """Sum of all operators and crossings: picoseconds of a machine that does one thing at a time, or picojoules."""
    total = 0.0
    for job in problem.jobs:
        total += operator_cost(job, placement[job.name], objective)
        if problem.crosses(job.name, placement):
            total += crossing_cost(problem, job, objective)
    return total


def operator_cost(job: Job, side: Side, objective: Objective) -> float:
    """What an operator costs on a side; infinite where it cannot run."""
    option = job.options.get(side)
    if option is None:
        return math.inf
    return option.time_ps if objective == "time" else option.energy_pj


def crossing_cost(problem: Problem, job: Job, objective: Objective) -> float:
    """What it costs that a job's result is read on the other side."""
    moved = problem.crossing.time_ps if objective == "time" else problem.crossing.energy_pj
    return moved(job.result_bytes)
