"""Values of near-bank kernels against scalar references in the unit's arithmetic, and clocks that do not depend on what they should not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pimsim.api import load_device
from pimsim.dram.standard import resolve_organisation, resolve_timing
from pimsim.errors import ConfigError
from pimsim.graph import Elementwise, Gather, MatMul, Table
from pimsim.units.cost import LookUps

DEVICE = load_device("hbm_pim")
UNIT = DEVICE.unit
SIZES = st.integers(1, 300)
SEEDS = st.integers(0, 2**32 - 1)


def half(value: float) -> np.float16:
    return np.float16(value)


def dot_by_hand(weights: np.ndarray, vector: np.ndarray) -> np.float16:
    """One output of HBM-PIM, scalar by scalar: 16 lanes; tiles of eight bursts, even ones first; lanes summed one after another in FP16."""
    lanes = [half(0)] * 16
    tiles = -(-len(vector) // 128)
    for tile in [*range(0, tiles, 2), *range(1, tiles, 2)]:
        for k in range(128 * tile, min(128 * tile + 128, len(vector))):
            product = np.float32(half(weights[k])) * np.float32(half(vector[k]))
            lanes[k % 16] = half(product + np.float32(lanes[k % 16]))
    total = half(0)
    for lane in lanes:
        total = half(np.float32(total) + np.float32(lane))
    return total


@settings(max_examples=25, deadline=None)
@given(out=st.integers(1, 5), into=st.integers(1, 600), batch=st.integers(1, 3), seed=SEEDS)
def test_matrix_vector_in_fp16_is_exact(out: int, into: int, batch: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    weights, vectors = rng.normal(size=(out, into)), rng.normal(size=(batch, into))
    got = UNIT.compute(MatMul(name="m", out_features=out, in_features=into, weight_bits=16), weights, vectors)
    assert got.dtype == np.float16 and got.shape == (batch, out)
    for b in range(batch):
        assert [dot_by_hand(row, vectors[b]) for row in weights] == got[b].tolist()
    bound = 1e-3 * into**0.5 + 2e-3 * np.abs(weights).max() * np.abs(vectors).max() * into
    assert np.abs(got - vectors @ weights.T).max() <= bound


@settings(max_examples=25, deadline=None)
@given(out=SIZES, into=SIZES, batch=st.integers(1, 4), bits=st.sampled_from([4, 8]), tree=st.booleans(), seed=SEEDS)
def test_integer_products_are_exact(out: int, into: int, batch: int, bits: int, tree: bool, seed: int) -> None:
    rng, limit = np.random.default_rng(seed), 1 << (bits - 1)
    weights, vectors = rng.integers(-limit, limit, (out, into)), rng.integers(-limit, limit, (batch, into))
    unit = UNIT.model_copy(update={"lane_reduction": tree})
    got = unit.compute(MatMul(name="m", out_features=out, in_features=into, weight_bits=bits), weights, vectors)
    assert np.array_equal(got, vectors @ weights.T)


@settings(max_examples=25, deadline=None)
@given(out=st.integers(1, 40), into=SIZES, batch=st.integers(1, 4), tree=st.booleans(), seed=SEEDS)
def test_fp32_products_are_as_close_as_their_roundings(out: int, into: int, batch: int, tree: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    weights, vectors = rng.normal(size=(out, into)).astype(np.float32), rng.normal(size=(batch, into)).astype(np.float32)
    unit = UNIT.model_copy(update={"lane_reduction": tree})
    got = unit.compute(MatMul(name="m", out_features=out, in_features=into, weight_bits=32), weights, vectors)
    exact = vectors.astype(float) @ weights.astype(float).T
    bound = 2**-23 * (into / 8 + 10) * (np.abs(vectors).astype(float) @ np.abs(weights).astype(float).T)
    assert got.dtype == np.float32 and (np.abs(got - exact) <= bound).all()


@settings(max_examples=25, deadline=None)
@given(n=SIZES, function=st.sampled_from(["add", "mul", "relu"]), seed=SEEDS)
def test_elementwise_in_fp16_rounds_once(n: int, function: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = (rng.normal(size=n).astype(np.float16) for _ in range(2))
    item = Elementwise(name="e", function=function, elements=n, operands=1 if function == "relu" else 2, activation_bits=16)
    exact = {"add": a.astype(float) + b.astype(float), "mul": a.astype(float) * b.astype(float), "relu": np.maximum(a.astype(float), 0)}
    got = UNIT.compute(item, *([a] if function == "relu" else [a, b]))
    assert got.dtype == np.float16 and np.array_equal(got, exact[function].astype(np.float16))


def test_elementwise_integers_saturate() -> None:
    item = Elementwise(name="e", function="add", elements=3, operands=2, activation_bits=8)
    assert UNIT.compute(item, np.array([100, -100, 3]), np.array([100, -100, -4])).tolist() == [127, -128, -1]


@settings(max_examples=25, deadline=None)
@given(rows=st.integers(1, 50), dim=SIZES, batch=st.integers(1, 4), pooling=st.integers(1, 20), weighted=st.booleans(), seed=SEEDS)
def test_gather_adds_in_order(rows: int, dim: int, batch: int, pooling: int, weighted: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    table, indices = rng.normal(size=(rows, dim)).astype(np.float16), rng.integers(0, rows, (batch, pooling))
    weights = rng.normal(size=(batch, pooling)).astype(np.float16)
    item = Gather(name="g", tables=(Table(name="t", rows=rows, dim=dim, bits=16, pooling=pooling),))
    got = UNIT.compute(item, table, indices, *([weights] if weighted else []))
    for sample in range(batch):
        total = np.zeros(dim, np.float16)
        for place in range(pooling):
            factor = np.float32(weights[sample, place]) if weighted else np.float32(1)
            total = (total.astype(np.float32) + table[indices[sample, place]].astype(np.float32) * factor).astype(np.float16)
        assert np.array_equal(got[sample], total)


def kernel(item: MatMul | Elementwise, batch: int = 1, end_to_end: bool = False, **override: object):
    device = load_device("hbm_pim", {"dram.channels": 4} | {key.replace("__", "."): value for key, value in override.items()})
    return device.unit.run_kernel(item, device, batch, None, end_to_end)


@settings(max_examples=15, deadline=None)
@given(out=st.integers(1, 2000), into=st.integers(1, 2000), batch=st.integers(1, 3))
def test_columns_of_a_matrix_vector_kernel(out: int, into: int, batch: int) -> None:
    """Whole tiles of 128 inputs and 8 outputs a unit (32 units here); parking reads every bank twice."""
    tiles_in, tiles_out = -(-into // 128), -(-out // 256)
    run = kernel(MatMul(name="m", out_features=out, in_features=into, weight_bits=16), batch)
    assert run.commands["RD"] == 32 + 64 * tiles_in * tiles_out * batch
    assert run.commands["WR"] == 7 + tiles_out * batch * (8 * tiles_in + 8 + 2)
    assert run.cycles >= 4 * (64 + 8) * tiles_in * tiles_out * batch


@settings(max_examples=15, deadline=None)
@given(elements=st.integers(1, 200_000), operands=st.integers(1, 4), batch=st.integers(1, 3))
def test_columns_of_an_elementwise_kernel(elements: int, operands: int, batch: int) -> None:
    tiles = -(-elements * batch // (16 * 8 * 16 * 4))
    function = "relu" if operands == 1 else "add"
    run = kernel(Elementwise(name="e", function=function, elements=elements, operands=operands, activation_bits=16), batch)
    program = -(-(2 * (operands + 1) + 2) // 8)
    assert run.commands["RD"] == 32 + 16 * operands * tiles
    assert run.commands["WR"] == 8 + program + 16 * tiles


def test_end_to_end_adds_reading_back_and_the_hosts_sums() -> None:
    item = MatMul(name="m", out_features=512, in_features=256, weight_bits=16)
    alone, whole, tree = kernel(item), kernel(item, end_to_end=True), kernel(item, end_to_end=True, unit__lane_reduction=True)
    assert whole.commands == alone.commands and alone.cycles < tree.cycles < whole.cycles
    assert whole.energy_pj["host_compute"] > 0 and "host_compute" not in alone.energy_pj


def test_a_slow_unit_spaces_columns_only_in_all_bank_mode() -> None:
    item = MatMul(name="m", out_features=256, in_features=1024, weight_bits=16)
    fast, slow = kernel(item, dram__controller__refresh="off"), kernel(item, dram__controller__refresh="off", unit__clock_mhz=125)
    assert fast.cycles + 512 * 4 - 64 <= slow.cycles <= fast.cycles + 4 * (512 + 8 * 10)


@pytest.mark.parametrize("policy", ["row", "table", "striped"])
def test_embedding_kernel_reads_every_row(policy: str) -> None:
    device = load_device("hbm_pim", {"dram.channels": 2, "mapping.tables": policy, "mapping.embedding": "pim"})
    item = Gather(name="g", tables=(Table(name="t", rows=100, dim=128, bits=16, pooling=6),))
    indices = np.random.default_rng(1).integers(0, 100, (4, 6))
    run = device.unit.run_kernel(item, device, 4, LookUps.of([indices]))
    whole = device.unit.run_kernel(item, device, 4, LookUps.of([indices]), end_to_end=True)
    assert 0 < run.cycles < whole.cycles
    bursts = 1 if policy == "striped" else 8
    channels = np.bincount(indices.reshape(-1) % 2, minlength=2) if policy != "table" else np.array([24, 0])
    parked = 2 * resolve_organisation(device.dram).banks if policy == "striped" else 0
    assert run.commands["RD"] in {int(count) * bursts + parked for count in channels}


def test_refusals() -> None:
    with pytest.raises(ConfigError, match="tanh"):
        kernel(Elementwise(name="e", function="tanh", elements=5))
    with pytest.raises(ConfigError, match="add of 1 operands"):
        kernel(Elementwise(name="e", function="add", elements=5, operands=1))
    with pytest.raises(ConfigError, match="100000 x 100000 weights of 16 bits do not fit the 32768 rows"):
        kernel(MatMul(name="m", out_features=100_000, in_features=100_000, weight_bits=16))
    with pytest.raises(ConfigError, match="10000000000 elements do not fit"):
        kernel(Elementwise(name="e", function="relu", elements=10**10, activation_bits=16))
    with pytest.raises(ConfigError, match="sub"):
        UNIT.compute(Elementwise(name="e", function="sub", elements=1, operands=2), np.zeros(1), np.zeros(1))


@settings(max_examples=40, deadline=None)
@example({})
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "nCCDL": st.integers(3, 8),
            "nRP": st.integers(10, 20),
            "nRCDRD": st.integers(10, 20),
            "nRCDWR": st.integers(6, 10),
            "nWR": st.integers(10, 30),
            "nWTRL": st.integers(6, 14),
            "nCL": st.integers(18, 30),
            "nCWL": st.integers(5, 9),
            "nRTPL": st.integers(3, 9),
        },
    )
)
def test_a_pair_of_tiles_takes_the_clocks_that_its_commands_need(timing: dict[str, int]) -> None:
    """Refresh off: two more input tiles, one in either bank of a unit, cost what the chain of their commands adds up to."""

    def cycles(tiles: int) -> int:
        named = {f"dram__timing__{name}": value for name, value in timing.items()}
        item = MatMul(name="m", out_features=256, in_features=128 * tiles, weight_bits=16)
        return kernel(item, dram__controller__refresh="off", **named).cycles

    t = resolve_timing(load_device("hbm_pim", {f"dram.timing.{name}": value for name, value in timing.items()}).dram)
    close = t["nBL"] + max(t["nRTPL"], t["nCCDL"]) - t["nCCDL"]
    row, again = 31 * t["nCCDL"], close + t["nRP"] + t["nRCDRD"]
    write = 7 * t["nCCDL"]
    turn = t["nCL"] + t["nBL"] + t["nBTA"] - t["nCWL"]
    other_row = max(close + t["nRP"] + t["nRCDWR"], turn)  # inputs go through the bank that was read
    odd = other_row + write + t["nCWL"] + t["nBL"] + t["nWR"] + t["nRP"] + t["nRCDRD"] + row + again + row
    first = max(t["nCWL"] + t["nBL"] + t["nWTRL"], t["nRCDRD"] + 1 - t["nCCDL"])  # its row opens when the last input write is next
    even = turn + write + first + row + again + row
    assert cycles(8) - cycles(6) == odd + even
