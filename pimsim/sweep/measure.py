"""Measures one point of a sweep: the device and the work with the point's values put in, simulated."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pimsim.errors import ConfigError, PimsimError
from pimsim.sweep.plan import SweepSpec, Value

KERNEL_COLUMNS = ("latency_us", "cycles", "speedup", "energy_uj", "area_mm2", "macs", "limited_by")
WORKLOAD_COLUMNS = (
    "latency_us", "latency_p95_us", "latency_p99_us", "throughput_samples_per_s", "energy_uj_per_sample", "area_mm2", "power_w",
    "bandwidth_gbps", "bottleneck",
)  # fmt: skip


@dataclass(frozen=True)
class Point:
    """One point of a sweep: its place in the order and its values."""

    id: int
    values: dict[str, Value]


@dataclass(frozen=True)
class Measure:
    """Makes the function that measures points; one cache of operator costs serves all points of a worker."""

    spec: SweepSpec

    def __call__(self) -> Callable[[Point], dict[str, Any]]:
        from pimsim.api import CostCache

        costs = CostCache()

        def measure(point: Point) -> dict[str, Any]:
            try:
                return measured(self.spec, point.values, costs) | {"error": None}
            except PimsimError as error:
                return {"error": str(error)}

        return measure


def columns(spec: SweepSpec) -> tuple[str, ...]:
    """Names of the figures of every point."""
    return KERNEL_COLUMNS if spec.kernel is not None else WORKLOAD_COLUMNS


def measured(spec: SweepSpec, values: dict[str, Value], costs: Any) -> dict[str, Any]:
    """The figures of one point; None for what is not modelled.

    Raises:
        ConfigError: a value that a device, workload or kernel refuses.
    """
    from pimsim.api import load_device

    own = {key: value for key, value in values.items() if key in ("device", "workload", "batch") or key.startswith("kernel.")}
    device = load_device(str(own.get("device", spec.device)), {**spec.set, **{k: v for k, v in values.items() if k not in own}})
    batch = own.get("batch", spec.batch)
    if batch is not None and (isinstance(batch, bool) or not isinstance(batch, int) or batch < 1):
        raise ConfigError(f"batch: {batch!r}: must be a whole number of at least 1")
    if spec.kernel is not None:
        return _kernel(spec, device, own, 1 if batch is None else batch)
    return _workload(spec, device, str(own.get("workload", spec.workload)), batch, costs)


def _kernel(spec: SweepSpec, device: Any, own: dict[str, Value], batch: int) -> dict[str, Any]:
    from pimsim.api import run_kernel
    from pimsim.spec.base import validate
    from pimsim.spec.kernel import KernelSpec

    sizes = {key.removeprefix("kernel."): value for key, value in own.items() if key.startswith("kernel.")}
    asked = validate(KernelSpec, {**(spec.kernel or {}), **sizes}, "kernel")
    report = run_kernel(device, asked.primitive(), batch, asked.source(), spec.end_to_end, spec.fidelity)
    total = report.energy_pj["total"]
    return {
        "latency_us": report.cycles * report.tck_ps / 1e6,
        "cycles": report.cycles,
        "speedup": report.baseline.cycles / report.cycles,
        "energy_uj": None if total is None else total / 1e6,
        "area_mm2": _finite(report.area_mm2),
        "macs": report.macs,
        "limited_by": report.limited_by,
    }


def _workload(spec: SweepSpec, device: Any, name: str, batch: int | None, costs: Any) -> dict[str, Any]:
    from pimsim.api import load_workload, simulate

    report = simulate(device, load_workload(name), batch, spec.fidelity, spec.arrivals, costs, spec.seed)
    return {
        "latency_us": report.latency_us["mean"],
        "latency_p95_us": report.latency_us["p95"],
        "latency_p99_us": report.latency_us["p99"],
        "throughput_samples_per_s": report.throughput_samples_per_s,
        "energy_uj_per_sample": report.energy_uj_per_sample["total"],
        "area_mm2": report.area_mm2,
        "power_w": report.power_w,
        "bandwidth_gbps": report.bandwidth_gbps["achieved"],
        "bottleneck": report.bottleneck,
    }


def _finite(value: float) -> float | None:
    return None if math.isnan(value) else value
