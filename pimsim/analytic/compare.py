"""Closed forms beside the event engine: a seeded draw of operators, devices and overrides, errors of latency and rank correlation."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from pimsim.analytic.estimate import Estimator, estimate, traces
from pimsim.dram.standard import resolve_timing
from pimsim.engine.costs import CostCache
from pimsim.errors import ConfigError
from pimsim.graph import AnyPrimitive, Elementwise, Gather, IndexSource, MatMul, Product, Reduce, Table, Workload
from pimsim.spec.device import DeviceSpec, load_device

PLAIN = ("ddr4_3200", "ddr5_4800", "lpddr5_6400", "gddr6_14000", "hbm2_2000", "hbm3_5200")
ONE_RANK = ("gddr6_14000", "hbm2_2000")
TIMINGS = {"nRP": (0.6, 1.8), "nRC": (1.0, 1.5), "nFAW": (0.7, 1.6), "nCCDL": (0.8, 1.6), "nREFI": (0.7, 1.5)}
"""Clocks that are scaled by a factor drawn between the two."""
ALONE: dict[str, Any] = {"host.llc_bytes": 1, "host.max_outstanding_lines": None, "host.dispatch_ns": 0}
"""So that the host's operators stream their weights, and neither a fixed time nor the cores' limit of look-ups hides the memory's."""
DRAWS: tuple[tuple[str, str, int], ...] = (
    *((device, operator, share) for device in PLAIN for operator, share in (("gather", 4), ("matmul", 4), ("elementwise", 2))),
    *(("hbm_pim", operator, share) for operator, share in (("matmul", 8), ("elementwise", 5), ("gather", 4))),
    *(("gddr6_aim", operator, share) for operator, share in (("matmul", 7), ("elementwise", 3))),
    *(("upmem", operator, share) for operator, share in (("matmul", 4), ("elementwise", 3), ("gather", 5))),
    *((device, "gather", 5) for device in ("tensordimm", "recnmp", "trim_g", "trim_b")),
    *((device, operator, 3) for device in ("hbm_pim", "gddr6_aim", "upmem") for operator in ("dot", "reduce")),
    *((device, "reduce", 2) for device in ("tensordimm", "recnmp", "trim_g", "trim_b")),
)
"""Device, operator and how often it is drawn in every turn of the list."""


@dataclass(frozen=True)
class Point:
    """One comparison: an operator on a device, and its latency at both fidelities in picoseconds."""

    device: str
    operator: str
    event_ps: float
    analytic_ps: float
    what: str

    @property
    def error(self) -> float:
        """Relative error of the closed form."""
        return abs(self.analytic_ps / self.event_ps - 1)


@dataclass(frozen=True)
class Comparison:
    """All points."""

    points: tuple[Point, ...]

    def to_json(self) -> dict[str, Any]:
        """The keys of `pimsim compare-fidelity --json`."""
        error = np.array([point.error for point in self.points])
        return {
            "median_relative_error": float(np.median(error)),
            "p95_relative_error": float(np.percentile(error, 95)),
            "kendall_tau": kendall_tau(
                np.array([point.event_ps for point in self.points]), np.array([point.analytic_ps for point in self.points])
            ),
            "points": len(self.points),
            "groups": self.groups(),
        }

    def groups(self) -> list[dict[str, Any]]:
        """Errors by operator and device."""
        rows = []
        for operator, device in sorted({(point.operator, point.device) for point in self.points}):
            error = [point.error for point in self.points if (point.operator, point.device) == (operator, device)]
            figures = {"median": float(np.median(error)), "p95": float(np.percentile(error, 95)), "worst": max(error)}
            rows.append({"operator": operator, "device": device, "points": len(error)} | figures)
        return rows


def kendall_tau(first: np.ndarray, second: np.ndarray) -> float:
    """Kendall's tau-b of two samples."""
    upper = np.triu_indices(len(first), 1)
    x, y = (np.sign(values[:, None] - values[None, :])[upper] for values in (first, second))
    return float((x * y).sum() / math.sqrt(float((x != 0).sum()) * float((y != 0).sum())))


def compare(count: int, seed: int = 0, progress: Callable[[int, int], None] | None = None) -> Comparison:
    """Draws `count` points and measures them at both fidelities.

    Args:
        count: Points.
        seed: Seed of the draw.
        progress: Called with points done and points in all.
    """
    order = [(device, operator) for device, operator, share in DRAWS for _ in range(share)]
    streams = np.random.SeedSequence(seed).spawn(4 * count)
    points: list[Point] = []
    shuffled = np.random.default_rng(np.random.SeedSequence(seed)).permutation(len(order))
    for number, stream in enumerate(streams):
        name, operator = order[shuffled[number % len(order)]]
        point = _measured(name, operator, np.random.default_rng(stream))
        if point is not None:
            points.append(point)
            if progress is not None:
                progress(len(points), count)
        if len(points) == count:
            break
    return Comparison(tuple(points))


def _measured(name: str, operator: str, rng: np.random.Generator) -> Point | None:
    """One point; None for a draw that the device refuses."""
    overrides = _overrides(name, operator, rng)
    item, batch = _item(name, operator, rng)
    source = IndexSource(kind="uniform", seed=int(rng.integers(1 << 20)))
    if rng.random() < 0.5:
        source = IndexSource(kind="zipf", exponent=round(float(rng.uniform(0.5, 1.2)), 2), seed=int(rng.integers(1 << 20)))
    work = Workload(name="point", batch=batch, operators=(item,), indices=source, folder=".")
    try:
        device = load_device(name, overrides)
        event, analytic = _latencies(device, work, item, batch)
    except ConfigError:
        return None
    shape = item.model_dump(mode="json", exclude={"name", "inputs"})
    return Point(name, operator, event, analytic, f"{overrides} batch {batch} {source.kind} {shape}")


