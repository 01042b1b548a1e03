"""Dims and precisions of single tables change simulated traffic and latency exactly as counted by hand on a small model.

One sample, three tables of up to 64 elements, rows in three channels or ranks that nothing else reads. By hand, a row takes
ceil(dim * bits / 8) bytes, rounded up to a power of two of bursts; the host's caches and refresh are off.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pimsim.api import CostCache, load_device, simulate
from pimsim.dram.standard import common_timing, resolve_organisation
from pimsim.graph import IndexSource
from supernet.genotype import Block, Genotype
from supernet.lowering import to_workload
from supernet.model import Supernet
from supernet.quantise import stored_rows
from supernet.space import load_space

SCHEMA = {"dense": ["d"], "sparse": ["a", "b", "c"], "cardinalities": [400, 300, 200]}
PLAIN = {"dram.controller.refresh": "off", "host.cache_embeddings": False}
TABLES = [
    ((64, 64, 64), (32, 32, 32)),
    ((64, 16, 4), (32, 32, 32)),
    ((64, 64, 64), (16, 8, 4)),
    ((64, 32, 3), (8, 4, 4)),
    ((2, 2, 2), (4, 32, 16)),
]


def network(dims, bits):
    sizes = {"dense_dim": 8, "sparse_dim": 4, "dense_inputs": (0,), "sparse_inputs": (0,)}
    block = Block(dense_op="fc", sparse_op="efc", **sizes)
    return Genotype(space="x", embedding_dim=64, embedding_dims=dims, table_bits=bits, blocks=(block,))


@pytest.fixture(scope="module")
def trace(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trace")
    np.savez(folder / "rows.npz", a=np.array([[0]]), b=np.array([[1]]), c=np.array([[2]]))
    return str(folder)


def simulated(device, trace, dims, bits):
    """(cost of the gather, report of the whole network)."""
    workload = to_workload(network(dims, bits), SCHEMA, "net", IndexSource(kind="file", path="rows.npz"))
    workload = workload.model_copy(update={"folder": trace})
    return CostCache().costs(workload, device, 1)["embedding"], simulate(device, workload)


def bursts_of(dims, bits, burst_bytes):
    """Bursts of a row of each table."""
    needed = [math.ceil(math.ceil(dim * each / 8) / burst_bytes) for dim, each in zip(dims, bits, strict=True)]
    return [2 ** math.ceil(math.log2(count)) for count in needed]


def test_the_rows_of_the_trace_lie_apart(trace):
    """What the counts below rest on: each look-up has a channel (HBM-PIM) or a rank (RecNMP) of its own."""
    for device, dealt in (load_device("hbm_pim", {"dram.channels": 4}), 64), (load_device("recnmp"), 128):
        start = int(dealt * 0.618 + 1)  # the bank on which the next table starts
        banks = [(row + row * start) % dealt for row in range(3)]
        apart = [bank % 4 for bank in banks] if device.name == "hbm_pim" else [bank // 16 for bank in banks]
        assert len(set(apart)) == 3


@pytest.mark.parametrize(("dims", "bits"), TABLES)
def test_host_gather_on_hbm_pim(trace, dims, bits):
    device = load_device("hbm_pim", {**PLAIN, "dram.channels": 4, "mapping.matmul": "host"})
    gather, report = simulated(device, trace, dims, bits)
    bursts = bursts_of(dims, bits, 32)  # 64-bit channel, four beats
    assert gather.commands["RD"] == sum(bursts) and gather.commands["ACT"] == 3
    assert gather.external_bytes == 32 * sum(bursts)
    clocks = common_timing(device.dram)
    # Every channel opens one row and reads its bursts; a clock to take the request in, one to hand the last data over.
    memory = 2 + clocks["nRCD"] + clocks["nCL"] + clocks["nBL"] + (max(bursts) - 1) * clocks["nCCDL"]
    assert gather.latency_ps == 1000 * memory + 300_000  # clocks of 1 ns; dispatch by the host
    written = 4 * sum(dims)  # vectors, in FP32; the zeros behind them lie there already
    energy = gather.energy_pj
    assert energy["host_cache"] == pytest.approx((4 * 3 + written) * 3.5)
    assert energy["dram_io"] == pytest.approx(32 * sum(bursts) * 8 * 0.8)
    _, plain = simulated(device, trace, (64, 64, 64), (32, 32, 32))
    own = {row.name: row.latency_us for row in report.operators}
    assert own.pop("embedding") == pytest.approx((1000 * memory + 300_000) / 1e6)
    assert own == {row.name: row.latency_us for row in plain.operators if row.name != "embedding"}  # products are as wide as before
    first = 1000 * (2 + clocks["nRCD"] + clocks["nCL"] + clocks["nBL"] + 7 * clocks["nCCDL"]) / 1e6 + 0.3
    assert report.latency_us["mean"] == pytest.approx(plain.latency_us["mean"] - first + (1000 * memory + 300_000) / 1e6)


@pytest.mark.parametrize(("dims", "bits"), TABLES)
def test_gather_in_the_banks_of_hbm_pim(trace, dims, bits):
    device = load_device("hbm_pim", {**PLAIN, "dram.channels": 4, "mapping.matmul": "host", "mapping.embedding": "pim"})
    gather, _ = simulated(device, trace, dims, bits)
    inside = bursts_of(dims, bits, 32)
    sums = [math.ceil(dim * max(each, 16) / 8 / 32) for dim, each in zip(dims, bits, strict=True)]  # kept in 16 bits or more
    assert gather.energy_pj["pim_column"] == pytest.approx(sum(inside) * 32 * 8 * 0.44)
    assert gather.external_bytes == 32 * sum(sums)
    mac = {8: 1.5, 4: 1.5, 16: 1.5, 32: 4.6}
    assert gather.energy_pj["pim_mac"] == pytest.approx(sum(dim * mac[each] for dim, each in zip(dims, bits, strict=True)))


@pytest.mark.parametrize(("dims", "bits"), TABLES)
def test_gather_on_the_ranks_of_recnmp(trace, dims, bits):
    device = load_device("recnmp", {**PLAIN, "unit.rank_cache_bytes": 0, "unit.adder_bytes": 10**6})
    gather, _ = simulated(device, trace, dims, bits)
    assert resolve_organisation(device.dram).burst_bytes == 64
    bursts = bursts_of(dims, bits, 64)
    sums = [math.ceil(4 * dim / 64) for dim in dims]  # in FP32
    assert gather.commands["RD"] == sum(bursts) and gather.commands["ACT"] == 3
    assert gather.energy_pj["pim_column"] == pytest.approx(sum(bursts) * 64 * 8 * 14)
    assert gather.energy_pj["pim_add"] == pytest.approx(sum(dims) * 7.89)
    assert gather.external_bytes == (sum(sums) * 64 * 8 + 3 * 79) // 8  # sums to the host, instructions to the ranks
    clocks, end = common_timing(device.dram), 0
    sent = [math.ceil(79 * number / 168) for number in (1, 2, 3)]  # instructions follow each other over the channel's pins
    first = 1 + clocks["nRCD"] + clocks["nCL"] + clocks["nBL"]  # a clock to take the request in, as `pimsim check` counts it
    read = [due + first + (count - 1) * clocks["nCCDL"] for due, count in zip(sent, bursts, strict=True)]
    for ready, size in sorted(zip(read, sums, strict=True)):  # the sums follow each other over the channel to the host
        end = max(end, ready) + size * clocks["nBL"]
    assert gather.latency_ps == end * clocks["tCK_ps"]


@pytest.mark.parametrize(("dims", "bits"), TABLES)
def test_host_link_carries_the_vectors_as_they_are(trace, dims, bits):
    device = load_device("hbm_pim", {**PLAIN, "dram.channels": 4, "mapping.matmul": "host", "mapping.embedding": "pim", "link": "cxl2_x8"})
    _, report = simulated(device, trace, dims, bits)
    found = {row.name: row.latency_us for row in report.operators}
    assert found["embedding results"] == pytest.approx(0.040 + 4 * sum(dims) / 29.6 / 1000, abs=1e-6)
    assert found["embedding operands"] == pytest.approx(0.040 + 4 * 3 / 29.6 / 1000, abs=1e-6)


def test_striped_tables_of_mixed_dims_are_simulated(trace):
    device = load_device("hbm_pim", {**PLAIN, "dram.channels": 4, "mapping.embedding": "pim", "mapping.tables": "striped"})
    gather, _ = simulated(device, trace, (64, 32, 2), (32, 32, 8))
    pieces = [math.ceil(math.ceil(size / 8) / 32) for size in (256, 128, 2)]  # a row over eight units, whole bursts each
    assert gather.energy_pj["pim_column"] == pytest.approx(2 * 8 * sum(pieces) * 32 * 8 * 0.44)  # read, and the sums written
    assert gather.external_bytes == 8 * sum(pieces) * 32


@pytest.mark.parametrize("name", ["hbm_pim", "recnmp"])
def test_units_compute_the_vectors_that_the_network_reads(name):
    """Each table's look-ups by the units, zeros behind them, are what the extracted network embeds."""
    sizes = {"embedding_dim": 8, "table_dims": [2, 4, 8], "table_bits": [32, 16, 8], "embedding_bits": [32]}
    space = load_space("tiny", sizes).for_tables(3)
    supernet = Supernet(space, SCHEMA, generator=torch.Generator().manual_seed(0))
    model = network((2, 8, 4), (16, 16, 16)).model_copy(update={"embedding_dim": 8})
    (gather,) = to_workload(model, SCHEMA, "net").gathers
    rows = np.random.default_rng(1).integers(0, 200, (5, 3))
    table = supernet.weights["embedding.weight"].numpy()
    looked_up = table[rows + np.array([0, 400, 700])]
    expected = stored_rows(torch.from_numpy(looked_up), model).numpy()
    unit = load_device(name).unit
    for number, (own, start) in enumerate(zip(gather.tables, (0, 400, 700), strict=True)):
        stored = table[start : start + own.rows, : own.dim].astype(np.float16)
        found = unit.compute(gather.model_copy(update={"tables": (own,)}), stored, rows[:, number : number + 1])
        np.testing.assert_array_equal(np.pad(found, ((0, 0), (0, 8 - own.dim))), expected[:, number])
