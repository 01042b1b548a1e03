"""SimPy orchestration of operator graphs: batches of one or several models arrive, operators wait for inputs, host and memory.

Modelling decisions:
    * The host runs one operator at a time, the memory (with the units beside it) serves one operator at a time; an operator may hold both:
      it takes the host first and keeps it while it waits for the memory. A link carries one transfer at a time in each direction.
    * Of the operators that wait, those of the batch that arrived first are served first, whichever model it belongs to; within a batch
      the order is that in which they became ready.
    * A stream of arrivals that goes on for ever is held back while `BACKLOG` of its batches are in the system.

Not modelled: operators that share the memory's bandwidth while both run, priorities between models.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pimsim.engine.arrivals import Arrivals, Closed, Open
from pimsim.graph import Workload
from pimsim.units.cost import RESOURCES, OperatorCost

BACKLOG = 1000
Costs = Mapping[str, OperatorCost]


@dataclass(frozen=True)
class Span:
    """When one operator of one batch was ready, started and ended, in picoseconds."""

    name: str
    ready_ps: int
    start_ps: int
    end_ps: int


@dataclass(frozen=True)
class Stream:
    """One model and its batches.

    Attributes:
        workload: The operator graph.
        costs: Cost of each operator, or a function from the number of a batch to them (batches that differ in size or look-ups).
        arrivals: When batches arrive.
    """

    workload: Workload
    costs: Costs | Callable[[int], Costs]
    arrivals: Arrivals

    def costs_of(self, batch: int) -> Costs:
        """Costs of one batch."""
        return self.costs(batch) if callable(self.costs) else self.costs


@dataclass
class Served:
    """What became of one stream's batches; number n of every list is the same batch.

    Attributes:
        arrivals_ps: Times of arrival.
        spans: Spans of its operators so far.
        ended: Numbers of the batches that ended, in the order in which they did.
        ends_ps: When they did.
        held_back: True when the backlog reached its limit: batches arrived faster than they were served.
    """

    arrivals_ps: list[int] = field(default_factory=list)
    spans: list[dict[str, Span]] = field(default_factory=list)
    ended: list[int] = field(default_factory=list)
    ends_ps: list[int] = field(default_factory=list)
    held_back: bool = False

    @property
    def backlog(self) -> int:
        """Batches in the system."""
        return len(self.arrivals_ps) - len(self.ended)


def schedule(workload: Workload, costs: Costs | Callable[[int], Costs], arrivals_ps: Sequence[int]) -> list[dict[str, Span]]:
    """Runs batches of one model that arrive at the given times.

    Returns:
        For each batch the span of each operator.
    """
    return serve([Stream(workload, costs, Open(arrivals_ps))])[0].spans


def serve(streams: Sequence[Stream], batches: int = 0, most_operators: int | None = None) -> list[Served]:
    """Runs several models on one host and one memory.

    Every stream runs to its last batch; streams that go on for ever keep arriving, so that the load stays, until each of them has ended
    `batches` batches.

    Args:
        streams: The models.
        batches: Batches that each endless stream ends at least.
        most_operators: Stop endless streams when this many operators have started, even so.
    """
    import simpy

    env = simpy.Environment()
    resources = {name: simpy.PriorityResource(env) for name in RESOURCES}
    run = _Run(env, resources, [_Source(stream, Served(), env.event()) for stream in streams], batches, most_operators)
    for source in run.sources:
        run.start(source)
    env.run(env.all_of([source.done for source in run.sources]))
    return [source.served for source in run.sources]


@dataclass
class _Source:
    stream: Stream
    served: Served
    done: Any
    waiting: Any = None
    arriving: bool = True


@dataclass
class _Run:
    """One simulation: the processes that SimPy interleaves."""

    env: Any
    resources: Mapping[str, Any]
    sources: list[_Source]
    batches: int
    most_operators: int | None
    started: int = 0

    def start(self, source: _Source) -> None:
        arrivals = source.stream.arrivals
        if isinstance(arrivals, Closed):
            for _ in range(arrivals.clients):
                self.env.process(self.client(source, arrivals))
        else:
            self.env.process(self.arrive(source, arrivals))

    def arrive(self, source: _Source, arrivals: Open) -> Generator[Any, Any, None]:
        late = 0  # how far the stream lies behind its own times because it was held back
        for time in arrivals.times_ps:
            yield self.env.timeout(max(time + late - self.env.now, 0))
            if arrivals.endless and source.served.backlog >= BACKLOG:
                source.served.held_back = True
                source.waiting = self.env.event()
                before = self.env.now
                yield source.waiting
                late += self.env.now - before
            self.enter(source)
        source.arriving = False
        self.finish(source)

    def client(self, source: _Source, arrivals: Closed) -> Generator[Any, Any, None]:
        while True:
            yield self.env.timeout(int(arrivals.think_ps()))
            yield self.enter(source)

    def enter(self, source: _Source) -> Any:
        number = len(source.served.arrivals_ps)
        source.served.arrivals_ps.append(int(self.env.now))
        source.served.spans.append({})
        return self.env.process(self.batch(source, number))

    def batch(self, source: _Source, number: int) -> Generator[Any, Any, None]:
        served = source.served
        costs, done = source.stream.costs_of(number), dict[str, Any]()
        for item in source.stream.workload.operators:
            cost, inputs = costs[item.name], [done[name] for name in item.inputs if name in done]
            self.started += 1
            if inputs or cost.resources or cost.latency_ps:
                done[item.name] = self.env.process(self.operator(served, number, item.name, cost, inputs))
            else:  # there is nothing to wait for
                served.spans[number][item.name] = Span(item.name, *(int(self.env.now),) * 3)
        yield self.env.all_of(list(done.values()))
        served.ended.append(number)
        served.ends_ps.append(int(self.env.now))
        self.finish(source)

    def operator(self, served: Served, number: int, name: str, cost: OperatorCost, inputs: list[Any]) -> Generator[Any, Any, None]:
        if inputs:
            yield inputs[0] if len(inputs) == 1 else self.env.all_of(inputs)
        ready, held = int(self.env.now), []
        for resource in RESOURCES:
            if resource in cost.resources:
                request = self.resources[resource].request(priority=served.arrivals_ps[number])
                yield request
                held.append((self.resources[resource], request))
        start = int(self.env.now)
        if cost.latency_ps:
            yield self.env.timeout(cost.latency_ps)
        for owner, request in held:
            owner.release(request)
        served.spans[number][name] = Span(name, ready, start, int(self.env.now))

    def finish(self, source: _Source) -> None:
        """Lets a held-back batch in, and says when there is nothing left to wait for."""
        if source.waiting is not None and source.served.backlog < BACKLOG:
            waiting, source.waiting = source.waiting, None
            waiting.succeed()
        spent = self.most_operators is not None and self.started >= self.most_operators
        for one in self.sources:
            endless = one.stream.arrivals.endless
            over = spent or len(one.served.ended) >= self.batches if endless else not one.arriving and not one.served.backlog
            if over and not one.done.triggered:
                one.done.succeed()


def critical_path(workload: Workload, spans: Mapping[str, Span], costs: Costs) -> list[Span]:
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