def _latencies(device: DeviceSpec, work: Workload, item: AnyPrimitive, batch: int) -> tuple[float, float]:
    """Event and analytic latency: within a model on plain memories, the kernel alone on units."""
    if device.unit is None:
        event = CostCache().costs(work, device, batch)[item.name].latency_ps
        return float(event), float(estimate(work, [device]).latency_ps[0, 0])
    trace = traces(work, batch)[item.name] if isinstance(item, Gather) else None
    run = device.unit.run_kernel(item, device, batch, trace.lookups if trace else None)
    estimated = Estimator([device]).kernel(item, batch, trace)
    return float(run.cycles * resolve_timing(device.dram)["tCK_ps"]), float(estimated.latency_ps[0])


def _overrides(name: str, operator: str, rng: np.random.Generator) -> dict[str, Any]:
    """Channels, ranks, timing and the unit's own numbers."""
    found: dict[str, Any] = dict(ALONE) if name in PLAIN else {}
    if name in PLAIN or rng.random() < 0.5:
        found["dram.channels"] = int(rng.choice([1, 2, 4, 8] if name in (*PLAIN, "recnmp", "trim_g", "trim_b") else [1, 4, 8, 16]))
    if name in PLAIN and name not in ONE_RANK and rng.random() < 0.4:
        found["dram.ranks"] = 2
    if name != "upmem" and rng.random() < 0.4:
        base = load_device(name).dram
        ticks = 2 if base.standard == "hbm3" else 1
        timing = {key: clocks for key, clocks in resolve_timing(base).items() if key in TIMINGS}
        for key in rng.choice(sorted(timing), 2, replace=False):
            found[f"dram.timing.{key}"] = max(1, round(timing[key] / ticks * float(rng.uniform(*TIMINGS[str(key)]))))
    own: dict[str, dict[str, list[Any]]] = {
        "hbm_pim": {"unit.clock_mhz": [125, 200, 250, 300], "unit.simd_lanes": [8, 16, 32], "unit.units_per_channel": [4, 8, 16]},
        "upmem": {"unit.tasklets": [8, 12, 16], "unit.clock_mhz": [300, 350, 450], "unit.tile_bytes": [512, 1024]},
        "gddr6_aim": {"unit.global_buffer_bytes": [1024, 2048]},
        "recnmp": {"unit.rank_cache_bytes": [0, 65536, 131072], "unit.adder_clock_mhz": [150, 250]},
        "trim_g": {"unit.hot_share": [0.0, 0.0005], "unit.rank_bits_per_clock": [14, 28]},
        "trim_b": {"unit.hot_share": [0.0, 0.0005], "unit.rank_bits_per_clock": [14, 28]},
    }
    for key, allowed in own.get(name, {}).items():
        if rng.random() < 0.3:
            found[key] = rng.choice(allowed).item()
    if name == "hbm_pim" and operator == "gather":
        found["mapping.tables"] = str(rng.choice(["row", "striped"]))
    return found


def _item(name: str, operator: str, rng: np.random.Generator) -> tuple[AnyPrimitive, int]:
    """An operator and its batch."""
    batch = int(rng.choice([1, 2, 4, 8, 16]))
    bits = {"gddr6_aim": [16], "hbm_pim": [8, 16], "upmem": [8, 16, 32]}.get(name, [8, 16, 32])
    if operator == "matmul":
        wide, deep = (int(2 ** rng.uniform(6, 11.5)) for _ in range(2))
        return MatMul.model_validate(
            {"name": "matmul", "out_features": wide, "in_features": deep, "weight_bits": int(rng.choice(bits))}
        ), batch
    if operator == "elementwise":
        functions = {"gddr6_aim": ["mul", "relu"], "upmem": ["add", "mul", "relu"]}.get(name, ["add", "mul", "relu"])
        function = str(rng.choice(functions))
        size = int(2 ** rng.uniform(12, 19))
        width, operands = int(rng.choice(bits)), 1 if function == "relu" else 2
        shape = {"name": "elementwise", "function": function, "operands": operands, "elements": size, "activation_bits": width}
        return Elementwise.model_validate(shape), batch
    if operator == "dot":
        m, k = int(2 ** rng.uniform(2, 6.5)), int(2 ** rng.uniform(3, 8))
        shape = {"name": "dot", "m": m, "n": m, "k": k, "triangle": bool(rng.random() < 0.5), "activation_bits": int(rng.choice(bits))}
        return Product.model_validate(shape), batch
    if operator == "reduce":
        outputs = int(rng.choice([1, 16, 64]))
        shape = {"name": "reduce", "elements_in": int(2 ** rng.uniform(14, 18)) // outputs * outputs, "elements_out": outputs}
        return Reduce.model_validate(shape | {"activation_bits": int(rng.choice(bits))}), batch
    tables, pooling = int(rng.choice([4, 8, 16])), int(rng.choice([1, 10, 20, 40, 80]))
    samples = max(1, min(int(rng.choice([4, 16, 64])), 12_000 // (tables * pooling)))
    rows, dim, width = int(2 ** rng.uniform(10, 18)), int(rng.choice([16, 32, 64, 128])), int(rng.choice([8, 16, 32]))
    shape = {"rows": rows, "dim": dim, "bits": width, "pooling": pooling}
    found = tuple(Table.model_validate({"name": f"t{n}", **shape}) for n in range(tables))
    return Gather(name="gather", tables=found), samples
