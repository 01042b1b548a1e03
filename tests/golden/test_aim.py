"""GDDR6-AiM against the public simulator (clocks and commands), its own published peaks, and a plain model of its arithmetic."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pimsim.api import load_device, run_kernel
from pimsim.dram.standard import resolve_organisation, resolve_timing
from pimsim.errors import ConfigError
from pimsim.graph import Elementwise, Gather, MatMul, Table
from pimsim.numerics.formats import round_bf16
from pimsim.units.aim_timing import AimCommand, Instruction, issue_program

GOLDEN = Path(__file__).parents[3] / "shared" / "golden" / "pim" / "aim_reference.json"
NAMES = ("MAC16", "ACT16", "PREA", "WRGB", "WRMAC16", "RDMAC16")
QUIET = load_device("gddr6_aim", {"dram.controller.refresh": "off"})
REFRESHED = load_device("gddr6_aim")


def gemv(out_features: int, in_features: int) -> MatMul:
    return MatMul(name="gemv", out_features=out_features, in_features=in_features, weight_bits=16, activation_bits=16)


def timed(device, **clocks: int):
    return load_device(
        "gddr6_aim", {"dram.controller.refresh": device.dram.controller.refresh, **{f"dram.timing.{k}": v for k, v in clocks.items()}}
    )


def micro(row: int) -> dict[str, list[Instruction]]:
    """One of 1024 rounds of the public simulator's own traces."""
    mac, bias, read = Instruction("MAC_ABK", 64, row), Instruction("WR_BIAS"), Instruction("RD_MAC")
    copies = [Instruction("WR_GB", 64), Instruction("COPY_GBBK", 64, row, bank=0), Instruction("COPY_BKGB", 64, row, bank=8)]
    return {
        "micro_macab_1024_16banks": [mac],
        "micro_rdmac_1024_16banks": [read],
        "micro_wrbias_1024_16banks": [bias],
        "micro_wrbias_mac_rdmac_mac_16banks": [bias, Instruction("MAC_ABK", 64, 0), read, Instruction("MAC_ABK", 64, 1)],
        "micro_ewmul_16banks": [Instruction("EWMUL", 64, row)],
        "micro_wrab_1024_1bank": [Instruction("WR_ABK", 1, row)],
        "micro_wrgb_gbbk_bggb_16banks": copies,
    }


def reference(name: str) -> dict:
    if not GOLDEN.is_file():
        pytest.skip(f"{GOLDEN} is not here")
    return {run["trace"].removesuffix(".trace"): run for run in json.loads(GOLDEN.read_text())["results"]}[name]


@pytest.mark.parametrize("name", list(micro(0)))
def test_micro_kernels_take_the_clocks_of_the_public_simulator(name: str) -> None:
    run = reference(name)
    result = issue_program(QUIET.dram, [step for row in range(1024) for step in micro(row)[name]])
    assert result.cycles == run["cycles"]
    assert {key: result.counts.get(key, 0) for key in NAMES} == {key: run[key] for key in NAMES}


@pytest.mark.parametrize("shape", [(512, 256), (512, 512), (512, 1024), (1024, 1024), (8192, 1024), (4096, 4096)])
def test_matrix_vector_kernels_take_the_clocks_of_the_public_simulator(shape: tuple[int, int]) -> None:
    run = reference(f"gemv_{shape[0]}x{shape[1]}")
    report = run_kernel(QUIET, gemv(*shape))
    assert report.cycles == run["cycles"]
    assert {key: report.commands.get(key, 0) for key in NAMES} == {key: run[key] for key in NAMES}
    external = shape[0] * shape[1] * 2 / 1024 / (report.cycles * report.tck_ps * 1e-3)  # an ideal stream at 1.024 TB/s
    assert external == pytest.approx(run["ratio_vs_ideal_stream"], rel=0.005)  # of times rounded to a nanosecond


def test_activation_micro_kernel() -> None:
    """The public simulator's own trace of MAC, AF and RD_AF, which took 424,960 clocks there (nRCDRDAF 86)."""
    step = [Instruction("WR_BIAS"), Instruction("MAC_ABK", 64, 0), Instruction("AF"), Instruction("RD_AF")]
    result = issue_program(QUIET.dram, step * 1024)
    assert result.cycles == 424_960
    assert (result.counts["ACT16"], result.counts["AF16"], result.counts["TMOD"]) == (2048, 1024, 2049)


