"""Speed of HBM-PIM kernels at event fidelity: milliseconds a kernel after warm-up, one channel of 64 simulated (all do the same).

    python benchmarks/pim_speed.py --repeats 20

`kernel` is `run_kernel` of the unit alone, from the item to clocks, commands and energy; `baseline` the same work on the plain memory.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

from pimsim.graph import Elementwise, MatMul
from pimsim.spec.device import load_device
from pimsim.units.plain import plain_memory

KERNELS = (
    ("gemv 1024x1024", MatMul(name="k", out_features=1024, in_features=1024, weight_bits=16, activation_bits=16), 1),
    ("gemv 4096x4096", MatMul(name="k", out_features=4096, in_features=4096, weight_bits=16, activation_bits=16), 1),
    ("gemv 4096x4096, batch 8", MatMul(name="k", out_features=4096, in_features=4096, weight_bits=16, activation_bits=16), 8),
    ("add 1M", Elementwise(name="k", function="add", elements=1 << 20, operands=2, activation_bits=16), 1),
    ("relu 8M", Elementwise(name="k", function="relu", elements=1 << 23, operands=1, activation_bits=16), 1),
)


def milliseconds(work: Callable[[], object], repeats: int) -> float:
    """Median of `repeats` runs after one that compiles."""
    work()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=20)
    repeats = parser.parse_args().repeats
    device = load_device("hbm_pim")
    assert device.unit is not None
    unit = device.unit
    print(f"{'kernel':26}{'clocks':>10}{'kernel, ms':>12}{'baseline, ms':>14}")
    for name, item, batch in KERNELS:
        run = milliseconds(lambda item=item, batch=batch: unit.run_kernel(item, device, batch), repeats)  # type: ignore[misc]
        plain = milliseconds(lambda item=item, batch=batch: plain_memory(item, device, batch, None), max(repeats // 4, 1))  # type: ignore[misc]
        print(f"{name:26}{unit.run_kernel(item, device, batch).cycles:>10,}{run:>12.2f}{plain:>14.2f}")


if __name__ == "__main__":
    main()
