"""Near-bank units and the host against closed formulas and brute-force counts."""

from __future__ import annotations

import numpy as np
import pytest

from pimsim import configs
from pimsim.api import CostCache, load_device, simulate
from pimsim.dram.standard import resolve_organisation, resolve_timing
from pimsim.energy.dram import command_energy_pj
from pimsim.errors import ConfigError
from pimsim.graph import Gather, IndexSource, Input, MatMul, Table, Workload
from pimsim.mapping.indices import draw_indices
from pimsim.mapping.placement import place
from pimsim.units import host

SMALL = {"dram.channels": 4}


def workload(*operators, batch: int = 4, indices: IndexSource | None = None) -> Workload:
    return Workload(name="w", operators=operators, batch=batch, indices=indices or IndexSource(kind="uniform", seed=3))


def tables(count: int = 3, dim: int = 16, bits: int = 16, pooling: int = 5) -> tuple[Table, ...]:
    return tuple(Table(name=f"t{n}", rows=500 + n, dim=dim, bits=bits, pooling=pooling) for n in range(count))


@pytest.mark.parametrize(
    ("override", "bits", "gap"),
    [
        ({}, 16, 4),  # 16 lanes x 16 bits take a 256-bit burst each 4 ns
        ({}, 8, 4),
        ({}, 32, 4),
        ({}, 4, 8),  # 64 elements of 4 bits widened to 8 bits: two unit cycles
        ({"unit.simd_lanes": 8}, 16, 8),
        ({"unit.clock_mhz": 125}, 16, 8),
        ({"unit.clock_mhz": 1000}, 16, 4),  # never faster than nCCDL
        ({"unit.clock_mhz": 300}, 16, 4),  # 3.33 ns round up to 4 clocks
        ({"unit.clock_mhz": 240}, 16, 5),
    ],
)
def test_column_gap(override: dict, bits: int, gap: int) -> None:
    device = load_device("hbm_pim", override)
    organisation, timing = resolve_organisation(device.dram), resolve_timing(device.dram)
    assert device.unit.column_gap(bits, organisation, timing) == gap


def test_on_chip_bandwidth_is_four_times_the_interface() -> None:
    device = load_device("hbm_pim")
    organisation, timing = resolve_organisation(device.dram), resolve_timing(device.dram)
    outside = organisation.burst_bytes / (timing["nBL"] * timing["tCK_ps"] / 1000)
    assert device.unit.peak_gbps(16, organisation, timing) / outside == 4.0  # published: on-chip / off-chip bandwidth = 4
    tflops = 2 * 16 * device.unit.peak_gbps(16, organisation, timing) / 32 * 16 / 1000  # one stack of 16 pseudo-channels at 250 MHz
    assert tflops == pytest.approx(1.024)


@pytest.mark.parametrize("units", [3, 5, 32])
def test_units_must_share_the_banks_evenly(units: int) -> None:
    device = load_device("hbm_pim", {"unit.units_per_channel": units})
    with pytest.raises(ConfigError, match=r"unit.units_per_channel: .* must divide the 16 banks"):
        simulate(device, workload(MatMul(name="m", out_features=8, in_features=8)))


