"""Voltage and clock of logic: energy with the square, clocks within what a voltage allows, the memory untouched."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from pimsim.api import load_device, run_kernel, simulate
from pimsim.dram.standard import resolve_timing
from pimsim.energy.dvfs import at_operating_point, highest_clock_mhz
from pimsim.errors import ConfigError
from pimsim.graph import Gather, MatMul, Table, Workload

SMALL = {"dram.channels": 4}
GEMV = MatMul(name="m", out_features=256, in_features=256, weight_bits=16)
LOGIC = {"pim_mac", "host_compute", "host_cache"}
POINTS = [{"name": "slow", "clock_mhz": 100, "voltage_v": 0.6}, {"name": "fast", "clock_mhz": 250, "voltage_v": 0.9}]


def test_arithmetic_goes_with_the_square_of_the_voltage_and_the_memory_stays() -> None:
    nominal, low = load_device("hbm_pim", SMALL), load_device("hbm_pim", SMALL | {"unit.voltage_v": 0.8})
    before, after = run_kernel(nominal, GEMV), run_kernel(low, GEMV)
    assert after.cycles == before.cycles and after.commands == before.commands
    for part, energy in before.energy_pj.items():
        if part != "total":
            factor = (0.8 / 0.9) ** 2 if part in LOGIC else 1.0
            assert after.energy_pj[part] == pytest.approx(energy * factor), part
    assert resolve_timing(low.dram) == resolve_timing(nominal.dram) and low.dram == nominal.dram


def test_a_unit_clock_lengthens_kernels_and_leaves_dram_timing_alone() -> None:
    slow = load_device("hbm_pim", SMALL | {"unit.clock_mhz": 100, "unit.voltage_v": 0.6})
    assert run_kernel(slow, GEMV).cycles > run_kernel(load_device("hbm_pim", SMALL), GEMV).cycles
    assert resolve_timing(slow.dram) == resolve_timing(load_device("hbm_pim", SMALL).dram)


def test_a_host_scales_arithmetic_cache_dispatch_and_standing_power() -> None:
    nominal, low = load_device("ddr4_3200"), load_device("ddr4_3200", {"host.clock_mhz": 1200, "host.voltage_v": 0.6})
    assert low.host.peak_gflops == pytest.approx(nominal.host.peak_gflops / 2)
    assert low.host.dispatch_ns == pytest.approx(nominal.host.dispatch_ns * 2)
    assert low.host.static_w == pytest.approx(nominal.host.static_w * 0.6 / 0.9)
    gather = Gather(name="look", tables=(Table(name="t", rows=1_000_000, dim=32, pooling=8),))
    work = Workload(name="w", operators=(gather, MatMul(name="top", inputs=("look",), out_features=64, in_features=32)))
    before, after = simulate(nominal, work, 16), simulate(low, work, 16)
    assert after.latency_us["mean"] > before.latency_us["mean"]
    for part in ("host_compute", "host_cache"):
        assert after.energy_uj_per_sample[part] == pytest.approx(before.energy_uj_per_sample[part] * (0.6 / 0.9) ** 2)
    for part in ("dram_activate", "dram_read"):
        assert after.energy_uj_per_sample[part] == pytest.approx(before.energy_uj_per_sample[part])


def test_the_alpha_power_law_gives_the_highest_clock() -> None:
    unit = load_device("hbm_pim").unit
    assert highest_clock_mhz(unit, 0.9) == pytest.approx(300)
    assert highest_clock_mhz(unit, 0.7) == pytest.approx(300 * (0.35 / 0.55) ** 1.3 * 0.9 / 0.7)
    assert highest_clock_mhz(unit, 0.3) == 0
    edge = highest_clock_mhz(unit, 0.8)
    load_device("hbm_pim", {"unit.voltage_v": 0.8, "unit.clock_mhz": edge})
    with pytest.raises(ConfigError, match=r"0\.8 V allows"):
        load_device("hbm_pim", {"unit.voltage_v": 0.8, "unit.clock_mhz": edge * 1.01})


def test_a_point_is_chosen_from_a_table_by_name() -> None:
    slow = load_device("hbm_pim", SMALL | {"unit.operating_points": POINTS, "unit.operating_point": "slow"})
    assert slow.unit.clock_mhz == 100 and slow.unit.pj_per_mac_16 == pytest.approx(1.5 * (0.6 / 0.9) ** 2)
    with pytest.raises(ConfigError, match=r"0\.7 V allows 100 MHz at most, the clock is 101 MHz"):
        load_device("hbm_pim", {"unit.operating_points": POINTS, "unit.voltage_v": 0.7, "unit.clock_mhz": 101})


def test_a_clock_takes_the_lowest_voltage_of_a_table() -> None:
    slow, fast = (load_device("hbm_pim", {"unit.operating_points": POINTS, "unit.clock_mhz": clock}) for clock in (100, 101))
    assert (slow.unit.voltage_v, fast.unit.voltage_v) == (0.6, 0.9)
    assert slow.unit.pj_per_mac_8 == pytest.approx(fast.unit.pj_per_mac_8 * (0.6 / 0.9) ** 2)
    with pytest.raises(ConfigError, match=r"unit\.clock_mhz: 251: above the 250 MHz"):
        load_device("hbm_pim", {"unit.operating_points": POINTS, "unit.clock_mhz": 251})


def test_a_written_device_keeps_its_point(tmp_path: Path) -> None:
    low = load_device("hbm_pim", SMALL | {"unit.voltage_v": 0.8, "host.clock_mhz": 2000, "host.voltage_v": 0.85})
    assert at_operating_point(low).digest() == low.digest()
    path = tmp_path / "device.yaml"
    path.write_text(yaml.safe_dump(low.model_dump(mode="json")))
    assert load_device(path).digest() == low.digest()
    again = load_device(path, {"unit.voltage_v": 0.9})
    assert again.unit.pj_per_mac_16 == pytest.approx(1.5) and highest_clock_mhz(again.unit, 0.9) == pytest.approx(300)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"unit.voltage_v": 0.7}, "unit.voltage_v: 0.7 V allows 214.3 MHz at most, the clock is 250 MHz"),
        ({"unit.voltage_v": -1}, "unit.voltage_v: -1: Input should be greater than 0"),
        ({"unit.operating_points": POINTS, "unit.operating_point": "slo"}, "unknown operating point 'slo'; did you mean 'slow'"),
        ({"unit.voltage_v": 0.8, "unit.nominal_voltage_v": None}, "needs unit.nominal_voltage_v"),
        ({"unit.voltage_v": 0.8, "unit.threshold_v": None}, "needs unit.max_clock_mhz and unit.threshold_v"),
        ({"host.clock_mhz": 5000}, "host.clock_mhz: 5000: above the 3100 MHz"),
        ({"host.clock_mhz": 2000, "host.nominal_clock_mhz": None}, "needs host.nominal_clock_mhz"),
        ({"host.voltage_v": 0.4}, "host.voltage_v: 0.4 V allows"),
    ],
)
def test_impossible_points_get_one_line(overrides: dict, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_device("hbm_pim", overrides)
    assert words in str(caught.value) and "\n" not in str(caught.value)
