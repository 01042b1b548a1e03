"""Closed forms of products of two activations and of sums beside the event engine, and many devices at once beside one at a time."""

from __future__ import annotations

import numpy as np
import pytest

from pimsim.analytic.estimate import Estimator
from pimsim.api import load_device, run_kernel
from pimsim.graph import Product, Reduce

CHANNELS = {"hbm_pim": [1, 4, 16], "gddr6_aim": [1, 4, 16]}
WIDTHS = {"gddr6_aim": [16], "hbm_pim": [8, 16, 32], "upmem": [8, 16, 32]}


def drawn(kind: str, name: str, rng: np.random.Generator) -> tuple[Product | Reduce, int, dict[str, object]]:
    overrides: dict[str, object] = {}
    if name in CHANNELS:
        overrides = {"dram.channels": int(rng.choice(CHANNELS[name])), "dram.timing.nRP": int(rng.integers(12, 36))}
    bits, batch = int(rng.choice(WIDTHS.get(name, [16, 32]))), int(rng.choice([4, 16, 32]))
    if kind == "dot":
        m, k = int(2 ** rng.uniform(2, 6.5)), int(2 ** rng.uniform(3, 8))
        shape = {"m": m, "n": m, "k": k, "triangle": bool(rng.random() < 0.5)}
        return Product.model_validate({"name": "p", "activation_bits": bits} | shape), batch, overrides
    outputs = int(rng.choice([1, 16, 64]))
    count = int(2 ** rng.uniform(14, 18)) // outputs
    return (
        Reduce.model_validate({"name": "r", "elements_in": count * outputs, "elements_out": outputs, "activation_bits": bits}),
        4,
        overrides,
    )


@pytest.mark.parametrize(
    ("name", "kind"),
    [(name, kind) for name in ("hbm_pim", "gddr6_aim", "upmem") for kind in ("dot", "reduce")]
    + [(name, "reduce") for name in ("recnmp", "trim_g", "trim_b")],
)
def test_closed_forms_follow_the_event_engine(name: str, kind: str) -> None:
    """Median error of clocks at most 3 %, worst 12 % (a refresh more or less); energy within 25 % (rows opened again)."""
    rng, errors = np.random.default_rng(np.random.SeedSequence((7, len(name)))), []
    for _ in range(8):
        item, batch, overrides = drawn(kind, name, rng)
        device = load_device(name, overrides)
        event, closed = (run_kernel(device, item, batch, None, True, fidelity) for fidelity in ("event", "analytic"))
        errors.append(abs(closed.cycles / event.cycles - 1))
        assert event.host_baseline is not None and closed.host_baseline is not None
        assert closed.host_baseline.cycles == pytest.approx(event.host_baseline.cycles, rel=0.1)
        assert closed.macs == event.macs and closed.baseline.what == event.baseline.what
        if event.energy_pj["total"] is not None:
            assert closed.energy_pj["total"] == pytest.approx(event.energy_pj["total"], rel=0.25)
            assert closed.energy_pj.keys() >= {part for part, value in event.energy_pj.items() if value}
        columns = "MAC16" if name == "gddr6_aim" else "RD"
        if columns in event.commands and name not in ("recnmp", "trim_g"):
            assert closed.commands[columns] == event.commands[columns]
    assert np.median(errors) <= 0.03 and max(errors) <= 0.12, errors


@pytest.mark.parametrize("kind", ["dot", "reduce"])
def test_many_devices_at_once_equal_one_at_a_time(kind: str) -> None:
    item, batch, _ = drawn(kind, "upmem", np.random.default_rng(3))
    devices = [load_device("hbm_pim", {"dram.channels": n, "unit.units_per_channel": u}) for n in (1, 8) for u in (4, 8)]
    devices += [load_device("gddr6_aim", {"dram.channels": n}) for n in (2, 16)] + [load_device("upmem")]
    together = Estimator(devices).kernel(item, batch, None, True)
    for number, device in enumerate(devices):
        alone = Estimator([device]).kernel(item, batch, None, True)
        assert together.latency_ps[number] == alone.latency_ps[0]
        assert all(together.energy_pj[part][number] == pytest.approx(value[0], nan_ok=True) for part, value in alone.energy_pj.items())
