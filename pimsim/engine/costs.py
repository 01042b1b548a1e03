"""Which unit runs which operator, and a cache of what each operator costs on each device."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pimsim.dram.standard import resolve_organisation
from pimsim.errors import ConfigError, unknown_name
from pimsim.graph import Gather, Input, MatMul, Primitive, Product, Workload
from pimsim.mapping.indices import draw_indices
from pimsim.mapping.placement import place
from pimsim.spec.device import DeviceSpec
from pimsim.units import host
from pimsim.units.cost import NO_WORK, LookUps, OperatorCost
from pimsim.units.host_cache import caches_rows, row_cache, warm_hits, weight_capacity


class CostCache:
    """Costs by (operator, device, batch, trace); share one over many simulations of similar models or devices."""

    def __init__(self) -> None:
        self._costs: dict[str, OperatorCost] = {}
        self._traces: dict[str, Mapping[str, NDArray[np.int64]]] = {}
        self._cached: dict[str, Mapping[str, NDArray[np.bool_]]] = {}
        self.hits = 0
        self.misses = 0

    def costs(self, workload: Workload, device: DeviceSpec, batch: int) -> dict[str, OperatorCost]:
        """Cost of every operator of a workload for one batch."""
        on_host = [item for item in workload.operators if not on_pim(item, device)]
        resident = sum(item.weight_bytes for item in on_host) <= weight_capacity(device, workload)
        device_key = device.digest()
        found: dict[str, OperatorCost] = {}
        for item in workload.operators:
            own = placed(item, device)
            own_key = device_key if own is device else own.digest()
            trace_key = _look_ups_key(workload, own) if isinstance(item, Gather) else ""
            shape = json.dumps(item.model_dump(mode="json", exclude={"name", "inputs"}), sort_keys=True)
            key = f"{shape}|{own_key}|{batch}|{resident}|{trace_key}"
            if key in self._costs:
                self.hits += 1
            else:
                self.misses += 1
                self._costs[key] = self._cost(item, workload, own, batch, resident)
            found[item.name] = self._costs[key]
        return found

    def _cost(self, item: Primitive, workload: Workload, device: DeviceSpec, batch: int, resident: bool) -> OperatorCost:
        if isinstance(item, Input):
            return NO_WORK
        if isinstance(item, Gather):
            return self._gather(item, workload, device, batch)
        if isinstance(item, MatMul) and device.unit is not None and on_pim(item, device):
            return device.unit.matmul(item, device, batch)
        if isinstance(item, Product) and device.unit is not None and on_pim(item, device):
            return device.unit.product(item, device, batch)
        return host.operator(item, host.reached_by_host(device, own=True), batch, resident)

    def _gather(self, item: Gather, workload: Workload, device: DeviceSpec, batch: int) -> OperatorCost:
        """Look-ups in sample-major order: every table of sample 0, then of sample 1, and so on."""
        tables = json.dumps([table.model_dump(mode="json") for gather in workload.gathers for table in gather.tables])
        key = f"{_trace_key(workload)}|{batch}|{tables}"
        if key not in self._traces:
            self._traces = {key: draw_indices(workload, batch)}
        indices = self._traces[key]
        found = LookUps.of([np.asarray(indices[table.name])[:batch] for table in item.tables])
        policy = device.mapping.tables
        organisation = resolve_organisation(device.dram)
        stripes = device.unit.stripes(device) if device.unit is not None else 1
        if policy == "striped" and device.mapping.embedding != "pim":
            raise ConfigError("mapping.tables: 'striped': needs mapping.embedding = pim (allowed on the host: row, table)")
        where = place(item.tables, policy, organisation, device.dram.channels, stripes).locate(found.table, found.index)
        if device.mapping.embedding == "pim" and device.unit is not None:
            return device.unit.gather(item, device, batch, where, found.sample * len(item.tables) + found.table)
        hit = self._hits(workload, device, batch).get(item.name)
        return host.gather(item, host.reached_by_host(device, own=False), batch, where, hit)

    def _hits(self, workload: Workload, device: DeviceSpec, batch: int) -> Mapping[str, NDArray[np.bool_]]:
        """Bursts that the host's last-level cache serves; those of the last trace are kept, for devices that differ elsewhere."""
        spec = row_cache(device.host, resolve_organisation(device.dram).burst_bytes)
        key = f"{_look_ups_key(workload, device)}|{batch}|{spec}|{[gather.name for gather in workload.gathers]}"
        if key not in self._cached:
            self._cached = {key: warm_hits(device, workload, batch)}
        return self._cached[key]


PLACED = {Gather: "embedding", MatMul: "matmul", Product: "interaction"}
"""Operators that units can run, and the key of `mapping` that places all of a kind."""


def on_pim(item: Primitive, device: DeviceSpec) -> bool:
    """True when the mapping gives this operator to the units beside the memory."""
    kind = PLACED.get(type(item))
    return kind is not None and device.mapping.operators.get(item.name, getattr(device.mapping, kind)) == "pim"


def placed(item: Primitive, device: DeviceSpec) -> DeviceSpec:
    """The device with all operators of this one's kind where this one runs; itself where no operator is placed by name."""
    if not device.mapping.operators:
        return device
    kind = PLACED.get(type(item))
    side = {kind: "pim" if on_pim(item, device) else "host"} if kind else {}
    return device.model_copy(update={"mapping": device.mapping.model_copy(update={**side, "operators": {}})})


def check_operators(device: DeviceSpec, workloads: Sequence[Workload]) -> None:
    """Refuses a mapping of operators that no model has, or that only a host runs.

    Raises:
        ConfigError: with the nearest name.
    """
    items = {item.name: item for workload in workloads for item in workload.operators}
    for name, side in device.mapping.operators.items():
        if name not in items:
            raise ConfigError("mapping.operators: " + unknown_name("operator", name, items))
        if side == "pim" and type(items[name]) not in PLACED:
            raise ConfigError(f"mapping.operators.{name}: 'pim': operators of kind {items[name].op} run on the host only")


def _look_ups_key(workload: Workload, device: DeviceSpec) -> str:
    """What a gather's look-ups cost depends on beside the gather: their source, and what shares the host's cache with it."""
    if not caches_rows(device, workload):
        return _trace_key(workload)
    tables = [[table.model_dump(mode="json") for table in gather.tables] for gather in workload.gathers]
    return f"{_trace_key(workload)}|{json.dumps(tables)}"


def _trace_key(workload: Workload) -> str:
    """Digest of where the indices come from; two workloads with equal keys and tables look up the same rows."""
    source = workload.indices
    text = json.dumps(source.model_dump(mode="json")) + (workload.folder or "" if source.kind == "file" else "")
    return hashlib.sha256(text.encode()).hexdigest()[:16]
