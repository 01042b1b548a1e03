"""One kernel on a device beside the same work without its units: the question an architect asks first."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pimsim.dram.standard import resolve_timing
from pimsim.engine.link import end_to_end as over_link
from pimsim.errors import ConfigError, unknown_name
from pimsim.graph import AnyPrimitive, Elementwise, Gather, IndexSource, Product, Reduce, Workload
from pimsim.mapping.indices import draw_indices
from pimsim.spec.device import DeviceSpec
from pimsim.units.cost import Baseline, KernelRun, LookUps


@dataclass(frozen=True)
class KernelReport:
    """What `run_kernel` answers.

    Attributes:
        device: Name of the device.
        kernel: `gemv`, `dot`, `reduce`, `add`, `mul`, `relu`, `embedding` ...
        cycles: Memory clocks of the kernel.
        tck_ps: Length of a memory clock.
        baseline: The same work without the units.
        commands: DRAM commands of one channel, or what else `commands_of` says.
        energy_pj: Dynamic energy by part over all channels; None for a part that is not modelled.
        area_mm2: Area of all units.
        macs: Multiply-accumulates.
        limited_by: What set the time.
        simulate_seconds: Time the simulation took, baseline left out.
        fidelity: `event` or `analytic`.
        commands_of: Whose work `commands` counts.
        host_baseline: The same work by the device's host: a gather (with its last-level cache in steady state; None in closed form), a
            product of two activations, a sum; None for other kernels.
    """

    device: str
    kernel: str
    cycles: int
    tck_ps: int
    baseline: Baseline
    commands: Mapping[str, int]
    energy_pj: Mapping[str, float | None]
    area_mm2: float
    macs: int
    limited_by: str
    simulate_seconds: float
    fidelity: str = "event"
    host_baseline: Baseline | None = None
    commands_of: str = "a channel"

    def to_json(self) -> dict[str, Any]:
        """The keys of `pimsim kernel --json`."""
        return {
            "device": self.device,
            "kernel": self.kernel,
            "cycles": self.cycles,
            "tck_ps": self.tck_ps,
            "latency_ns": self.cycles * self.tck_ps / 1000,
            "baseline": self._timed(self.baseline),
            "speedup": self.baseline.cycles / self.cycles,
            "commands": dict(self.commands),
            "commands_of": self.commands_of,
            "energy_pj": dict(self.energy_pj),
            "area_mm2": self.area_mm2,
            "macs": self.macs,
            "limited_by": self.limited_by,
            "simulate_seconds": self.simulate_seconds,
            "fidelity": self.fidelity,
            "host_baseline": None if self.host_baseline is None else self._timed(self.host_baseline) | {"speedup": self.host_speedup},
        }

    @property
    def host_speedup(self) -> float | None:
        """Time of the host with its cache over the kernel's; None without one."""
        return None if self.host_baseline is None else self.host_baseline.cycles / self.cycles

    def _timed(self, baseline: Baseline) -> dict[str, Any]:
        return {"what": baseline.what, "cycles": baseline.cycles, "latency_ns": baseline.cycles * self.tck_ps / 1000}


def run_kernel(
    device: DeviceSpec,
    item: AnyPrimitive,
    batch: int = 1,
    indices: IndexSource | None = None,
    end_to_end: bool = False,
    fidelity: str = "event",
) -> KernelReport:
    """Runs one kernel on the units of a device, and the same work on its plain memory.

    Args:
        device: A device with units.
        item: `MatMul` (one vector a sample: matrix-vector), `Product`, `Reduce`, `Elementwise` or `Gather`.
        batch: Samples.
        indices: Where the rows of a `Gather` come from; uniform draws when None.
        end_to_end: Count the read-back of results and the host's share too; without it the weights are resident, results stay.
        fidelity: `event` or `analytic`.

    Raises:
        ConfigError: a device without units, an unknown fidelity, or a kernel or size that its units do not run.
    """
    if device.unit is None:
        raise ConfigError(f"{device.name}: has no compute units to run a kernel on")
    if batch < 1:
        raise ConfigError(f"--batch: {batch}: must be at least 1")
    lookups = _look_ups(item, batch, indices) if isinstance(item, Gather) else None
    simulated = {"event": _events, "analytic": _closed_forms}
    if fidelity not in simulated:
        raise ConfigError("--fidelity: " + unknown_name("fidelity", fidelity, simulated))
    began = time.perf_counter()
    run, baseline = simulated[fidelity](device, item, batch, lookups, end_to_end)
    run = over_link(run, item, device, batch, resolve_timing(device.dram)["tCK_ps"]) if end_to_end else run
    seconds = time.perf_counter() - began
    energy = {part: None if math.isnan(value) else value for part, value in run.energy_pj.items()}
    energy["total"] = None if None in energy.values() else sum(run.energy_pj.values())
    return KernelReport(
        device=device.name,
        kernel=_name(item),
        cycles=run.cycles,
        tck_ps=resolve_timing(device.dram)["tCK_ps"],
        baseline=baseline(),
        commands=run.commands,
        commands_of=device.unit.COMMANDS_OF,
        energy_pj=energy,
        area_mm2=device.unit.area_mm2(device),
        macs=item.macs * batch,
        limited_by=run.limited_by,
        simulate_seconds=seconds,
        fidelity=fidelity,
        host_baseline=_host_baseline(device, item, batch, indices, lookups, fidelity),
    )


