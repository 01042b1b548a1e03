"""UPMEM's DPUs: the pipeline cycle by cycle, published micro-benchmarks, kernels against closed forms, values against NumPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pimsim.api import load_device, run_kernel, simulate
from pimsim.dram.standard import resolve_organisation, resolve_timing
from pimsim.energy.dram import command_energy_pj
from pimsim.errors import ConfigError
from pimsim.graph import Elementwise, Gather, IndexSource, MatMul, Table, Workload
from pimsim.kernels.dpu import run_tasklets
from pimsim.mapping.placement import place
from pimsim.units import dpu_instructions as isa
from pimsim.units import dpu_programs as programs
from pimsim.units.cost import LookUps

UPMEM = load_device("upmem")
UNIT = UPMEM.unit
DIMM = {"dram.channels": 1, "dram.ranks": 2}


def cycle_by_cycle(programs: list[list[tuple[int, int]]], distance: int) -> tuple[int, int, int]:
    """The same machine, one cycle after another: end, instructions, DMA cycles."""
    step, waiting = [0] * len(programs), {}
    left = [program[0][0] if program else 0 for program in programs]
    ready = [0 if program else None for program in programs]
    now = engine = end = issued = moved = 0
    while any(r is not None for r in ready) or waiting:
        runnable = [k for k, r in enumerate(ready) if r is not None and r <= now]
        if runnable:
            k = min(runnable, key=lambda k: (ready[k], k))
            issued, end = issued + 1, max(end, now + 1)
            ready[k] = now + distance
            left[k] -= 1
            if left[k] == 0:
                action = programs[k][step[k]][1]
                step[k] += 1
                if action > 0:
                    engine = max(engine, now) + action
                    moved, end, ready[k] = moved + action, max(end, engine), max(ready[k], engine)
                if step[k] == len(programs[k]):
                    ready[k] = None
                else:
                    left[k] = programs[k][step[k]][0]
                    if action == -1:
                        waiting[k], ready[k] = ready[k], None
            if waiting and len(waiting) == sum(s < len(p) for s, p in zip(step, programs, strict=True)):
                ready = [max(waiting[k], now + 1) if k in waiting else r for k, r in enumerate(ready)]
                waiting = {}
        now += 1
    return end, issued, moved


def on_kernel(programs: list[list[tuple[int, int]]], distance: int) -> tuple[int, ...]:
    steps = np.array([step for program in programs for step in program], np.int64).reshape(-1, 2)
    offsets = np.cumsum([0] + [len(program) for program in programs]).astype(np.int64)
    return tuple(int(value) for value in run_tasklets(steps, offsets, len(programs), distance)[0])


@pytest.mark.parametrize("tasklets", [1, 2, 10, 11, 12, 16, 24])
@pytest.mark.parametrize("instructions", [1, 2, 37])
def test_the_pipeline_formula_is_exact(tasklets: int, instructions: int) -> None:
    programs = [[(instructions, 0)]] * tasklets
    expected = UNIT.compute_cycles(instructions, tasklets)
    assert expected == (instructions - 1) * max(11, tasklets) + tasklets
    assert on_kernel(programs, 11) == cycle_by_cycle(programs, 11) == (expected, instructions * tasklets, 0)


program = st.lists(st.tuples(st.integers(1, 60), st.sampled_from([0, 5, 81, 300])), max_size=5)


@settings(max_examples=150, deadline=None)
@given(programs=st.lists(program, min_size=1, max_size=24), distance=st.integers(1, 14), barrier=st.booleans())
def test_the_kernel_equals_a_cycle_by_cycle_machine(programs, distance: int, barrier: bool) -> None:
    if barrier:
        programs = [[*p, (3, -1), (4, 0)] for p in programs]
    assert on_kernel(programs, distance) == cycle_by_cycle(programs, distance)


def test_transfers_queue_and_hide_behind_other_tasklets() -> None:
    assert on_kernel([[(1, 500)]] * 3, 11) == (1500, 3, 1500)  # one engine
    alone, hidden = on_kernel([[(1, 500)], [(2, 0)]], 11), on_kernel([[(1, 500)], [(40, 0)]], 11)
    assert alone[0] == hidden[0] == 500  # 40 instructions in 500 cycles cost nothing


@pytest.mark.parametrize(
    ("op", "dtype", "published"),
    [
        ("add", "int32", 58.6),
        ("sub", "int32", 58.5),
        ("mul", "int32", 10.3),
        ("div", "int32", 11.3),
        ("add", "int64", 50.2),
        ("mul", "int64", 2.56),
        ("div", "int64", 1.40),
        ("add", "fp32", 4.91),
        ("sub", "fp32", 4.59),
        ("mul", "fp32", 1.91),
        ("div", "fp32", 0.34),
        ("add", "fp64", 3.32),
        ("sub", "fp64", 3.11),
        ("mul", "fp64", 0.53),
        ("div", "fp64", 0.16),
    ],
)
def test_arithmetic_throughput(op: str, dtype: str, published: float) -> None:
    assert UNIT.throughput_mops(op, dtype) == pytest.approx(published, rel=0.05)


MEASURED = {  # cycles of 1,048,576 additions with a constant, by tasklets (CMU-SAFARI/prim-benchmarks commit 75763f4)
    "int32": {1: 6.92941e7, 2: 3.46475e7, 8: 8.66466e6, 10: 6.93822e6, 11: 6.31261e6, 16: 6.28186e6, 24: 6.28288e6},
    "int64": {1: 8.07993e7, 2: 4.04046e7, 8: 1.0106e7, 10: 8.09315e6, 11: 7.35358e6, 16: 7.31051e6, 24: 7.28016e6},
    "fp32": {1: 8.20807e8, 2: 4.10319e8, 8: 1.02603e8, 10: 8.21479e7, 11: 7.47428e7, 16: 7.45888e7, 24: 7.47102e7},
    "fp64": {1: 1.21396e9, 2: 6.06977e8, 8: 1.51737e8, 10: 1.2152e8, 11: 1.10409e8, 16: 1.10299e8, 24: 1.10467e8},
}


@pytest.mark.parametrize("dtype", MEASURED)
def test_additions_follow_the_measured_cycles_at_every_number_of_tasklets(dtype: str) -> None:
    for tasklets, cycles in MEASURED[dtype].items():
        simulated = (1 << 20) / UNIT.throughput_mops("add", dtype, tasklets) * UNIT.clock_mhz
        assert simulated == pytest.approx(cycles, rel=0.01)


@pytest.mark.parametrize(("kernel", "published"), [("copy", 2819), ("add", 1682), ("scale", 42.0), ("triad", 61.7)])
def test_stream_in_wram(kernel: str, published: float) -> None:
    assert UNIT.stream_mbps(kernel) == pytest.approx(published, rel=0.05)
    assert UNIT.stream_mbps(kernel, 4) == pytest.approx(UNIT.stream_mbps(kernel, 11) * 4 / 11)


def test_mram_transfers() -> None:
    assert [UNIT.dma_cycles(8), UNIT.dma_cycles(2048), UNIT.dma_cycles(2048, write=True)] == [81, 1101, 1085]
    assert UNIT.mram_bandwidth(2048) == pytest.approx(628, rel=0.05)
    assert UNIT.mram_bandwidth(2048, write=True) == pytest.approx(633, rel=0.05)
    assert UNIT.mram_bandwidth(2048, dpus=2556) == pytest.approx(1.7e6, rel=0.05)
    for size in (0, 4, 12, 2056):
        with pytest.raises(ConfigError, match=f"MRAM transfer: {size} bytes"):
            UNIT.dma_cycles(size)


def test_host_transfers() -> None:
    size = 32 << 20
    for kind, gbps in [("to", 6.68), ("from", 4.74), ("broadcast", 16.88)]:
        assert 64 * size * 1000 / UNIT.transfer_ps(size, 64, kind) == pytest.approx(gbps)
    assert size * 1000 / UNIT.transfer_ps(size, 1, "to") == pytest.approx(0.33)
    assert UNIT.transfer_ps(size, 64, "serial_from") == pytest.approx(64 * size * 1000 / 0.12)
    assert UNIT.transfer_ps(size, 640, "to") == UNIT.transfer_ps(size, 64, "to")
    bus = 64 * 40 * size * 1000 / UNIT.transfer_ps(size, 2556, "broadcast", UPMEM)
    assert bus == pytest.approx(10 * 64 * 1000 / (4 * resolve_timing(UPMEM.dram)["tCK_ps"]))  # ten channels, a burst each 4 clocks
    with pytest.raises(ConfigError, match="unknown transfer 'up'"):
        UNIT.transfer_ps(8, 1, "up")


def mulsi3(a: int, b: int) -> tuple[int, int]:
    """Product and `mul_step` instructions of the run-time library's 32-bit multiplication."""
    low, other, result, steps = min(a, b), max(a, b), 0, 0
    for shift in range(32):
        steps += 1
        if low & 1:
            result = (result + (other << shift)) & 0xFFFFFFFF
        low >>= 1
        if low == 0:
            break
    return result, steps