@pytest.mark.parametrize("units", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("bits", [4, 8, 16, 32])
def test_multiply_energy_counts_every_lane(units: int, bits: int) -> None:
    device = load_device("hbm_pim", SMALL | {"unit.units_per_channel": units})
    organisation = resolve_organisation(device.dram)
    item = MatMul(name="m", out_features=4 * units, in_features=32 * 256 // bits, weight_bits=bits)
    per_burst = device.unit.elements_per_burst(bits, organisation)
    assert item.in_features % per_burst == 0  # no padding: lanes do exactly the operator's multiplications
    cost = CostCache().costs(workload(item), device, 4)["m"]
    assert cost.energy_pj["pim_mac"] == pytest.approx(4 * item.macs * device.unit.mac_pj(bits))


def test_more_of_everything_is_never_slower() -> None:
    item = MatMul(name="m", out_features=512, in_features=512, weight_bits=16)

    def latency(**override: object) -> int:
        named = {key.replace("__", "."): value for key, value in override.items()}
        return CostCache().costs(workload(item), load_device("hbm_pim", named), 4)["m"].latency_ps

    by_channels = [latency(dram__channels=n) for n in (1, 2, 4, 8, 16)]
    assert by_channels == sorted(by_channels, reverse=True)
    by_units = [latency(dram__channels=4, unit__units_per_channel=n) for n in (1, 2, 4, 8, 16)]
    assert by_units == sorted(by_units, reverse=True)
    by_clock = [latency(dram__channels=4, unit__clock_mhz=n) for n in (50, 100, 200, 250)]
    assert by_clock == sorted(by_clock, reverse=True) and by_clock[0] > by_clock[-1]


def test_host_roofline_by_hand() -> None:
    device = load_device("ddr4_3200")
    item = MatMul(name="m", out_features=256, in_features=128)
    cost = host.operator(item, device, 8, weights_resident=True)
    flops, touched = 2 * 256 * 128 * 8, 256 * 128 * 4 + (256 + 128) * 4 * 8
    spec = device.host
    longest = max(flops / (spec.peak_gflops * spec.efficiency), touched / spec.llc_gbps)
    assert cost.latency_ps == pytest.approx((spec.dispatch_ns + longest) * 1000, abs=1)
    assert sum(cost.energy_pj.values()) == pytest.approx(flops * spec.pj_per_flop + touched * spec.pj_per_llc_byte)
    assert cost.resources == ("host",)
    streamed = host.operator(item, device, 8, weights_resident=False)
    assert streamed.external_bytes == 256 * 128 * 4 and "memory" in streamed.resources


@pytest.mark.parametrize("policy", ["row", "table"])
def test_gather_moves_the_bytes_that_a_count_gives(policy: str) -> None:
    batch, item = 6, Gather(name="g", tables=tables())
    work = workload(item, batch=batch)
    on_host = load_device("hbm_pim", SMALL | {"mapping.tables": policy, "mapping.matmul": "host", "host.cache_embeddings": False})
    cost = CostCache().costs(work, on_host, batch)["g"]
    assert cost.external_bytes == batch * 3 * 5 * 32  # one burst of 32 bytes for each look-up of 16 x 16 bits
    assert cost.commands["RD"] == batch * 3 * 5

    on_pim = load_device("hbm_pim", SMALL | {"mapping.tables": policy, "mapping.embedding": "pim", "mapping.matmul": "host"})
    near = CostCache().costs(work, on_pim, batch)["g"]
    organisation = resolve_organisation(on_pim.dram)
    placement = place(item.tables, policy, organisation, 4)
    indices, partials = draw_indices(work, batch), set()
    for sample in range(batch):
        for number, table in enumerate(item.tables):
            for index in indices[table.name][sample]:
                where = placement.locate(np.array([number]), np.array([index]))
                partials.add((sample, number, int(where.channel[0]), int(where.bank[0]) // 2))
    assert near.external_bytes == len(partials) * 32
    if policy == "table":
        assert len(partials) == batch * 3  # a bag in one bank leaves one partial sum


def test_striped_gather_reads_one_piece_from_every_unit() -> None:
    batch, item = 4, Gather(name="g", tables=tables(count=2, dim=128, pooling=3))
    device = load_device("hbm_pim", {"dram.channels": 1, "mapping.tables": "striped", "mapping.embedding": "pim", "mapping.matmul": "host"})
    cost = CostCache().costs(workload(item, batch=batch), device, batch)["g"]
    assert cost.external_bytes == batch * 2 * 8 * 32  # 128 x 16 bits over 8 units: one burst a unit and bag
    reads_of_weights = batch * 2 * 3
    park_reads = 2 * 16
    back = batch * 2 * 8
    assert cost.commands["RD"] == reads_of_weights + park_reads + back


def test_report_adds_up_and_repeats() -> None:
    operators = (
        Input(name="dense", elements=13),
        Gather(name="g", tables=tables()),
        MatMul(name="a", inputs=("dense",), out_features=64, in_features=13, weight_bits=16),
        MatMul(name="b", inputs=("g", "a"), out_features=32, in_features=112, weight_bits=8),
    )
    device, costs = load_device("hbm_pim", SMALL), CostCache()
    first = simulate(device, workload(*operators), costs=costs)
    assert sum(row.share for row in first.operators) == pytest.approx(1)
    assert sum(row.latency_us for row in first.operators if row.share) == pytest.approx(first.latency_us["mean"])
    parts = {k: v for k, v in first.energy_uj_per_sample.items() if k != "total"}
    assert sum(v for v in parts.values() if v) == pytest.approx(first.energy_uj_per_sample["total"])
    misses = costs.misses
    assert simulate(device, workload(*operators), costs=costs) == first == simulate(device, workload(*operators))
    assert costs.misses == misses
    assert first.power_w == pytest.approx(first.energy_uj_per_sample["total"] * 4 / first.latency_us["mean"])


def test_poisson_latency_is_never_below_a_lone_batch() -> None:
    device, work = load_device("hbm_pim", SMALL), workload(MatMul(name="m", out_features=64, in_features=64, weight_bits=16))
    lone = simulate(device, work)
    slow = simulate(device, work, arrivals=f"poisson:{0.01 * lone.throughput_samples_per_s}")
    busy = simulate(device, work, arrivals=f"poisson:{0.9 * lone.throughput_samples_per_s}")
    assert lone.latency_us["mean"] <= slow.latency_us["mean"] < busy.latency_us["mean"] < busy.latency_us["p99"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [({"batch": 0}, "--batch: 0"), ({"fidelity": "evnt"}, "did you mean 'event'"), ({"arrivals": "poisson:-3"}, "poisson:RATE")],
)
def test_bad_arguments(arguments: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        simulate(load_device("hbm_pim"), workload(Input(name="x", elements=1)), **arguments)


@pytest.mark.parametrize("name", configs.names("devices"))
def test_every_device_runs_a_model_and_says_what_it_does_not_know(name: str) -> None:
    device = load_device(name)
    work = workload(Gather(name="g", tables=tables()), MatMul(name="m", inputs=("g",), out_features=64, in_features=48, weight_bits=16))
    report = simulate(device, work)
    assert report.latency_us["mean"] > 0 and report.energy_uj_per_sample["host_static"] > 0
    known = command_energy_pj(device.dram) is not None
    assert (report.energy_uj_per_sample["total"] is not None) == known == (report.power_w is not None)
    assert ("n/a" in report.to_json()["energy_uj_per_sample"].values()) == (not known or device.dram.io_pj_per_bit is None)
    if known:
        parts = {k: v for k, v in report.energy_uj_per_sample.items() if k != "total"}
        assert sum(v for v in parts.values() if v) == pytest.approx(report.energy_uj_per_sample["total"])


@pytest.mark.parametrize(
    ("standard", "organisation", "speed"),
    [("ddr4", "8Gb_x8", "3200AA"), ("ddr5", "16Gb_x8", "4800BN"), ("gddr6", "8Gb_x16", "14000_1350mV"), ("hbm3", "4Gb", "5200")],
)
@pytest.mark.parametrize("placement", ["row", "table", "striped"])
def test_units_stand_beside_any_standard(standard: str, organisation: str, speed: str, placement: str) -> None:
    device = load_device("hbm_pim", SMALL | {"mapping.tables": placement, "mapping.embedding": "pim"})
    dram = device.dram.model_copy(update={"standard": standard, "organisation": organisation, "speed": speed, "timing": {}})
    work = workload(Gather(name="g", tables=tables()), MatMul(name="m", inputs=("g",), out_features=64, in_features=48, weight_bits=16))
    report = simulate(device.model_copy(update={"dram": dram}), work)
    assert {row.unit for row in report.operators} == {"pim"} and report.latency_us["mean"] > 0
