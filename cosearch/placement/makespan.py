"""Placements for the shortest makespan: host, units and link work side by side, under a limit of memory at the units.

The time of a placement is that of a list schedule, the one of `pimsim.engine.orchestrate`: a resource serves who asked first; an operator
takes its resources in order and keeps what it has while it waits for the next. A crossing holds the link.

Up to `EXACT` operators with a choice, branch and bound over all placements (exact for this schedule); beyond, the best of several
starts (either side alone, the additive optimum, each operator on its faster side) is improved by moving one or two operators at a
time until nothing helps.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from cosearch.placement.additive import place_additive
from cosearch.placement.problem import SIDES, Placement, Problem, Side
from pimsim.errors import ConfigError

EXACT = 12
"""Operators with a choice up to which every placement is considered."""
LINK = "link"


def makespan_ps(problem: Problem, placement: Placement) -> float:
    """When the last result is there; infinite where an operator cannot run, or a result would have to cross a link of bandwidth zero."""
    tasks = _tasks(problem, placement)
    if any(math.isinf(task.time_ps) for task in tasks.values()):
        return math.inf
    return _Schedule(tasks).run()


@dataclass
class _Task:
    """An operator or a crossing."""

    inputs: tuple[str, ...]
    time_ps: float
    holds: tuple[str, ...]


class _Schedule:
    """A list schedule, event by event: an operator asks for its resources one after the other and keeps what it has while it waits.

    What happens at one instant happens in the order in which SimPy would have it, so that the times are those of the simulator.
    """

    def __init__(self, tasks: dict[str, _Task]) -> None:
        self.tasks = tasks
        self.missing = {name: len(task.inputs) for name, task in tasks.items()}
        self.followers: dict[str, list[str]] = {name: [] for name in tasks}
        for name, task in tasks.items():
            for source in task.inputs:
                self.followers[source].append(name)
        self.queues: dict[str, deque[tuple[str, int]]] = {resource: deque() for task in tasks.values() for resource in task.holds}
        self.busy: set[str] = set()
        self.ends: list[tuple[float, int, str]] = []
        self.instant: deque[Callable[[], None]] = deque()
        self.now = 0.0
        self.started = 0

    def run(self) -> float:
        """When the last task ends."""
        for name, count in self.missing.items():
            if not count:
                self.ask(name, 0)
        while self.instant or self.ends:
            if self.instant:
                self.instant.popleft()()
                continue
            self.now = self.ends[0][0]
            while self.ends and self.ends[0][0] == self.now:
                self.end(heapq.heappop(self.ends)[2])
        return self.now

    def ask(self, name: str, held: int) -> None:
        """Asks for a task's next resource, of which it holds `held`; starts it when it has all."""
        task = self.tasks[name]
        if held < len(task.holds):
            self.queues[task.holds[held]].append((name, held))
            self.grant(task.holds[held])
        else:
            self.started += 1
            heapq.heappush(self.ends, (self.now + task.time_ps, self.started, name))

    def grant(self, resource: str) -> None:
        """Gives a free resource to who asked first."""
        if resource not in self.busy and self.queues[resource]:
            self.busy.add(resource)
            name, held = self.queues[resource].popleft()
            self.instant.append(partial(self.ask, name, held + 1))

    def end(self, name: str) -> None:
        for resource in self.tasks[name].holds:
            self.busy.remove(resource)
            self.instant.append(partial(self.grant, resource))
        self.instant.append(partial(self.wake, name))

    def wake(self, name: str) -> None:
        """Lets those go on that waited for a result; who reads several is woken an event later."""
        for follower in self.followers[name]:
            self.missing[follower] -= 1
            if not self.missing[follower]:
                if len(self.tasks[follower].inputs) == 1:
                    self.ask(follower, 0)
                else:
                    self.instant.append(partial(self.ask, follower, 0))


