"""Voltage and clock of AiM's, UPMEM's and the near-rank units' logic: what becomes slower, what costs less, and the memory untouched."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from pimsim.api import load_device, run_kernel, simulate
from pimsim.dram.standard import resolve_timing
from pimsim.energy.dvfs import at_operating_point, highest_clock_mhz
from pimsim.errors import ConfigError
from pimsim.graph import AnyPrimitive, Elementwise, Gather, IndexSource, MatMul, Table, Workload
from pimsim.units.aim_timing import Instruction, issue_program

GEMV = MatMul(name="m", out_features=1024, in_features=2048, weight_bits=16)
MUL = Elementwise(name="x", function="mul", operands=2, elements=100_000, activation_bits=16)
RELU = Elementwise(name="r", function="relu", elements=4096, activation_bits=16)
GATHER = Gather(name="e", tables=tuple(Table(name=f"t{n}", rows=100_000, dim=64, pooling=20) for n in range(2)))
ZIPF = IndexSource(kind="zipf", exponent=1.05)
LOGIC = {"pim_mac", "pim_add", "pim_cache", "dpu"}
NEAR_RANK = ("recnmp", "tensordimm", "trim_g", "trim_b")


def energies(device: str, overrides: dict, item: AnyPrimitive, fidelity: str = "event") -> dict[str, float]:
    found = run_kernel(load_device(device, overrides), item, 4, ZIPF, fidelity=fidelity).energy_pj
    return {part: value for part, value in found.items() if part != "total" and value is not None}


@pytest.mark.parametrize("item", [GEMV, MUL, RELU], ids=lambda item: item.name)
@pytest.mark.parametrize("fidelity", ["event", "analytic"])
def test_aim_at_its_highest_clock_is_in_step_with_the_columns(item: AnyPrimitive, fidelity: str) -> None:
    step, own = (run_kernel(load_device("gddr6_aim", s), item, fidelity=fidelity) for s in ({}, {"unit.clock_mhz": 1000}))
    assert (own.cycles, own.commands, own.energy_pj) == (step.cycles, step.commands, step.energy_pj)


def test_a_slow_aim_unit_spaces_columns_and_nothing_else() -> None:
    dram = load_device("gddr6_aim", {"dram.controller.refresh": "off"}).dram
    row = [Instruction("MAC_ABK", 64, 5)]
    clocks = [issue_program(dram, row, logic_clocks=n).cycles for n in (0, 1, 2, 4, 7)]
    assert clocks[0] == clocks[1] == clocks[2]
    assert [c - clocks[0] for c in clocks[3:]] == [63 * 2, 63 * 5]
    load = [Instruction("WR_GB", 64)]
    assert issue_program(dram, load, logic_clocks=7) == issue_program(dram, load)
    rows = [Instruction("MAC_ABK", 1, n) for n in range(50)]  # one column a row: bound by the rows' own timing
    assert issue_program(dram, rows, logic_clocks=7) == issue_program(dram, rows)
    two = [Instruction("MAC_SBK", 1, 3, bank) for bank in (0, 4)]  # units of two banks work at the same time
    assert issue_program(dram, two, logic_clocks=40) == issue_program(dram, two)


def test_registers_wait_for_a_slow_aim_unit() -> None:
    dram = load_device("gddr6_aim", {"dram.controller.refresh": "off"}).dram
    steps = [Instruction("MAC_ABK", 1, 5), Instruction("RD_MAC")]
    fast, slow, slower = (issue_program(dram, steps, logic_clocks=n).cycles for n in (0, 200, 201))
    assert slow > fast and slower == slow + 1


def test_a_slow_aim_kernel_at_both_fidelities() -> None:
    for clock in (500, 300, 125):
        device = load_device("gddr6_aim", {"unit.clock_mhz": clock})
        event, closed = (run_kernel(device, GEMV, fidelity=fidelity) for fidelity in ("event", "analytic"))
        assert closed.cycles == pytest.approx(event.cycles, rel=0.03)
        assert event.cycles > 2 * 2 * 1000 / clock * 128  # two groups of 128 columns
        assert event.limited_by == closed.limited_by == "all-bank column commands"
        assert resolve_timing(device.dram) == resolve_timing(load_device("gddr6_aim").dram)
    model = Workload(name="w", operators=(GEMV,))
    fast, slow = (simulate(load_device("gddr6_aim", s), model, 4) for s in ({}, {"unit.clock_mhz": 250}))
    assert slow.latency_us["mean"] > 1.5 * fast.latency_us["mean"]


@pytest.mark.parametrize("fidelity", ["event", "analytic"])
@pytest.mark.parametrize(
    ("device", "clock", "nominal", "low", "item"),
    [("gddr6_aim", "clock_mhz", 1.25, 1.0, GEMV), ("upmem", "clock_mhz", 1.2, 1.0, GEMV)]
    + [(name, "adder_clock_mhz", 0.9, 0.7, GATHER) for name in NEAR_RANK],
)
def test_energy_of_logic_goes_with_the_square_and_other_parts_stay(
    device: str, clock: str, nominal: float, low: float, item: AnyPrimitive, fidelity: str
) -> None:
    slow = {f"unit.{clock}": 100}
    before, after = (energies(device, slow | {"unit.voltage_v": volt}, item, fidelity) for volt in (nominal, low))
    assert LOGIC & set(before)
    for part, value in before.items():
        assert after[part] == pytest.approx(value * ((low / nominal) ** 2 if part in LOGIC else 1)), part


def test_the_cache_of_recnmp_scales_with_its_adders() -> None:
    before, after = (energies("recnmp", {"unit.adder_clock_mhz": 100, "unit.voltage_v": v}, GATHER) for v in (0.9, 0.6))
    assert before["pim_cache"] > 0 and after["pim_cache"] == pytest.approx(before["pim_cache"] * (0.6 / 0.9) ** 2)


@pytest.mark.parametrize("name", NEAR_RANK)
def test_slow_adders_lengthen_gathers(name: str) -> None:
    usual, slow = (load_device(name, s) for s in ({}, {"unit.adder_clock_mhz": 10}))
    runs = {f: [run_kernel(d, GATHER, 4, ZIPF, fidelity=f).cycles for d in (usual, slow)] for f in ("event", "analytic")}
    assert runs["event"][1] > 1.5 * runs["event"][0]
    assert runs["analytic"][1] == pytest.approx(runs["event"][1], rel=0.1)
    assert slow.dram == usual.dram
    assert load_device(name).unit.logic_clock_mhz(usual) <= highest_clock_mhz(usual.unit, 0.9)


def test_a_dpu_keeps_the_time_of_its_bank_and_the_energy_of_a_cycle() -> None:
    usual, slow = (load_device("upmem", s).unit for s in ({}, {"unit.clock_mhz": 175}))
    assert (usual.dma_read_cycles, usual.dma_write_cycles) == (77, 61)
    assert (slow.dma_read_cycles, slow.dma_write_cycles) == (77 - 40 * 0.175, 61 - 40 * 0.175)
    assert slow.dma_cycles(2048) == 70 + 1024
    assert slow.active_mw == usual.active_mw / 2 and slow.throughput_mops("add", "int32") == usual.throughput_mops("add", "int32") / 2
    before, after = (run_kernel(load_device("upmem", s), GEMV) for s in ({}, {"unit.clock_mhz": 175}))
    assert after.cycles == pytest.approx(2 * before.cycles, rel=0.02)
    assert after.energy_pj["dpu"] == pytest.approx(before.energy_pj["dpu"], rel=0.02)
    with pytest.raises(ConfigError, match="dma_bank_ns: 300"):
        load_device("upmem", {"unit.dma_bank_ns": 300})


@pytest.mark.parametrize("name", ["gddr6_aim", "upmem", *NEAR_RANK])
def test_a_written_device_keeps_its_point_and_finds_back(name: str, tmp_path: Path) -> None:
    usual = load_device(name)
    clock = usual.unit.CLOCK
    points = [{"name": "eco", "clock_mhz": 100, "voltage_v": 0.7}, {"name": "full", "clock_mhz": 1000, "voltage_v": 1.25}]
    low = load_device(name, {"unit.operating_points": points, "unit.operating_point": "eco"})
    assert getattr(low.unit, clock) == 100 and low.unit.voltage_v == 0.7 and at_operating_point(low).digest() == low.digest()
    path = tmp_path / "device.yaml"
    path.write_text(yaml.safe_dump(low.model_dump(mode="json")))
    assert load_device(path).digest() == low.digest()
    path.write_text(yaml.safe_dump(load_device(name, {"unit.voltage_v": 0.7, f"unit.{clock}": 50}).model_dump(mode="json")))
    back = load_device(path, {"unit.voltage_v": usual.unit.nominal_voltage_v, f"unit.{clock}": getattr(usual.unit, clock)})
    for field in ("column_mac_pj", "pj_per_add", "cache_pj_per_access", "active_mw", "dma_read_cycles"):
        if hasattr(usual.unit, field):
            assert getattr(back.unit, field) == pytest.approx(getattr(usual.unit, field))


@pytest.mark.parametrize(
    ("name", "overrides", "words"),
    [
        ("gddr6_aim", {"unit.voltage_v": 1.0}, "unit.voltage_v: 1 V allows 768 MHz at most, the clock is 1000 MHz"),
        ("recnmp", {"unit.voltage_v": 0.7}, "the clock is 250 MHz"),
        ("tensordimm", {"unit.voltage_v": 0.8}, "the clock is 400 MHz"),
        ("upmem", {"unit.voltage_v": 1.1, "unit.clock_mhz": 390}, "the clock is 390 MHz"),
        (
            "trim_g",
            {"unit.operating_points": [{"name": "a", "clock_mhz": 100, "voltage_v": 0.7}], "unit.adder_clock_mhz": 150},
            "adder_clock_mhz",
        ),
    ],
)
def test_impossible_points_of_units_get_one_line(name: str, overrides: dict, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_device(name, overrides)
    assert words in str(caught.value) and "\n" not in str(caught.value)
