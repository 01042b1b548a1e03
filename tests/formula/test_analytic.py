"""Closed forms by hand, their monotonicity, and a small draw of points beside the event engine."""

from __future__ import annotations

import numpy as np
import pytest

from pimsim.analytic.compare import compare, kendall_tau
from pimsim.analytic.memory import row_clocks, stream, stream_clocks
from pimsim.analytic.table import DeviceTable
from pimsim.analytic.trace import candidates, hits
from pimsim.analytic.upmem import Phase, shared
from pimsim.api import Estimator, estimate, load_device, run_kernel, simulate
from pimsim.engine.memory import stream as simulated_stream
from pimsim.errors import ConfigError
from pimsim.graph import Elementwise, Gather, IndexSource, Input, MatMul, Table, Workload

QUIET = {"dram.controller.refresh": "off"}
PLAIN = ("ddr4_3200", "ddr5_4800", "lpddr5_6400", "gddr6_14000", "hbm2_2000", "hbm3_5200")


def table(name: str = "ddr4_3200", **override: object) -> DeviceTable:
    return DeviceTable.of([load_device(name, {key.replace("__", "."): value for key, value in override.items()})])


def gather(pooling: int = 10, dim: int = 32, tables: int = 4) -> Gather:
    return Gather(name="g", tables=tuple(Table(name=f"t{n}", rows=20_000, dim=dim, bits=32, pooling=pooling) for n in range(tables)))


def work(*operators: object, batch: int = 8) -> Workload:
    return Workload(name="w", operators=operators, batch=batch, indices=IndexSource(kind="uniform", seed=1), folder=".")


def test_stream_by_hand() -> None:
    """DDR4-3200: 49 clocks to the first data, a burst each nCCDL = 8; the next row opens nRCD = 22 after it enters the window of 32."""
    device = table(dram__controller__refresh="off")
    assert stream_clocks(device, np.array([1.0]))[0] == 49
    assert stream_clocks(device, np.array([128.0]))[0] == 49 + 127 * 8
    assert row_clocks(device, np.array([22.0]))[0] == 128 * 8 - (32 - 22 / 8) * 8  # 29.25 bursts of the old row fill the gaps of the new
    assert stream_clocks(device, np.array([256.0]))[0] == 49 + 127 * 8 + 790


@pytest.mark.parametrize("name", ["trim_g", "hbm3_5200"])
def test_streams_whose_rows_overlap_in_ranks_that_take_turns(name: str) -> None:
    """Two rows, and so many that three and more share the window."""
    for override in ({}, {"dram.timing.nRP": 44}, {"dram.timing.nCCDL": 8}):
        device = load_device(name, {**QUIET, "dram.channels": 1, "dram.ranks": 2, **override})
        of = DeviceTable.of([device])
        for rows in (2, 9, 30, 120):
            size = rows * of["run"][0] * of["burst_bytes"][0]
            simulated = simulated_stream(device.dram, int(size))
            assert stream(of, size).latency_ps[0] == pytest.approx(simulated.latency_ps, rel=0.05)


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("refresh", ["on", "off"])
def test_streams_beside_the_engine(name: str, refresh: str) -> None:
    device = load_device(name, {"dram.controller.refresh": refresh})
    size = np.array([float(bursts) for bursts in (3, 300, 5000)]) * table(name)["burst_bytes"][0]
    many = DeviceTable.of([device] * 3)
    found = stream(many, size)
    for number, each in enumerate(size):
        simulated = simulated_stream(device.dram, int(each))
        assert found.latency_ps[number] == pytest.approx(simulated.latency_ps, rel=0.03)
        assert found.bytes[number] == simulated.bytes and found.commands["RD"][number] == simulated.commands["RD"]


def test_counting_of_traces() -> None:
    bank, row = np.array([0, 1, 0, 0, 1, 0]), np.array([5, 5, 5, 6, 5, 5])
    assert hits(bank, row, 0).tolist() == [False, False, True, False, True, False]
    assert hits(bank, row, 3).tolist() == [False, False, True, False, True, True]  # row 5 of bank 0 is still wanted when row 6 comes