def _tasks(problem: Problem, placement: Placement) -> dict[str, _Task]:
    """Operators and crossings as (what they wait for, picoseconds, what they hold)."""
    tasks: dict[str, _Task] = {}
    for job in problem.jobs:
        side, inputs = placement[job.name], []
        for name in dict.fromkeys(job.inputs):
            time = problem.crossing.time_ps(problem.by_name[name].result_bytes)
            crosses = placement[name] != side and time > 0
            moved = f"{name} crossing"
            if crosses and moved not in tasks:
                tasks[moved] = _Task((name,), time, (LINK,))
            inputs.append(moved if crosses else name)
        option = job.options.get(side)
        tasks[job.name] = _Task(tuple(inputs), option.time_ps if option else math.inf, option.holds if option else ())
    return tasks


def place_makespan(problem: Problem) -> dict[str, Side]:
    """The placement of shortest makespan (exact up to `EXACT` operators with a choice), the memory at the units respected.

    Raises:
        ConfigError: no placement is possible.
    """
    free = [job.name for job in problem.jobs if len(job.options) > 1]
    found = _best_of_all(problem, free) if len(free) <= EXACT else _improved(problem, free)
    if found is None or not math.isfinite(makespan_ps(problem, found)):
        raise ConfigError("placement: no placement is possible within the memory at the units and over the link")
    return found


def _best_of_all(problem: Problem, free: list[str]) -> dict[str, Side] | None:
    """Every placement whose lower bound does not rule it out."""
    fixed = problem.all_on("host")
    best, best_time = None, math.inf
    for sides in itertools.product(SIDES, repeat=len(free)):
        placement = fixed | dict(zip(free, sides, strict=True))
        if problem.feasible(placement) and _busiest(problem, placement) < best_time:
            time = makespan_ps(problem, placement)
            if time < best_time:
                best, best_time = placement, time
    return best


def _busiest(problem: Problem, placement: Placement) -> float:
    """No schedule is shorter than the work of its busiest resource."""
    work: dict[str, float] = {}
    for job in problem.jobs:
        option = job.options[placement[job.name]]
        for resource in option.holds:
            work[resource] = work.get(resource, 0.0) + option.time_ps
        if problem.crosses(job.name, placement):
            work[LINK] = work.get(LINK, 0.0) + problem.crossing.time_ps(job.result_bytes)
    return max(work.values(), default=0.0)


def _improved(problem: Problem, free: list[str]) -> dict[str, Side] | None:
    best, best_time = None, math.inf
    for start in _starts(problem):
        placement, time = _descend(problem, start, free)
        if time < best_time:
            best, best_time = placement, time
    return best


def _starts(problem: Problem) -> Iterator[dict[str, Side]]:
    """Where the descent begins: feasible placements only, what does not fit at the units moved to the host, largest first."""
    starts = [problem.all_on(side) for side in SIDES]
    starts.append({job.name: min(job.options, key=lambda side: job.options[side].time_ps) for job in problem.jobs})
    try:
        starts.append(place_additive(problem, "time"))
    except ConfigError:
        pass
    for start in starts:
        for job in sorted(problem.jobs, key=lambda job: -job.resident_bytes):
            if problem.resident(start) > problem.capacity_bytes and "host" in job.options:
                start[job.name] = "host"
        if problem.feasible(start):
            yield start


def _descend(problem: Problem, start: dict[str, Side], free: list[str]) -> tuple[dict[str, Side], float]:
    """Moves one operator, then pairs, as long as that helps."""
    placement, time = start, makespan_ps(problem, start)
    moves = [(name,) for name in free] + list(itertools.combinations(free, 2))
    better = True
    while better:
        better = False
        for move in moves:
            flipped = placement | {name: SIDES[1 - SIDES.index(placement[name])] for name in move}
            if problem.feasible(flipped):
                found = makespan_ps(problem, flipped)
                if found < time:
                    placement, time, better = flipped, found, True
                    break
    return placement, time
