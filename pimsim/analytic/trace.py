"""The look-ups of a gather, counted where a device's placement puts them: exact loads of channels and banks, and open-row hits."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pimsim.analytic.window import Sample, sample
from pimsim.dram.standard import resolve_organisation
from pimsim.errors import ConfigError
from pimsim.graph import Gather, Workload
from pimsim.mapping.placement import Coordinates, place
from pimsim.spec.device import DeviceSpec
from pimsim.units.cost import LookUps
from pimsim.units.host import requests
from pimsim.units.host_cache import caches_rows, row_cache, warm_hits

IntArray = NDArray[np.int64]
FEW, BUSIEST = 1024, 4
"""Look-ups of which every channel may be the slowest; channels with most bursts that may be, of more."""


@dataclass(frozen=True)
class Counted:
    """Look-ups of all channels.

    Attributes:
        channels: Those of each channel that may be the slowest.
        opened: Rows that they open, if none is closed under its bursts.
        bursts: Their bursts.
        cached_bytes: Bytes that the host's last-level cache serves instead.
        cached_lines: Lines that the host fetches from there.
        memory_lines: Lines that it fetches from memory.
    """

    channels: tuple[Sample, ...]
    opened: int
    bursts: int
    cached_bytes: int
    cached_lines: int
    memory_lines: int


def hits(bank: IntArray, row: IntArray, reach: float) -> NDArray[np.bool_]:
    """(n,) look-ups to the row of their bank's last look-up, or to one that a look-up at most `reach` before went to."""
    hit = np.zeros(len(bank), bool)
    for keys, limit in (((bank,), np.inf), ((row, bank), reach)):
        order = np.lexsort(keys)
        same = (bank[order][1:] == bank[order][:-1]) & (row[order][1:] == row[order][:-1]) & (np.diff(order) <= limit)
        hit[order[1:][same]] = True
    return hit


def candidates(channel: IntArray, bursts: IntArray, banks: IntArray, opens: NDArray[np.bool_], per_channel: int) -> list[int]:
    """Channels (or ranks) that may be the slowest: those with most bursts, that of the bank that opens most rows; all, of few look-ups.

    Args:
        channel: (n,) of each look-up.
        bursts: (n,) its bursts.
        banks: (n,) its bank over all channels.
        opens: (n,) whether it opens a row.
        per_channel: Banks of a channel.
    """
    if len(channel) <= FEW:
        return [int(each) for each in np.unique(channel)]
    served, longest = np.bincount(channel, bursts), int(np.bincount(banks, opens).argmax()) // per_channel
    busiest = [int(each) for each in np.argsort(-served, kind="stable")[:BUSIEST] if served[each]]
    return busiest if longest in busiest else [*busiest, longest]


@dataclass(frozen=True)
class Trace:
    """The look-ups of one gather for one batch, and what has been counted in them so far.

    Attributes:
        item: The gather.
        batch: Samples.
        lookups: Its look-ups in request order.
        workload: The model that it belongs to, for what shares the host's last-level cache; None: no row is cached.
    """

    item: Gather
    batch: int
    lookups: LookUps
    workload: Workload | None = None
    _model: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)
    _seen: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def bag(self) -> IntArray:
        """(n,) number of the (sample, table) of each look-up."""
        return self.lookups.sample * len(self.item.tables) + self.lookups.table

    def geometry(self, device: DeviceSpec, policy: str = "") -> tuple[Any, ...]:
        """What the placement of the look-ups depends on; `policy` in place of `mapping.tables`."""
        dram, policy = device.dram, policy or device.mapping.tables
        stripes = device.unit.stripes(device) if device.unit is not None and policy == "striped" else 1
        return (dram.standard, dram.organisation, dram.speed, dram.ranks, dram.channels, policy, stripes)

    def where(self, device: DeviceSpec, policy: str = "") -> Coordinates:
        """Coordinates of the look-ups on a device, by `policy` or `mapping.tables`.

        Raises:
            ConfigError: the tables do not fit, or are striped without units that gather.
        """
        *_, policy, stripes = self.geometry(device, policy)
        if policy == "striped" and device.mapping.embedding != "pim":
            raise ConfigError("mapping.tables: 'striped': needs mapping.embedding = pim (allowed on the host: row, table)")
        placement = place(self.item.tables, policy, resolve_organisation(device.dram), device.dram.channels, stripes)
        return placement.locate(self.lookups.table, self.lookups.index)

    def once(self, key: tuple[Any, ...], make: Any) -> Any:
        """What `make` returns, made once for a key."""
        if key not in self._seen:
            self._seen[key] = make()
        return self._seen[key]

    def counted(self, device: DeviceSpec, policy: str = "", cached: bool = False) -> Counted:
        """Loads on a device's plain memory.

        Args:
            device: The device.
            policy: Placement in place of `mapping.tables`.
            cached: Leave out what the host's last-level cache serves.
        """
        window, cache = device.dram.controller.read_queue, self._cache(device) if cached else None
        key = ("memory", *self.geometry(device, policy), window, cache, device.host.line_bytes if cached else 0)
        found: Counted = self.once(key, lambda: self._count(device, window, policy, cache is not None))
        return found

    def _cache(self, device: DeviceSpec) -> Any:
        """The cache that rows may fill; None without one."""
        if self.workload is None or not caches_rows(device, self.workload):
            return None
        host, size = device.host, resolve_organisation(device.dram).burst_bytes
        key = (host.llc_bytes, host.llc_embedding_share, host.llc_ways, size)
        if key not in self._model:
            self._model[key] = row_cache(host, size)
        return self._model[key]

    def _served(self, device: DeviceSpec) -> NDArray[np.bool_]:
        """(bursts,) which bursts the last-level cache serves."""
        assert self.workload is not None
        key = self._cache(device)
        if key not in self._model:
            self._model[key] = warm_hits(device, self.workload, self.batch)
        found: NDArray[np.bool_] = self._model[key][self.item.name]
        return found

    def _count(self, device: DeviceSpec, window: int, policy: str, cached: bool) -> Counted:
        where, organisation = self.where(device, policy), resolve_organisation(device.dram)
        banks, size = organisation.banks, organisation.burst_bytes
        kept = where.bursts
        if cached:
            owner = np.repeat(np.arange(len(where.bursts)), where.bursts)
            kept = np.bincount(owner[~self._served(device)], minlength=len(where.bursts))
        from_cache = where.bursts - kept
        extra = {
            "cached_bytes": int(from_cache.sum()) * size,
            "cached_lines": requests(from_cache * size, device.host),
            "memory_lines": requests(kept * size, device.host),
        }
        missed = kept > 0
        if not missed.any():
            return Counted((), 0, 0, **extra)
        fields = {name: getattr(where, name)[missed] for name in ("channel", "bank", "row", "column")}
        where = Coordinates(**fields, bursts=kept[missed])
        number, single = where.channel * banks + where.bank, bool((where.bursts == 1).all())
        opens = ~hits(number, where.row, window * device.dram.channels if single else 0)
        each = [np.flatnonzero(where.channel == one) for one in candidates(where.channel, where.bursts, number, opens, banks)]
        return Counted(
            channels=tuple(sample(where.bank[mine], where.row[mine], where.bursts[mine], opens[mine]) for mine in each),
            opened=int(opens.sum()),
            bursts=int(where.bursts.sum()),
            **extra,
        )
