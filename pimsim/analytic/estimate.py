"""Many operators on many devices by closed forms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pimsim.analytic import host
from pimsim.analytic.cost import Costs
from pimsim.analytic.table import DeviceTable
from pimsim.analytic.trace import Trace
from pimsim.analytic.unit import Analytic
from pimsim.discovery import implementation
from pimsim.engine.costs import on_pim
from pimsim.errors import ConfigError
from pimsim.graph import AnyPrimitive, Gather, IndexSource, Input, MatMul, Primitive, Product, Workload
from pimsim.mapping.indices import draw_indices
from pimsim.spec.device import DeviceSpec
from pimsim.units import host as host_unit
from pimsim.units.cost import LookUps
from pimsim.units.host_cache import weight_capacity

Array = NDArray[np.float64]
Group = tuple[str, NDArray[np.int64], DeviceTable]


@dataclass(frozen=True)
class Estimates:
    """Operators (m) on devices (n) by closed forms.

    Attributes:
        operators: Names of the operators.
        devices: Names of the devices.
        costs: What each operator costs, arrays over the devices.
    """

    operators: tuple[str, ...]
    devices: tuple[str, ...]
    costs: tuple[Costs, ...]

    @property
    def latency_ps(self) -> Array:
        """(m, n) time of each operator on each device."""
        return np.stack([cost.latency_ps for cost in self.costs])

    @property
    def energy_pj(self) -> Array:
        """(m, n) dynamic energy; NaN where a part is not modelled."""
        zero = np.zeros(len(self.devices))
        return np.stack([np.sum([*cost.energy_pj.values()], axis=0) if cost.energy_pj else zero for cost in self.costs])


def unit_of(kind: str) -> Analytic:
    """Closed forms of a unit kind.

    Raises:
        ConfigError: there are none.
    """
    found: Analytic = implementation("pimsim.analytic", "ANALYTIC", "unit kind with closed forms (--fidelity analytic)", kind)
    return found


class Estimator:
    """Devices in groups of one unit kind, ready for any number of operators.

    Args:
        devices: The devices.
    """

    def __init__(self, devices: Sequence[DeviceSpec] | DeviceTable) -> None:
        self.table = devices if isinstance(devices, DeviceTable) else DeviceTable.of(devices)
        specs = self.table.devices
        self.by_host = {own: self._reached(own) for own in (False, True)}
        kinds = np.array([device.unit.kind if device.unit is not None else "" for device in specs])
        self.kinds = [self._group(kind, kinds == kind) for kind in np.unique(kinds)]
        self.unit_kinds = kinds
        self.by_name = any(device.mapping.operators for device in specs)
        self._groups: dict[str, list[Group]] = {}
        self._pim: dict[str, NDArray[np.bool_]] = {}

    def _reached(self, own: bool) -> DeviceTable:
        """The devices as operators of their hosts find them."""
        found = [host_unit.reached_by_host(device, own) for device in self.table.devices]
        same = all(one is other for one, other in zip(found, self.table.devices, strict=True))
        return self.table if same else DeviceTable.of(found)

    def _group(self, kind: str, mask: NDArray[np.bool_], table: DeviceTable | None = None) -> Group:
        index, table = np.flatnonzero(mask), table or self.table
        return kind, index, table if mask.all() else table.take(index)

    def _split(self, kinds: NDArray[np.str_], pim: NDArray[np.bool_], own: bool) -> list[Group]:
        """The devices of the host (kind "") and of each unit kind."""
        by_kind = [self._group(str(kind), pim & (kinds == kind)) for kind in np.unique(kinds[pim])]
        groups = [self._group("", ~pim, self.by_host[own]), *by_kind]
        return [group for group in groups if len(group[1])]

    def _placed(self, item: Gather | MatMul | Product) -> list[Group]:
        """Devices that run an operator on the host (kind ""), and by kind those that run it on their units."""
        key = self._key(item)
        if key not in self._groups:
            self._groups[key] = self._split(self.unit_kinds, self._on_pim(item), own=not isinstance(item, Gather))
        return self._groups[key]

    def _on_pim(self, item: Gather | MatMul | Product) -> NDArray[np.bool_]:
        """(n,) whether each device runs an operator on its units."""
        key = self._key(item)
        if key not in self._pim:
            self._pim[key] = np.array([device.unit is not None and on_pim(item, device) for device in self.table.devices])
        return self._pim[key]

    def _key(self, item: Gather | MatMul | Product) -> str:
        """Operators with one key run at the same place on every device."""
        return f"{item.op}.{item.name}" if self.by_name else item.op

    def resident(self, workload: Workload) -> NDArray[np.bool_]:
        """(n,) whether all weights that the host multiplies fit their part of its last-level cache."""
        weights = np.zeros(len(self.table))
        for item in workload.operators:
            if not isinstance(item, Gather):
                weights += item.weight_bytes * (~self._on_pim(item) if isinstance(item, MatMul) else 1.0)
        return weights <= np.array([weight_capacity(device, workload) for device in self.table.devices])

    def operator(self, item: Primitive, batch: int, resident: NDArray[np.bool_], trace: Trace | None = None) -> Costs:
        """One operator within a model; `trace` holds the look-ups of a gather."""
        if isinstance(item, Input):
            none = np.zeros(len(self.table))
            return Costs("-", none, {}, none)
        if isinstance(item, Gather):
            assert trace is not None
            return self._merged(
                [
                    (i, unit_of(kind).gather(item, part, batch, trace) if kind else host.gather(item, part, batch, trace))
                    for kind, i, part in self._placed(item)
                ]
            )
        if isinstance(item, MatMul):
            return self._merged(
                [
                    (i, unit_of(kind).matmul(item, part, batch) if kind else host.operator(item, part, batch, resident[i]))
                    for kind, i, part in self._placed(item)
                ]
            )
        if isinstance(item, Product):
            return self._merged(
                [
                    (i, unit_of(kind).product(item, part, batch) if kind else host.operator(item, part, batch, resident[i]))
                    for kind, i, part in self._placed(item)
                ]
            )
        return host.operator(item, self.by_host[True], batch, resident)

    def kernel(self, item: AnyPrimitive, batch: int, trace: Trace | None = None, end_to_end: bool = False) -> Costs:
        """One kernel alone on the units.

        Raises:
            ConfigError: a device without units, or a kernel that they do not run.
        """
        for kind, index, part in self.kinds:
            if not kind and len(index):
                raise ConfigError(f"{part.devices[0].name}: has no compute units to run a kernel on")
        return self._merged([(index, unit_of(kind).kernel(item, part, batch, trace, end_to_end)) for kind, index, part in self.kinds])

    def _merged(self, parts: list[tuple[NDArray[np.int64], Costs]]) -> Costs:
        """Costs of groups of devices as those of all."""
        if len(parts) == 1:
            return parts[0][1]
        count, limits = len(self.table), [name for _, cost in parts for name in cost.limits]
        limit, memory, offset = np.zeros(count, np.int64), np.zeros(count, bool), 0
        for index, cost in parts:
            limit[index] = offset + (0 if cost.limit is None else cost.limit)
            memory[index] = cost.unit == "pim" if cost.memory is None else cost.memory
            offset += len(cost.limits)

        def whole(values: list[tuple[NDArray[np.int64], Array]]) -> Array:
            column = np.zeros(count)
            for index, value in values:
                column[index] = value
            return column

        def by_name(field: str) -> dict[str, Array]:
            names = dict.fromkeys(name for _, cost in parts for name in getattr(cost, field))
            return {name: whole([(i, getattr(c, field)[name]) for i, c in parts if name in getattr(c, field)]) for name in names}

        return Costs(
            unit="pim" if all(cost.unit == "pim" for _, cost in parts) else "host",
            latency_ps=whole([(index, cost.latency_ps) for index, cost in parts]),
            energy_pj=by_name("energy_pj"),
            external_bytes=whole([(index, cost.external_bytes) for index, cost in parts]),
            commands=by_name("commands"),
            limit=limit,
            limits=limits,
            memory=memory,
        )


def traces(workload: Workload, batch: int) -> dict[str, Trace]:
    """The look-ups of every gather of a workload for one batch."""
    indices, cached = draw_indices(workload, batch), {}  # type: ignore[var-annotated]
    return {
        item.name: Trace(item, batch, LookUps.of([np.asarray(indices[t.name])[:batch] for t in item.tables]), workload, cached)
        for item in workload.gathers
    }


def estimate(
    operators: Workload | Sequence[AnyPrimitive],
    devices: Sequence[DeviceSpec] | DeviceTable | Estimator,
    batch: int | None = None,
    indices: IndexSource | None = None,
) -> Estimates:
    """Time and energy of operators on devices within a model, by closed forms.

    Args:
        operators: A workload, or operators on their own (then the host streams weights from memory unless they fit its cache together).
        devices: The devices; a `DeviceTable` or an `Estimator` of them saves resolving them again.
        batch: Samples; the workload's own when None, 1 for operators on their own.
        indices: Where the rows of gathers come from; the workload's own, or uniform draws.

    Raises:
        ConfigError: an operator that a device's units do not run, or tables that do not fit.
    """
    if isinstance(operators, Workload):
        batch = operators.batch if batch is None else batch
        workload = operators if indices is None else operators.model_copy(update={"indices": indices})
    else:
        batch = batch or 1
        source = indices or IndexSource(kind="uniform")
        workload = Workload(name="operators", batch=batch, operators=tuple(operators), indices=source, folder=".")
    if batch < 1:
        raise ConfigError(f"--batch: {batch}: must be at least 1")
    estimator = devices if isinstance(devices, Estimator) else Estimator(devices)
    drawn = traces(workload, batch) if workload.gathers else {}
    resident = estimator.resident(workload)
    costs = [estimator.operator(item, batch, resident, drawn.get(item.name)) for item in workload.operators]
    return Estimates(
        tuple(item.name for item in workload.operators), tuple(device.name for device in estimator.table.devices), tuple(costs)
    )
