"""What crosses the link between a host and its PIM device: operands, results, and whatever the host reads from the memory itself.

Modelling decisions:
    * A transfer occupies its direction (a half-duplex link: both) for `latency_ns` and its bytes over the bandwidth; transfers of all
      operators, batches and models wait for each other like operators for host and memory.
    * Operands of an operator on the units are sent before it starts, its results are received after it has ended: transfers are operators
      of the graph, named `NAME operands` and `NAME results`, and overlap with other operators' work.
    * The link ends at a controller beside the memory that spreads operands over the channels, drives the units and adds partial sums in
      the host's place, at the host's speed.
    * What the host reads itself (embedding rows that it gathers; weights unless `host_memory` holds them) crosses the link while the memory
      reads it: the longer of both, and a round trip. Look-ups that wait for few outstanding requests wait for the link, too.
    * Embedding tables always lie behind the link. With `host_memory` the host's weights lie there and do not occupy the device's memory.

Not modelled: packet headers beyond what the bandwidth of the file leaves out, retries, transfers cut in pieces that overlap with the
work on them, operands that stay at the units between two of their operators.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from pimsim.engine.costs import on_pim
from pimsim.graph import AnyPrimitive, Gather, MatMul, Move, Product, Workload
from pimsim.spec.device import DeviceSpec
from pimsim.spec.link import LinkSpec
from pimsim.units.cost import HOST, LINK, MEMORY, RECEIVE, SEND, KernelRun, OperatorCost, add_up

Costs = Mapping[str, OperatorCost]


def link_parts(link: LinkSpec | None) -> tuple[str, ...]:
    """The resources of a link."""
    if link is None:
        return ()
    return (SEND, RECEIVE) if link.duplex == "full" else (LINK,)


def transfer(link: LinkSpec, size_bytes: int, direction: str) -> OperatorCost:
    """One transfer; `direction` is `SEND` or `RECEIVE`."""
    flight, gbps = link.latency_ns * 1000, link.send_gbps if direction == SEND else link.receive_gbps
    moving = size_bytes * 1000 / gbps
    return OperatorCost(
        unit="link",
        latency_ps=math.ceil(flight + moving),
        resources=(direction if link.duplex == "full" else LINK,),
        energy_pj={"link": size_bytes * 8 * link.pj_per_bit},
        limited_by="link bandwidth" if moving > flight else "link latency",
    )


def over_link(workload: Workload, costs: Costs, device: DeviceSpec, batch: int) -> tuple[Workload, Costs]:
    """The graph with transfers as operators, and what all of them cost; both unchanged without a link.

    Args:
        workload: The model.
        costs: Its operators' costs on the device.
        device: The device.
        batch: Samples.
    """
    link = device.link
    if link is None:
        return workload, costs
    operators: list[AnyPrimitive] = []
    found: dict[str, OperatorCost] = {}
    renamed: dict[str, str] = {}

    def move(name: str, inputs: tuple[str, ...], per_sample: int, direction: str) -> str:
        operators.append(Move(name=name, inputs=inputs, elements=max(per_sample // 4, 1)))
        found[name] = transfer(link, per_sample * batch, direction)
        return name

    for item in workload.operators:
        inputs, cost = tuple(renamed.get(name, name) for name in item.inputs), costs[item.name]
        if not on_pim(item, device):
            operators.append(item.model_copy(update={"inputs": inputs}))
            found[item.name] = _by_host(item, cost, device, link)
            continue
        sent = move(f"{item.name} operands", inputs, item.input_bytes, SEND)
        operators.append(item.model_copy(update={"inputs": (sent,)}))
        found[item.name] = cost
        renamed[item.name] = move(f"{item.name} results", (item.name,), item.output_bytes, RECEIVE)
    return workload.model_copy(update={"operators": tuple(operators)}), found


def _by_host(item: AnyPrimitive, cost: OperatorCost, device: DeviceSpec, link: LinkSpec) -> OperatorCost:
    """An operator of the host: what it reads crosses the link, unless the host's own memory holds it."""
    if MEMORY not in cost.resources:
        return cost
    if device.host_memory is not None and not isinstance(item, Gather):
        return replace(cost, resources=(HOST,), external_bytes=0)
    crossing = transfer(link, cost.external_bytes, RECEIVE)
    round_trip = math.ceil(link.latency_ns * 1000)
    slower = crossing.latency_ps - round_trip > cost.latency_ps
    return replace(
        cost,
        latency_ps=max(cost.latency_ps, crossing.latency_ps - round_trip) + 2 * round_trip,
        resources=(*cost.resources, *crossing.resources),
        energy_pj=add_up(cost.energy_pj, crossing.energy_pj),
        limited_by=crossing.limited_by if slower else cost.limited_by,
    )


def end_to_end(run: KernelRun, item: AnyPrimitive, device: DeviceSpec, batch: int, tck_ps: int) -> KernelRun:
    """A kernel alone with its operands sent (those that do not lie in the banks) and its results received over the link."""
    if device.link is None:
        return run
    sent = item.input_bytes * batch if isinstance(item, Gather | MatMul | Product) else 0
    ways = [transfer(device.link, sent, SEND)] if sent else []
    ways.append(transfer(device.link, item.output_bytes * batch, RECEIVE))
    added = -(-sum(way.latency_ps for way in ways) // tck_ps)
    limit = "link" if added > run.cycles else run.limited_by
    return replace(run, cycles=run.cycles + added, energy_pj=add_up(run.energy_pj, *(way.energy_pj for way in ways)), limited_by=limit)