Ran = tuple[KernelRun, Callable[[], Baseline]]


def _events(device: DeviceSpec, item: AnyPrimitive, batch: int, lookups: LookUps | None, end_to_end: bool) -> Ran:
    """The kernel command by command, and what simulates its baseline."""
    from pimsim.units.plain import plain_memory

    assert device.unit is not None
    return device.unit.run_kernel(item, device, batch, lookups, end_to_end), lambda: plain_memory(item, device, batch, lookups)


def _closed_forms(device: DeviceSpec, item: AnyPrimitive, batch: int, lookups: LookUps | None, end_to_end: bool) -> Ran:
    """The kernel in closed form, and what estimates its baseline."""
    from pimsim.analytic.estimate import Estimator
    from pimsim.analytic.plain import plain_memory
    from pimsim.analytic.trace import Trace

    trace = Trace(item, batch, lookups) if isinstance(item, Gather) and lookups is not None else None
    estimator = Estimator([device])
    found = estimator.kernel(item, batch, trace, end_to_end)
    one, tck = found.one(0), resolve_timing(device.dram)["tCK_ps"]
    run = KernelRun(-(-one.latency_ps // tck), one.commands, one.energy_pj, one.limited_by)
    return run, lambda: plain_memory(item, estimator.table, batch, trace)


def _name(item: AnyPrimitive) -> str:
    if isinstance(item, Elementwise):
        return item.function
    return {"matmul": "gemv", "gather": "embedding", "product": "dot"}.get(item.op, item.op)


def _host_baseline(
    device: DeviceSpec, item: AnyPrimitive, batch: int, indices: IndexSource | None, lookups: LookUps | None, fidelity: str
) -> Baseline | None:
    """The same work by the device's host: look-ups of a gather at event fidelity, products of two activations and sums at both."""
    from pimsim.units.host import gather_baseline, reached_by_host

    if isinstance(item, Product | Reduce):
        return _by_host(reached_by_host(device, own=False), item, batch, fidelity)
    if not isinstance(item, Gather) or lookups is None or fidelity != "event":
        return None
    return gather_baseline(item, device, _alone(item, batch, indices), batch, lookups)


def _by_host(device: DeviceSpec, item: Product | Reduce, batch: int, fidelity: str) -> Baseline:
    """A product or a sum on the host's cores, operands from memory."""
    from pimsim.analytic import host as closed
    from pimsim.analytic.memory import stream as closed_stream
    from pimsim.analytic.table import DeviceTable
    from pimsim.engine.memory import stream
    from pimsim.units.host import flops, roofline

    moved, operations = (item.input_bytes + item.output_bytes) * batch, flops(item, batch)
    if fidelity == "event":
        time = roofline(device, operations, moved, stream(device.dram, item.input_bytes * batch)).latency_ps
    else:
        table = DeviceTable.of([device])
        time = int(closed.roofline(table, operations, moved, closed_stream(table, float(item.input_bytes * batch))).latency_ps[0])
    what = "the device's host: operands from memory, its arithmetic or its cache, whichever takes longest"
    return Baseline(what, -(-time // resolve_timing(device.dram)["tCK_ps"]))


def _alone(item: Gather, batch: int, indices: IndexSource | None) -> Workload:
    return Workload(name=item.name, batch=batch, operators=(item,), indices=indices or IndexSource(kind="uniform"), folder=".")


def _look_ups(item: Gather, batch: int, indices: IndexSource | None) -> LookUps:
    drawn = draw_indices(_alone(item, batch, indices), batch)
    return LookUps.of([np.asarray(drawn[table.name])[:batch] for table in item.tables])
