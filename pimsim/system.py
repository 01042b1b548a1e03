"""What models that share a device achieved: latency, throughput, energy, utilisation, from the spans of their operators.

Modelling decisions:
    * Where arrivals go on for ever, the first tenth of the batches (warm-up, the queue fills) is left out; figures are those of batches
      that ended after every model had ended its tenth. Times of a file are taken as they are: nothing is left out.
    * Standing power over that time is shared between models in proportion to the time for which their operators ran.
    * Co-located models share the last-level cache: weights stay in it if those of all models fit, and its part for embedding rows is
      dealt evenly. Each model's tables are placed as if it were alone; together they must fit the memory.
"""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pimsim import __version__
from pimsim.dram.standard import resolve_organisation, resolve_timing
from pimsim.energy.dram import background_power_mw, command_energy_pj
from pimsim.engine.costs import on_pim
from pimsim.engine.dram import peak_bandwidth_gbps
from pimsim.engine.link import link_parts
from pimsim.engine.orchestrate import Costs, Served, Span, critical_path, schedule
from pimsim.errors import ConfigError
from pimsim.graph import Workload
from pimsim.report import OperatorRow, Report, SystemReport
from pimsim.spec.device import DeviceSpec
from pimsim.spec.dram import DramSpec
from pimsim.units.cost import HOST, MEMORY, RESOURCES, add_up
from pimsim.units.host_cache import caches_rows

WARM_UP = 0.1


@dataclass(frozen=True)
class Load:
    """One model on the device.

    Attributes:
        workload: The operator graph with its index source.
        batch: Samples per batch; the workload's own when None.
        arrivals: When batches arrive; see `pimsim.engine.arrivals`.
    """

    workload: Workload
    batch: int | None = None
    arrivals: str = "closed"

    @property
    def samples(self) -> int:
        """Samples per batch.

        Raises:
            ConfigError: fewer than one.
        """
        number = self.workload.batch if self.batch is None else self.batch
        if number < 1:
            raise ConfigError(f"--batch: {number}: must be at least 1")
        return number


@dataclass(frozen=True)
class Window:
    """The time over which figures are taken, in picoseconds."""

    start_ps: int
    end_ps: int

    @property
    def ps(self) -> int:
        """Its length, at least one picosecond."""
        return max(self.end_ps - self.start_ps, 1)


def window_of(served: Sequence[Served], endless: bool) -> Window:
    """From the end of the warm-up (or the first arrival) to the last batch's end."""
    start = min((one.arrivals_ps[0] for one in served), default=0)
    if endless:
        warm = [int(len(one.ended) * WARM_UP) for one in served]
        start = max([start, *(one.ends_ps[count - 1] for one, count in zip(served, warm, strict=True) if count)])
    return Window(start, max((one.ends_ps[-1] for one in served if one.ends_ps), default=start))


def latencies_ps(served: Served, window: Window) -> NDArray[np.int64]:
    """Latency of each batch that ended within the window."""
    ended, ends = np.array(served.ended, np.int64), np.array(served.ends_ps, np.int64)
    arrived = np.array(served.arrivals_ps, np.int64)[ended]
    inside = ((ends > window.start_ps) | (arrived >= window.start_ps)) & (ends <= window.end_ps)
    return (ends - arrived)[inside]


def busy_ps(served: Served, costs: Costs, window: Window) -> dict[str, int]:
    """Time for which operators of a model ran within the window: on each resource, on the units, and of all operators."""
    total = dict.fromkeys((*RESOURCES, "pim", "any"), 0)
    for name, cost in costs.items():
        if not cost.latency_ps:
            continue
        ran = [one[name] for one in served.spans if name in one]
        time = sum(max(min(span.end_ps, window.end_ps) - max(span.start_ps, window.start_ps), 0) for span in ran)
        for part in (*cost.resources, *(("pim",) if cost.unit == "pim" else ()), "any"):
            total[part] += time
    return total


