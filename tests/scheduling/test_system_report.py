"""Reports of models that share a device: conservation laws of queues, shared cache and memory, warm-up and saturation."""

from __future__ import annotations

from pathlib import Path

import pytest

from pimsim.api import CostCache, Load, load_device, simulate, simulate_together
from pimsim.errors import ConfigError
from pimsim.graph import Gather, Input, MatMul, Table, Workload

COSTS = CostCache()
DDR4 = load_device("ddr4_3200")


def dense(name: str = "m", width: int = 64) -> Workload:
    layer = MatMul(name="layer", inputs=("in",), out_features=width, in_features=width)
    return Workload(name=name, operators=(Input(name="in", elements=width), layer), batch=8)


def sparse(name: str = "g", rows: int = 100_000) -> Workload:
    tables = (Table(name="t", rows=rows, dim=32, pooling=8),)
    top = MatMul(name="top", inputs=("look",), out_features=32, in_features=32)
    return Workload(name=name, operators=(Gather(name="look", tables=tables), top), batch=8)


def test_one_client_is_one_batch_after_the_other() -> None:
    lone, looped = (simulate(DDR4, sparse(), arrivals=kind, costs=COSTS, batches=50) for kind in ("closed", "closed:1"))
    assert looped.latency_us == pytest.approx(lone.latency_us)
    assert looped.throughput_samples_per_s == pytest.approx(lone.throughput_samples_per_s)
    assert looped.energy_uj_per_sample == pytest.approx(lone.energy_uj_per_sample)
    assert looped.utilisation == pytest.approx(lone.utilisation)
    assert (lone.batches, looped.batches) == (1, 45)


def test_clients_obey_littles_law_and_the_utilisation_law() -> None:
    report = simulate(DDR4, sparse(), arrivals="closed:4", costs=COSTS, batches=400)
    rate = report.throughput_samples_per_s / 8 / 1e6
    assert rate * report.latency_us["mean"] == pytest.approx(4, rel=0.02)
    on_host = sum(row.latency_us for row in report.operators if row.unit == "host")
    assert report.utilisation["host"] == pytest.approx(rate * on_host, rel=0.02)
    thinking = simulate(DDR4, sparse(), arrivals="closed:4:100", costs=COSTS, batches=4000)
    rate = thinking.throughput_samples_per_s / 8 / 1e6
    assert rate * (thinking.latency_us["mean"] + 100) == pytest.approx(4, rel=0.03)


def test_poisson_batches_follow_m_d_1_in_the_report() -> None:
    lone = simulate(DDR4, dense(), costs=COSTS)
    service, load = lone.latency_us["mean"], 0.4
    report = simulate(DDR4, dense(), arrivals=f"poisson:{load * 8 / service * 1e6}", costs=COSTS, batches=15_000)
    assert report.latency_us["mean"] == pytest.approx(service * (1 + load / (2 * (1 - load))), rel=0.03)
    assert report.utilisation["host"] == pytest.approx(load, rel=0.03)
    assert report.throughput_samples_per_s == pytest.approx(load * 8 / service * 1e6, rel=0.03)
    assert not report.saturated


def test_arrivals_beyond_capacity_are_called_saturated_and_reach_it() -> None:
    lone = simulate(DDR4, dense(), costs=COSTS)
    report = simulate(DDR4, dense(), arrivals=f"poisson:{5 * lone.throughput_samples_per_s}", costs=COSTS, batches=300)
    assert report.saturated and report.throughput_samples_per_s == pytest.approx(lone.throughput_samples_per_s, rel=0.01)


def test_an_overloaded_chain_of_operators_reaches_the_capacity_too() -> None:
    layers = [MatMul(name=f"m{n}", inputs=(f"m{n - 1}" if n else "in",), out_features=64, in_features=64) for n in range(5)]
    work = Workload(name="deep", operators=(Input(name="in", elements=64), *layers), batch=8)
    lone = simulate(DDR4, work, costs=COSTS)
    report = simulate(DDR4, work, arrivals="poisson:1e12", costs=COSTS, batches=300)
    assert report.saturated and report.throughput_samples_per_s == pytest.approx(lone.throughput_samples_per_s, rel=0.01)


