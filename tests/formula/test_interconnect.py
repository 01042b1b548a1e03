"""Bus, H-tree and mesh: hops against paths walked in a graph, time and energy against hand counts, no network no change."""

from __future__ import annotations

import math

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pimsim.api import load_device, run_kernel, simulate
from pimsim.engine.interconnect import carry, hops
from pimsim.errors import ConfigError
from pimsim.graph import Gather, MatMul, Table, Workload
from pimsim.spec.interconnect import InterconnectSpec

SMALL = {"dram.channels": 4}
GEMV = MatMul(name="m", out_features=256, in_features=256, weight_bits=16)


def balanced_tree(leaves: int) -> nx.Graph:
    """A binary tree that halves its leaves at every fork; node () is the root."""
    graph = nx.Graph()

    def grow(node: tuple[int, ...], count: int) -> None:
        graph.add_node(node, leaf=count == 1)
        for side, part in enumerate((count // 2, count - count // 2)) if count > 1 else ():
            graph.add_edge(node, (*node, side))
            grow((*node, side), part)

    grow((), leaves)
    return graph


@given(st.integers(1, 64))
def test_a_tree_has_the_hops_of_a_walked_tree(nodes: int) -> None:
    graph, found = balanced_tree(nodes), hops("htree", nodes)
    far = nx.single_source_shortest_path_length(graph, ())
    depths = [far[node] for node, leaf in graph.nodes(data="leaf") if leaf]
    assert found.most == max(depths) == math.ceil(math.log2(nodes))
    assert found.mean == pytest.approx(np.mean(depths))
    assert found.broadcast == graph.number_of_edges()


@given(st.integers(1, 8), st.integers(1, 8))
def test_a_mesh_has_manhattan_hops(rows: int, columns: int) -> None:
    nodes = rows * columns
    found = hops("mesh", nodes)
    side = max(r for r in range(1, math.isqrt(nodes) + 1) if nodes % r == 0)
    distances = [x + y for x in range(side) for y in range(nodes // side)]
    assert (found.mean, found.most) == (pytest.approx(np.mean(distances)), max(distances))
    assert found.broadcast == nodes - 1
    if rows == columns:
        assert found.most == 2 * (rows - 1)


@given(st.integers(1, 64))
def test_a_bus_is_one_shared_hop(nodes: int) -> None:
    found = hops("bus", nodes)
    assert (found.mean, found.most, found.broadcast) == (1, 1, 1)


def test_transfers_take_hops_and_flits() -> None:
    tree = InterconnectSpec(kind="htree", link_bits=64, clock_mhz=1000, hop_cycles=2, pj_per_bit_hop=0.5, pj_per_flit_hop=3)
    way = carry(tree, 8, 640, beside_ps=0)  # 10 flits over 3 hops of 2 ns: 6 + 9 cycles
    assert way.extra_ps == 15_000 and way.energy_pj["interconnect"] == pytest.approx(3 * (640 * 0.5 + 10 * 3))
    assert carry(tree, 8, 640, beside_ps=14_000).extra_ps == 6000  # hidden behind the memory but for the first flit's hops
    assert carry(tree, 8, 640, 0, broadcast=True).energy_pj["interconnect"] == pytest.approx(14 * (640 * 0.5 + 10 * 3))
    bus = tree.model_copy(update={"kind": "bus"})
    assert carry(bus, 8, 640, 0).extra_ps == 20_000  # not pipelined: ten flits of two cycles
    assert carry(bus, 8, 640, 0, broadcast=True).energy_pj == carry(bus, 8, 640, 0).energy_pj
    assert carry(tree, 8, 0, 0) == carry(None, 8, 640, 0) and not carry(tree, 8, 0, 0).energy_pj


@given(st.sampled_from(["bus", "htree", "mesh"]), st.integers(1, 32), st.integers(1, 10_000), st.integers(1, 512), st.integers(0, 100_000))
def test_wider_links_are_never_slower(kind: str, nodes: int, bits: int, width: int, beside: int) -> None:
    narrow, wide = (InterconnectSpec(kind=kind, link_bits=size) for size in (width, 2 * width))
    assert carry(wide, nodes, bits, beside).extra_ps <= carry(narrow, nodes, bits, beside).extra_ps


def test_a_kernel_pays_for_its_inputs_and_end_to_end_for_its_results() -> None:
    plain = run_kernel(load_device("hbm_pim", SMALL), GEMV)
    assert "interconnect" not in plain.energy_pj
    ends = {}
    for kind in ("bus", "htree", "mesh"):
        device = load_device("hbm_pim", SMALL | {"interconnect.kind": kind, "interconnect.pj_per_bit_hop": 0.1})
        inside, ends[kind] = run_kernel(device, GEMV), run_kernel(device, GEMV, end_to_end=True)
        assert inside.cycles > plain.cycles and inside.commands == plain.commands
        for part in plain.energy_pj.keys() - {"total"}:
            assert inside.energy_pj[part] == plain.energy_pj[part]
        # results: 256 outputs x 16 lanes x 2 bytes over the mean hops of 8 units
        results = ends[kind].energy_pj["interconnect"] - inside.energy_pj["interconnect"]
        assert results == pytest.approx(256 * 16 * 2 * 8 * 0.1 * hops(kind, 8).mean)
    assert ends["bus"].energy_pj["interconnect"] < ends["mesh"].energy_pj["interconnect"] < ends["htree"].energy_pj["interconnect"]


@pytest.mark.parametrize("tables", ["row", "striped"])
def test_a_model_reads_its_partial_sums_over_the_network(tables: str) -> None:
    gather = Gather(name="g", tables=(Table(name="t", rows=10_000, dim=64, pooling=8),))
    work, base = Workload(name="w", operators=(gather,), batch=4), SMALL | {"mapping.embedding": "pim", "mapping.tables": tables}
    before, after = (simulate(load_device("hbm_pim", base | extra), work) for extra in ({}, {"interconnect.kind": "mesh"}))
    assert after.energy_uj_per_sample["interconnect"] > 0 and "interconnect" not in before.energy_uj_per_sample
    assert after.latency_us["mean"] >= before.latency_us["mean"] + 4 * 2e-3  # four hops of 2 ns to the far corner of 2 x 4


def test_a_starved_network_sets_the_time() -> None:
    wide, narrow = (load_device("hbm_pim", SMALL | {"interconnect.kind": "htree", "interconnect.link_bits": b}) for b in (256, 8))
    slow = run_kernel(narrow, GEMV, end_to_end=True).cycles - run_kernel(narrow, GEMV).cycles
    assert slow * 1.0 >= 256 * 16 * 2 * 8 / 4 / 8 * 2  # results of a channel at 8 bits every 2 ns, in clocks of 1 ns
    assert run_kernel(wide, GEMV).cycles < run_kernel(narrow, GEMV).cycles


@pytest.mark.parametrize(
    ("device", "overrides", "words"),
    [
        ("hbm_pim", {"interconnect.kind": "torus"}, "interconnect.kind"),
        ("hbm_pim", {"interconnect.kind": "bus", "interconnect.link_bit": 8}, "did you mean 'link_bits'"),
        ("hbm_pim", {"interconnect.link_bits": 8}, "interconnect.kind: missing"),
        ("gddr6_aim", {"interconnect.kind": "bus"}, "unit: aim; allowed: near_bank"),
        ("ddr4_3200", {"interconnect.kind": "bus"}, "unit: none"),
    ],
)
def test_mistakes_get_one_line(device: str, overrides: dict, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_device(device, overrides)
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["bus", "htree", "mesh"])
@pytest.mark.parametrize("bits", [32, 256])
def test_closed_forms_add_what_the_engine_adds(kind: str, bits: int) -> None:
    gather = Gather(name="g", tables=(Table(name="t", rows=10_000, dim=64, pooling=8),))
    top = MatMul(name="m", inputs=("g",), out_features=256, in_features=64)
    work = Workload(name="w", operators=(gather, top))
    base = SMALL | {"mapping.embedding": "pim"}
    network = {"interconnect.kind": kind, "interconnect.link_bits": bits}
    added: dict[str, list[float]] = {"event": [], "analytic": []}
    for fidelity, found in added.items():
        before, after = (simulate(load_device("hbm_pim", base | extra), work, 8, fidelity) for extra in ({}, network))
        found += [after.latency_us["mean"] - before.latency_us["mean"], after.energy_uj_per_sample["interconnect"] or 0.0]
        assert all(value > 0 for value in found)
    assert added["analytic"] == pytest.approx(added["event"], rel=0.05)