@pytest.mark.parametrize("bits", [4, 12, 32])
def test_multiply_steps_against_the_routine(bits: int) -> None:
    pairs = np.random.default_rng(7).integers(0, 1 << bits, (20_000, 2)).tolist()
    runs = [mulsi3(a, b) for a, b in pairs]
    assert all(result == a * b % (1 << 32) for (result, _), (a, b) in zip(runs, pairs, strict=True))
    assert np.mean([steps for _, steps in runs]) == pytest.approx(isa.multiply_steps(bits), rel=0.02)
    constant = 1 << (bits // 2)
    found = np.mean([mulsi3(a, constant)[1] for a, _ in pairs])
    assert found == pytest.approx(isa.constant_multiply_steps(bits, constant), rel=0.03)
    quotient = [a.bit_length() - constant.bit_length() + 1 for a, _ in pairs if a.bit_length() >= constant.bit_length()]
    assert sum(quotient) / len(pairs) == pytest.approx(isa.constant_divide_steps(bits, constant), rel=0.03)


def launched(item, overrides=None, batch=1):
    device = load_device("upmem", overrides)
    unit = device.unit
    return unit, (unit._matvec if isinstance(item, MatMul) else unit._elementwise)(item, device, batch)


def gemv(rows: int, columns: int, bits: int = 8) -> MatMul:
    return MatMul(name="m", out_features=rows, in_features=columns, weight_bits=bits, activation_bits=bits)


def test_matvec_of_one_tasklet_in_closed_form() -> None:
    unit, launch = launched(gemv(3, 4000), {"unit.dpus": 1, "unit.tasklets": 1})
    tiles = [1024, 1024, 1024, 928]
    assert isa.mac_loop("int8", {}, 0) == 8  # two addresses, two loads, product, sum, increment, jump
    instructions = 5 + 15 + 3 * (4 * 5 + 4000 * 8) + 5
    assert launch.instructions == instructions
    transfers = unit.transfer_cycles(4000) + 3 * sum(unit.dma_cycles(size) for size in tiles) + unit.dma_cycles(16, write=True)
    assert launch.dma_cycles == transfers
    assert launch.cycles <= 11 * instructions + transfers
    assert launch.cycles > 11 * instructions + transfers - 11 * 20  # a transfer hides its own instruction's issue distance


@settings(max_examples=25, deadline=None)
@given(rows=st.integers(1, 60), columns=st.integers(1, 3000), bits=st.sampled_from([4, 8, 16, 32]), batch=st.integers(1, 5))
def test_matvec_does_every_multiplication_once(rows: int, columns: int, bits: int, batch: int) -> None:
    unit, launch = launched(gemv(rows, columns, bits), {"unit.dpus": 1}, batch)
    mac = isa.mac_loop(unit.dtype(bits), unit.library_instructions, isa.multiply_steps(32))
    work = rows * columns * batch * mac
    scratchpad = unit.wram_bytes - unit.tasklets * (unit.stack_bytes + unit.tile_bytes)
    vector = programs.vector_bytes(columns, bits)
    meetings = batch if vector <= scratchpad < batch * vector else 1  # the tasklets load vectors and meet once, or for each vector
    assert work <= launch.instructions <= work + 16 * (60 * meetings + 3 * rows * batch) + rows * batch * (7 * columns // 100 + 200)
    assert launch.cycles >= max(launch.instructions, launch.dma_cycles)
    matrix = rows * columns * bits // 8 / unit.dma_bytes_per_cycle
    assert launch.dma_cycles >= matrix


def test_vectors_that_do_not_fit_the_scratchpad_are_streamed() -> None:
    _, near = launched(gemv(16, 16_000), {"unit.dpus": 1})
    _, far = launched(gemv(16, 60_000), {"unit.dpus": 1})
    _, twice = launched(gemv(16, 16_000), {"unit.dpus": 1}, batch=4)
    assert far.dma_cycles > 2 * 60 / 16 * near.dma_cycles * 0.8  # vector tiles beside matrix tiles
    assert twice.dma_cycles > 3.9 * near.dma_cycles  # one pass a vector
    with pytest.raises(ConfigError, match="67,108,864 of its MRAM"):
        launched(gemv(3000, 60_000), {"unit.dpus": 1})


@settings(max_examples=25, deadline=None)
@given(elements=st.integers(1, 30_000), bits=st.sampled_from([8, 16, 32]), function=st.sampled_from(["add", "mul", "relu", "square"]))
def test_elementwise_touches_every_element_once(elements: int, bits: int, function: str) -> None:
    operands = 2 if function in ("add", "mul") else 1
    item = Elementwise(name="e", function=function, elements=elements, operands=operands, activation_bits=bits)
    unit, launch = launched(item, {"unit.dpus": 1})
    size = -(-elements * bits // 64) * 8
    tiles = -(-size // 1024)
    assert launch.dma_cycles == tiles * (77 * operands + 61) + (operands + 1) * size // 2
    op = isa.operation("mul" if function == "square" else function, unit.dtype(bits), unit.library_instructions, isa.multiply_steps(32))
    loop = operands * 2 + op + 3
    padded = size * 8 // bits
    assert padded * loop <= launch.instructions <= padded * loop + tiles * (5 * operands + 6)


def test_what_limits_a_kernel() -> None:
    item = gemv(2560, 4096)
    slow = launched(item, {"unit.tasklets": 2})[1]
    full = launched(item, {"unit.tasklets": 11})[1]
    assert slow.limited_by == "latency of few tasklets" and slow.cycles > 4 * full.cycles
    copy = Elementwise(name="r", function="relu", elements=1 << 22, operands=1, activation_bits=8)
    bound = launched(copy, {"unit.dma_bytes_per_cycle": 0.1, "unit.dpus": 64})[1]
    assert bound.limited_by == "MRAM transfers"


def cycles(item, overrides=None) -> int:
    device = load_device("upmem", overrides)
    return device.unit.run_kernel(item, device, 1).cycles


def test_overrides_change_the_time_through_the_mechanism() -> None:
    item = gemv(256, 2048)
    base = cycles(item, DIMM)
    assert cycles(item, DIMM | {"unit.clock_mhz": 700, "unit.dma_bank_ns": 0}) == pytest.approx(base / 2, rel=1e-3)
    assert base / 2 * 1.005 < cycles(item, DIMM | {"unit.clock_mhz": 700}) < base / 2 * 1.03  # the bank stays as slow as it is
    assert cycles(item, DIMM | {"unit.issue_distance": 22, "unit.tasklets": 11}) == pytest.approx(
        2 * cycles(item, DIMM | {"unit.tasklets": 11}), rel=0.1
    )
    assert cycles(item, DIMM | {"unit.dma_read_cycles": 777}) > base
    assert cycles(item, {"dram.channels": 2, "dram.ranks": 2}) < base
    assert cycles(gemv(256, 2048, 32), DIMM) > 10 * base  # floating point is emulated
    whole = DIMM | {"unit.arithmetic_32": "int32"}
    assert cycles(gemv(256, 2048, 32), whole | {"unit.int32_operand_bits": 8}) < cycles(gemv(256, 2048, 32), whole)


def test_end_to_end_adds_the_transfers() -> None:
    item = gemv(256, 2048)
    device = load_device("upmem", DIMM)
    alone, whole = run_kernel(device, item), run_kernel(device, item, end_to_end=True)
    send = device.unit.transfer_ps(2048, 128, "broadcast", device)
    back = device.unit.transfer_ps(8, 128, "from", device)
    assert whole.cycles - alone.cycles == pytest.approx((send + back) / alone.tck_ps, abs=1)
    assert whole.energy_pj["dram_io"] == (2048 + 8) * 128 * 8 * 22
    assert whole.energy_pj["dpu"] == alone.energy_pj["dpu"] and set(alone.energy_pj) == {"dpu", "total"}
    assert whole.energy_pj["total"] == pytest.approx(sum(value for part, value in whole.energy_pj.items() if part != "total"))
    assert whole.commands_of == "of the slowest DPU"
    busy = alone.energy_pj["dpu"] / 1e12 / 0.150  # seconds of all DPUs
    assert busy == pytest.approx(128 * alone.cycles * alone.tck_ps * 1e-12, rel=1e-3)


def tables(count: int, dim: int = 32, pooling: int = 5, bits: int = 32) -> tuple[Table, ...]:
    return tuple(Table(name=f"t{n}", rows=4000, dim=dim, pooling=pooling, bits=bits) for n in range(count))


def look_ups(item: Gather, batch: int, seed: int = 0) -> LookUps:
    rng = np.random.default_rng(np.random.SeedSequence(seed))
    return LookUps.of([rng.integers(0, table.rows, (batch, table.pooling)) for table in item.tables])


@pytest.mark.parametrize("policy", ["row", "table", "striped"])
def test_look_ups_load_the_dpus_that_hold_their_rows(policy: str) -> None:
    device = load_device("upmem", DIMM | {"mapping.tables": policy})
    unit, item = device.unit, Gather(name="g", tables=tables(3))
    found, batch = look_ups(item, 40), 40
    where = place(item.tables, policy, resolve_organisation(device.dram), 1).locate(found.table, found.index)
    bag = found.sample * 3 + found.table
    launch = unit._gather(item, device, where, bag)
    pieces = 16 if policy == "striped" else 1  # 128 bytes in pieces of 8
    owner = unit.owner(where, device, 128 // pieces)
    size, dim = 128 // pieces, 32 // pieces
    add = 7 + unit.library_instructions["fp32_add"]
    demand = []
    for dpu in np.unique(owner):
        bags, count = np.unique(bag[owner == dpu], return_counts=True)
        work = sum(12 + n * (6 + math.ceil(dim * add)) + 6 + 3 * dim for n in count)
        moved = sum(unit.dma_cycles(-(-4 * n // 8) * 8) + n * unit.dma_cycles(size) + unit.dma_cycles(4 * dim, write=True) for n in count)
        demand.append((work, moved, len(bags)))
    assert (launch.instructions, launch.dma_cycles) in [(work, moved) for work, moved, _ in demand]
    assert launch.cycles >= max(max(work, moved) for work, moved, _ in demand)
    assert launch.dpus == len(demand) * pieces
    partial = sum(bags for *_, bags in demand)
    assert launch.host_additions == (partial - 40 * 3) * 32
    if policy == "striped":
        assert len(np.unique(owner)) == 8 and batch * 3 < partial


def test_rows_are_dealt_over_dpus_as_the_values_assume() -> None:
    item = Gather(name="g", tables=tables(1))
    index = np.arange(4000)
    where = place(item.tables, "row", resolve_organisation(UPMEM.dram), 10).locate(np.zeros(4000, np.int64), index)
    assert np.array_equal(UNIT.owner(where, UPMEM, 2556), index % 2556)


def test_a_hot_row_makes_its_dpu_the_slowest() -> None:
    item = Gather(name="g", tables=tables(2, pooling=20))
    even, skewed = look_ups(item, 64), look_ups(item, 64)
    skewed.index[::4] = 17
    assert UNIT.run_kernel(item, UPMEM, 64, skewed).cycles > 3 * UNIT.run_kernel(item, UPMEM, 64, even).cycles


def test_models_run_on_the_dpus() -> None:
    operators = (Gather(name="g", tables=tables(2)), MatMul(name="m", inputs=("g",), out_features=64, in_features=64))
    workload = Workload(name="w", operators=operators, batch=8, indices=IndexSource(kind="uniform"))
    report = simulate(load_device("upmem", {"mapping.matmul": "pim"}), workload)
    assert [row.unit for row in report.operators] == ["pim", "pim"]
    alone = run_kernel(UPMEM, operators[0], 8, IndexSource(kind="uniform"), end_to_end=True)
    assert report.operators[0].latency_us * 1e6 == pytest.approx(alone.cycles * alone.tck_ps, rel=1e-4)


def test_mistakes_get_one_line() -> None:
    for overrides, words in [
        ({"unit.tasklets": 25}, "tasklets: 25"),
        ({"unit.wram_bytes": 8192}, "do not fit wram_bytes"),
        ({"unit.tile_bytes": 4096}, "unit.tile_bytes: 4096"),
    ]:
        with pytest.raises(ConfigError, match=words):
            load_device("upmem", overrides)
    for item, words in [
        (Elementwise(name="e", function="tanh", elements=8), "kernel tanh"),
        (Elementwise(name="e", function="relu", elements=8, activation_bits=4), "4 bits"),
        (Elementwise(name="e", function="add", elements=8, operands=9), "exceed the WRAM"),
        (Gather(name="g", tables=tables(1, dim=4096)), "dim: 4096"),
    ]:
        with pytest.raises(ConfigError, match=words):
            run_kernel(UPMEM, item)
    with pytest.raises(ConfigError, match="fp32_pow"):
        UNIT.throughput_mops("pow", "fp32")
    with pytest.raises(ConfigError, match="tasklets: 30"):
        UNIT.throughput_mops("add", "int32", 30)


def sequential(terms: list[np.float32]) -> np.float32:
    total = np.float32(0)
    for term in terms:
        total = np.float32(total + term)
    return total


@settings(max_examples=30, deadline=None)
@given(
    rows=st.integers(1, 40),
    columns=st.integers(1, 90),
    bits=st.sampled_from([4, 8, 16, 32]),
    batch=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_integer_products_wrap_around(rows: int, columns: int, bits: int, batch: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    unit = UNIT.model_copy(update={"arithmetic_32": "int32", "dpus": 3})
    low, high = -(1 << (bits - 1)), 1 << (bits - 1)
    weights, vectors = rng.integers(low, high, (rows, columns)), rng.integers(low, high, (batch, columns))
    exact = [[sum(int(w) * int(x) for w, x in zip(row, vector, strict=True)) for row in weights] for vector in vectors]
    wrapped = (np.array(exact, object) + (1 << 31)) % (1 << 32) - (1 << 31)
    found = unit.compute(gemv(rows, columns, bits), weights, vectors)
    assert found.dtype == np.int32 and np.array_equal(found, wrapped.astype(np.int64))


@settings(max_examples=20, deadline=None)
@given(rows=st.integers(1, 20), columns=st.integers(1, 80), dpus=st.integers(1, 8), seed=st.integers(0, 99))
def test_fp32_products_are_summed_in_the_order_of_tasklets(rows: int, columns: int, dpus: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    weights, vectors = rng.normal(size=(rows, columns)).astype(np.float32), rng.normal(size=(2, columns)).astype(np.float32)
    found = UNIT.model_copy(update={"dpus": dpus}).compute(gemv(rows, columns, 32), weights, vectors)
    share = max(1, 16 // -(-rows // min(rows, dpus)))
    chunk = -(-columns // (share * 2)) * 2
    for b, vector in enumerate(vectors):
        for r, row in enumerate(weights):
            parts = [sequential(list(row[c : c + chunk] * vector[c : c + chunk])) for c in range(0, columns, chunk)]
            total = parts[0]
            for part in parts[1:]:
                total = np.float32(total + part)
            assert found[b, r] == total


@settings(max_examples=30, deadline=None)
@given(bits=st.sampled_from([8, 16, 32]), function=st.sampled_from(["add", "sub", "mul", "relu", "square"]), seed=st.integers(0, 99))
def test_elementwise_values_wrap_in_their_own_type(bits: int, function: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    unit = UNIT.model_copy(update={"arithmetic_32": "int32"})
    half = 1 << (bits - 1)
    a, b = (rng.integers(-half, half, 50).astype(object) for _ in range(2))
    operands = (a, b) if function in ("add", "sub", "mul") else (a,)
    exact = {"add": a + b, "sub": a - b, "mul": a * b, "square": a * a, "relu": np.maximum(a, 0)}[function]
    item = Elementwise(name="e", function=function, elements=50, operands=len(operands), activation_bits=bits)
    found = unit.compute(item, *(operand.astype(np.int64) for operand in operands))
    assert np.array_equal(found.astype(object), (exact + half) % (2 * half) - half)
    if function != "relu" and bits == 32:
        x, y = rng.normal(size=(2, 50)).astype(np.float32)
        real = {"add": x + y, "sub": x - y, "mul": x * y, "square": x * x}[function]
        assert np.array_equal(UNIT.compute(item, *(x, y)[: len(operands)]), real)


@settings(max_examples=30, deadline=None)
@given(
    dim=st.integers(1, 9), pooling=st.integers(1, 12), batch=st.integers(1, 4), dpus=st.integers(1, 7), bits=st.sampled_from([4, 8, 16, 32])
)
def test_pooled_rows(dim: int, pooling: int, batch: int, dpus: int, bits: int) -> None:
    rng = np.random.default_rng([dim, pooling, batch, dpus])
    indices = rng.integers(0, 50, (batch, pooling))
    item = Gather(name="g", tables=(Table(name="t", rows=50, dim=dim, pooling=pooling, bits=bits),))
    whole = UNIT.model_copy(update={"arithmetic_32": "int32", "dpus": dpus})
    rows = rng.integers(-(1 << (bits - 1)), 1 << (bits - 1), (50, dim))
    scale = rng.integers(-9, 9, (batch, pooling))
    for given_scale in ((), (scale,)):
        each = rows[indices] * (scale[..., None] if given_scale else 1)
        exact = (each.sum(axis=1) + (1 << 31)) % (1 << 32) - (1 << 31)
        assert np.array_equal(whole.compute(item, rows, indices, *given_scale), exact)
    if bits == 32:
        real = rng.normal(size=(50, dim)).astype(np.float32)
        found = UNIT.model_copy(update={"dpus": dpus}).compute(item, real, indices)
        for b, d in np.ndindex(batch, dim):
            parts = [[real[i, d] for i in indices[b] if i % dpus == dpu] for dpu in sorted({int(i) % dpus for i in indices[b]})]
            assert found[b, d] == sequential([sequential(part) for part in parts])


def test_transfers_cost_what_reads_and_writes_of_the_dimms_do() -> None:
    unit, each = load_device("upmem").unit, command_energy_pj(UPMEM.dram)
    assert each is not None
    to = unit.transfer_pj(1024, 0, 64, UPMEM)  # a row of 1 KB in each chip: eight banks, 128 bursts of 64 bytes each
    assert to["dram_activate"] == pytest.approx(8 * each["ACT"]) and to["dram_write"] == pytest.approx(8 * 128 * each["WR"])
    assert to["dram_read"] == 0 and to["dram_io"] == 64 * 1024 * 8 * 22
    back = unit.transfer_pj(0, 1032, 8, UPMEM)
    assert back["dram_activate"] == pytest.approx(2 * each["ACT"]) and back["dram_read"] == pytest.approx(129 * each["RD"])
    one = unit.transfer_pj(8, 0, 1, UPMEM)  # one DPU of a chip costs a whole burst
    assert one["dram_write"] == pytest.approx(each["WR"]) and one["dram_io"] == 8 * 8 * 22
    slow = load_device("upmem", {"dram.timing.nRAS": 60})
    assert slow.unit.transfer_pj(8, 0, 1, slow)["dram_activate"] != one["dram_activate"]


@pytest.mark.parametrize("fidelity", ["event", "analytic"])
def test_totals_of_models_and_kernels_are_numbers(fidelity: str) -> None:
    device, item = load_device("upmem", DIMM), Gather(name="e", tables=tables(2))
    model = Workload(name="w", operators=(item,))
    energy = simulate(device, model, 4, fidelity).energy_uj_per_sample
    assert None not in energy.values() and {"dram_io", "dram_write", "dram_background", "dpu"} <= set(energy)
    found = run_kernel(device, item, 4, fidelity=fidelity, end_to_end=True)
    assert found.energy_pj["total"] is not None and found.commands["DPU_INSTRUCTIONS"] > 0
