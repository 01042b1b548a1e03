"""A link between host and memory: what crosses it, how transfers wait for each other, and nothing changed without one."""

from __future__ import annotations

import math

import pytest
import yaml

from pimsim import configs
from pimsim.api import CostCache, Load, load_device, run_kernel, simulate, simulate_together
from pimsim.comparison import without_units
from pimsim.engine.link import over_link
from pimsim.errors import ConfigError
from pimsim.graph import Gather, IndexSource, MatMul, Table, Workload
from pimsim.report import Report
from pimsim.spec.base import missing_sources
from pimsim.spec.device import DeviceSpec
from pimsim.units.host import reached_by_host

LOOK = Gather(name="look", tables=tuple(Table(name=f"t{n}", rows=20_000, dim=32, pooling=8) for n in range(4)))
TOP = MatMul(name="top", inputs=("look",), out_features=64, in_features=128)
MODEL = Workload(name="m", operators=(LOOK, TOP), indices=IndexSource(kind="uniform"))
ALONE = Workload(name="look", operators=(LOOK,), indices=IndexSource(kind="uniform"))
PERFECT = {"send_gbps": 1e9, "receive_gbps": 1e9, "latency_ns": 0, "pj_per_bit": 0}
SLOW = {"send_gbps": 0.5, "receive_gbps": 0.25, "latency_ns": 500, "pj_per_bit": 10}
COSTS = CostCache()
SENT, RECEIVED = 4 * 8 * 4, 4 * 32 * 4  # bytes of a sample: row numbers, FP32 sums


def device(name: str = "recnmp", link: dict | str | None = None, **more: object) -> DeviceSpec:
    return load_device(name, ({"link": link} if link else {}) | more)


def run(spec: DeviceSpec, workload: Workload = ALONE, batch: int = 16, **how: object) -> Report:
    return simulate(spec, workload, batch, costs=COSTS, **how)


def way_us(size: int, gbps: float, latency_ns: float) -> float:
    return latency_ns / 1000 + size / gbps / 1000


@pytest.mark.parametrize("name", [name for name in configs.names("devices") if name != "tensordimm_v100"])
def test_shipped_devices_have_no_link_and_are_left_alone(name: str) -> None:
    spec, costs = load_device(name), {}  # type: ignore[var-annotated]
    assert spec.link is None
    graph, same = over_link(MODEL, costs, spec, 8)
    assert graph is MODEL and same is costs
    assert reached_by_host(spec, own=True) is spec and reached_by_host(spec, own=False) is spec


@pytest.mark.parametrize("fidelity", ["event", "analytic"])
@pytest.mark.parametrize(("name", "more"), [("recnmp", {}), ("hbm_pim", {"mapping.matmul": "pim", "dram.channels": 4}), ("ddr4_3200", {})])
def test_a_perfect_link_changes_nothing(name: str, more: dict, fidelity: str) -> None:
    plain, linked = (run(device(name, link, **more), MODEL, fidelity=fidelity) for link in (None, PERFECT))
    assert linked.latency_us["mean"] == pytest.approx(plain.latency_us["mean"], rel=1e-5)
    for part, value in plain.energy_uj_per_sample.items():
        assert linked.energy_uj_per_sample[part] == (value if value is None else pytest.approx(value, rel=1e-5)), part
    assert linked.bandwidth_gbps["achieved"] == pytest.approx(plain.bandwidth_gbps["achieved"], rel=1e-5)


@pytest.mark.parametrize("fidelity", ["event", "analytic"])
def test_operands_and_results_add_their_time_and_energy(fidelity: str) -> None:
    plain, linked = (run(device(link=link), fidelity=fidelity) for link in (None, SLOW))
    ways = way_us(16 * SENT, 0.5, 500), way_us(16 * RECEIVED, 0.25, 500)
    assert linked.latency_us["mean"] == pytest.approx(plain.latency_us["mean"] + sum(ways), abs=1e-5)
    assert linked.energy_uj_per_sample["link"] == pytest.approx((SENT + RECEIVED) * 8 * 10 / 1e6)
    rows = {row.name: row for row in linked.operators}
    assert [row.unit for row in linked.operators] == ["link", "pim", "link"]
    assert rows["look operands"].latency_us == pytest.approx(ways[0]) and rows["look results"].latency_us == pytest.approx(ways[1])
    assert sum(row.share for row in linked.operators) == pytest.approx(1)
    assert linked.utilisation["link_send"] == pytest.approx(ways[0] / linked.latency_us["mean"])


def test_transfers_of_many_batches_wait_for_each_other() -> None:
    ways = way_us(16 * SENT, 0.5, 500), way_us(16 * RECEIVED, 0.25, 500)
    full, half = (run(device(link=SLOW | {"duplex": duplex}), arrivals="closed:8", batches=200) for duplex in ("full", "half"))
    assert full.throughput_samples_per_s == pytest.approx(16e6 / max(ways), rel=0.01)
    assert half.throughput_samples_per_s == pytest.approx(16e6 / sum(ways), rel=0.01)
    assert full.utilisation["link_receive"] == pytest.approx(1, abs=0.01) and half.utilisation["link"] == pytest.approx(1, abs=0.01)
    assert "link_send" not in half.utilisation and "link" not in full.utilisation


def test_a_busy_link_is_an_m_d_1_queue() -> None:
    spec = device(link=PERFECT | {"send_gbps": 0.1, "latency_ns": 1000})
    service, load = way_us(16 * SENT, 0.1, 1000), 0.7  # the units and the way back are faster, so that nothing waits behind it
    alone = run(spec).latency_us["mean"]
    busy = run(spec, arrivals=f"poisson:{16e6 * load / service}", batches=8_000, seed=3)
    waiting = load * service / (2 * (1 - load))
    assert busy.latency_us["mean"] - alone == pytest.approx(waiting, rel=0.05)
    assert busy.utilisation["link_send"] == pytest.approx(load, rel=0.03)