@pytest.mark.parametrize(
    ("shape", "batch", "clocks", "expected"),
    [
        ((4096, 4096), 1, {"nRCDRDMAC": 40, "nRP": 20, "nMODCH": 8}, 10_613),
        ((4096, 4096), 1, {"nCCDS": 4, "nRTP": 20}, 21_153),
        ((1000, 1500), 3, {"nRAS": 240, "nRC": 300}, 4_105),
        ((2048, 1024), 2, {"nBL": 4, "nCCDL": 6, "nWTRL": 20}, 4_865),
        ((512, 768), 4, {}, 1_137),
    ],
)
def test_timing_overrides_follow_the_mechanism(shape: tuple[int, int], batch: int, clocks: dict[str, int], expected: int) -> None:
    """Expected: what the public simulator took with the same overrides."""
    assert run_kernel(timed(QUIET, **clocks), gemv(*shape), batch).cycles == expected


NAMES_DRAWN = ("WR_GB", "WR_BIAS", "RD_MAC", "RD_AF", "AF", "MAC_ABK", "EWMUL", "COPY_BKGB", "COPY_GBBK", "MAC_SBK", "WR_ABK")
STEPS = st.lists(
    st.builds(Instruction, st.sampled_from(NAMES_DRAWN), st.integers(1, 64), st.integers(0, 2), st.integers(0, 15)), min_size=1, max_size=25
)
CLOCKS = st.fixed_dictionaries(
    {"nRP": st.integers(1, 60), "nRCDRDMAC": st.integers(1, 90), "nCCDL": st.integers(1, 8), "nMODCH": st.integers(1, 60)}
)


@settings(max_examples=60, deadline=None)
@given(STEPS, CLOCKS, st.sampled_from(["on", "off"]), st.integers(0, 4000))
def test_runs_take_what_their_columns_take_one_by_one(steps: list[Instruction], clocks: dict[str, int], refresh: str, begin: int) -> None:
    base = QUIET if refresh == "off" else REFRESHED
    dram = base.dram.model_copy(update={"timing": clocks | ({"nREFI": 700} if refresh == "on" else {})})
    single = [Instruction(step.name, 1, step.row, step.bank) for step in steps for _ in range(step.count)]
    assert issue_program(dram, steps, begin) == issue_program(dram, single, begin)


def test_refresh_closes_rows_and_costs_what_the_closed_form_says() -> None:
    timing = resolve_timing(REFRESHED.dram)
    program = [Instruction("MAC_ABK", 64, row) for row in range(300)]
    quiet, run = issue_program(QUIET.dram, program), issue_program(REFRESHED.dram, program)
    assert run.counts["MAC16"] == quiet.counts["MAC16"] == 300 * 64
    assert run.counts["REF"] == run.cycles // timing["nREFI"]
    each = (run.cycles - quiet.cycles) / run.counts["REF"]
    reopened = timing["nRP"] + timing["nRFCab"] + timing["nRCDRDMAC"]
    assert timing["nRFCab"] <= each <= reopened + timing["nRTP"] + timing["nRAS"]
    assert 0 < run.counts["ACT16"] - quiet.counts["ACT16"] <= run.counts["REF"]


