"""Peaks and kernels of digital PIM devices."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from pimsim.api import load_device, run_kernel
from pimsim.dram.standard import common_timing, resolve_organisation
from pimsim.engine.dram import peak_bandwidth_gbps
from pimsim.errors import ConfigError
from pimsim.spec.device import DeviceSpec
from pimsim.spec.kernel import KernelSpec
from validation.run import golden


def lanes_tflops(device: str, **overrides: Any) -> float:
    """Peak FP16 throughput of all lanes at the clock of the units, a multiply-accumulate being two operations."""
    spec, unit = _with_unit(device, overrides)
    return spec.dram.channels * unit.units_per_channel * unit.simd_lanes * 2 * unit.clock_mhz / 1e6


def fed_tflops(device: str, **overrides: Any) -> float:
    """Peak 16-bit throughput at the pace at which the banks feed the units: one multiply-accumulate for each stored element."""
    return internal_gbps(device, **overrides) / 2 * 2 / 1000


def internal_gbps(device: str, **overrides: Any) -> float:
    """Bytes a nanosecond that all units read from their banks."""
    spec, unit = _with_unit(device, overrides)
    return unit.peak_gbps(16, resolve_organisation(spec.dram), common_timing(spec.dram)) * spec.dram.channels


def internal_over_external(device: str, **overrides: Any) -> float:
    """Bandwidth of the units over that of the interface."""
    return internal_gbps(device, **overrides) / peak_bandwidth_gbps(load_device(device, overrides).dram)


def _with_unit(device: str, overrides: dict[str, Any]) -> tuple[DeviceSpec, Any]:
    spec = load_device(device, overrides)
    if spec.unit is None:
        raise ConfigError(f"{device}: has no units")
    return spec, spec.unit


def speedup(device: str, kernel: dict[str, Any], batch: int = 1, end_to_end: bool = False, **overrides: Any) -> float:
    """Time on the plain memory over time on the units."""
    asked = KernelSpec.model_validate(kernel)
    report = run_kernel(load_device(device, overrides), asked.primitive(), batch, asked.source(), end_to_end)
    return report.baseline.cycles / report.cycles


@cache
def _hbm_pim_errors(column: str) -> tuple[float, ...]:
    """Relative errors of one column over the vendor simulator's kernels, but for those that end on a refresh."""
    errors = []
    for row in json.loads(golden("pim", "hbm_pim_reference.json").read_text())["results"]:
        device = load_device("hbm_pim", {"dram.channels": row["channels"]})
        size = {"out_features": row["out_dim"], "in_features": row["in_dim"]} if row["kernel"] == "GEMV" else {"elements": row["out_dim"]}
        asked = KernelSpec.model_validate({"name": row["kernel"].lower()} | size)
        report = run_kernel(device, asked.primitive(), row.get("batch", 1))
        ours = report.cycles if column == "pim_cycles" else report.baseline.cycles
        errors.append(ours / row[column] - 1)
    return tuple(errors)


def hbm_pim_mean_error(column: str) -> float:
    """Mean relative error over the vendor simulator's kernels."""
    errors = _hbm_pim_errors(column)
    return sum(map(abs, errors)) / len(errors)


def hbm_pim_worst_error(column: str) -> float:
    """Largest relative error over the vendor simulator's kernels."""
    return max(map(abs, _hbm_pim_errors(column)))


def aim_worst_gemv() -> float:
    """Largest relative error in clocks over the public AiM simulator's matrix-vector kernels, refresh off as there."""
    device = load_device("gddr6_aim", {"dram.controller.refresh": "off"})
    worst = 0.0
    for row in json.loads(golden("pim", "aim_reference.json").read_text())["results"]:
        if row["trace"].startswith("gemv_"):
            out_features, in_features = map(int, row["trace"].removeprefix("gemv_").removesuffix(".trace").split("x"))
            asked = KernelSpec(name="gemv", out_features=out_features, in_features=in_features)
            worst = max(worst, abs(run_kernel(device, asked.primitive()).cycles / row["cycles"] - 1))
    return worst
