"""Errors of HBM-PIM kernels against the vendor's simulator, by kernel: clocks with the units and on the plain memory, command counts.

    python benchmarks/pim_accuracy.py

Reads `../shared/golden/pim/hbm_pim_reference.json`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pimsim.graph import Elementwise, MatMul
from pimsim.spec.device import load_device
from pimsim.units.plain import plain_memory

GOLDEN = Path(__file__).parents[2] / "shared" / "golden" / "pim" / "hbm_pim_reference.json"


def item_of(reference: dict[str, Any]) -> MatMul | Elementwise:
    """The kernel of one reference run."""
    name, out, into = reference["kernel"].lower(), reference["out_dim"], reference["in_dim"]
    if name == "gemv":
        return MatMul(name=name, out_features=out, in_features=into, weight_bits=16, activation_bits=16)
    return Elementwise(name=name, function=name, elements=out, operands=1 if name == "relu" else 2, activation_bits=16)


def main() -> None:
    if not GOLDEN.is_file():
        raise SystemExit(f"{GOLDEN}: not found")
    found: dict[str, list[tuple[float, float, bool]]] = {}
    for reference in json.loads(GOLDEN.read_text())["results"]:
        device = load_device("hbm_pim", {"dram.channels": reference["channels"]})
        assert device.unit is not None
        run = device.unit.run_kernel(item_of(reference), device, reference["batch"])
        plain = plain_memory(item_of(reference), device, reference["batch"], None).cycles
        expected = reference["pim_cmds_per_channel"]
        same = all(run.commands.get(name, 0) == expected[name] for name in expected)
        errors = run.cycles / reference["pim_cycles"] - 1, plain / reference["hbm_cycles"] - 1
        found.setdefault(reference["kernel"], []).append((abs(errors[0]), abs(errors[1]), same))
    print(f"{'kernel':8}{'runs':>5}{'units: mean':>13}{'worst':>9}{'plain: mean':>13}{'worst':>9}{'counts equal':>14}")
    for name, rows in found.items():
        units, plains, equal = zip(*rows, strict=True)
        means = [f"{sum(errors) / len(rows):.2%}" for errors in (units, plains)]
        print(f"{name:8}{len(rows):>5}{means[0]:>13}{max(units):>9.2%}{means[1]:>13}{max(plains):>9.2%}{sum(equal):>14}")


if __name__ == "__main__":
    main()