def test_models_together_share_time_power_and_nothing_else_is_lost() -> None:
    loads = [Load(dense(), 8, "poisson:1e6"), Load(sparse(), 8, "closed:2")]
    whole = simulate_together(DDR4, loads, costs=COSTS, batches=300)
    for part, used in whole.utilisation.items():
        assert used == pytest.approx(sum(model.utilisation[part] for model in whole.models)) and used <= 1
    standing = sum(
        model.energy_uj_per_sample["host_static"] * model.throughput_samples_per_s / 1e6 for model in whole.models
    )  # microjoules a second
    assert standing == pytest.approx(DDR4.host.static_w)
    assert whole.power_w == pytest.approx(sum(model.power_w for model in whole.models))
    for model, load in zip(whole.models, loads, strict=True):
        alone = simulate(DDR4, load.workload, 8, costs=COSTS)
        assert model.latency_us["mean"] > alone.latency_us["mean"]
        assert model.throughput_samples_per_s < alone.throughput_samples_per_s
        assert model.energy_uj_per_sample["host_compute"] == pytest.approx(alone.energy_uj_per_sample["host_compute"])


def test_weights_of_all_models_share_the_last_level_cache() -> None:
    width = int((DDR4.host.llc_bytes * 0.7 / 4) ** 0.5)
    big = dense("big", width)
    assert simulate(DDR4, big, 1).operators[1].limited_by != "memory"
    together = simulate_together(DDR4, [Load(big, 1), Load(big, 1)], batches=5)
    assert [model.operators[1].limited_by for model in together.models] == ["memory", "memory"]
    small = simulate_together(DDR4, [Load(big, 1), Load(dense(), 1)], batches=5)
    assert small.models[0].operators[1].limited_by != "memory"
    crowded = simulate_together(DDR4, [Load(big, 1), Load(sparse(), 1)], batches=5)  # rows have their part
    assert crowded.models[0].operators[1].limited_by == "memory"


def test_tables_must_fit_together() -> None:
    rows = 40_000_000  # 4.8 GiB of an 8 GiB channel
    simulate(DDR4, sparse(rows=rows), 1)
    with pytest.raises(ConfigError, match=r"the tables of a, b .* do not fit"):
        simulate_together(DDR4, [Load(sparse("a", rows), 1), Load(sparse("b", rows), 1)])


def test_a_trace_is_taken_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "arrivals.txt"
    path.write_text("".join(f"{n * 1000}\n" for n in range(20)))
    report = simulate(DDR4, sparse(), arrivals=f"trace:{path}", costs=COSTS)
    lone = simulate(DDR4, sparse(), costs=COSTS)
    assert report.batches == 20 and report.latency_us == pytest.approx(lone.latency_us)
    assert report.throughput_samples_per_s == pytest.approx(20 * 8 / (19_000 + lone.latency_us["mean"]) * 1e6)


def test_models_run_together_on_units_and_in_closed_form() -> None:
    device = load_device("hbm_pim", {"dram.channels": 8, "mapping.embedding": "pim"})
    loads = [Load(sparse(rows=5000), 4, "closed:2"), Load(dense(), 8, "poisson:10000")]
    event, closed = (simulate_together(device, loads, fidelity, batches=60) for fidelity in ("event", "analytic"))
    assert 0 < event.utilisation["pim"] <= event.utilisation["memory"] <= 1
    assert closed.models[0].latency_us["mean"] == pytest.approx(event.models[0].latency_us["mean"], rel=0.1)


@pytest.mark.parametrize("loads", [[], [Load(dense(), 0)], [Load(dense(), 1, "often")]])
def test_bad_loads_are_refused(loads: list[Load]) -> None:
    with pytest.raises(ConfigError):
        simulate_together(DDR4, loads)
