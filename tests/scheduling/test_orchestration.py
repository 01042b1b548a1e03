"""SimPy orchestration: overlap, stalls, and a critical path that adds up; queueing against a closed formula."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pimsim.engine.orchestrate import critical_path, schedule
from pimsim.graph import Elementwise, Input, Workload
from pimsim.units.cost import HOST, MEMORY, NO_WORK, OperatorCost


def chain(*edges: tuple[str, tuple[str, ...]]) -> Workload:
    operators = [Input(name="in", elements=1)]
    operators += [Elementwise(name=name, inputs=inputs, function="relu", elements=1) for name, inputs in edges]
    return Workload(name="w", operators=tuple(operators))


def cost(latency: int, *resources: str) -> OperatorCost:
    return OperatorCost(unit="host", latency_ps=latency, resources=resources)


def test_host_and_memory_overlap_and_one_resource_does_not() -> None:
    work = chain(("look", ("in",)), ("mlp", ("in",)), ("top", ("look", "mlp")))
    costs = {"in": NO_WORK, "look": cost(100, MEMORY), "mlp": cost(60, HOST), "top": cost(10, HOST)}
    [spans] = schedule(work, costs, [0])
    assert (spans["top"].start_ps, spans["top"].end_ps) == (100, 110)
    costs["look"] = cost(100, HOST, MEMORY)
    [spans] = schedule(work, costs, [0])
    assert spans["mlp"].start_ps == 100 and spans["mlp"].ready_ps == 0  # it stalled behind the look-up
    assert spans["top"].end_ps == 170


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_latencies_on_the_critical_path_add_up(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 8))
    names = [f"o{n}" for n in range(count)]
    edges = []
    for number, name in enumerate(names):
        before = ["in", *names[:number]]
        edges.append((name, tuple(data.draw(st.lists(st.sampled_from(before), min_size=1, max_size=3, unique=True)))))
    pick = st.sampled_from([(HOST,), (MEMORY,), (HOST, MEMORY)])
    costs = {"in": NO_WORK} | {name: cost(data.draw(st.integers(1, 50)), *data.draw(pick)) for name in names}
    work = chain(*edges)
    [spans] = schedule(work, costs, [0])
    path = critical_path(work, spans, costs)
    assert sum(s.end_ps - s.start_ps for s in path) == max(s.end_ps for s in spans.values())
    for resource in (HOST, MEMORY):
        busy = sorted((s.start_ps, s.end_ps) for s in spans.values() if resource in costs[s.name].resources)
        assert all(first[1] <= second[0] for first, second in pairwise(busy))


def test_poisson_batches_wait_as_the_m_d_1_formula_says() -> None:
    work, service, load, batches = chain(("op", ("in",))), 1000, 0.6, 20_000
    gaps = np.random.default_rng(np.random.SeedSequence(7)).exponential(service / load, batches)
    arrivals = [int(t) for t in np.cumsum(gaps)]
    spans = schedule(work, {"in": NO_WORK, "op": cost(service, HOST)}, arrivals)
    latency = np.mean([one["op"].end_ps - start for one, start in zip(spans, arrivals, strict=True)])
    assert latency == pytest.approx(service * (1 + load / (2 * (1 - load))), rel=0.03)
