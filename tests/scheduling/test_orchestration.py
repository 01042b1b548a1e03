"""SimPy orchestration: overlap, stalls, and a critical path that adds up; queues against closed formulas."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pimsim.engine.arrivals import Closed, Open, exponential, parse_arrivals, poisson_ps
from pimsim.engine.orchestrate import BACKLOG, Served, Stream, critical_path, schedule, serve
from pimsim.errors import ConfigError
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


def alone(kind: str) -> Workload:
    return chain(("op", ("in",))) if kind == "one" else chain(("first", ("in",)), ("second", ("first",)))


def drawn(seed: int, mean_ps: dict[str, float], resources: dict[str, tuple[str, ...]]) -> Callable[[int], dict[str, OperatorCost]]:
    """Costs with exponential service times, drawn anew for every batch."""
    draws = {name: exponential(mean, np.random.SeedSequence(seed, spawn_key=(n,))) for n, (name, mean) in enumerate(mean_ps.items())}
    return lambda _: {"in": NO_WORK} | {name: cost(round(draws[name]()), *resources[name]) for name in mean_ps}


def sojourn(served: Served, warm: int) -> float:
    late = np.array(served.ends_ps) - np.array(served.arrivals_ps)[served.ended]
    return float(late[warm:].mean())


def throughput(served: Served, warm: int) -> float:
    return (len(served.ended) - warm) / (served.ends_ps[-1] - served.ends_ps[warm - 1])


def mean_value_analysis(demands: tuple[float, ...], clients: int, think: float = 0.0) -> tuple[float, float]:
    """Exact throughput and response of a closed network of exponential first-come stations (Reiser and Lavenberg 1980)."""
    queue = [0.0] * len(demands)
    rate = response = 0.0
    for number in range(1, clients + 1):
        times = [demand * (1 + length) for demand, length in zip(demands, queue, strict=True)]
        response = sum(times)
        rate = number / (think + response)
        queue = [rate * time for time in times]
    return rate, response


def test_exponential_service_waits_as_the_m_m_1_formula_says() -> None:
    service, load, count = 1e6, 0.5, 25_000
    costs = drawn(3, {"op": service}, {"op": (MEMORY,)})
    [served] = serve([Stream(alone("one"), costs, Open(poisson_ps(service / load, np.random.SeedSequence(11)), endless=True))], count)
    busy = np.array([spans["op"].end_ps - spans["op"].start_ps for spans in served.spans[:count]])
    drawn_load = busy.sum() / served.arrivals_ps[count - 1]  # the formula is taken at the rates of these very draws
    assert drawn_load == pytest.approx(load, rel=0.03)
    assert sojourn(served, count // 10) == pytest.approx(busy.mean() / (1 - drawn_load), rel=0.03)


def test_a_busy_queue_follows_lindleys_recursion_batch_by_batch() -> None:
    rng = np.random.default_rng(np.random.SeedSequence(2))
    arrivals = np.cumsum(rng.exponential(1111, 3000).astype(int) + 1)
    service = rng.exponential(1000, 3000).astype(int) + 1
    spans = schedule(alone("one"), lambda n: {"in": NO_WORK, "op": cost(int(service[n]), HOST)}, arrivals.tolist())
    end = 0
    for arrival, time, one in zip(arrivals.tolist(), service.tolist(), spans, strict=True):
        end = max(end, arrival) + time
        assert one["op"].end_ps == end


def test_models_that_share_the_memory_wait_as_one_m_m_1_queue() -> None:
    service, loads = 1e6, (0.15, 0.25)
    streams = []
    for seed, load in zip((5, 6), loads, strict=True):
        arrivals = Open(poisson_ps(service / load, np.random.SeedSequence(seed)), endless=True)
        streams.append(Stream(alone("one"), drawn(seed, {"op": service}, {"op": (MEMORY,)}), arrivals))
    first, second = serve(streams, 10_000)
    for served in (first, second):
        assert sojourn(served, 1000) == pytest.approx(service / (1 - sum(loads)), rel=0.03)
    assert len(second.ended) / len(first.ended) == pytest.approx(loads[1] / loads[0], rel=0.05)


def test_a_tandem_of_host_and_memory_is_two_m_m_1_queues() -> None:
    mean = {"first": 1e6, "second": 1.5e6}
    costs = drawn(8, mean, {"first": (HOST,), "second": (MEMORY,)})
    gap = 3.5e6
    [served] = serve([Stream(alone("two"), costs, Open(poisson_ps(gap, np.random.SeedSequence(9)), True))], 15_000)
    expected = sum(time / (1 - time / gap) for time in mean.values())  # Burke, Jackson: each station alone
    assert sojourn(served, 1500) == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize(("clients", "think"), [(3, 0.0), (6, 4e6)])
def test_clients_on_host_and_memory_follow_exact_mean_value_analysis(clients: int, think: float) -> None:
    mean = {"first": 1e6, "second": 1.5e6}
    costs = drawn(12, mean, {"first": (HOST,), "second": (MEMORY,)})
    thinks = exponential(think, np.random.SeedSequence(13)) if think else lambda: 0.0
    [served] = serve([Stream(alone("two"), costs, Closed(clients, thinks))], 12_000)
    rate, response = mean_value_analysis((1e6, 1.5e6), clients, think)
    assert throughput(served, 1200) == pytest.approx(rate, rel=0.03)
    assert sojourn(served, 1200) == pytest.approx(response, rel=0.03)


def test_machines_wait_for_one_repairman_as_the_erlang_loss_formula_says() -> None:
    clients, think, service = 5, 3e6, 1e6
    costs = drawn(21, {"op": service}, {"op": (HOST,)})
    [served] = serve([Stream(alone("one"), costs, Closed(clients, exponential(think, np.random.SeedSequence(22))))], 12_000)
    terms = np.cumprod([1.0, *(think / service / n for n in range(1, clients + 1))])
    idle = terms[-1] / terms.sum()  # the repairman idles when all machines run
    assert throughput(served, 1200) == pytest.approx((1 - idle) / service, rel=0.03)


def test_a_stream_beyond_capacity_is_held_back_and_reaches_the_capacity() -> None:
    costs = {"in": NO_WORK, "op": cost(1000, HOST)}
    [served] = serve([Stream(alone("one"), costs, Open(poisson_ps(1.0, np.random.SeedSequence(1)), True))], 2000)
    assert served.held_back and served.backlog <= BACKLOG
    assert throughput(served, 200) == pytest.approx(1 / 1000, rel=1e-9)


def test_a_closed_model_keeps_its_load_until_the_other_is_done() -> None:
    fast, slow = (Stream(alone("one"), {"in": NO_WORK, "op": cost(time, HOST)}, Closed()) for time in (10, 1000))
    first, second = serve([fast, slow], 20)
    assert len(second.ended) == 20 and len(first.ended) in (20, 21)  # first come, first served: they take turns
    assert second.ends_ps[-1] == pytest.approx(20 * 1010, rel=0.01)


def test_arrivals_are_read_from_text(tmp_path: Path) -> None:
    seed = np.random.SeedSequence(4)
    times = list(itertools.islice(parse_arrivals("poisson:2e6", 4, seed).times_ps, 20_000))  # type: ignore[union-attr]
    assert times[-1] / len(times) == pytest.approx(2e6, rel=0.03) and times == sorted(times)
    closed = parse_arrivals("closed:3:5", 1, seed)
    assert isinstance(closed, Closed) and closed.clients == 3
    assert np.mean([closed.think_ps() for _ in range(20_000)]) == pytest.approx(5e6, rel=0.03)
    (tmp_path / "t.txt").write_text("# microseconds\n0\n1.5\n\n1.5\n")
    assert parse_arrivals(f"trace:{tmp_path / 't.txt'}", 1, seed) == Open([0, 1_500_000, 1_500_000])


BAD = ("closed:0", "closed:x", "closed:2:-1", "poisson:0", "poisson:inf", "poisson", "trace:", "trace:/no/such", "q")


@pytest.mark.parametrize("text", BAD)
def test_bad_arrivals_get_one_line(text: str) -> None:
    with pytest.raises(ConfigError, match="--arrivals: ") as caught:
        parse_arrivals(text, 1, np.random.SeedSequence(0))
    assert "\n" not in str(caught.value)


def test_a_bad_line_of_a_trace_is_named(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    for text, line in (("0\n5\n4\n", 3), ("0\nx\n", 2), ("-1\n", 1)):
        path.write_text(text)
        with pytest.raises(ConfigError, match=f"line {line}: "):
            parse_arrivals(f"trace:{path}", 1, np.random.SeedSequence(0))


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_streams_never_share_a_resource_and_never_leave_one_idle_before_a_ready_operator(data: st.DataObject) -> None:
    pick = st.sampled_from([(HOST,), (MEMORY,)])
    streams = []
    for _ in range(data.draw(st.integers(1, 3))):
        costs = {"in": NO_WORK} | {name: cost(data.draw(st.integers(1, 50)), *data.draw(pick)) for name in ("first", "second")}
        times = sorted(data.draw(st.lists(st.integers(0, 300), min_size=1, max_size=6)))
        streams.append(Stream(alone("two"), costs, Open(times)))
    served = serve(streams)
    for stream, one in zip(streams, served, strict=True):
        assert len(one.ended) == len(one.arrivals_ps) and one.arrivals_ps == list(stream.arrivals.times_ps)  # type: ignore[union-attr]
    for resource in (HOST, MEMORY):
        ran = sorted(
            (span.start_ps, span.end_ps, span.ready_ps, one.arrivals_ps[number])
            for stream, one in zip(streams, served, strict=True)
            for number, spans in enumerate(one.spans)
            for name, span in spans.items()
            if resource in stream.costs_of(0)[name].resources
        )
        for (_, end, _, _), (start, _, ready, _) in pairwise(ran):
            assert start == max(end, ready)  # never two at once, never idle while one waits
        for (start, _, _, arrived), later in itertools.combinations(ran, 2):
            assert arrived <= later[3] or later[2] >= start  # the older batch first, unless it was not ready