def beside(device: DeviceSpec, loads: Sequence[Load], number: int) -> DeviceSpec:
    """The device as one model finds it: others' weights lie in the last-level cache too, others' rows in its part for embeddings."""
    host = device.host
    if len(loads) == 1:
        return device
    others = [item for n, load in enumerate(loads) if n != number for item in load.workload.operators if not on_pim(item, device)]
    gathering = sum(caches_rows(device, load.workload) for load in loads)
    rows = host.llc_embedding_share * host.llc_bytes if gathering else 0.0
    weights = max(host.llc_bytes - rows - sum(item.weight_bytes for item in others), 1.0)
    mine = rows / gathering if caches_rows(device, loads[number].workload) else 0.0
    left = {"llc_bytes": max(int(mine + weights), 1), "llc_embedding_share": mine / (mine + weights)}
    return device.model_copy(update={"host": host.model_copy(update=left)})


def check_capacity(device: DeviceSpec, loads: Sequence[Load]) -> None:
    """Refuses models whose tables do not fit the memory together.

    Raises:
        ConfigError: with both sizes.
    """
    organisation = resolve_organisation(device.dram)
    have = device.dram.channels * organisation.banks * organisation.rows * organisation.columns * organisation.burst_bytes
    need = sum(table.rows * table.row_bytes for load in loads for gather in load.workload.gathers for table in gather.tables)
    if need > have:
        names = ", ".join(load.workload.name for load in loads)
        raise ConfigError(f"--workload: the tables of {names} ({need / 2**20:,.0f} MiB) do not fit the {have / 2**20:,.0f} MiB of memory")


def system_report(
    device: DeviceSpec,
    loads: Sequence[Load],
    graphs: Sequence[tuple[Workload, Costs]],
    served: Sequence[Served],
    fidelity: str,
    seed: int,
    endless: bool,
) -> SystemReport:
    """Reports of every model and of the whole.

    Args:
        device: The device.
        loads: The models.
        graphs: The operators that ran (with the transfers over a link) and the cost of each, for each model.
        served: What became of their batches.
        fidelity: How the costs were found.
        seed: Seed of the arrivals.
        endless: True when all arrivals go on for ever, so that a warm-up is left out.

    Raises:
        ConfigError: a model of which no batch ended in time.
    """
    window = window_of(served, endless)
    busy = [busy_ps(one, cost, window) for one, (_, cost) in zip(served, graphs, strict=True)]
    everything = sum(each["any"] for each in busy)
    standing = standing_pj(device, window.ps)
    reports = []
    for load, ran, one, mine in zip(loads, graphs, served, busy, strict=True):
        share = mine["any"] / everything if everything else 1 / len(loads)
        part = {name: value * share for name, value in standing.items()}
        provenance = _provenance(device, seed) | {"workload_digest": load.workload.digest(), "arrivals": load.arrivals}
        reports.append(_report(device, load, fidelity, ran, one, window, mine, part, provenance))
    used = {part: sum(report.utilisation[part] for report in reports) for part in reports[0].utilisation}
    return SystemReport(
        device=device.name,
        fidelity=fidelity,
        models=tuple(reports),
        utilisation=used,
        area_mm2=reports[0].area_mm2,
        power_w=_sum([report.power_w for report in reports]),
        bandwidth_gbps={
            "achieved": sum(report.bandwidth_gbps["achieved"] for report in reports),
            "peak": peak_bandwidth_gbps(device.dram),
        },
        bottleneck=_busiest(used, reports),
        provenance=_provenance(device, seed),
    )


