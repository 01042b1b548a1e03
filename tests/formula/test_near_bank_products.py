"""Products of two activations and sums on near-bank units: values against scalar references, commands and clocks against counts by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pimsim.api import load_device
from pimsim.dram.standard import resolve_organisation
from pimsim.engine.pim_products import upload
from pimsim.errors import ConfigError
from pimsim.graph import Product, Reduce
from pimsim.units.near_bank_products import share_of, sum_shape

UNIT = load_device("hbm_pim").unit
SEEDS = st.integers(0, 2**32 - 1)


def gram(vectors: int, dim: int, bits: int = 16, triangle: bool = True) -> Product:
    return Product(name="p", m=vectors, k=dim, n=vectors, triangle=triangle, activation_bits=bits)


def total(count: int, outputs: int = 1, bits: int = 16) -> Reduce:
    return Reduce(name="r", elements_in=count * outputs, elements_out=outputs, activation_bits=bits)


def run(item: Product | Reduce, batch: int = 1, end_to_end: bool = False, **override: object):
    device = load_device("hbm_pim", {"dram.channels": 4} | {key.replace("__", "."): value for key, value in override.items()})
    return device.unit.run_kernel(item, device, batch, None, end_to_end)


def dot_by_hand(first: np.ndarray, second: np.ndarray) -> np.float16:
    """16 FP16 lanes; bursts in tiles of equal size, at most 8, even tiles first; lanes summed one after another in FP16."""
    bursts = -(-len(first) // 16)
    tiles = -(-bursts // 8)
    size = -(-bursts // tiles)
    lanes = [np.float16(0)] * 16
    for tile in [*range(0, tiles, 2), *range(1, tiles, 2)]:
        for k in range(16 * size * tile, min(16 * size * (tile + 1), len(first))):
            product = np.float32(np.float16(first[k])) * np.float32(np.float16(second[k]))
            lanes[k % 16] = np.float16(product + np.float32(lanes[k % 16]))
    result = np.float16(0)
    for lane in lanes:
        result = np.float16(np.float32(result) + np.float32(lane))
    return result


@settings(max_examples=20, deadline=None)
@given(vectors=st.integers(2, 6), dim=st.integers(1, 300), batch=st.integers(1, 3), seed=SEEDS)
def test_pairs_in_fp16_are_exact(vectors: int, dim: int, batch: int, seed: int) -> None:
    features = np.random.default_rng(seed).normal(size=(batch, vectors, dim))
    got = UNIT.compute(gram(vectors, dim), features)
    assert got.dtype == np.float16 and got.shape == (batch, vectors * (vectors - 1) // 2)
    for sample, found in zip(features, got, strict=True):
        assert [dot_by_hand(sample[i], sample[j]) for i in range(vectors) for j in range(i)] == found.tolist()


@settings(max_examples=20, deadline=None)
@given(
    m=st.integers(1, 20),
    k=st.integers(1, 200),
    n=st.integers(1, 20),
    batch=st.integers(1, 4),
    bits=st.sampled_from([4, 8]),
    tree=st.booleans(),
    seed=SEEDS,
)
def test_integer_products_of_two_operands_are_exact(m: int, k: int, n: int, batch: int, bits: int, tree: bool, seed: int) -> None:
    rng, limit = np.random.default_rng(seed), 1 << (bits - 1)
    first, second = rng.integers(-limit, limit, (batch, m, k)), rng.integers(-limit, limit, (batch, n, k))
    unit = UNIT.model_copy(update={"lane_reduction": tree})
    got = unit.compute(Product(name="p", m=m, k=k, n=n, activation_bits=bits), first, second)
    assert np.array_equal(got, first @ second.transpose(0, 2, 1))


@settings(max_examples=25, deadline=None)
@given(count=st.integers(1, 400), outputs=st.integers(1, 40), batch=st.integers(1, 3), channels=st.sampled_from([1, 2, 16]), seed=SEEDS)
def test_sums_in_fp16_follow_units_then_parts_then_lanes(count: int, outputs: int, batch: int, channels: int, seed: int) -> None:
    vectors = np.random.default_rng(seed).normal(size=(batch, count, outputs)).astype(np.float16)
    shape = sum_shape(total(count, outputs), batch, 16, 8 * channels)
    got = UNIT.compute(total(count, outputs), vectors, channels=channels)
    assert shape.parts * shape.deep * shape.fold >= count and shape.outputs * 8 * channels >= shape.sums * shape.parts
    for sample in range(batch):
        for output in range(outputs):
            sides = []
            for side in range(shape.fold):
                parts = []
                for part in range(shape.parts):
                    one = np.float16(0)
                    for at in range(shape.deep):
                        vector = (part * shape.deep + at) * shape.fold + side
                        one = one + (vectors[sample, vector, output] if vector < count else np.float16(0))
                    parts.append(one)
                sides.append(np.float16(0))
                for one in parts:
                    sides[-1] = sides[-1] + one
            expected = np.float16(0)
            for side in sides:
                expected = expected + side
            assert got[sample, output] == expected


@settings(max_examples=20, deadline=None)
@given(count=st.integers(1, 500), outputs=st.integers(1, 40), bits=st.sampled_from([4, 8]), tree=st.booleans(), seed=SEEDS)
def test_integer_sums_are_exact(count: int, outputs: int, bits: int, tree: bool, seed: int) -> None:
    limit = 1 << (bits - 1)
    vectors = np.random.default_rng(seed).integers(-limit, limit, (2, count, outputs))
    unit = UNIT.model_copy(update={"lane_reduction": tree})
    assert np.array_equal(unit.compute(total(count, outputs, bits), vectors), vectors.sum(axis=1))


def test_an_adder_tree_adds_the_lanes_of_a_scalar_in_fp32() -> None:
    vectors = np.full((1, 2048 + 16, 1), 0.1, np.float16)
    tree = UNIT.model_copy(update={"lane_reduction": True}).compute(total(2064), vectors, channels=1)
    exact = float(vectors.astype(np.float64).sum())
    assert tree.dtype == np.float32 and abs(tree[0, 0] - exact) < abs(float(UNIT.compute(total(2064), vectors, channels=1)[0, 0]) - exact)


@settings(max_examples=20, deadline=None)
@given(vectors=st.integers(2, 150), dim=st.integers(1, 400), batch=st.integers(1, 9), triangle=st.booleans())
def test_commands_of_a_product(vectors: int, dim: int, batch: int, triangle: bool) -> None:
    """Every written vector, every input register and every column of a pass is one command; parking reads every bank twice."""
    item = gram(vectors, dim, triangle=triangle)
    device = load_device("hbm_pim", {"dram.channels": 4})
    share = share_of(device.unit, item, batch, device)
    counts = run(item, batch).commands
    inputs = share.inputs * share.input_tiles
    assert counts["RD"] == 32 + share.items * share.passes * inputs * share.outputs
    assert counts["WR"] == 7 + share.items * (share.rows * share.bursts + share.passes * (inputs + share.outputs + 2))
    assert inputs >= -(-dim // 16) and share.rows * share.together >= vectors - triangle
    assert share.items * 4 >= batch * share.together
    needed = {(i, j) for i in range(vectors) for j in range(i if triangle else vectors)}
    step = share.outputs * 8 * share.together
    first = [vectors - many for many in share.vectors]  # the first vector that meets each output tile
    assert all(i >= first[j // step] for i, j in needed)


@settings(max_examples=15, deadline=None)
@given(vectors=st.integers(2, 80), dim=st.integers(1, 700), batch=st.integers(1, 6), bits=st.sampled_from([8, 16, 32]))
def test_every_burst_of_a_matrix_has_a_column_of_its_own(vectors: int, dim: int, batch: int, bits: int) -> None:
    device = load_device("hbm_pim", {"dram.channels": 4})
    share, organisation = share_of(device.unit, gram(vectors, dim, bits), batch, device), resolve_organisation(device.dram)
    where = upload(share, 8, organisation, 2)[:, 1:4]
    assert len(np.unique(where, axis=0)) == len(where) == share.items * share.rows * share.bursts
    assert where[:, 0].max() < 16 and (where[:, 1] * 32 + where[:, 2]).max() < share.items * share.stride(2)


def test_writing_an_operand_costs_time_and_energy() -> None:
    item = gram(30, 64)
    plain, slow = run(item, 64, dram__controller__refresh="off"), run(item, 64, dram__controller__refresh="off", dram__timing__nRCDWR=30)
    assert slow.cycles > plain.cycles + 20
    alone = run(gram(2, 64), 64)
    assert alone.energy_pj["dram_write"] > 0 and alone.energy_pj["pim_mac"] == pytest.approx(64 * 64 * UNIT.mac_pj(16))


@settings(max_examples=15, deadline=None)
@given(count=st.integers(1, 30_000), outputs=st.sampled_from([1, 3, 16, 100, 1000]), batch=st.integers(1, 3))
def test_commands_of_a_sum(count: int, outputs: int, batch: int) -> None:
    shape = sum_shape(total(count, outputs), batch, 16, 32)
    counts = run(total(count, outputs), batch).commands
    assert counts["RD"] == 32 + shape.deep * shape.outputs
    assert counts["WR"] == 4 + 1 + 2 + 2 + shape.outputs
    assert shape.deep * shape.outputs * 32 * 16 >= count * outputs * batch


def test_end_to_end_adds_reading_back_and_the_hosts_sums() -> None:
    for item in (gram(27, 64), total(100_000), total(500, 64)):
        alone, whole = run(item, 16), run(item, 16, end_to_end=True)
        tree = run(item, 16, end_to_end=True, unit__lane_reduction=True)
        assert whole.commands == alone.commands and alone.cycles < tree.cycles <= whole.cycles
        assert whole.energy_pj["host_compute"] > tree.energy_pj.get("host_compute", 0) - 1e-9 and "host_compute" not in alone.energy_pj


def test_writes_to_several_rows_of_a_bank_are_served_without_refresh() -> None:
    """Matrices of many samples cross rows of the banks; what comes after drains the writes."""
    counts = run(gram(34, 93, 32), 64, dram__channels=16, dram__controller__refresh="off").commands
    assert counts["WR"] > 34 * 12 * 4


def test_refusals() -> None:
    with pytest.raises(ConfigError, match="20000 products of 512 x 512 and 512 x 512 do not fit the 32768 rows"):
        run(gram(512, 512), 20_000, dram__channels=1)
    with pytest.raises(ConfigError, match="kernel reduce: 100000000000 elements do not fit"):
        run(total(10**11))
