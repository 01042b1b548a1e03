"""What a sweep file asks for, and the points it stands for.

    device: hbm_pim
    kernel: {name: gemv, out_features: 4096, in_features: 4096}      # or workload: rm1
    method: grid                                                     # grid, random or list
    parameters:
      unit.simd_lanes: [8, 16, 32]
      dram.timing.nCCDL: {low: 2, high: 8}                           # whole numbers stay whole; `steps` for grids, `log: true`
      batch: [1, 8]
    plots: [{x: area_mm2, y: latency_us, color: unit.simd_lanes}]

A parameter is `device`, `workload`, `batch`, `kernel.SIZE` or any key of the device file that `--set` knows.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field, PositiveInt, model_validator

from pimsim import configs
from pimsim.errors import ConfigError
from pimsim.spec.base import Spec, validate

Value = bool | int | float | str


class Range(Spec):
    """Numbers from `low` to `high`, both included."""

    low: int | float
    high: int | float
    steps: PositiveInt | None = None
    """Values of a grid; without it every whole number."""
    log: bool = False
    """Spaced (or drawn) evenly in the logarithm."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.high < self.low or (self.log and self.low <= 0):
            raise ValueError(f"low {self.low}, high {self.high}: low must not be above high, and above 0 for log")
        return self

    @property
    def whole(self) -> bool:
        """True when only whole numbers are meant."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def values(self) -> list[Value]:
        """The values of a grid, in order, each once."""
        if self.steps is None:
            if not self.whole:
                raise ValueError("steps is missing (a grid over fractions needs it)")
            return list(range(int(self.low), int(self.high) + 1))
        spaced = np.geomspace(self.low, self.high, self.steps) if self.log else np.linspace(self.low, self.high, self.steps)
        return list(dict.fromkeys(round(float(v)) if self.whole else float(v) for v in spaced))

    def draw(self, rng: np.random.Generator) -> Value:
        """One value drawn at random."""
        if self.log:
            value = float(np.exp(rng.uniform(np.log(self.low), np.log(self.high))))
            return round(value) if self.whole else value
        return int(rng.integers(int(self.low), int(self.high) + 1)) if self.whole else float(rng.uniform(self.low, self.high))


class Plot(Spec):
    """One chart: two columns of the results, and what colours the points."""

    x: str
    y: str
    color: str | None = None


class SweepSpec(Spec):
    """A sweep file."""

    device: str
    workload: str | None = None
    """Workload to run; or `kernel`."""
    kernel: dict[str, Any] | None = None
    """Kernel to run, as the options of `pimsim kernel`."""
    batch: PositiveInt | None = None
    """Samples per batch; without it the workload's own, 1 for a kernel."""
    fidelity: str = "event"
    arrivals: str = "closed"
    end_to_end: bool = False
    """Kernels: count reading results back and the host's share, too."""
    set: dict[str, Value] = Field(default_factory=dict)
    """Device keys that every point shares."""
    method: Literal["grid", "random", "list"] = "grid"
    samples: PositiveInt = 100
    """Points of a random sweep."""
    seed: int = 0
    """Seed of a random sweep and of arrivals."""
    parameters: dict[str, Annotated[list[Value], Field(min_length=1)] | Range] = Field(default_factory=dict)
    """Grid and random: what varies."""
    points: list[dict[str, Value]] = Field(default_factory=list)
    """List: the points."""
    plots: list[Plot] = Field(default_factory=list)
    """Charts; without any, latency over each parameter and latency over energy and area."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.workload is None) == (self.kernel is None):
            raise ValueError("give workload or kernel, one of them")
        if self.method == "list":
            if not self.points or self.parameters:
                raise ValueError("method list takes `points`, and no `parameters`")
        elif not self.parameters or self.points:
            raise ValueError(f"method {self.method} takes `parameters`, and no `points`")
        if self.method == "grid":
            for key, values in self.parameters.items():
                if isinstance(values, Range):
                    try:
                        values.values()
                    except ValueError as error:
                        raise ValueError(f"parameters.{key}: {error}") from None
        return self

    def all_points(self) -> list[dict[str, Value]]:
        """Every point in order: the last parameter of a grid varies fastest; random points are drawn one by one, never twice."""
        if self.method == "list":
            return [dict(point) for point in self.points]
        if self.method == "grid":
            values = [v.values() if isinstance(v, Range) else v for v in self.parameters.values()]
            return [dict(zip(self.parameters, chosen, strict=True)) for chosen in itertools.product(*values)]
        rng = np.random.default_rng(np.random.SeedSequence(self.seed))
        found: dict[str, dict[str, Value]] = {}
        for _ in range(20 * self.samples):
            point = {k: v.draw(rng) if isinstance(v, Range) else v[int(rng.integers(len(v)))] for k, v in self.parameters.items()}
            found.setdefault(json.dumps(point), point)
            if len(found) == self.samples:
                break
        return list(found.values())


def load_sweep(path: str | Path) -> SweepSpec:
    """A sweep by shipped name or file path; paths within it are relative to the working directory.

    Raises:
        ConfigError: unknown name, unreadable file or invalid value.
    """
    found = configs.resolve("sweeps", path)
    spec = validate(SweepSpec, configs.read_yaml(found), str(found))
    for number, point in enumerate(spec.points):
        if not point:
            raise ConfigError(f"{found}: points.{number}: empty")
    return spec
