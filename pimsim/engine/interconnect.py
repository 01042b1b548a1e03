"""Moving bits between a channel's interface and its units over a bus, an H-tree or a mesh: closed-form hops, time and energy.

    bus     1 hop, shared: a flit occupies it for all of its hop; a broadcast uses it once
    htree   ceil(log2 n) hops to the deepest of n leaves; a broadcast uses all 2n - 2 edges
    mesh    Manhattan distance from the corner of an r x c grid: r + c - 2 at most, (r + c - 2) / 2 on average; a broadcast uses n - 1 links

Modelling decisions:
    * Everything passes the port: one flit a cycle in a tree or mesh (a message of F flits over H hops takes H * hop_cycles + F - 1
      cycles), one flit each hop_cycles on a bus.
    * A transfer runs beside the memory commands that carry the same bits; only what it takes longer, and its first flit's hops, are added.
    * A mesh is the grid of n nodes that is closest to a square.

Not modelled: contention within a mesh beyond that at its port, buffers, area and leakage of links and routers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pimsim.spec.interconnect import InterconnectSpec
from pimsim.units.cost import add_up

if TYPE_CHECKING:
    from pimsim.engine.memory import Traffic


@dataclass(frozen=True)
class Hops:
    """Links between the port and the nodes.

    Attributes:
        mean: Links from a node to the port, on average over the nodes.
        most: Links of the farthest node.
        broadcast: Links that a message to all nodes uses.
    """

    mean: float
    most: int
    broadcast: int


@dataclass(frozen=True)
class Carried:
    """Time that a transfer adds, in picoseconds, and its energy by part, in picojoules."""

    extra_ps: int = 0
    energy_pj: Mapping[str, float] = field(default_factory=dict)


def hops(kind: str, nodes: int) -> Hops:
    """Closed-form hop counts of `bus`, `htree` or `mesh` with `nodes` nodes."""
    if kind == "bus":
        return Hops(1.0, 1, 1)
    if kind == "htree":
        depth = (nodes - 1).bit_length()
        shallow = (1 << depth) - nodes  # leaves one level higher in a tree that is not full
        return Hops(depth - shallow / nodes, depth, 2 * nodes - 2)
    rows = next(r for r in range(math.isqrt(nodes), 0, -1) if nodes % r == 0)
    most = rows + nodes // rows - 2
    return Hops(most / 2, most, nodes - 1)


def carry(network: InterconnectSpec | None, nodes: int, bits: int, beside_ps: int, broadcast: bool = False, everywhere: int = 0) -> Carried:
    """Bits of one channel from its port to all units (`broadcast`), or from its units to the port.

    Args:
        network: The channel's network; none adds nothing.
        nodes: Units of the channel.
        bits: Bits that pass the port of the busiest channel.
        beside_ps: Time of the memory commands that carry the same bits.
        broadcast: True: every unit receives all of them.
        everywhere: Bits that pass the ports of all channels that the energy is for; those of `bits` when 0.
    """
    if network is None or bits <= 0:
        return Carried()
    far, flits = hops(network.kind, nodes), -(-bits // network.link_bits)
    if network.kind == "bus":
        head, cycles = network.hop_cycles, flits * network.hop_cycles
    else:
        head, cycles = far.most * network.hop_cycles, far.most * network.hop_cycles + flits - 1
    cycle_ps = 1e6 / network.clock_mhz
    extra = max(cycles * cycle_ps - beside_ps, head * cycle_ps)
    total = everywhere or bits
    links = far.broadcast if broadcast else far.mean
    flit_pj = -(-total // network.link_bits) * network.pj_per_flit_hop
    return Carried(math.ceil(extra), {"interconnect": links * (total * network.bit_hop_pj + flit_pj)})


def collected(traffic: Traffic, network: InterconnectSpec | None, nodes: int, bits: int) -> Traffic:
    """Reads of results from units, with their way to the port; `bits` are those of the busiest channel."""
    if network is None:
        return traffic
    way = carry(network, nodes, bits, traffic.latency_ps, everywhere=traffic.bytes * 8)
    return replace(traffic, latency_ps=traffic.latency_ps + way.extra_ps, energy_pj=add_up(traffic.energy_pj, way.energy_pj))
