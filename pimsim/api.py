"""The doorway: load a device, simulate a workload on it."""

from __future__ import annotations

import math
import platform

import numpy as np

from pimsim import __version__
from pimsim.dram.standard import resolve_timing
from pimsim.energy.dram import background_power_mw, command_energy_pj
from pimsim.engine.costs import CostCache
from pimsim.engine.dram import peak_bandwidth_gbps
from pimsim.engine.orchestrate import Span, critical_path, schedule
from pimsim.errors import ConfigError, unknown_name
from pimsim.graph import Workload
from pimsim.kernel_report import KernelReport, run_kernel
from pimsim.report import OperatorRow, Report
from pimsim.spec.device import DeviceSpec, load_device
from pimsim.units.cost import OperatorCost, add_up

__all__ = ["CostCache", "KernelReport", "Report", "load_device", "load_workload", "run_kernel", "simulate"]

FIDELITIES = ("event",)
POISSON_BATCHES = 512


def simulate(
    device: DeviceSpec,
    workload: Workload,
    batch: int | None = None,
    fidelity: str = "event",
    arrivals: str = "closed",
    costs: CostCache | None = None,
    seed: int = 0,
) -> Report:
    """Simulates a workload on a device.

    Args:
        device: The device.
        workload: The operator graph with its index source.
        batch: Samples per batch; the workload's own when None.
        fidelity: `event`: every memory access is a command of the engine.
        arrivals: `closed` (one batch after the other, each starts when the one before has ended) or `poisson:RATE` with RATE samples per
            second arriving in batches.
        costs: Cache of operator costs to share between calls.
        seed: Seed of the arrival times.

    Raises:
        ConfigError: bad batch, fidelity, arrivals, or tables that do not fit.
    """
    if fidelity not in FIDELITIES:
        raise ConfigError("--fidelity: " + unknown_name("fidelity", fidelity, FIDELITIES))
    batch = workload.batch if batch is None else batch
    if batch < 1:
        raise ConfigError(f"--batch: {batch}: must be at least 1")
    times = _arrival_times(arrivals, batch, seed)
    cost = (costs or CostCache()).costs(workload, device, batch)
    spans = schedule(workload, cost, times)
    return _report(device, workload, batch, fidelity, arrivals, times, cost, spans, seed)


def _arrival_times(arrivals: str, batch: int, seed: int) -> list[int]:
    """Arrival times of batches in picoseconds."""
    if arrivals == "closed":
        return [0]
    kind, _, rate = arrivals.partition(":")
    try:
        per_second = float(rate)
    except ValueError:
        per_second = 0.0
    if kind != "poisson" or not 0 < per_second < float("inf"):
        raise ConfigError(f"--arrivals: {arrivals!r}: expected closed or poisson:RATE with RATE > 0 in samples per second")
    gaps = np.random.default_rng(np.random.SeedSequence(seed)).exponential(1e12 * batch / per_second, POISSON_BATCHES)
    return [int(t) for t in np.cumsum(gaps)]


