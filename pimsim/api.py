"""The doorway: load a device, simulate workloads on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pimsim.analytic.estimate import Estimates, Estimator, estimate
from pimsim.engine.arrivals import parse_arrivals
from pimsim.engine.costs import CostCache, check_operators
from pimsim.engine.link import over_link
from pimsim.engine.orchestrate import Costs, Stream, serve
from pimsim.errors import ConfigError, unknown_name
from pimsim.graph import Workload
from pimsim.kernel_report import KernelReport, run_kernel
from pimsim.report import Report, SystemReport
from pimsim.spec.device import DeviceSpec, load_device
from pimsim.system import Load, beside, check_capacity, system_report

__all__ = [
    "CostCache",
    "Estimates",
    "Estimator",
    "KernelReport",
    "Load",
    "Report",
    "SystemReport",
    "estimate",
    "load_device",
    "load_workload",
    "run_kernel",
    "simulate",
    "simulate_together",
]

FIDELITIES = ("event", "analytic")
BATCHES = 1000
MOST_OPERATORS = 200_000


def simulate(
    device: DeviceSpec,
    workload: Workload,
    batch: int | None = None,
    fidelity: str = "event",
    arrivals: str = "closed",
    costs: CostCache | None = None,
    seed: int = 0,
    batches: int = BATCHES,
) -> Report:
    """Simulates a workload on a device.

    Args:
        device: The device.
        workload: The operator graph with its index source.
        batch: Samples per batch; the workload's own when None.
        fidelity: `event`: every memory access is a command of the engine; `analytic`: closed forms of the same mechanisms.
        arrivals: `closed` (one batch after the other, each starts when the one before has ended), `closed:N`, `closed:N:THINK_US`,
            `poisson:RATE` with RATE samples per second arriving in batches, or `trace:FILE`; see `pimsim.engine.arrivals`.
        costs: Cache of operator costs to share between calls (event fidelity).
        seed: Seed of the arrival times.
        batches: Batches to simulate where arrivals go on for ever.

    Raises:
        ConfigError: bad batch, fidelity, arrivals, or tables that do not fit.
    """
    return simulate_together(device, [Load(workload, batch, arrivals)], fidelity, costs, seed, batches).models[0]


def simulate_together(
    device: DeviceSpec,
    loads: Sequence[Load],
    fidelity: str = "event",
    costs: CostCache | None = None,
    seed: int = 0,
    batches: int = BATCHES,
) -> SystemReport:
    """Simulates several models that share a device's host, memory and units.

    Args:
        device: The device.
        loads: Each model with its batch and its arrivals.
        fidelity: As for `simulate`.
        costs: As for `simulate`.
        seed: Seed of all arrival times.
        batches: Batches that every model ends at least, where arrivals go on for ever; beyond `MOST_OPERATORS` operators a run stops
            earlier, and each report tells its own number.

    Raises:
        ConfigError: as for `simulate`; tables of all models that do not fit together.
    """
    if fidelity not in FIDELITIES:
        raise ConfigError("--fidelity: " + unknown_name("fidelity", fidelity, FIDELITIES))
    if not loads or batches < 1:
        raise ConfigError(f"--batches: {batches}: must be at least 1, with at least one workload")
    processes = [
        parse_arrivals(load.arrivals, load.samples, np.random.SeedSequence(seed, spawn_key=(number,))) for number, load in enumerate(loads)
    ]
    check_capacity(device, loads)
    check_operators(device, [load.workload for load in loads])
    shared = costs or CostCache()
    found = [_costs(beside(device, loads, number), load, fidelity, shared) for number, load in enumerate(loads)]
    alone = len(loads) == 1 and loads[0].arrivals == "closed"  # every batch is like the first
    linked = [over_link(load.workload, cost, device, load.samples) for load, cost in zip(loads, found, strict=True)]
    streams = [Stream(graph, cost, process) for (graph, cost), process in zip(linked, processes, strict=True)]
    served = serve(streams, 1 if alone else batches, MOST_OPERATORS)
    endless = not alone and all(process.endless for process in processes)
    return system_report(device, loads, linked, served, fidelity, seed, endless)


def _costs(device: DeviceSpec, load: Load, fidelity: str, costs: CostCache) -> Costs:
    if fidelity == "analytic":
        found = estimate(load.workload, [device], load.samples)
        return {name: each.one(0) for name, each in zip(found.operators, found.costs, strict=True)}
    return costs.costs(load.workload, device, load.samples)


def load_workload(name: str, **options: Any) -> Workload:
    """A workload by name (from the `pimsim.workloads` entry points) or from a `.json` or `.yaml` file.

    A provider may also claim names of another form (`model.onnx`, `my_model.py:build`, `genotype.json:avazu`).

    Args:
        name: the name or the file.
        options: for the provider that claims the name (`allow_unsupported`).

    Raises:
        ConfigError: unknown name or unreadable file.
    """
    from importlib.metadata import entry_points
    from pathlib import Path

    path = Path(name)
    providers = [entry.load() for entry in entry_points(group="pimsim.workloads")]
    for provider in providers:
        if hasattr(provider, "claims") and provider.claims(name):
            return provider.load(name, **options)
    if path.suffix == ".json":
        return Workload.load(path)
    if path.suffix in {".yaml", ".yml"}:
        for provider in providers:
            return provider.load(name)
    for provider in providers:
        if name in provider.names():
            return provider.load(name)
    raise ConfigError(unknown_name("workload", name, [n for provider in providers for n in provider.names()]))
