"""SimPy orchestration of a model's operator graph: batches arrive, operators wait for their inputs and for host and memory.

Modelling decisions:
    * The host runs one operator at a time, the memory serves one operator at a time; an operator may hold both.
    * Waiting operators are served in the order in which they became ready.

Not modelled: operators that share the memory's bandwidth while both run.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pimsim.graph import Workload
from pimsim.units.cost import HOST, MEMORY, OperatorCost


@dataclass(frozen=True)
class Span:
    """When one operator of one batch was ready, started and ended, in picoseconds."""

    name: str
    ready_ps: int
    start_ps: int
    end_ps: int


def schedule(workload: Workload, costs: Mapping[str, OperatorCost], arrivals_ps: Sequence[int]) -> list[dict[str, Span]]:
    """Runs batches that arrive at the given times.

    Returns:
        For each batch the span of each operator.
    """
    import simpy

    env = simpy.Environment()
    resources = {HOST: simpy.Resource(env), MEMORY: simpy.Resource(env)}
    spans: list[dict[str, Span]] = [{} for _ in arrivals_ps]

    def operator(batch: int, name: str, inputs: list[Any]) -> Generator[Any, Any, None]:
        yield env.all_of(inputs)
        ready = int(env.now)
        cost = costs[name]
        held = []
        for resource in (HOST, MEMORY):  # always in this order, so that no two operators wait for each other
            if resource in cost.resources:
                request = resources[resource].request()
                yield request
                held.append((resources[resource], request))
        start = int(env.now)
        yield env.timeout(cost.latency_ps)
        for owner, request in held:
            owner.release(request)
        spans[batch][name] = Span(name, ready, start, int(env.now))

    def batch(number: int, arrival: int) -> Generator[Any, Any, None]:
        yield env.timeout(arrival)
        done: dict[str, Any] = {}
        for item in workload.operators:
            done[item.name] = env.process(operator(number, item.name, [done[source] for source in item.inputs]))
        yield env.all_of(list(done.values()))

    for number, arrival in enumerate(arrivals_ps):
        env.process(batch(number, arrival))
    env.run()
    return spans


def critical_path(workload: Workload, spans: Mapping[str, Span], costs: Mapping[str, OperatorCost]) -> list[Span]:
    """The chain of operators that sets a lone batch's latency, from first to last; their latencies add up to it.

    An operator that waited for a resource follows the operator that held it; any other follows the input that came last.
    """
    by_name = {item.name: item for item in workload.operators}
    current: Span | None = max(spans.values(), key=lambda span: span.end_ps)
    chain: list[Span] = []
    while current is not None:
        chain.append(current)
        if current.start_ps > current.ready_ps:
            needs = set(costs[current.name].resources)
            before = [s for s in spans.values() if s.end_ps == current.start_ps and needs & set(costs[s.name].resources)]
        else:
            before = [spans[source] for source in by_name[current.name].inputs]
        current = max(before, key=lambda span: span.end_ps) if before else None
    return chain[::-1]
