"""Gather-reduce units of DIMMs in closed form (base of TensorDIMM, RecNMP and TRiM).

Modelling decisions:
    * The look-ups are dealt, re-ordered and looked up in the cache exactly as the units do it (`arranged`, `cached`), and counted by
      wire, rank, bank, adder and bus; the counts are kept for each trace and geometry.
    * Wires, ranks, adders and buses are a pipeline: a rank's reads come at an even pace, and each later stage serves its jobs as they
      come (`pimsim.analytic.backlog`); it takes no less than its own jobs.
    * A rank's reads walk through the window of its controller (`pimsim.analytic.window`), none before its instruction has come over the
      wires, and under the constraints of reducers in the DRAM where data end there.

Not modelled: what `pimsim.units.near_rank` leaves out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pimsim.analytic import near_rank_sums
from pimsim.analytic.backlog import Backlog, backlog, last_share
from pimsim.analytic.cost import Costs, added
from pimsim.analytic.host import roofline
from pimsim.analytic.memory import refreshed
from pimsim.analytic.table import DeviceTable
from pimsim.analytic.trace import Trace, candidates, hits
from pimsim.analytic.unit import Analytic
from pimsim.analytic.window import Due, Sample, rules, sample, slowest
from pimsim.dram.standard import Organisation, resolve_organisation
from pimsim.graph import AnyPrimitive, Gather
from pimsim.spec.device import DeviceSpec
from pimsim.units.near_rank import NearRankSpec, Reads, _parts

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]
LIMITS = ("row reads of the busiest rank", "instructions", "adders", "partial sums to the buffer chip", "results to the host")


@dataclass(frozen=True)
class Served:
    """Reads of one rank: those to walk through, and of all the position of their instructions on the channel's wires and the rank's."""

    reads: Sample
    on_channel: IntArray
    on_rank: IntArray
    kept: dict[tuple[int, int, int | None], Due] = field(default_factory=dict, repr=False, compare=False)

    def due(self, bits: int, channel_bits: int, rank_bits: int | None) -> Due:
        """When each instruction has come, over wires that carry so many bits a clock."""
        key = (bits, channel_bits, rank_bits)
        if key not in self.kept:
            self.kept[key] = Due.at(self._clocks(bits, channel_bits, rank_bits))
        return self.kept[key]

    def _clocks(self, bits: int, channel_bits: int, rank_bits: int | None) -> IntArray:
        due = np.ceil((self.on_channel + 1) * (bits / channel_bits))
        if rank_bits is not None:
            each = bits / rank_bits
            due = np.ceil(np.maximum.accumulate(due - self.on_rank * each) + (self.on_rank + 1) * each)
        return due.astype(np.int64)


@dataclass(frozen=True)
class Work:
    """What one gather asks of a device, counted.

    Attributes:
        sent: Instructions on the busiest channel, and for the busiest rank.
        ranks: Ranks that may be the slowest.
        piece: Bursts of one read (more than one where the data end in the DRAM).
        adders: Bursts to the adders, cache hits included, behind the reads.
        partials: Bursts of partial sums to the ranks' buses, behind the adders.
        results: Bursts of sums to the channels, behind the partial sums.
        busiest: Bursts of the busiest adder, of the partial sums of the busiest rank, and of the sums of the busiest channel.
        totals: Over all ranks: column bursts, opened rows, cache accesses and hits, elements added, bursts of partial sums and of
            results, instructions, host additions.
    """

    sent: tuple[int, int]
    ranks: tuple[Served, ...]
    piece: int
    adders: Backlog
    partials: Backlog
    results: Backlog
    busiest: tuple[int, int, int]
    totals: dict[str, float]


def count(unit: NearRankSpec, item: Gather, device: DeviceSpec, trace: Trace) -> Work:
    """Counts the work of a gather on one device."""
    organisation = resolve_organisation(device.dram)
    unit._policy(device)
    copies, ranks, dims = unit.stripes(device), organisation.ranks, np.array([table.dim for table in item.tables], np.int64)
    reads = unit.arranged(unit._reads(trace.where(device), trace.bag, device), item, device)
    piece = 1 if unit.reads_end_at == "rank" else int(np.gcd.reduce(np.append(reads.bursts, organisation.columns)))
    owner, parts = _parts(reads, piece, organisation)
    hit = unit.cached(parts, organisation)
    sums = -(-(-(-dims // copies) * 4) // organisation.burst_bytes)
    reducer, per = unit.reducer_of(reads, organisation), unit.reducers_per_rank(organisation)
    ready = _progress(reads, owner, hit, piece)
    every = per * organisation.ranks * organisation.channels
    pairs, done = last_share(reads.bag * every + reducer, ready)  # the sums of each reducer
    bag, rank = pairs // every, pairs % every // per
    in_dram = unit.reads_end_at != "rank"
    partial = sums[bag % len(dims)] * in_dram
    dimms, complete = last_share(bag * every + rank // unit.ranks_per_dimm, done)
    sum_of, channel = dimms // every, dimms % every * unit.ranks_per_dimm // ranks
    size = sums[sum_of % len(dims)] * copies
    elements = float(dims[reads.bag % len(dims)].sum() + (dims[bag % len(dims)].sum() if in_dram else 0))
    served, opens = _ranks(reads, owner, parts, hit, organisation, device.dram.controller.read_queue)
    return Work(
        sent=(int(np.bincount(reads.rank // ranks).max()), int(np.bincount(reads.rank).max())),
        ranks=served,
        piece=piece,
        adders=backlog(reducer, ready, reads.bursts, reads.bursts - 1),
        partials=backlog(rank, done, partial),
        results=backlog(channel, complete, size),
        busiest=(
            int(np.bincount(reducer, reads.bursts).max()),
            int(np.bincount(rank, partial).max()),
            int(np.bincount(channel, size).max()),
        ),
        totals={
            "column": float((~hit).sum()) * piece * copies,
            "opened": opens * copies,
            "accesses": len(hit),
            "hits": float(hit.sum()),
            "added": elements,
            "partial": float(partial.sum()),
            "result": float(size.sum()),
            "instructions": len(reads.bag),
            "host": float(dims[sum_of % len(dims)].sum() - dims[np.unique(sum_of) % len(dims)].sum()),
        },
    )


def _progress(reads: Reads, owner: IntArray, hit: NDArray[np.bool_], piece: int) -> Array:
    """(n,) share of the busiest rank's reads after which each look-up is read, at an even pace; 0 where a cache has all of it."""
    missed = np.bincount(owner[~hit], minlength=len(reads.rank)) * piece
    order = np.argsort(reads.rank, kind="stable")
    total, rank = np.cumsum(missed[order]), reads.rank[order]
    first = np.searchsorted(rank, rank)
    before = total[first] - missed[order][first]
    share = np.empty(len(order))
    share[order] = (total - before) / max((total - before).max(initial=0), 1)
    return np.where(missed > 0, share, 0.0)