def _report(
    device: DeviceSpec,
    workload: Workload,
    batch: int,
    fidelity: str,
    arrivals: str,
    times: list[int],
    cost: dict[str, OperatorCost],
    spans: list[dict[str, Span]],
    seed: int,
) -> Report:
    ends = np.array([max(span.end_ps for span in one.values()) for one in spans])
    latency_us = (ends - np.array(times)) / 1e6
    elapsed_ps = max(int(ends.max()) - times[0], 1)
    dynamic = add_up(*(c.energy_pj for c in cost.values()))
    standing = _standing_pj(device, elapsed_ps / len(times))
    parts = {part: value / batch / 1e6 for part, value in add_up(dynamic, standing).items() if value}
    total = sum(parts.values())
    per_sample = {part: _modelled(value) for part, value in parts.items()}
    if device.dram.io_pj_per_bit is None:
        per_sample["dram_io"] = None  # no number in the device file: left out of the total
    per_sample["total"] = _modelled(total)
    alone = spans if len(spans) == 1 else schedule(workload, cost, [0])
    rows = _rows(workload, cost, alone[0])
    moved = sum(c.external_bytes for c in cost.values()) * len(times)
    worst = max(rows, key=lambda row: row.share)
    return Report(
        device=device.name,
        workload=workload.name,
        fidelity=fidelity,
        batch=batch,
        latency_us={"mean": float(latency_us.mean())} | {f"p{q}": float(np.percentile(latency_us, q)) for q in (50, 95, 99)},
        throughput_samples_per_s=batch * len(times) / (elapsed_ps / 1e12),
        energy_uj_per_sample=per_sample,
        area_mm2=device.unit.area_mm2(device) if device.unit is not None else None,
        power_w=_modelled(total * batch * len(times) / (elapsed_ps / 1e6)),
        bandwidth_gbps={"achieved": moved / (elapsed_ps / 1000), "peak": peak_bandwidth_gbps(device.dram)},
        bottleneck=f"{worst.name} on {worst.unit}, {worst.share:.0%} of the latency, limited by {worst.limited_by}",
        operators=tuple(rows),
        provenance={
            "pimsim": __version__,
            "python": platform.python_version(),
            "device_digest": device.digest(),
            "workload_digest": workload.digest(),
            "arrivals": arrivals,
            "seed": seed,
        },
    )


def _rows(workload: Workload, cost: dict[str, OperatorCost], spans: dict[str, Span]) -> list[OperatorRow]:
    chain = critical_path(workload, spans, cost)
    critical = {span.name for span in chain}
    total = max(sum(span.end_ps - span.start_ps for span in chain), 1)
    rows = []
    for item in workload.operators:
        span, one = spans[item.name], cost[item.name]
        rows.append(
            OperatorRow(
                name=item.name,
                kind=item.op,
                unit=one.unit,
                latency_us=(span.end_ps - span.start_ps) / 1e6,
                stall_us=(span.start_ps - span.ready_ps) / 1e6,
                energy_uj=_modelled(sum(one.energy_pj.values()) / 1e6),
                share=(span.end_ps - span.start_ps) / total if item.name in critical else 0.0,
                limited_by=one.limited_by,
            )
        )
    return rows


def _modelled(value: float) -> float | None:
    """None for a sum into which something that is not modelled went."""
    return None if math.isnan(value) else value


def _standing_pj(device: DeviceSpec, elapsed_ps: float) -> dict[str, float]:
    """Energy of standing power and refresh over a time, in picojoules."""
    timing = resolve_timing(device.dram)
    rank_count = device.dram.channels * device.dram.ranks
    power, each = background_power_mw(device.dram), command_energy_pj(device.dram)
    milliwatts = power[0] * rank_count if power else math.nan  # open page: some row is open nearly always
    standing = {"dram_background": milliwatts * elapsed_ps / 1e3, "host_static": device.host.static_w * elapsed_ps}
    if device.dram.controller.refresh != "off" and timing["nREFI"]:
        refreshes = elapsed_ps / (timing["nREFI"] * timing["tCK_ps"]) * rank_count
        standing["dram_refresh"] = refreshes * each["REF"] if each else math.nan
    return standing


def load_workload(name: str) -> Workload:
    """A workload by name (from the `pimsim.workloads` entry points) or from a `.json` or `.yaml` file.

    Raises:
        ConfigError: unknown name or unreadable file.
    """
    from importlib.metadata import entry_points
    from pathlib import Path

    path = Path(name)
    if path.suffix == ".json":
        return Workload.load(path)
    providers = [entry.load() for entry in entry_points(group="pimsim.workloads")]
    if path.suffix in {".yaml", ".yml"}:
        for provider in providers:
            return provider.load(name)
    for provider in providers:
        if name in provider.names():
            return provider.load(name)
    raise ConfigError(unknown_name("workload", name, [n for provider in providers for n in provider.names()]))
