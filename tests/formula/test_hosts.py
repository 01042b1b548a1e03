"""The host by hand: corners of its roofline, Little's law, and the last-level cache from nothing to more than all tables."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

from pimsim.api import CostCache, load_device, run_kernel, simulate
from pimsim.dram.standard import resolve_organisation
from pimsim.engine.memory import lookups
from pimsim.graph import Gather, IndexSource, MatMul, Table, Workload
from pimsim.mapping.indices import draw_indices
from pimsim.mapping.placement import place
from pimsim.spec.device import DeviceSpec
from pimsim.units import host
from pimsim.units.cache import hits
from pimsim.units.cost import LookUps, OperatorCost
from pimsim.units.host_cache import row_cache, warm_hits, weight_capacity

BATCH = 8
NO_CACHE = {"host.cache_embeddings": False}
NO_LIMIT = {"host.max_outstanding_lines": None}


def model(rows: int = 100_000, pooling: int = 20, dim: int = 32, tables: int = 2, gathers: int = 1, **source: object) -> Workload:
    items = tuple(
        Gather(name=f"g{n}", tables=tuple(Table(name=f"t{n}{k}", rows=rows, dim=dim, pooling=pooling) for k in range(tables)))
        for n in range(gathers)
    )
    indices = IndexSource(**({"kind": "zipf", "exponent": 0.9} | source))  # type: ignore[arg-type]
    return Workload(name="w", batch=BATCH, operators=items, indices=indices, folder=".")


def cost(device: DeviceSpec, workload: Workload, name: str = "g0") -> OperatorCost:
    return CostCache().costs(workload, device, workload.batch)[name]


def share(megabytes: float, **more: object) -> dict[str, object]:
    """A last-level cache that has so many MiB for embedding rows."""
    return {"host.llc_bytes": int(megabytes * 2**21), "host.llc_embedding_share": 0.5, "host.llc_ways": 16} | more


@pytest.mark.parametrize(
    ("override", "limit"),
    [
        ({"host.peak_gflops": 1}, "host arithmetic"),
        ({"host.llc_gbps": 0.1}, "last-level cache"),
        ({"dram.timing.nCCDS": 400, "dram.timing.nCCDL": 400}, "memory"),
        ({"host.max_outstanding_lines": 1}, "outstanding look-ups"),
        ({"host.dispatch_ns": 1e6}, "dispatch"),
    ],
)
def test_the_slowest_part_sets_the_time(override: dict[str, object], limit: str) -> None:
    device, work = load_device("ddr4_3200", NO_CACHE | override), model()
    found, item, spec = cost(device, work), work.gathers[0], device.host
    assert found.limited_by == limit
    lines = BATCH * item.lookups * 2  # rows of 128 bytes
    by_hand = {
        "host arithmetic": item.elementary_ops * BATCH / (spec.peak_gflops * spec.efficiency),
        "last-level cache": (item.input_bytes + item.output_bytes) * BATCH / spec.llc_gbps,
        "outstanding look-ups": lines * (26 + 33 + host.unloaded_ps(device.dram) / 1000) / (spec.max_outstanding_lines or 1),
    }
    if limit in by_hand:
        assert found.latency_ps == pytest.approx((spec.dispatch_ns + by_hand[limit]) * 1000, abs=1)
    assert found.latency_ps >= 1000 * (spec.dispatch_ns + max(by_hand.values())) - 1


@pytest.mark.parametrize("off", [NO_CACHE, {"host.llc_embedding_share": 0.0}])
def test_without_a_share_of_the_cache_every_row_comes_from_memory(off: dict[str, object]) -> None:
    device, work = load_device("hbm_pim", {"dram.channels": 2} | off | NO_LIMIT), model(rows=1000)
    item, organisation = work.gathers[0], resolve_organisation(device.dram)
    found = LookUps.of([draw_indices(work, BATCH)[table.name] for table in item.tables])
    where = place(item.tables, "row", organisation, 2).locate(found.table, found.index)
    traffic = lookups(device.dram, organisation, where, external=True)
    expected = host.roofline(device, item.elementary_ops * BATCH, (item.input_bytes + item.output_bytes) * BATCH, traffic)
    assert cost(device, work) == expected
    assert expected.commands["RD"] == BATCH * item.lookups * 4
    assert weight_capacity(device, work) == device.host.llc_bytes


def test_tables_that_fit_are_never_read_from_memory() -> None:
    work = model(rows=1000)  # 2 tables of 125 KiB
    device = load_device("ddr4_3200", share(0.25, **NO_LIMIT))
    found, item = cost(device, work), work.gathers[0]
    assert found.external_bytes == 0 and not found.commands and found.resources == ("host",)
    touched = (item.input_bytes + item.output_bytes + item.lookups * 128) * BATCH
    assert found.energy_pj["host_cache"] == pytest.approx(touched * device.host.pj_per_llc_byte)
    slow = load_device("ddr4_3200", share(0.25, **NO_LIMIT) | {"host.llc_gbps": 0.1})
    assert cost(slow, work).latency_ps == pytest.approx((slow.host.dispatch_ns + touched / 0.1) * 1000, abs=1)
    assert cost(load_device("ddr4_3200", share(0.24, **NO_LIMIT)), work).external_bytes > 0


def test_more_cache_never_reads_more_rows() -> None:
    work = model()
    sizes = [0, 1 / 16, 1 / 4, 1, 4, 16, 32]
    reads = [cost(load_device("ddr4_3200", share(size) if size else NO_CACHE), work).external_bytes for size in sizes]
    assert reads == sorted(reads, reverse=True)
    assert reads[0] == BATCH * 40 * 128 and 0 < reads[4] < reads[1] and reads[-1] == 0


def test_hits_equal_a_cache_of_ordered_dictionaries() -> None:
    """Two gathers share the cache; the batch before the measured one comes first, gather after gather."""
    work = model(rows=3000, gathers=2, dim=48)  # rows of 192 bytes: four slots of 64 bytes
    device = load_device("ddr4_3200", share(1 / 16))
    spec = row_cache(device.host, 64)
    assert spec is not None and (spec.sets, spec.ways) == (64, 16)
    found = warm_hits(device, work, BATCH)
    for batches in (2, 3, 5, 9):  # one of these is what the cache was warmed up with
        drawn = draw_indices(work, BATCH * batches)
        sets: list[OrderedDict[int, None]] = [OrderedDict() for _ in range(spec.sets)]
        hit: dict[str, list[bool]] = {}
        misses = 0
        for number in reversed(range(batches)):
            for g, gather in enumerate(work.gathers):
                hit[gather.name] = []
                for sample in range(number * BATCH, (number + 1) * BATCH):
                    for k, table in enumerate(gather.tables):
                        for index in drawn[table.name][sample]:
                            for step in range(4):
                                line = ((g * 2 + k) * 3000 + int(index)) * 4 + step
                                one = sets[line % spec.sets]
                                hit[gather.name].append(line in one)
                                one.pop(line, None)
                                one[line] = None
                                if len(one) > spec.ways:
                                    one.popitem(last=False)
                misses += (number > 0) * hit[gather.name].count(False)
        if misses >= 2 * spec.sets * spec.ways:
            break
    assert misses >= 2 * spec.sets * spec.ways
    for name in hit:
        np.testing.assert_array_equal(found[name], hit[name])
        assert 0.05 < np.mean(found[name]) < 0.95


def test_a_longer_warm_up_changes_nothing(tmp_path: Path) -> None:
    """The hits of the measured batch are those in a cache that has been in use for much longer; a cold one has fewer."""
    work, device = model().model_copy(update={"batch": 64}), load_device("ddr4_3200", share(0.5))
    usual = warm_hits(device, work, 64)["g0"]
    np.savez(tmp_path / "once.npz", **draw_indices(work, 64))  # type: ignore[arg-type]
    once = work.model_copy(update={"indices": IndexSource(kind="file", path="once.npz"), "folder": str(tmp_path)})
    cold = warm_hits(device, once, 64)["g0"]
    spec = row_cache(device.host, 64)
    drawn = draw_indices(work, 64 * 129)
    index = np.stack([drawn[table.name] for table in work.gathers[0].tables], axis=1)  # (samples, tables, pooling)
    line = (index + np.arange(2)[:, None] * 100_000)[..., None] * 2 + np.arange(2)
    assert spec is not None
    each = line.reshape(129, -1)
    long = hits(spec, each[::-1].reshape(-1))[-each.shape[1] :]
    np.testing.assert_array_equal(usual, long)
    assert cold.mean() < usual.mean() - 0.05


def test_batches_of_a_file_that_come_before_warm_the_cache(tmp_path: Path) -> None:
    """A file of two batches that look the same rows up hits throughout, a file of one hits only what repeats within it."""
    rows = np.arange(BATCH * 20).reshape(BATCH, 20) * 50
    for name, times in (("once.npz", 1), ("twice.npz", 2)):
        np.savez(tmp_path / name, t00=np.tile(rows, (times, 1)), t01=np.tile(rows, (times, 1)))
    device = load_device("ddr4_3200", share(1))
    for name, external in (("once.npz", BATCH * 40 * 128), ("twice.npz", 0)):
        work = model(kind="file", path=name).model_copy(update={"folder": str(tmp_path)})
        assert cost(device, work).external_bytes == external


def test_littles_law_bounds_the_bandwidth_of_random_look_ups() -> None:
    work = model(dim=16, pooling=80)
    for lines in (1, 10, 96):
        device = load_device("hbm_pim", NO_CACHE | {"mapping.matmul": "host", "host.max_outstanding_lines": lines})
        found, latency_ns = cost(device, work), 26 + 33 + host.unloaded_ps(device.dram) / 1000
        seconds = (found.latency_ps - device.host.dispatch_ns * 1000) * 1e-12
        assert found.limited_by == "outstanding look-ups"
        assert found.external_bytes / seconds == pytest.approx(lines * 64 / latency_ns * 1e9, rel=1e-6)
    free = load_device("hbm_pim", NO_CACHE | {"mapping.matmul": "host"} | NO_LIMIT)
    assert cost(free, work).limited_by != "outstanding look-ups" and cost(free, work).latency_ps < found.latency_ps


def test_a_hit_waits_for_the_cache_only() -> None:
    work, one = model(rows=1000), {"host.max_outstanding_lines": 1}
    device = load_device("ddr4_3200", share(1) | one)
    assert cost(device, work).latency_ps == pytest.approx((device.host.dispatch_ns + BATCH * 40 * 2 * 26) * 1000, abs=1)


def test_rows_and_weights_share_the_cache() -> None:
    layer = MatMul(name="m", out_features=1024, in_features=1024, inputs=("g0",))  # 4 MiB of weights
    work = model(rows=1000)
    both = work.model_copy(update={"operators": (*work.operators, layer)})
    for size, resident in ((3, False), (5, True)):
        device = load_device("ddr4_3200", share(size))
        assert (CostCache().costs(both, device, BATCH)["m"].external_bytes == 0) is resident
        assert CostCache().costs(both, load_device("ddr4_3200", share(size, **NO_CACHE)), BATCH)["m"].external_bytes == 0


def test_a_shared_cost_cache_tells_neighbours_in_the_cache_apart() -> None:
    alone, beside = model(rows=20_000), model(rows=20_000, gathers=2)
    device, shared = load_device("ddr4_3200", share(2)), CostCache()
    first, second = (shared.costs(work, device, BATCH)["g0"] for work in (alone, beside))
    assert first != second == cost(device, beside)


def test_the_gpu_runs_models_from_its_own_memory() -> None:
    gpu, cpu = load_device("gpu_v100"), load_device("ddr4_3200")
    work = model(rows=1_000_000, pooling=80).model_copy(update={"batch": 64})
    assert cost(gpu, work).latency_ps < cost(cpu, work).latency_ps / 5
    assert simulate(gpu, work).bandwidth_gbps["peak"] == pytest.approx(900, rel=0.01)


def test_a_kernel_is_compared_with_the_host_and_its_cache_too() -> None:
    item = model(rows=1_000_000, pooling=40).gathers[0]
    report = run_kernel(load_device("trim_g"), item, 16, IndexSource(kind="zipf", exponent=1.05))
    assert report.host_baseline is not None and 0 < report.host_baseline.cycles < report.baseline.cycles
    without = run_kernel(load_device("trim_g", NO_CACHE | NO_LIMIT), item, 16, IndexSource(kind="zipf", exponent=1.05))
    assert without.host_baseline is not None and without.host_baseline.cycles == without.baseline.cycles == report.baseline.cycles
    assert report.to_json()["host_baseline"]["speedup"] == report.host_baseline.cycles / report.cycles
    dense = run_kernel(load_device("hbm_pim"), MatMul(name="m", out_features=256, in_features=256))
    assert dense.to_json()["host_baseline"] is None
