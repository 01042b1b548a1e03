"""How many (operator, device) pairs a second closed forms estimate on one core: `python benchmarks/analytic_speed.py [DEVICES]`.

Thousands of devices, drawn from the shipped ones with overrides of channels, timing, unit clocks and sizes, and a mix of operators, some
of them look-ups. Resolving the devices and drawing and counting look-ups is timed, too; the time is the process's on its core.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

from pimsim.api import Estimator, estimate, load_device
from pimsim.graph import AnyPrimitive, Elementwise, Gather, IndexSource, MatMul, Table
from pimsim.spec.device import DeviceSpec

PLAIN = ("ddr4_3200", "ddr5_4800", "lpddr5_6400", "gddr6_14000", "hbm2_2000", "hbm3_5200")


def devices(count: int, seed: int = 0) -> list[DeviceSpec]:
    """Configurations of a sweep: overrides of the shipped devices, one in three with matrix products on its units."""
    rng, found = np.random.default_rng(seed), []
    bases = {name: load_device(name) for name in (*PLAIN, "hbm_pim", "gddr6_aim", "tensordimm")}
    for number in range(count):
        base = list(bases.values())[number % len(bases)]
        timing = dict(base.dram.timing) | {"nRP": int(rng.integers(10, 40)), "nREFI": int(rng.integers(9_000, 16_000))}
        dram = base.dram.model_copy(update={"timing": timing, "channels": int(rng.choice([1, 2, 4, 8]))})
        update: dict[str, Any] = {"dram": dram}
        if base.unit is not None and hasattr(base.unit, "clock_mhz"):
            update["unit"] = base.unit.model_copy(update={"clock_mhz": float(rng.integers(100, 400))})
        if base.kind == "near-rank":
            update["dram"] = dram.model_copy(update={"channels": 8})
        found.append(base.model_copy(update=update))
    return found


def operators(seed: int = 0) -> list[AnyPrimitive]:
    """Layers of recommenders: matrix products, element-wise functions and look-ups."""
    rng, found = np.random.default_rng(seed), []
    for number in range(28):
        wide, deep = (int(2 ** rng.uniform(6, 11)) for _ in range(2))
        found.append(MatMul(name=f"fc{number}", out_features=wide, in_features=deep, weight_bits=16))
    for number in range(8):
        found.append(Elementwise(name=f"relu{number}", function="relu", operands=1, elements=int(2 ** rng.uniform(8, 14))))
    for number, dim in enumerate((16, 32, 64, 128)):
        tables = tuple(Table(name=f"g{number}t{n}", rows=100_000, dim=dim, bits=16, pooling=20) for n in range(8))
        found.append(Gather(name=f"gather{number}", tables=tables))
    return found


def measured(count: int = 4000) -> dict[str, float]:
    """Pairs a second, devices resolved or not yet."""
    specs, work, source = devices(count), operators(), IndexSource(kind="zipf")
    estimate(work, specs[:9], 16, source)
    began = time.process_time()
    estimator = Estimator(specs)
    resolved = time.process_time()
    found = estimate(work, estimator, 16, source)
    ended = time.process_time()
    again = time.process_time()
    estimate(work, estimator, 16, source)
    last = time.process_time()
    assert np.isfinite(found.latency_ps).all() and (found.latency_ps > 0).all()
    pairs = len(work) * len(specs)
    return {
        "pairs": pairs,
        "pairs_per_second": pairs / (ended - began),
        "resolving_seconds": resolved - began,
        "pairs_per_second_resolved": pairs / (last - again),
    }


if __name__ == "__main__":
    for name, value in measured(int(sys.argv[1]) if len(sys.argv) > 1 else 4000).items():
        print(f"{name:28s}{value:12,.2f}")
