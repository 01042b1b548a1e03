"""The look-ups of a gather, counted where a device's placement puts them: exact loads of channels and banks, and open-row hits."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pimsim.analytic.memory import Load
from pimsim.dram.standard import resolve_organisation
from pimsim.errors import ConfigError
from pimsim.graph import Gather, Workload
from pimsim.mapping.placement import Coordinates, place
from pimsim.spec.device import DeviceSpec
from pimsim.units.cost import LookUps
from pimsim.units.host import requests
from pimsim.units.host_cache import caches_rows, row_cache, warm_hits

IntArray = NDArray[np.int64]
DEPTH = 256
"""Rows opened behind a look-up in its bank that are followed one by one."""


@dataclass(frozen=True)
class Counted:
    """Look-ups of all channels and of one that may be the slowest.

    Attributes:
        count: Look-ups of that channel.
        bursts: Bursts of one of them, on average.
        shares: (banks,) share of each bank in them.
    XX: Look-ups of all channels.
        all_bursts: Bursts of all channels.
        cached_bytes: Bytes that the host's last-level cache serves instead.
        cached_lines: Lines that the host fetches from there.
        memory_lines: Lines that it fetches from memory.
    """

    count: int
    bursts: float
    shares: NDArray[np.float64]
    opens: NDArray[np.float64]
    tails: NDArray[np.float64]
    lookups: int
    opened: int
    all_bursts: int
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


def tails(bank: IntArray, opens: NDArray[np.bool_], depth: int = DEPTH) -> NDArray[np.float64]:
    """(depth,) position of the latest look-up with r openings of its bank behind it, r = 0, 1 ...; -1 where there is none."""
    latest = np.full(depth, -1.0)
    order = np.argsort(bank, kind="stable")
    later: IntArray = np.cumsum(opens[order][::-1])[::-1] - opens[order]  # openings behind, later banks included
    size = np.bincount(bank)
    ends = np.cumsum(size) - 1
    behind = np.empty(len(bank), np.int64)
    behind[order] = later - np.repeat(later[ends[size > 0]], size[size > 0])
    kept = np.flatnonzero(behind < depth)
    np.maximum.at(latest, behind[kept], kept.astype(float))
    return latest


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

    def counted(self, device: DeviceSpec, policy: str = "", cached: bool = False) -> tuple[Counted, Counted]:
        """Loads on a device's plain memory: of the channel with the most bursts, and of that whose banks open the most rows.

        Args:
            device: The device.
            policy: Placement in place of `mapping.tables`.
            cached: Leave out what the host's last-level cache serves.
        """
        window, cache = device.dram.controller.read_queue, self._cache(device) if cached else None
        key = ("memory", *self.geometry(device, policy), window, cache, device.host.line_bytes if cached else 0)
        found: tuple[Counted, Counted] = self.once(key, lambda: self._count(device, window, policy, cache is not None))
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

    def _count(self, device: DeviceSpec, window: int, policy: str, cached: bool) -> tuple[Counted, Counted]:
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
            none = Counted(0, 1.0, np.zeros(banks), np.zeros(banks), np.full(DEPTH, -1.0), 0, 0, 0, **extra)
            return none, none
        fields = {name: getattr(where, name)[missed] for name in ("channel", "bank", "row", "column")}
        where = Coordinates(**fields, bursts=kept[missed])
        number, single = where.channel * banks + where.bank, bool((where.bursts == 1).all())
        opens = ~hits(number, where.row, window * device.dram.channels if single else 0)
        opened = np.bincount(number, opens)
        busiest, longest = int(np.bincount(where.channel, where.bursts).argmax()), int(opened.argmax()) // banks

        def of(channel: int) -> Counted:
            mine = np.flatnonzero(where.channel == channel)
            bank = where.bank[mine]
            size = np.bincount(bank, minlength=banks)
            return Counted(
                count=len(mine),
                bursts=float(where.bursts[mine].mean()),
                shares=size / len(mine),
                opens=np.bincount(bank, opens[mine], banks) / np.maximum(size, 1),
                tails=tails(bank, opens[mine]),
                lookups=len(where.bank),
                opened=int(opens.sum()),
                all_bursts=int(where.bursts.sum()),
                **extra,
            )

        first = of(busiest)
        return first, first if longest == busiest else of(longest)


def load_of(counted: list[Counted]) -> Load:
    """Counts of several devices as columns."""
    widest = max(len(each.shares) for each in counted)
    shares, opens = np.zeros((len(counted), widest)), np.zeros((len(counted), widest))
    for number, each in enumerate(counted):
        shares[number, : len(each.shares)], opens[number, : len(each.opens)] = each.shares, each.opens
    return Load(
        count=np.array([each.count for each in counted], float),
        bursts=np.array([each.bursts for each in counted], float),
        shares=shares,
        opens=opens,
        tails=np.stack([each.tails for each in counted]),
    )
