"""The figures of one candidate: what each is, its unit, and which way is better."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Metric:
    """One figure: its label with the unit, and its sign as an objective (1 = smaller is better, -1 = larger is better)."""

    label: str
    sign: int = 1


METRICS: dict[str, Metric] = {
    "logloss": Metric("log loss"),
    "auc": Metric("AUC", -1),
    "latency_us": Metric("latency (µs per batch)"),
    "latency_p99_us": Metric("p99 latency (µs per batch)"),
    "energy_uj": Metric("energy (µJ per sample)"),
    "edp_uj_us": Metric("energy-delay product (µJ·µs)"),
    "area_mm2": Metric("PIM area (mm²)"),
    "power_w": Metric("power (W)"),
    "throughput_samples_per_s": Metric("throughput (samples/s)", -1),
    "macs": Metric("MACs per sample"),
    "parameters": Metric("parameters without tables"),
    "memory_bytes": Metric("model size (bytes, tables included)"),
}
"""Everything a candidate is measured by, and every possible objective."""


def figure_of(metrics: dict[str, float | None], name: str) -> float:
    """One figure of a candidate.

    Raises:
        ValueError: a metric that the device's model does not give.
    """
    value = metrics.get(name)
    if value is None or not np.isfinite(value):
        raise ValueError(f"{name!r} is {'not modelled' if value is None else value} for this candidate")
    return float(value)


def objectives_of(metrics: dict[str, float | None], names: tuple[str, ...]) -> tuple[float, ...]:
    """The objectives of one candidate, all to be minimised.

    Raises:
        ValueError: an objective that the device's model does not give.
    """
    return tuple(METRICS[name].sign * figure_of(metrics, name) for name in names)
