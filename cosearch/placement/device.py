"""The placement of a model's operators on a device, with costs from the simulator and the answer simulated as a whole.

What an operator costs alone on either side is asked of the simulator with all others where the device file has them, and once more
with them where the first search put them (whether the host's weights fit its last-level cache depends on what it runs). The placements
found for latency and for energy are simulated beside the plain ones - everything on the host, everything at the units, the device file's
own - and the best is the answer, so it is never worse than those.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from cosearch.placement.additive import place_additive
from cosearch.placement.makespan import place_makespan
from cosearch.placement.problem import SIDES, Job, Option, Problem, Side
from pimsim.api import CostCache, simulate
from pimsim.engine.costs import PLACED, on_pim
from pimsim.engine.link import over_link
from pimsim.errors import ConfigError
from pimsim.graph import Primitive, Workload
from pimsim.report import Report
from pimsim.spec.device import DeviceSpec
from pimsim.units.cost import HOST

Goal = Literal["latency", "energy", "edp"]
GOALS: tuple[Goal, ...] = ("latency", "energy", "edp")
Options = dict[str, dict[Side, Option | str]]
"""By operator and side what it costs alone, or why it cannot run there."""


@dataclass(frozen=True)
class Found:
    """An answer.

    Attributes:
        operators: Side of every operator that units could run, by name.
        options: What each of them costs alone on either side, or why it cannot run there.
        reports: Simulations by placement: `device file`, `host`, `pim` (as far as the units run it), and those of the searches.
        chosen: The best of them.
    """

    operators: dict[str, Side]
    options: Options
    reports: dict[str, Report]
    chosen: str


def place(
    workload: Workload,
    device: DeviceSpec,
    goal: Goal = "latency",
    batch: int | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Found:
    """Finds where each operator of a model runs best on a device.

    Args:
        workload: The model.
        device: A device with units.
        goal: `latency` of a lone batch, `energy` (operators and standing power), or their product.
        batch: Samples; the workload's own when None.
        say: Told what is being done.

    Raises:
        ConfigError: a device without units, or one whose energy is not modelled where the goal asks for it.
    """
    if device.unit is None:
        raise ConfigError(f"device {device.name}: has no units beside the memory, there is nothing to place")
    size, cache = batch or workload.batch, CostCache()
    reports = {"device file": simulate(device, workload, size, costs=cache)}
    base = {item.name: _side(item, device) for item in workload.operators if type(item) in PLACED}
    say(f"asking what each of {len(base)} operators costs on either side")
    options = _options(workload, device, base, size, cache)
    sides = {name: [side for side in SIDES if not isinstance(found[side], str)] for name, found in options.items()}
    placements: dict[str, dict[str, Side]] = {"device file": base}
    for wanted in SIDES:
        placements[wanted] = {name: wanted if wanted in found else found[0] for name, found in sides.items()}
    for round in ("", " again"):
        say("searching" + round)
        problem = _problem(workload, device, options, reports["device file"], size)
        placements["search for latency" + round] = _kept(place_makespan(problem), options)
        placements["search for energy" + round] = _kept(place_additive(problem, "energy"), options)
        options = _options(workload, device, placements["search for latency"], size, cache)
    say(f"simulating {len(placements)} placements")
    for name, placement in placements.items():
        reports[name] = simulate(on_sides(device, placement), workload, size, costs=cache)
    chosen = min(placements, key=lambda name: _value(reports[name], goal, device))
    return Found(placements[chosen], options, reports, chosen)


def _side(item: Primitive, device: DeviceSpec) -> Side:
    return "pim" if on_pim(item, device) else "host"


def _kept(placement: dict[str, Side], options: Mapping[str, object]) -> dict[str, Side]:
    """The sides of those operators that units could run."""
    return {name: side for name, side in placement.items() if name in options}


def on_sides(device: DeviceSpec, sides: Mapping[str, Side]) -> DeviceSpec:
    """The device with operators placed by name."""
    operators = {**device.mapping.operators, **sides}
    return device.model_copy(update={"mapping": device.mapping.model_copy(update={"operators": operators})})


def _value(report: Report, goal: Goal, device: DeviceSpec) -> float:
    latency, energy = report.latency_us["mean"], report.energy_uj_per_sample["total"]
    if goal == "latency":
        return latency
    if energy is None:
        raise ConfigError(f"--goal {goal}: the energy of device {device.name} is not modelled (allowed: latency)")
    return energy if goal == "energy" else latency * energy


def _options(workload: Workload, device: DeviceSpec, others: Mapping[str, Side], batch: int, cache: CostCache) -> Options:
    """Every operator that units could run, on either side, with all others where they are given."""
    found: Options = {}
    for name in others:
        found[name] = {}
        for side in SIDES:
            own = on_sides(device, {**others, name: side})
            try:
                _, costs = over_link(workload, cache.costs(workload, own, batch), own, batch)
            except ConfigError as error:
                found[name][side] = str(error)
                continue
            parts = [costs[part] for part in (f"{name} operands", name, f"{name} results") if part in costs]
            time, energy = sum(part.latency_ps for part in parts), sum(sum(part.energy_pj.values()) for part in parts)
            found[name][side] = Option(time, energy, costs[name].resources)
    return found


def _problem(workload: Workload, device: DeviceSpec, options: Options, report: Report, batch: int) -> Problem:
    """The placement problem: transfers are part of an operator at the units; standing power is charged for every operator's time."""
    standing = _standing_pj_per_ps(report, batch)
    rows = {row.name: row for row in report.operators}
    jobs = []
    for item in workload.operators:
        if item.name in options:
            found = {side: option for side, option in options[item.name].items() if isinstance(option, Option)}
        else:
            row = rows[item.name]
            found = {"host": Option(row.latency_us * 1e6, (row.energy_uj or 0.0) * 1e6, (HOST,) if row.latency_us else ())}
        charged = {side: replace(one, energy_pj=one.energy_pj + standing * one.time_ps) for side, one in found.items()}
        jobs.append(Job(item.name, item.inputs, charged))
    return Problem(jobs)


def _standing_pj_per_ps(report: Report, batch: int) -> float:
    """Power that does not belong to operators; 0 where energy is not modelled."""
    total = report.energy_uj_per_sample["total"]
    if total is None:
        return 0.0
    dynamic = sum(row.energy_uj or 0.0 for row in report.operators)
    return max(total * batch - dynamic, 0.0) / (report.latency_us["mean"])  # uJ per us = pJ per ps