def test_a_refresh_leaves_the_register_mode() -> None:
    program = [Instruction("WR_GB", 64)] * 60
    run = issue_program(REFRESHED.dram, program)
    assert run.counts == {"WRGB": 3840, "TMOD": 1 + 2 * run.counts["REF"], "REF": run.cycles // resolve_timing(REFRESHED.dram)["nREFI"]}


def test_published_peaks_follow_from_the_specification() -> None:
    """AIM-1: 1 TFLOP/s a chip of two channels; AIM-2: 512 GB/s a channel, 1.024 TB/s a chip, sixteen times the interface."""
    organisation, timing = resolve_organisation(QUIET.dram), resolve_timing(QUIET.dram)
    assert 2 * QUIET.unit.peak_gflops(organisation, timing) == pytest.approx(1024)
    assert QUIET.unit.peak_gbps(16, organisation, timing) == pytest.approx(512)
    assert organisation.burst_bytes / (timing["nBL"] * timing["tCK_ps"] * 1e-3) == pytest.approx(512 / 16)


def test_long_columns_of_outputs_approach_the_row_limited_speed() -> None:
    """The cap on NEWTON-1's speed-up here: 16 x the share of a row's time (226 clocks) in which columns move (128), less mode switches."""
    timing = resolve_timing(QUIET.dram)
    row = timing["nRCDRDMAC"] + 63 * timing["nCCDS"] + timing["nRTP"] + timing["nRP"]
    cycles = issue_program(QUIET.dram, [Instruction("MAC_ABK", 64, r) for r in range(1024)]).cycles
    assert cycles / 1024 == pytest.approx(row, rel=0.001)
    ideal_stream = 64 * 16 * timing["nBL"]  # clocks of one row of all banks over the interface
    assert ideal_stream / row == pytest.approx(9.06, abs=0.01)


def test_large_kernels_are_simulated_quickly() -> None:
    run_kernel(REFRESHED, gemv(512, 256))
    began = time.perf_counter()
    report = run_kernel(REFRESHED, gemv(4096, 4096))
    assert report.simulate_seconds <= time.perf_counter() - began
    assert report.simulate_seconds < 0.05


def test_energy_and_area_add_up() -> None:
    report = run_kernel(QUIET, gemv(512, 1024))
    assert report.energy_pj["pim_column"] + report.energy_pj["pim_mac"] == pytest.approx(64 * 16 * 82.2 * 32)
    assert report.energy_pj["dram_io"] == pytest.approx((64 + 2) * 256 * 5.5 * 32)
    assert report.energy_pj["dram_activate"] / (32 * 16) == pytest.approx(66.3 * 44.5, rel=0.01)  # pJ a bank: mW x ns of the source
    assert report.energy_pj["total"] == pytest.approx(sum(v for k, v in report.energy_pj.items() if k != "total"))
    half = run_kernel(load_device("gddr6_aim", {"dram.channels": 16}), gemv(512, 1024))
    assert half.area_mm2 == pytest.approx(report.area_mm2 / 2) and report.area_mm2 > 0


def test_elementwise_kernels() -> None:
    per_channel = 4 * 16  # a burst of products in each bank group
    product = run_kernel(QUIET, Elementwise(name="mul", function="mul", elements=32 * per_channel * 100, operands=2, activation_bits=16))
    assert product.commands["EWMUL16"] == 100 and product.commands["ACT16"] == 2
    back = run_kernel(
        QUIET, Elementwise(name="mul", function="mul", elements=32 * per_channel, operands=2, activation_bits=16), end_to_end=True
    )
    assert back.cycles > run_kernel(QUIET, Elementwise(name="m", function="mul", elements=32 * per_channel, operands=2)).cycles
    relu = run_kernel(QUIET, Elementwise(name="relu", function="relu", elements=512 * 3 + 1, operands=1, activation_bits=16))
    assert (relu.commands["AF16"], relu.commands["RDAF16"], relu.commands["WRMAC16"], relu.commands["ACT16"]) == (4, 4, 4, 1)


def test_within_a_model_channels_are_split_over_the_batch() -> None:
    unit, item = QUIET.unit, gemv(64, 512)
    assert unit.split(item, 1, QUIET) == (32, 1)
    assert unit.split(item, 64, QUIET) == (4, 8)
    alone, batch = unit.matmul(item, QUIET, 1), unit.matmul(item, QUIET, 64)
    assert batch.latency_ps < 16 * alone.latency_ps
    assert batch.energy_pj["pim_mac"] == pytest.approx(64 * alone.energy_pj["pim_mac"] * 4 / 32)
    assert alone.latency_ps == run_kernel(QUIET, item).cycles * 500


@pytest.mark.parametrize(
    ("item", "overrides", "words"),
    [
        (Elementwise(name="add", function="add", elements=64, operands=2), {}, "kernel add"),
        (Gather(name="e", tables=(Table(name="t", rows=10, dim=16),)), {}, "kernel gather"),
        (gemv(1 << 24, 1024), {}, "16384"),
        (gemv(16, 16), {"unit.units_per_channel": 8}, "unit.units_per_channel: 8"),
        (gemv(16, 16), {"unit.lanes": 8}, "unit.lanes: 8"),
        (gemv(16, 16), {"unit.global_buffer_bytes": 100}, "unit.global_buffer_bytes: 100"),
        (gemv(16, 16), {"dram.speed": "14000_1350mV"}, "16000_AiM"),
        (gemv(16, 16), {"dram.controller.refresh": "per-bank"}, "dram.controller.refresh"),
    ],
)
def test_mistakes_get_one_line(item, overrides: dict, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        run_kernel(load_device("gddr6_aim", overrides), item)
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "wrong", [Instruction("MAC"), Instruction("MAC_ABK", 65), Instruction("MAC_ABK", 0), Instruction("COPY_BKGB", 1, 0, 16)]
)
def test_impossible_instructions_are_refused(wrong: Instruction) -> None:
    with pytest.raises(ValueError, match=wrong.name):
        issue_program(QUIET.dram, [wrong])


def test_every_command_has_a_rule() -> None:
    from pimsim.units.aim_timing import CONSTRAINTS

    assert {c for _, first, _, _ in CONSTRAINTS for c in first} == set(AimCommand)


def by_hand(weights: np.ndarray, vector: np.ndarray, bias: np.ndarray, narrow: bool) -> list[float]:
    """One vector through the unit, one FP32 addition after another."""
    results = []
    for row, start in zip(round_bf16(weights), round_bf16(bias), strict=True):
        total = np.float32(start)
        for column in range(0, len(row), 16):
            lanes = [np.float32(w * x) for w, x in zip(row[column : column + 16], round_bf16(vector)[column : column + 16], strict=True)]
            lanes += [np.float32(0)] * (16 - len(lanes))
            while len(lanes) > 1:
                lanes = [np.float32(lanes[i] + lanes[i + 1]) for i in range(0, len(lanes), 2)]
            total = np.float32(total + lanes[0])
            total = round_bf16(total)[()] if narrow else total
        results.append(float(round_bf16(total)))
    return results


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 20), st.integers(1, 70), st.integers(1, 4), st.booleans(), st.integers(0, 2**32 - 1))
def test_values_are_those_of_the_unit(outputs: int, inputs: int, batch: int, narrow: bool, seed: int) -> None:
    draw = np.random.default_rng(seed)
    weights, vectors, bias = draw.normal(size=(outputs, inputs)), 100 * draw.normal(size=(batch, inputs)), draw.normal(size=outputs)
    unit = load_device("gddr6_aim", {"unit.accumulator": "bf16" if narrow else "fp32"}).unit
    found = unit.compute(gemv(outputs, inputs), weights, vectors, bias)
    assert found.shape == (batch, outputs)
    np.testing.assert_array_equal(found, [by_hand(weights, vector, bias, narrow) for vector in vectors])
    if not narrow:
        exact = round_bf16(vectors).astype(float) @ round_bf16(weights).astype(float).T + round_bf16(bias)
        size = np.abs(round_bf16(vectors).astype(float)) @ np.abs(round_bf16(weights)).T.astype(float) + np.abs(bias)
        assert (np.abs(found - exact) <= 2**-8 * np.abs(exact) + 1e-5 * size + 1e-30).all()


def test_elementwise_values_are_bf16() -> None:
    draw = np.random.default_rng(3)
    x, y = draw.normal(size=(7, 33)), draw.normal(size=(7, 33))
    a, b = round_bf16(x), round_bf16(y)
    unit = QUIET.unit
    both = Elementwise(name="mul", function="mul", elements=33, operands=2)
    np.testing.assert_array_equal(unit.compute(both, x, y), round_bf16(a * b))
    for function, exact in {
        "relu": np.maximum(a, 0),
        "sigmoid": 1 / (1 + np.exp(-a.astype(float))),
        "tanh": np.tanh(a.astype(float)),
    }.items():
        one = unit.compute(Elementwise(name=function, function=function, elements=33), x)
        np.testing.assert_array_equal(one, round_bf16(exact))
    with pytest.raises(ConfigError, match="kernel elementwise"):
        unit.compute(Elementwise(name="add", function="add", elements=33, operands=2), x, y)
