"""Samples with fewer look-ups than the table's pooling factor: -1 entries cost nothing, on every unit that gathers and on the host."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pimsim.api import load_device, run_kernel, simulate
from pimsim.graph import Gather, IndexSource, Table, Workload
from pimsim.units.cost import LookUps


@pytest.fixture
def traces(tmp_path: Path) -> tuple[Path, Path]:
    """The same rows of two tables, once with gaps, once with the gaps closed by repeating a row already there."""
    rng = np.random.default_rng(3)
    rows = {name: rng.integers(0, 5000, (16, 12)) for name in ("a", "b")}
    short = {name: np.where(np.arange(12) < rng.integers(1, 13, (16, 1)), array, -1) for name, array in rows.items()}
    np.savez(tmp_path / "short.npz", **short)
    np.savez(tmp_path / "full.npz", **rows)
    return tmp_path / "short.npz", tmp_path / "full.npz"


ITEM = Gather(name="look_up", tables=tuple(Table(name=name, rows=5000, dim=32, pooling=12) for name in ("a", "b")))


def test_gaps_are_no_look_ups() -> None:
    found = LookUps.of([np.array([[4, -1], [5, 6]]), np.array([[-1], [7]])])
    assert found.index.tolist() == [4, 5, 6, 7]
    assert found.table.tolist() == [0, 0, 0, 1] and found.sample.tolist() == [0, 1, 1, 1]


@pytest.mark.parametrize("device", ["recnmp", "tensordimm", "trim_g", "upmem", "hbm_pim"])
def test_units_read_only_what_is_there(device: str, traces: tuple[Path, Path]) -> None:
    short, full = (run_kernel(load_device(device), ITEM, 16, IndexSource(kind="file", path=str(path))) for path in traces)
    assert short.baseline.cycles < full.baseline.cycles
    if device == "upmem":  # its slowest DPU has two look-ups in both
        assert 0 < short.cycles <= full.cycles and sum(short.commands.values()) <= sum(full.commands.values())
    else:
        assert 0 < short.cycles < full.cycles


def test_host_reads_only_what_is_there(traces: tuple[Path, Path]) -> None:
    device = load_device("ddr4_3200", {"host.llc_bytes": 65536})
    for fidelity in ("event", "analytic"):
        reports = []
        for path in traces:
            model = Workload(name="m", operators=(ITEM,), indices=IndexSource(kind="file", path=str(path)), folder=".")
            reports.append(simulate(device, model, 8, fidelity))
        assert 0 < reports[0].latency_us["mean"] < reports[1].latency_us["mean"]
    read = np.load(traces[0])
    count = sum(int((read[name][:8] >= 0).sum()) for name in ("a", "b"))
    cold = load_device("ddr4_3200", {"host.cache_embeddings": False})
    model = Workload(name="m", operators=(ITEM,), indices=IndexSource(kind="file", path=str(traces[0])), folder=".")
    moved = simulate(cold, model, 8)
    assert moved.bandwidth_gbps["achieved"] * moved.latency_us["mean"] * 1e3 == pytest.approx(count * 128, rel=1e-6)