def _ranks(
    reads: Reads, owner: IntArray, parts: Reads, hit: NDArray[np.bool_], organisation: Organisation, window: int
) -> tuple[tuple[Served, ...], float]:
    """Reads of the ranks that may be the slowest; rows opened in all ranks. `owner` is the look-up of each part."""
    banks = organisation.banks // organisation.ranks
    missed = np.flatnonzero(~hit)
    if not len(missed):
        return (), 0.0
    found, first, pieces = np.unique(owner[missed], return_index=True, return_counts=True)
    rank, bank, row = (getattr(parts, name)[missed[first]] for name in ("rank", "bank", "row"))
    number = rank * banks + bank
    opens = ~hits(number, row, window * len(np.unique(rank)) if (pieces == 1).all() else 0)
    on_channel, on_rank = (_position(wires)[found] for wires in (reads.rank // organisation.ranks, reads.rank))

    def of(one: int) -> Served:
        mine = np.flatnonzero(rank == one)
        return Served(sample(bank[mine], row[mine], pieces[mine], opens[mine], WALKED, (1, WALKED // 2)), on_channel[mine], on_rank[mine])

    return tuple(of(one) for one in candidates(rank, pieces, number, opens, banks)), float(opens.sum())


def _position(wires: IntArray) -> IntArray:
    """How many jobs of the same wires come before each."""
    order = np.argsort(wires, kind="stable")
    found = np.empty(len(wires), np.int64)
    found[order] = np.arange(len(wires)) - np.searchsorted(wires[order], wires[order])
    return found


WALKED = 768
"""Look-ups of a rank of which all are walked through; of more, half as many: rows of several reducers in turn want a long piece."""
COUNTED_BY = ("kind", "ranks_per_dimm", "level", "hot_share", "rank_cache_bytes", "rank_cache_ways", "locality_lookups", "table_aware")


class NearRank(Analytic):
    """Reducers in buffer chips or DRAM chips."""

    def gather(self, item: Gather, table: DeviceTable, batch: int, trace: Trace) -> Costs:
        return self._costs(item, table, trace, end_to_end=True)

    def kernel(self, item: AnyPrimitive, table: DeviceTable, batch: int, trace: Trace | None, end_to_end: bool) -> Costs:
        if not isinstance(item, Gather) or trace is None:
            return near_rank_sums.total(self, item, table, batch, end_to_end)
        return self._costs(item, table, trace, end_to_end)

    def _work(self, item: Gather, device: DeviceSpec, trace: Trace) -> Work:
        unit: Any = device.unit
        key = (*trace.geometry(device), *(getattr(unit, name, None) for name in COUNTED_BY))
        found: Work = trace.once(key, lambda: count(unit, item, device, trace))
        return found

    def _costs(self, item: Gather, table: DeviceTable, trace: Trace, end_to_end: bool) -> Costs:
        work = [self._work(item, device, trace) for device in table.devices]
        stages = self._stages(table, work)
        names = ["read", "sent", "added", "summed", *(["returned"] if end_to_end else [])]
        clocks = np.ceil(stages["returned" if end_to_end else "summed"])
        of = {name: np.array([each.totals[name] for each in work]) for name in work[0].totals}
        own = roofline(table, of["host"], of["result"] * table["burst_bytes"])
        extra = np.where((of["host"] > 0) & end_to_end, own.latency_ps, 0)
        energy = self._energy(table, of, end_to_end)
        if end_to_end:
            energy = added(energy, {part: np.where(of["host"] > 0, value, 0) for part, value in own.energy_pj.items()})
        bits = of["instructions"] * table.unit("instruction_bits")
        return Costs(
            unit="pim",
            latency_ps=clocks * table["tck_ps"] + extra,
            energy_pj=energy,
            external_bytes=np.floor(bits / 8 + of["result"] * table["burst_bytes"] * end_to_end),
            commands={"ACT": of["opened"], "RD": of["column"]},
            limit=np.stack([stages["own " + name] for name in names]).argmax(axis=0),
            limits=LIMITS,
        )

    def _stages(self, table: DeviceTable, work: list[Work]) -> dict[str, Array]:
        """Clock at which each stage has done its last job, and (`own ...`) what its jobs alone take."""

        def column(name: str, at: int) -> Array:
            return np.array([getattr(each, name)[at] for each in work], float)

        beat, bits = table["burst"], table.unit("instruction_bits")
        first = np.ceil(bits / table.unit("channel_bits_per_clock"))
        sent = column("sent", 0) * bits / table.unit("channel_bits_per_clock")
        narrow = np.nan_to_num(bits / table.unit("rank_bits_per_clock"))
        due = np.maximum(sent, column("sent", 1) * narrow + first) + narrow
        reads = np.array([self._read_clocks(device, each) for device, each in zip(table.devices, work, strict=True)])
        lone = table["unloaded"] + np.array([(each.piece - 1) for each in work]) * table["gap"]
        read = np.maximum(refreshed(table, np.maximum(reads, (due + lone) * (reads > 0))), due)
        adder = np.nan_to_num(table["burst_bytes"] / table.unit("adder_bytes") * 1e6 / table.unit("adder_clock_mhz") / table["tck_ps"])
        added, partial, result = column("busiest", 0) * adder, column("busiest", 1) * beat, column("busiest", 2) * beat
        through = np.maximum(self._behind(work, "adders", read, adder), first + narrow + lone * (reads > 0) + added)
        summed = np.maximum(self._behind(work, "partials", through, beat), partial + lone)
        returned = np.maximum(np.maximum(self._behind(work, "results", summed, beat), result + lone), sent + result)
        return {
            "summed": summed,
            "returned": returned,
            "own read": reads,
            "own sent": due,
            "own added": added,
            "own summed": partial,
            "own returned": result,
        }

    def _behind(self, work: list[Work], stage: str, before: Array, each: Array) -> Array:
        """Clock at which a stage's last job is done, and not before the stage before it."""
        jobs: list[Backlog] = [getattr(one, stage) for one in work]
        found = [job.done(clocks, unit) for job, clocks, unit in zip(jobs, before, each, strict=True)]
        return np.maximum(found, before)

    def _read_clocks(self, device: DeviceSpec, work: Work) -> float:
        """Clocks from the first instruction to the last read of the slowest rank, refresh left out."""
        unit: Any = device.unit
        by = rules(device.dram, unit.reads_end_at, work.piece, alone=True)
        wires = (unit.instruction_bits, unit.channel_bits_per_clock, unit.rank_bits_per_clock)
        return slowest(by, [each.reads for each in work.ranks], [each.due(*wires) for each in work.ranks]).clocks

    def _energy(self, table: DeviceTable, of: dict[str, Array], end_to_end: bool) -> dict[str, Array]:
        bits, each = table["burst_bytes"] * 8, np.nan_to_num(table.unit("activate_pj"), nan=-1.0)
        crossing = of["instructions"] * table.unit("instruction_bits") + of["result"] * bits * end_to_end
        return {
            "dram_activate": of["opened"] * np.where(each < 0, table["act_pj"], each),
            "pim_column": of["column"] * bits * table.unit("column_read_pj_per_bit"),
            "pim_add": of["added"] * table.unit("pj_per_add"),
            "pim_cache": np.where(of["hits"] > 0, of["accesses"] * table.unit("cache_pj_per_access"), 0),
            "pim_partial": of["partial"] * bits * table.unit("partial_pj_per_bit"),
            "dram_io": crossing * np.nan_to_num(table["io_pj"]),
        }


ANALYTIC = NearRank()
