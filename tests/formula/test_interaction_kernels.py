"""Products of two activations and sums on AiM, UPMEM and near-rank units: values against scalar references, work against counts by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pimsim.api import load_device, run_kernel, simulate
from pimsim.errors import ConfigError
from pimsim.graph import Input, Product, Reduce, Workload
from pimsim.numerics.formats import round_bf16
from pimsim.units.aim_products import program, share_of, sums_of
from pimsim.units.dpu_products import product_work, sum_work

AIM, UPMEM = load_device("gddr6_aim", {"dram.channels": 4}), load_device("upmem", {"dram.channels": 1, "dram.ranks": 1})
SEEDS = st.integers(0, 2**32 - 1)


def gram(vectors: int, dim: int, bits: int = 16, triangle: bool = True) -> Product:
    return Product(name="p", m=vectors, k=dim, n=vectors, triangle=triangle, activation_bits=bits)


def total(count: int, outputs: int = 1, bits: int = 16) -> Reduce:
    return Reduce(name="r", elements_in=count * outputs, elements_out=outputs, activation_bits=bits)


def by_columns(first: np.ndarray, second: np.ndarray) -> np.float32:
    """AiM's dot product: 16 lanes added pairwise, columns one after another in FP32, rounded to BF16 when read."""
    sums = np.float32(0)
    for start in range(0, len(first), 16):
        lanes = [np.float32(a) * np.float32(b) for a, b in zip(first[start : start + 16], second[start : start + 16], strict=True)]
        lanes += [np.float32(0)] * (16 - len(lanes))
        while len(lanes) > 1:
            lanes = [lanes[2 * i] + lanes[2 * i + 1] for i in range(len(lanes) // 2)]
        sums = sums + lanes[0]
    return round_bf16(np.array([sums]))[0]


@settings(max_examples=15, deadline=None)
@given(vectors=st.integers(2, 6), dim=st.integers(1, 100), batch=st.integers(1, 3), seed=SEEDS)
def test_aim_multiplies_pairs_in_bf16(vectors: int, dim: int, batch: int, seed: int) -> None:
    features = round_bf16(np.random.default_rng(seed).normal(size=(batch, vectors, dim)).astype(np.float32))
    got = AIM.unit.compute(gram(vectors, dim), features)
    for sample, found in zip(features, got, strict=True):
        assert [by_columns(sample[i], sample[j]) for i in range(vectors) for j in range(i)] == found.tolist()


@settings(max_examples=15, deadline=None)
@given(count=st.integers(1, 300), outputs=st.integers(1, 5), batch=st.integers(1, 2), channels=st.sampled_from([1, 2]), seed=SEEDS)
def test_aim_sums_are_products_with_ones(count: int, outputs: int, batch: int, channels: int, seed: int) -> None:
    vectors = round_bf16(np.random.default_rng(seed).normal(size=(batch, count, outputs)).astype(np.float32))
    shape = sums_of(total(count, outputs), batch, 16, 16 * channels)
    got = AIM.unit.compute(total(count, outputs), vectors, channels=channels)
    assert shape.parts * batch * outputs <= shape.groups * 16 * channels
    for sample in range(batch):
        for output in range(outputs):
            column = vectors[sample, :, output]
            size = shape.columns * 16
            parts = [by_columns(column[at : at + size], np.ones(len(column[at : at + size]))) for at in range(0, count, size)]
            expected = parts[0]
            for part in parts[1:]:
                expected = np.float32(expected + part)
            assert got[sample, output] == expected


@settings(max_examples=15, deadline=None)
@given(vectors=st.integers(2, 90), dim=st.integers(1, 2500), batch=st.integers(1, 9), triangle=st.booleans())
def test_commands_of_a_product_on_aim(vectors: int, dim: int, batch: int, triangle: bool) -> None:
    item = gram(vectors, dim, triangle=triangle)
    share = share_of(AIM.unit, item, batch, AIM)
    counts = AIM.unit.run_kernel(item, AIM, batch).commands
    columns = -(-dim // 16)
    assert counts["WR"] == share.items * share.rows * columns and share.items * 4 >= batch * share.together
    assert counts["MAC16"] == share.items * share.passes * columns and counts["RDMAC16"] == share.items * share.passes
    again = share.passes if columns > 64 else len(share.groups)  # a vector beyond the global buffer is written for every group
    assert counts["WRGB"] == share.items * again * columns
    step = 16 * share.together
    met = range(1, vectors) if triangle else [vectors] * vectors
    assert all(groups * step >= rows > (groups - 1) * step for groups, rows in zip(share.groups, met, strict=True))
    assert sum(step.name == "RD_MAC" for step in program(AIM.unit, share, AIM.unit._checked(AIM))) == counts["RDMAC16"]


def test_writing_an_operand_to_aim_costs_time_and_energy() -> None:
    def run(item: Product, **override: object):
        device = load_device("gddr6_aim", {"dram.channels": 4, **{key.replace("__", "."): value for key, value in override.items()}})
        return device.unit.run_kernel(item, device, 8)

    item = gram(16, 64)
    off = {"dram__controller__refresh": "off"}
    assert run(item, **off, dram__timing__nWR=60).cycles == run(item, **off, dram__timing__nWR=50).cycles + 10
    assert run(item).energy_pj["dram_write"] > 0 and run(gram(16, 640)).cycles > run(item).cycles


def dpu_dot(first: np.ndarray, second: np.ndarray) -> np.float32:
    result = np.float32(0)
    for a, b in zip(first, second, strict=True):
        result = np.float32(result + np.float32(a) * np.float32(b))
    return result


@settings(max_examples=15, deadline=None)
@given(m=st.integers(1, 4), k=st.integers(1, 60), n=st.integers(1, 4), bits=st.sampled_from([4, 8, 16, 32]), seed=SEEDS)
def test_dpus_multiply_element_by_element(m: int, k: int, n: int, bits: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    item = Product(name="p", m=m, k=k, n=n, activation_bits=bits)
    if bits == 32:
        first, second = (rng.normal(size=(2, rows, k)).astype(np.float32) for rows in (m, n))
        expected = [[[dpu_dot(a, b) for b in second[s]] for a in first[s]] for s in range(2)]
        assert UPMEM.unit.compute(item, first, second).tolist() == expected
    else:
        first, second = (rng.integers(-(1 << (bits - 1)), 1 << (bits - 1), (2, rows, k)) for rows in (m, n))
        wrapped = (first @ second.transpose(0, 2, 1)).astype(np.int32)
        assert np.array_equal(UPMEM.unit.compute(item, first, second), wrapped)


@settings(max_examples=15, deadline=None)
@given(count=st.integers(1, 3000), outputs=st.sampled_from([1, 2, 7, 100]), dpus=st.sampled_from([1, 2, 64]), seed=SEEDS)
def test_dpu_sums_follow_tiles_tasklets_and_dpus(count: int, outputs: int, dpus: int, seed: int) -> None:
    vectors = np.random.default_rng(seed).normal(size=(1, count, outputs)).astype(np.float32)
    unit = UPMEM.unit.model_copy(update={"dpus": dpus})
    work = sum_work(unit, total(count, outputs, 32), dpus, 1)
    got = unit.compute(total(count, outputs, 32), vectors)
    part = work.elements // work.columns
    for output in {0, outputs - 1}:
        expected = np.float32(0)
        for start in range(0, count, part):
            tasklets = [np.float32(0)] * 16
            for vector in range(min(part, count - start)):
                tile = (vector * work.columns + output % work.columns) // 256
                tasklets[tile % 16] = np.float32(tasklets[tile % 16] + vectors[0, start + vector, output])
            own = tasklets[0]
            for one in tasklets[1:]:
                own = np.float32(own + one)
            expected = np.float32(expected + own)
        assert got[0, output] == expected
    integers = np.random.default_rng(seed).integers(-(1 << 15), 1 << 15, (2, count, outputs))
    assert np.array_equal(unit.compute(total(count, outputs), integers), integers.sum(axis=1).astype(np.int32))


@settings(max_examples=30, deadline=None)
@given(m=st.integers(2, 200), k=st.integers(1, 300), triangle=st.booleans(), batch=st.integers(1, 200), dpus=st.sampled_from([1, 64, 2556]))
def test_dpus_cover_all_outputs_within_their_wram(m: int, k: int, triangle: bool, batch: int, dpus: int) -> None:
    item = gram(m, k, triangle=triangle)
    work, pieces, used = product_work(UPMEM.unit, item, dpus, batch)
    assert used <= dpus and work.outputs * pieces >= item.outputs and work.items * min(batch, dpus) >= batch
    assert all(size <= 65536 - 16 * 2048 for size, _ in work.blocks)


def test_time_of_a_product_and_a_sum_on_dpus() -> None:
    """One tasklet: every instruction 11 cycles after the last, transfers in between."""
    device = load_device("upmem", {"dram.channels": 1, "dram.ranks": 1, "unit.tasklets": 1, "unit.dpus": 1, "unit.arithmetic_32": "int32"})
    unit = device.unit
    run = unit.run_kernel(gram(2, 8, 8), device, 1)
    assert run.commands["DPU_DMA_CYCLES"] == unit.dma_cycles(16) + unit.dma_cycles(8, write=True)
    assert run.commands["DPU_INSTRUCTIONS"] == 5 + 15 + (8 + 8 * 8) + 5 + 15  # tile, barrier, the output, tile, barrier
    added = unit.run_kernel(total(512, 1, 32), device, 1)
    assert added.commands["DPU_DMA_CYCLES"] == 2 * unit.dma_cycles(1024) + unit.dma_cycles(8, write=True)
    assert added.commands["DPU_INSTRUCTIONS"] == 2 * (5 + 256 * 5) + 15 + 5
    assert added.cycles >= 11 * added.commands["DPU_INSTRUCTIONS"] * 350 / 1200


NEAR_RANK = {"recnmp": {}, "tensordimm": {}, "trim_g": {"unit.hot_share": 0.01}, "trim_b": {}}


@pytest.mark.parametrize("name", NEAR_RANK)
@pytest.mark.parametrize(("count", "outputs", "bits"), [(1, 1, 32), (5000, 1, 16), (300, 7, 8), (40, 3000, 32)])
def test_near_rank_sums_read_every_vector_once(name: str, count: int, outputs: int, bits: int) -> None:
    device = load_device(name, NEAR_RANK[name])
    rng = np.random.default_rng(1)
    vectors = rng.integers(-100, 100, (2, count, outputs)) if bits == 8 else rng.normal(size=(2, count, outputs))
    got = device.unit.compute(total(count, outputs, bits), vectors, device=device)
    stored = vectors.astype({8: np.int8, 16: np.float16, 32: np.float32}[bits]).astype(np.float64)
    assert got.shape == (2, outputs) and got.dtype == np.float32
    assert np.allclose(got, stored.sum(axis=1), rtol=0, atol=count**0.5 * 2e-5 * np.abs(stored).max())
    alone, whole = (device.unit.run_kernel(total(count, outputs, bits), device, 2, None, end) for end in (False, True))
    bursts = -(-count * outputs * bits // 512)
    assert bursts * 2 <= alone.commands["RD"] * device.dram.channels
    assert alone.cycles < whole.cycles or name == "tensordimm"


def test_a_sum_in_a_rank_is_in_order() -> None:
    """One rank, vectors of a whole row: FP32 additions one after another."""
    device = load_device("recnmp", {"dram.ranks": 1, "unit.ranks_per_dimm": 1})
    vectors = np.random.default_rng(3).normal(size=(1, 500, 64)).astype(np.float32)
    expected = np.zeros(64, np.float32)
    for vector in vectors[0]:
        expected = expected + vector
    assert np.array_equal(device.unit.compute(total(500, 64, 32), vectors, device=device)[0], expected)


def test_refusals_name_what_the_units_do() -> None:
    for name in NEAR_RANK:
        with pytest.raises(ConfigError, match=r"kernel dot: .* no multipliers for two activations \(allowed: embedding, reduce\)"):
            run_kernel(load_device(name), gram(4, 8))
    with pytest.raises(ConfigError, match="kernel reduce: 4 bits"):
        run_kernel(load_device("recnmp"), total(4, 1, 4))
    with pytest.raises(ConfigError, match="two of them exceed the 32,768 bytes of WRAM"):
        run_kernel(UPMEM, gram(2, 20_000))
    with pytest.raises(ConfigError, match="kernel dot: 100000 products of 512 x 1024 and 1024 x 512 need 3200001 rows"):
        run_kernel(load_device("gddr6_aim", {"dram.channels": 1}), gram(512, 1024), 100_000)
    with pytest.raises(ConfigError, match="kernel reduce: 4 bits: DPUs add"):
        run_kernel(UPMEM, total(4, 1, 4))


@pytest.mark.parametrize("name", ["hbm_pim", "gddr6_aim", "upmem"])
@pytest.mark.parametrize("fidelity", ["event", "analytic"])
def test_a_model_gives_its_interaction_to_the_units(name: str, fidelity: str) -> None:
    work = Workload(name="w", operators=(Input(name="x", elements=27 * 64), gram(27, 64).model_copy(update={"inputs": ("x",)})), batch=16)
    rows = {}
    for where in ("host", "pim"):
        device = load_device(name, {"mapping.interaction": where})
        row = next(row for row in simulate(device, work, fidelity=fidelity).operators if row.name == "p")
        rows[where] = row
        assert row.unit == where
    alone = run_kernel(load_device(name), gram(27, 64), 16, None, True, fidelity)
    assert rows["pim"].latency_us == pytest.approx(alone.cycles * alone.tck_ps / 1e6, rel=0.2)


def test_units_without_multipliers_refuse_a_models_interaction() -> None:
    work = Workload(name="w", operators=(gram(27, 64),), batch=4)
    for fidelity in ("event", "analytic"):
        with pytest.raises(ConfigError, match=r"mapping.interaction: 'pim': .* do not multiply activations \(allowed: host\)"):
            simulate(load_device("recnmp", {"mapping.interaction": "pim"}), work, fidelity=fidelity)
    with pytest.raises(ConfigError, match="mapping: 'pim' needs a `unit` section"):
        load_device("ddr4_3200", {"mapping.interaction": "pim"})
