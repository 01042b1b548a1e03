"""TensorDIMM, RecNMP and TRiM: closed forms of each step, counts against brute force, values against scalar arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pimsim.api import load_device, run_kernel, simulate
from pimsim.dram.standard import common_timing, resolve_organisation
from pimsim.engine.reducers import deliver, read_rank, serve
from pimsim.errors import ConfigError
from pimsim.graph import Gather, IndexSource, MatMul, Table, Workload
from pimsim.mapping.placement import place
from pimsim.units.cost import LookUps

DEVICES = ("tensordimm", "recnmp", "trim_g", "trim_b")
NO_REFRESH = {"dram.controller.refresh": "off"}


def gather(tables: int = 3, rows: int = 50_000, dim: int = 64, pooling: int = 20) -> Gather:
    return Gather(name="e", tables=tuple(Table(name=f"t{n}", rows=rows, dim=dim, pooling=pooling) for n in range(tables)))


def drawn(item: Gather, batch: int, seed: int = 0, skew: float = 1.0) -> LookUps:
    """Look-ups of a batch; a larger `skew` gathers them on the first rows."""
    rng = np.random.default_rng(np.random.SeedSequence(seed))
    return LookUps.of([(rng.random((batch, t.pooling)) ** skew * t.rows).astype(np.int64) for t in item.tables])


def located(device, item: Gather, found: LookUps):
    where = place(item.tables, device.mapping.tables, resolve_organisation(device.dram), device.dram.channels, device.unit.stripes(device))
    return where.locate(found.table, found.index), found.sample * len(item.tables) + found.table


def simulated(device, item: Gather, found: LookUps):
    return device.unit.simulate(item, device, *located(device, item, found))


# -- the steps


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 50), st.integers(0, 9)), max_size=40))
def test_servers_are_first_come_first_served(jobs: list[tuple[int, int, int]]) -> None:
    server, ready, service = (np.array([job[i] for job in jobs], np.int64) for i in range(3))
    expected, free = [0] * len(jobs), dict.fromkeys(range(3), 0)
    for at in sorted(range(len(jobs)), key=lambda i: jobs[i][1]):
        which, come, work = jobs[at]
        free[which] = expected[at] = max(free[which], come) + work
    assert serve(server, ready, service).tolist() == expected


def test_instructions_share_their_wires() -> None:
    wires = np.array([0, 1, 0, 0, 1])
    assert deliver(wires, np.zeros(5, np.int64), 85, 14).tolist() == [7, 7, 13, 19, 13]  # 85/14, 170/14, 255/14 rounded up
    assert deliver(wires, np.zeros(5, np.int64), 32, 128).tolist() == [1, 1, 1, 1, 1]  # four a clock


@pytest.mark.parametrize(("level", "reducers"), [("bankgroup", 8), ("bank", 32)])
@pytest.mark.parametrize("timing", [{}, {"nFAW": 32}, {"nCCDL": 20}, {"nFAW": 100}])
@pytest.mark.parametrize("bursts", [1, 4, 16])
def test_reducers_in_the_chip_are_bound_by_activations_or_columns(level: str, reducers: int, timing: dict, bursts: int) -> None:
    overrides = NO_REFRESH | {"dram.controller.read_queue": 64, **{f"dram.timing.{name}": value for name, value in timing.items()}}
    spec = load_device("ddr5_4800", overrides).dram
    clocks, count = common_timing(spec), 4_000
    step = np.arange(count)
    bank = step % 8 * 4 + step // 8 % 4  # bank groups in turn, then their banks
    result = read_rank(spec, level, bursts, bank, step // 32, np.zeros(count, np.int64), np.zeros(count, np.int64))
    window = max(clocks["nFAW"] / 4, clocks["nRRDS"], clocks["nRRDL"] / 8)
    one_bank = max(clocks["nRC"], clocks["nRCD"] + (bursts - 1) * clocks["nCCDL"] + clocks["nRTP"] + clocks["nRP"]) / 32
    expected = max(window, bursts * clocks["nCCDL"] / reducers, one_bank)
    assert result.ready.max() / count == pytest.approx(expected, rel=0.04)
    assert (result.counts["ACT"], result.counts["RD"]) == (count, count * bursts)


def test_one_lone_read_takes_the_closed_form() -> None:
    spec, zero = load_device("trim_g").dram, np.zeros(1, np.int64)
    clocks = common_timing(spec)
    one = read_rank(spec, "bankgroup", 1, zero, zero, zero, zero).ready[0]
    four = read_rank(spec, "bankgroup", 4, zero, zero, zero, zero).ready[0]
    assert four - one == 3 * clocks["nCCDL"]
    assert one - clocks["nRCD"] - clocks["nCL"] - clocks["nBL"] in (0, 1)
    assert read_rank(spec, "bankgroup", 1, zero, zero, zero, zero + 500).ready[0] - one in (499, 500)


@pytest.mark.parametrize("name", ["recnmp", "tensordimm"])
def test_one_rank_without_a_cache_is_the_plain_memory(name: str) -> None:
    overrides = {"dram.channels": 1, "dram.ranks": 1, "unit.channel_bits_per_clock": 10**6, "unit.ranks_per_dimm": 1}
    overrides |= {"unit.rank_cache_bytes": 0, "unit.adder_bytes": 10**6} if name == "recnmp" else {}
    report = run_kernel(load_device(name, overrides), gather(tables=1), 16)
    assert report.cycles == pytest.approx(report.baseline.cycles, abs=2)


def test_narrow_wires_bind() -> None:
    item = gather()
    found, device = drawn(item, 8), load_device("recnmp", {"unit.channel_bits_per_clock": 2} | NO_REFRESH)
    result = simulated(device, item, found)
    assert result.delivered == -(-len(found.index) * 79 // 2)
    assert result.delivered < result.summed < result.delivered + 200
    assert device.unit.limit(result, False).startswith("instructions")
    wide = simulated(load_device("trim_g", {"unit.rank_bits_per_clock": 10**6}), item, found)
    narrow = simulated(load_device("trim_g", {"unit.rank_bits_per_clock": 2}), item, found)
    assert narrow.delivered >= len(found.index) // 2 * 85 // 2 > wide.summed  # one of two ranks gets at least half


@pytest.mark.parametrize("name", ["recnmp", "trim_g"])
def test_more_ranks_take_less_time(name: str) -> None:
    item = gather(dim=128, pooling=400)
    found = drawn(item, 2)
    cycles = [simulated(load_device(name, {"dram.ranks": ranks}), item, found).summed for ranks in (2, 4, 8)]
    assert cycles[0] > 1.5 * cycles[1] > 2 * cycles[2]


def test_slow_adders_bind() -> None:
    item = gather(tables=1)
    found, device = drawn(item, 16), load_device("recnmp", {"unit.adder_clock_mhz": 10, "dram.ranks": 2})
    ranks = located(device, item, found)[0].bank // 16
    busiest = np.bincount(ranks).max() * 256 / 128 * 100 / 0.833  # bytes / bytes a clock x 100 ns in memory clocks
    result = simulated(device, item, found)
    assert result.summed == pytest.approx(busiest, rel=0.02)
    assert device.unit.limit(result, False).startswith("adders")


# -- counts


@pytest.mark.parametrize("name", DEVICES)
def test_bits_are_those_counted_by_hand(name: str) -> None:
    item, device = gather(dim=48), load_device(name, {"unit.hot_share": 0} if name.startswith("trim") else {})
    found = drawn(item, 6)
    result, organisation = simulated(device, item, found), resolve_organisation(device.dram)
    where, bag = located(device, item, found)
    banks = organisation.banks // organisation.ranks
    each = {"trim_g": 8, "trim_b": 32}.get(name, 1)
    reducer = ((where.channel * organisation.ranks + where.bank // banks) * banks + where.bank % banks) // (banks // each)
    dimm = reducer // each // device.unit.ranks_per_dimm
    partials, sums = set(zip(bag, reducer, strict=True)), set(zip(bag, dimm, strict=True))
    assert result.bits["instruction"] == len(found.index) * device.unit.instruction_bits
    if name == "tensordimm":
        assert result.bits["column"] == len(found.index) * 4 * 512  # 192 bytes over four ranks, one burst each
        assert result.bits["result"] == len(sums) * 4 * 512
    else:
        assert result.bits["column"] + result.bits["hits"] * 512 == len(found.index) * 4 * 512  # 192 bytes in slots of 256
        assert result.bits["result"] == len(sums) * 3 * 512
        assert result.host_adds == (len(sums) - len(set(bag))) * 48
    assert result.bits.get("partial") == (len(partials) * 3 * 512 if each > 1 else None)
    assert result.bits["added"] == (len(found.index) + (len(partials) if each > 1 else 0)) * 48


def test_hits_need_no_dram_command() -> None:
    item = gather(rows=2_000)
    found = drawn(item, 16, skew=3.0)
    cached, plain = (simulated(load_device("recnmp", {"unit.rank_cache_bytes": size}), item, found) for size in (131072, 0))
    reads = sum(counts["RD"] for counts in cached.counts.values())
    assert 0 < cached.bits["hits"] == cached.bits["accesses"] - reads
    assert (plain.bits["hits"], plain.bits["accesses"]) == (0, cached.bits["accesses"])
    assert cached.summed < plain.summed


def test_the_locality_bit_keeps_single_rows_out() -> None:
    item = gather(tables=1, rows=4_000)
    found = drawn(item, 200, skew=2.0)
    small = {"unit.rank_cache_bytes": 4096}
    hits = [simulated(load_device("recnmp", small | {"unit.locality_lookups": t}), item, found).bits["hits"] for t in (1, 2, 10**6)]
    assert hits[1] >= hits[0] > hits[2] == 0


def test_table_after_table_keeps_a_small_cache_warm() -> None:
    item = gather(tables=8, rows=100, pooling=10)
    found = drawn(item, 32)
    small = {"unit.rank_cache_bytes": 8192}
    aware, mixed = (simulated(load_device("recnmp", small | {"unit.table_aware": on}), item, found).bits["hits"] for on in (True, False))
    assert aware > 1.5 * mixed


@pytest.mark.parametrize("name", ["trim_g", "trim_b"])
def test_copies_of_hot_rows_even_the_load(name: str) -> None:
    item = gather(tables=1, rows=20_000, pooling=40)
    found, cold, hot = drawn(item, 16, skew=6.0), load_device(name, {"unit.hot_share": 0}), load_device(name, {"unit.hot_share": 0.01})
    organisation = resolve_organisation(hot.dram)
    reads = hot.unit._reads(*located(hot, item, found), hot)
    moved = hot.unit.arranged(reads, item, hot)
    load, before = (np.bincount(hot.unit.reducer_of(r, organisation), minlength=16) for r in (moved, reads))
    assert load.max() - load.min() < (before.max() - before.min()) / 2
    copied = moved.row >= organisation.rows - 8
    assert copied.any()
    rows = reads.key(organisation)
    assert len(np.unique(rows[copied])) <= 200  # 1 % of the rows
    assert not np.isin(rows[~copied], rows[copied]).any()
    assert len(np.unique(moved.key(organisation)[copied])) > len(np.unique(rows[copied]))
    assert simulated(hot, item, found).read < simulated(cold, item, found).read  # not always the sums: there are more of them


@pytest.mark.parametrize("name", DEVICES)
@pytest.mark.parametrize("bits", [4, 8, 16, 32])
def test_narrow_rows_read_fewer_bursts(name: str, bits: int) -> None:
    item, device = Gather(name="e", tables=(Table(name="t", rows=9_000, dim=512, bits=bits, pooling=9),)), load_device(name)
    found = drawn(item, 4)
    result = simulated(device, item, found)
    assert result.bits["column"] + result.bits["hits"] * 512 == len(found.index) * 512 * bits
    assert result.bits["result"] == result.bits["result"] // (512 * 32) * 512 * 32  # sums in FP32 whatever the rows


@pytest.mark.parametrize("name", ["recnmp", "trim_g", "trim_b"])
@pytest.mark.parametrize("override", [{"row_policy": "closed"}, {"scheduler": "fcfs"}, {"refresh": "off"}, {"scheduler": "frfcfs-row-hit"}])
def test_every_controller_reads_every_row(name: str, override: dict) -> None:
    item = gather()
    found = drawn(item, 4)
    usual, device = load_device(name), load_device(name, {f"dram.controller.{key}": value for key, value in override.items()})
    result, reference = simulated(device, item, found), simulated(usual, item, found)
    assert result.bits == reference.bits
    if override == {"scheduler": "fcfs"}:
        assert result.read > 1.5 * reference.read  # no bank is opened ahead of its turn
    else:
        assert result.read == pytest.approx(reference.read, rel=0.35)
    if "refresh" in override:
        assert not any("REF" in counts for counts in result.counts.values())


def test_rows_longer_than_a_dram_row() -> None:
    item, device = gather(tables=1, rows=50, dim=4096, pooling=3), load_device("trim_g")  # 16 KiB in DRAM rows of 4 KiB
    result = simulated(device, item, drawn(item, 2))
    assert result.bits["column"] == 6 * 4096 * 32
    assert sum(counts["ACT"] for counts in result.counts.values()) >= 20


# -- the doors


@pytest.mark.parametrize("name", DEVICES)
def test_kernel_and_model_agree(name: str) -> None:
    item, device = gather(), load_device(name)
    source = IndexSource(kind="zipf", exponent=0.9, seed=5)
    workload = Workload(name="w", operators=(item,), batch=8, indices=source)
    alone, whole = (run_kernel(device, item, 8, source, end_to_end=end) for end in (False, True))
    assert alone.cycles < whole.cycles
    row = simulate(device, workload).operators[0]
    assert row.unit == "pim"
    assert row.latency_us * 1e6 == pytest.approx(whole.cycles * whole.tck_ps, abs=2 * whole.tck_ps)
    assert alone.energy_pj["total"] < whole.energy_pj["total"]
    assert alone.energy_pj["pim_column"] == pytest.approx(
        sum(simulated(device, item, LookUps.of(_indices(workload, item))).bits[key] for key in ("column",))
        * device.unit.column_read_pj_per_bit
    )


def _indices(workload: Workload, item: Gather) -> list[np.ndarray]:
    from pimsim.mapping.indices import draw_indices

    drawn_rows = draw_indices(workload, 8)
    return [drawn_rows[table.name] for table in item.tables]


@pytest.mark.parametrize("name", DEVICES)
@settings(max_examples=12, deadline=None)
@given(
    dtype=st.sampled_from([np.float32, np.float16, np.int8]),
    dim=st.integers(1, 40),
    pooling=st.integers(1, 12),
    weighted=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_values(name: str, dtype: type, dim: int, pooling: int, weighted: bool, seed: int) -> None:
    device, rng = load_device(name), np.random.default_rng(seed)
    item = Gather(name="e", tables=(Table(name="t", rows=97, dim=dim, pooling=pooling),))
    rows = (rng.normal(size=(97, dim)) * 50).astype(dtype)
    indices = rng.integers(0, 97, (3, pooling))
    weights = rng.random((3, pooling)).astype(np.float32) if weighted else None
    reducer = device.unit.reducers(item, device)
    computed = device.unit.compute(item, rows, indices, weights, reducer)
    expected = np.zeros((3, dim), np.float32)
    for sample in range(3):
        partial = {number: np.zeros(dim, np.float32) for number in sorted(set(reducer.tolist()))}
        for look_up in range(pooling):
            value = rows[indices[sample, look_up]].astype(np.float32)
            value = value if weights is None else weights[sample, look_up] * value
            number = reducer[indices[sample, look_up]]
            partial[number] = partial[number] + value
        for value in partial.values():
            expected[sample] = expected[sample] + value
    assert computed.dtype == np.float32
    np.testing.assert_array_equal(computed, expected)
    exact = (rows[indices].astype(np.float64) * (1 if weights is None else weights[..., None])).sum(axis=1)
    np.testing.assert_allclose(computed, exact, rtol=1e-4, atol=1e-3)


def test_reducers_follow_the_placement() -> None:
    item = gather(tables=1, rows=4_096)
    counts = {name: np.bincount(load_device(name).unit.reducers(item, load_device(name))) for name in DEVICES}
    assert {name: len(count) for name, count in counts.items() if name != "tensordimm"} == {"recnmp": 8, "trim_g": 16, "trim_b": 64}
    for name in ("recnmp", "trim_g", "trim_b"):
        assert counts[name].min() == counts[name].max()


def test_a_mean_is_a_weighted_sum() -> None:
    device, item = load_device("recnmp"), gather(tables=1, rows=8, dim=4, pooling=4)
    rows = np.arange(32, dtype=np.float32).reshape(8, 4)
    indices = np.array([[0, 1, 2, 3], [7, 7, 7, 7]])
    mean = device.unit.compute(item, rows, indices, np.full((2, 4), 0.25, np.float32))
    np.testing.assert_array_equal(mean, rows[indices].mean(axis=1))


def test_areas() -> None:
    assert load_device("recnmp").unit.area_mm2(load_device("recnmp")) == pytest.approx(4 * 0.54)  # four DIMMs
    assert load_device("trim_g").unit.area_mm2(load_device("trim_g")) == pytest.approx(2 * 4 * 2.03)  # two ranks of four chips


@pytest.mark.parametrize(
    ("name", "override", "words"),
    [
        ("recnmp", {"mapping.tables": "striped"}, "mapping.tables: 'striped': .* row or table"),
        ("tensordimm", {"mapping.tables": "row"}, "mapping.tables: 'row': .* striped"),
        ("recnmp", {"dram.ranks": 3}, "unit.ranks_per_dimm: 2: must divide the 3 ranks"),
        ("trim_g", {"unit.hot_share": 1.0}, "unit.hot_share: 1.0: .* copies"),
    ],
)
def test_mistakes_get_one_line(name: str, override: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        run_kernel(load_device(name, override), gather(tables=8, rows=1_000_000))
    assert "\n" not in str(caught.value)


def test_other_kernels_are_refused() -> None:
    device = load_device("trim_g")
    with pytest.raises(ConfigError, match="units of kind trim do not run it"):
        run_kernel(device, MatMul(name="m", out_features=4, in_features=4))
    with pytest.raises(ConfigError, match="rows of float64"):
        device.unit.compute(gather(tables=1), np.zeros((4, 2)), np.zeros((1, 2), int))
    with pytest.raises(ConfigError, match="rank_cache_bytes must be a multiple"):
        load_device("recnmp", {"unit.rank_cache_bytes": 1000})