def test_models_share_the_link() -> None:
    spec = device(link=SLOW)
    both = simulate_together(spec, [Load(ALONE, 16, "closed:2"), Load(MODEL, 16, "closed:2")], costs=COSTS, batches=100)
    alone = run(spec, arrivals="closed:2", batches=100)
    assert both.models[0].throughput_samples_per_s < 0.7 * alone.throughput_samples_per_s
    assert both.utilisation["link_receive"] == pytest.approx(sum(one.utilisation["link_receive"] for one in both.models))
    assert both.bottleneck.startswith("link_receive")


@pytest.mark.parametrize("fidelity", ["event", "analytic"])
def test_rows_that_the_host_gathers_itself_cross_the_link(fidelity: str) -> None:
    near = device("tensordimm_v100", **{"link.receive_gbps": 1.0, "host.cache_embeddings": False})
    far = without_units(near)
    report = run(far, fidelity=fidelity)
    rows = 16 * 4 * 8 * 32 * 4
    assert report.latency_us["mean"] == pytest.approx(way_us(rows, 1.0, 700), rel=1e-4)  # and a round trip
    assert report.energy_uj_per_sample["link"] == pytest.approx(rows / 16 * 8 * 10 / 1e6)
    assert run(near, fidelity=fidelity).latency_us["mean"] < report.latency_us["mean"]
    assert report.operators[0].limited_by == "link bandwidth"


@pytest.mark.parametrize("fidelity", ["event", "analytic"])
def test_weights_lie_in_the_hosts_own_memory(fidelity: str) -> None:
    wide = MatMul(name="wide", out_features=4096, in_features=4096)  # 64 MiB do not fit the last-level cache
    model = Workload(name="w", operators=(wide,))
    own = device("tensordimm_v100")
    shared = device("tensordimm_v100", host_memory=None)
    reports = {name: run(spec, model, 4, fidelity=fidelity) for name, spec in (("own", own), ("shared", shared))}
    alone = run(load_device("gpu_v100"), model, 4, fidelity=fidelity)
    assert reports["own"].latency_us == alone.latency_us and reports["own"].utilisation["memory"] == 0
    assert reports["shared"].latency_us["mean"] > way_us(wide.weight_bytes, 150, 350) > alone.latency_us["mean"]
    assert "link" not in reports["own"].energy_uj_per_sample and reports["own"].bandwidth_gbps["achieved"] == 0
    assert reports["own"].energy_uj_per_sample["host_dram_background"] > 0


def test_fidelities_agree_on_the_published_configuration() -> None:
    spec = device("tensordimm_v100")
    event, closed = (run(spec, MODEL, 64, fidelity=fidelity) for fidelity in ("event", "analytic"))
    assert closed.latency_us["mean"] == pytest.approx(event.latency_us["mean"], rel=0.05)
    assert [row.name for row in closed.operators] == [row.name for row in event.operators]


@pytest.mark.parametrize("fidelity", ["event", "analytic"])
def test_a_kernel_end_to_end_crosses_the_link_and_alone_does_not(fidelity: str) -> None:
    plain, linked = device(), device(link=SLOW)
    kernels = {
        (name, whole): run_kernel(spec, LOOK, 16, MODEL.indices, whole, fidelity)
        for name, spec in (("plain", plain), ("linked", linked))
        for whole in (False, True)
    }
    assert kernels["linked", False].cycles == kernels["plain", False].cycles
    ways = way_us(16 * SENT, 0.5, 500) + way_us(16 * RECEIVED, 0.25, 500)
    added = kernels["linked", True].cycles - kernels["plain", True].cycles
    assert added == math.ceil(ways * 1e6 / kernels["plain", True].tck_ps)
    assert kernels["linked", True].energy_pj["link"] == pytest.approx(16 * (SENT + RECEIVED) * 80)


@pytest.mark.parametrize("name", configs.names("links"))
def test_every_number_of_a_link_has_a_source(name: str) -> None:
    assert list(missing_sources(device(link=name))) == []


def test_a_written_device_keeps_its_link(tmp_path) -> None:
    spec = device("upmem", "pcie4_x16", host_memory="ddr4_3200")
    path = tmp_path / "device.yaml"
    path.write_text(yaml.safe_dump(spec.model_dump(mode="json")))
    assert load_device(path).digest() == spec.digest() and spec.host_memory.speed == "3200AA"


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"host_memory": "gpu_v100"}, "host_memory: needs a `link` section"),
        ({"link": "pcie3"}, "unknown link 'pcie3'; did you mean 'pcie3_x16'"),
        ({"link": SLOW | {"latency_ns": -1}}, "link.latency_ns: -1: Input should be greater than or equal to 0"),
        ({"link": SLOW | {"gbps": 3}}, "link.gbps: unknown key"),
        ({"link": {"send_gbps": 1}}, "link.receive_gbps: missing"),
    ],
)
def test_mistakes_get_one_line(overrides: dict, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_device("recnmp", overrides)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_few_outstanding_requests_wait_for_the_link() -> None:
    times = {}
    for latency in (0, 10_000):
        spec = device(link=PERFECT | {"latency_ns": latency}, **{"mapping.embedding": "host", "host.cache_embeddings": False})
        times[latency] = run(spec).latency_us["mean"]
    lines = 16 * 4 * 8 * 2  # rows of 128 bytes
    waiting = lines * 20 / 96  # 96 requests of 20 us, there and back
    assert times[0] < waiting < times[10_000] < 1.15 * waiting