def test_channels_that_may_be_the_slowest() -> None:
    """Few look-ups: every channel. Many: channel 1 has the most bursts, bank 5 (of channel 2, two banks each) opens the most rows."""
    channel, bursts = np.array([0, 1, 2]), np.ones(3, np.int64)
    assert candidates(channel, bursts, 2 * channel, np.ones(3, bool), 2) == [0, 1, 2]
    counts = [100, 400, 120, 300, 200, 110]
    channel = np.repeat(np.arange(6), counts)
    banks = np.where(channel == 0, 0, 16 * channel + np.arange(len(channel)) % 16)
    assert candidates(channel, np.ones(len(channel), np.int64), banks, np.ones(len(channel), bool), 16) == [1, 3, 4, 2, 0]


def test_tasklets_by_hand() -> None:
    assert shared(np.array([[10.0] * 16]), 11)[0] == 160  # sixteen take turns in one slot
    assert shared(np.array([[10.0, 20.0]]), 11)[0] == 220  # two are eleven cycles apart
    assert Phase(1, 5, 0, 5, 0, 0, 0, 0).cycles(11) == 55
    assert kendall_tau(np.array([1.0, 2.0, 3.0]), np.array([1.0, 3.0, 2.0])) == pytest.approx(1 / 3)


@pytest.mark.parametrize("name", PLAIN)
def test_more_channels_are_never_slower_and_slower_timing_never_faster(name: str) -> None:
    by_channels = DeviceTable.of([load_device(name, {"dram.channels": n}) for n in (1, 2, 4, 8)])
    latency = stream(by_channels, 1e6).latency_ps
    assert (np.diff(latency) < 0).all()
    resolved = load_device(name).dram
    for key in ("nCCDL", "nRP"):
        base = int(DeviceTable.of([load_device(name)]).timing(key)[0]) // (2 if resolved.standard == "hbm3" else 1)
        slower = [load_device(name, {**QUIET, f"dram.timing.{key}": base + more}) for more in (0, 2, 5, 9)]
        assert (np.diff(stream(DeviceTable.of(slower), 1e6).latency_ps) >= 0).all()
        estimated = estimate([gather()], slower, 16).latency_ps[0]
        assert (np.diff(estimated) >= -0.03 * estimated[0]).all()  # other rows are ready first: a little may be gained, as on the engine
        much = estimate([gather()], [slower[0], load_device(name, {**QUIET, f"dram.timing.{key}": 4 * base})], 16).latency_ps[0]
        assert much[1] > 1.05 * much[0]


@pytest.mark.parametrize("name", ["hbm_pim", "gddr6_aim"])
def test_more_vectors_and_larger_matrices_take_longer(name: str) -> None:
    estimator = Estimator([load_device(name, {"dram.channels": 4})])
    batches = [
        estimator.kernel(MatMul(name="m", out_features=512, in_features=512, weight_bits=16), batch).latency_ps[0] for batch in (1, 2, 4)
    ]
    widths = [
        estimator.kernel(MatMul(name="m", out_features=512, in_features=n, weight_bits=16), 1).latency_ps[0] for n in (512, 1024, 4096)
    ]
    assert batches == sorted(set(batches)) and widths == sorted(set(widths))


def test_many_devices_at_once_equal_each_alone() -> None:
    names = [*PLAIN, "hbm_pim", "gddr6_aim", "upmem", "recnmp", "tensordimm", "trim_g", "trim_b"]
    devices = [load_device(name) for name in names]
    operators = [gather(), MatMul(name="m", out_features=256, in_features=192, weight_bits=16)]
    together = estimate(operators, devices, 4).latency_ps
    for number, device in enumerate(devices):
        assert estimate(operators, [device], 4).latency_ps[:, 0] == pytest.approx(together[:, number])