def _report(
    device: DeviceSpec,
    load: Load,
    fidelity: str,
    ran: tuple[Workload, Costs],
    served: Served,
    window: Window,
    busy: Mapping[str, int],
    standing: Mapping[str, float],
    provenance: dict[str, Any],
) -> Report:
    (graph, cost), batch, latency_us = ran, load.samples, latencies_ps(served, window) / 1e6
    count = len(latency_us)
    if not count:
        raise ConfigError(f"--workload: {load.workload.name}: no batch ended in {window.ps / 1e6:,.0f} us of simulated time; use --batches")
    dynamic = add_up(*(one.energy_pj for one in cost.values()))
    each = {part: value / count for part, value in standing.items()}
    parts = {part: value / batch / 1e6 for part, value in add_up(dynamic, each).items() if value}
    total = sum(parts.values())
    per_sample = {part: _modelled(value) for part, value in parts.items()}
    if device.dram.io_pj_per_bit is None:
        per_sample["dram_io"] = None  # no number in the device file: left out of the total
    per_sample["total"] = _modelled(total)
    rows = _rows(graph, cost, schedule(graph, cost, [0])[0])
    worst = max(rows, key=lambda row: row.share)
    moved = sum(one.external_bytes for one in cost.values()) * count
    units = ("pim",) if device.unit is not None else ()
    return Report(
        device=device.name,
        workload=load.workload.name,
        fidelity=fidelity,
        batch=batch,
        latency_us={"mean": float(latency_us.mean())} | {f"p{q}": float(np.percentile(latency_us, q)) for q in (50, 95, 99)},
        throughput_samples_per_s=batch * count / (window.ps / 1e12),
        energy_uj_per_sample=per_sample,
        area_mm2=device.unit.area_mm2(device) if device.unit is not None else None,
        power_w=_modelled(total * batch * count / (window.ps / 1e6)),
        bandwidth_gbps={"achieved": moved / (window.ps / 1000), "peak": peak_bandwidth_gbps(device.dram)},
        bottleneck=f"{worst.name} on {worst.unit}, {worst.share:.0%} of the latency, limited by {worst.limited_by}",
        operators=tuple(rows),
        provenance=provenance,
        batches=count,
        utilisation={part: busy[part] / window.ps for part in (HOST, MEMORY, *units, *link_parts(device.link))},
        saturated=served.held_back or (served.backlog > max(10, len(served.ended) // 10) and not load.arrivals.startswith("closed")),
    )


def _rows(workload: Workload, cost: Costs, spans: dict[str, Span]) -> list[OperatorRow]:
    chain = critical_path(workload, spans, cost)
    critical = {span.name for span in chain}
    total = max(sum(span.end_ps - span.start_ps for span in chain), 1)
    rows = []
    for item in workload.operators:
        span, one = spans[item.name], cost[item.name]
        rows.append(
            OperatorRow(
                name=item.name,
                kind=item.op,
                unit=one.unit,
                latency_us=(span.end_ps - span.start_ps) / 1e6,
                stall_us=(span.start_ps - span.ready_ps) / 1e6,
                energy_uj=_modelled(sum(one.energy_pj.values()) / 1e6),
                share=(span.end_ps - span.start_ps) / total if item.name in critical else 0.0,
                limited_by=one.limited_by,
            )
        )
    return rows


def _busiest(used: Mapping[str, float], reports: Sequence[Report]) -> str:
    resource = max((part for part in RESOURCES if part in used), key=lambda part: used[part])
    most = max(reports, key=lambda report: report.utilisation[resource])
    return f"{resource}, busy {used[resource]:.0%} of the time, {most.utilisation[resource]:.0%} with {most.workload}"


def _provenance(device: DeviceSpec, seed: int) -> dict[str, Any]:
    return {"pimsim": __version__, "python": platform.python_version(), "device_digest": device.digest(), "seed": seed}


def _sum(values: Sequence[float | None]) -> float | None:
    return None if None in values else sum(value for value in values if value is not None)


def _modelled(value: float) -> float | None:
    """None for a sum into which something that is not modelled went."""
    return None if math.isnan(value) else value


def standing_pj(device: DeviceSpec, elapsed_ps: float) -> dict[str, float]:
    """Energy of standing power and refresh over a time, in picojoules."""
    standing = {f"dram_{part}": value for part, value in _memory_standing_pj(device.dram, elapsed_ps).items()}
    standing["host_static"] = device.host.static_w * elapsed_ps
    if device.host_memory is not None:
        standing |= {f"host_dram_{part}": value for part, value in _memory_standing_pj(device.host_memory, elapsed_ps).items()}
    return standing


def _memory_standing_pj(dram: DramSpec, elapsed_ps: float) -> dict[str, float]:
    timing = resolve_timing(dram)
    rank_count = dram.channels * dram.ranks
    power, each = background_power_mw(dram), command_energy_pj(dram)
    milliwatts = power[0] * rank_count if power else math.nan  # open page: some row is open nearly always
    standing = {"background": milliwatts * elapsed_ps / 1e3}
    if dram.controller.refresh != "off" and timing["nREFI"]:
        refreshes = elapsed_ps / (timing["nREFI"] * timing["tCK_ps"]) * rank_count
        standing["refresh"] = refreshes * each["REF"] if each else math.nan
    return standing