@pytest.mark.parametrize("name", ["ddr4_3200", "hbm_pim", "gddr6_aim", "upmem", "recnmp"])
def test_reports_of_both_fidelities_have_the_same_keys(name: str) -> None:
    model = work(
        Input(name="dense", elements=13),
        gather(pooling=4),
        MatMul(name="a", inputs=("dense",), out_features=64, in_features=13, weight_bits=16),
        Elementwise(name="r", inputs=("a",), function="relu", operands=1, elements=64),
        MatMul(name="b", inputs=("g", "r"), out_features=32, in_features=192, weight_bits=16),
    )
    event, analytic = (simulate(load_device(name), model, fidelity=fidelity).to_json() for fidelity in ("event", "analytic"))
    assert analytic["fidelity"] == "analytic" and event.keys() == analytic.keys()
    assert event["energy_uj_per_sample"].keys() == analytic["energy_uj_per_sample"].keys()
    assert [(row["name"], row["unit"]) for row in event["operators"]] == [(row["name"], row["unit"]) for row in analytic["operators"]]
    assert analytic["latency_us"]["mean"] == pytest.approx(event["latency_us"]["mean"], rel=0.1)


@pytest.mark.parametrize(
    ("name", "item"),
    [("hbm_pim", MatMul(name="m", out_features=512, in_features=512, weight_bits=16)), ("recnmp", gather(pooling=40, tables=8))],
)
def test_kernel_reports(name: str, item: MatMul | Gather) -> None:
    event, analytic = (run_kernel(load_device(name), item, 4, fidelity=fidelity).to_json() for fidelity in ("event", "analytic"))
    assert event.keys() == analytic.keys() and analytic["fidelity"] == "analytic"
    assert analytic["cycles"] == pytest.approx(event["cycles"], rel=0.1)
    assert analytic["baseline"]["cycles"] == pytest.approx(event["baseline"]["cycles"], rel=0.2)
    assert analytic["energy_pj"].keys() >= event["energy_pj"].keys() - {"total"}


def test_a_small_draw_is_within_bounds() -> None:
    found = compare(64, seed=5)
    figures = found.to_json()
    assert figures["points"] == 64 and {point.operator for point in found.points} == {"matmul", "elementwise", "gather", "dot", "reduce"}
    assert figures["median_relative_error"] <= 0.03 and figures["p95_relative_error"] <= 0.1
    assert figures["kendall_tau"] >= 0.95
    assert compare(12, seed=5).points == found.points[:12]


def test_bad_input() -> None:
    with pytest.raises(ConfigError, match="did you mean 'analytic'"):
        run_kernel(load_device("hbm_pim"), MatMul(name="m", out_features=8, in_features=8), fidelity="analytik")
    with pytest.raises(ConfigError, match="no compute units"):
        Estimator([load_device("ddr4_3200")]).kernel(gather(), 1)
    with pytest.raises(ConfigError, match="units of kind aim do not run it"):
        Estimator([load_device("gddr6_aim")]).kernel(Elementwise(name="e", function="add", operands=2, elements=8), 1)


@pytest.mark.parametrize("yields", [True, False])
def test_near_bank_refreshes_count_until_the_engine_no_longer_waits_for_them(yields: bool) -> None:
    """A refresh due before, while and after the banks are parked: in the closed form's time where it is in the engine's."""
    item = Elementwise(name="e", function="add", operands=2, elements=300_000)
    still = {"dram.channels": 8, "unit.refresh_yields": yields, "dram.controller.refresh": "off"}
    end = run_kernel(load_device("hbm_pim", still), item).cycles
    held = []
    for before in (200, 50, 10):  # two ranks take turns: the first refresh is due at half of nREFI
        device = load_device("hbm_pim", still | {"dram.controller.refresh": "on", "dram.timing.nREFI": 2 * (end - before)})
        event, closed = (run_kernel(device, item, fidelity=fidelity).cycles for fidelity in ("event", "analytic"))
        assert closed == pytest.approx(event, rel=0.01)
        held.append(event > end + 100)
    assert held == [True, not yields, False]
