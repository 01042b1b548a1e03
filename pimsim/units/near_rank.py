"""Reducers in the buffer chip of a DIMM or inside its DRAM chips, which gather and add embedding rows (base of TensorDIMM, RecNMP, TRiM).

A look-up is one instruction. It crosses the wires that the instructions of a channel share, and for reducers in the DRAM chips those of
its rank; then the rank reads the row (`pimsim.engine.reducers`), a reducer adds it, partial sums of reducers in the DRAM cross the
rank's data bus to the buffer chip, and, end to end, one sum a DIMM crosses the channel to the host, which adds those of several DIMMs.

Modelling decisions:
    * Wires, ranks, adders and buses work at the same time; each serves its jobs first come, first served, and what leaves one comes to
      the next. The kernel ends when the last sum lies in a buffer chip; `end_to_end` when it is on the host.
    * Instructions and results share the channel's data pins: a channel takes no less time than both together.
    * Adders compute in FP32 and keep up with the data path unless the unit has a clock of its own (`adder_clock_mhz`); with a slower one
      rows wait for them. Caches run with the adders; the path of instructions and sums is the memory's own.
    * Sums are kept in FP32; a row of a table lies in one reducer's banks (TensorDIMM: a piece of it in every rank).

Not modelled: the number of sums that a reducer holds at a time, tables that change, ECC, leakage, host caches.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from pimsim.dram.standard import Organisation, common_timing, resolve_organisation
from pimsim.engine.reducers import Level, deliver, read_rank, serve
from pimsim.errors import ConfigError
from pimsim.graph import AnyPrimitive, Gather
from pimsim.mapping.placement import Coordinates, place
from pimsim.spec.device import DeviceSpec, UnitSpec
from pimsim.spec.operating import ScaledLogic
from pimsim.units import near_rank_sums
from pimsim.units.cost import MEMORY, NO_WORK, KernelRun, LookUps, OperatorCost, add_up

IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Reads:
    """Row reads in the order in which their instructions are sent; all (n,) int64.

    Attributes:
        rank: Rank over all channels: channel x ranks + rank.
        bank: Bank within the rank.
        row: DRAM row.
        column: First burst within the row.
        bursts: Bursts.
        bag: Number of the (sample, table) that the look-up belongs to: sample x tables + table.
    """

    rank: IntArray
    bank: IntArray
    row: IntArray
    column: IntArray
    bursts: IntArray
    bag: IntArray

    def taken(self, order: IntArray) -> Reads:
        """Some of the reads, in another order."""
        return Reads(*(getattr(self, each.name)[order] for each in fields(self)))

    def place(self, organisation: Organisation) -> IntArray:
        """(n,) number of the first burst within the rank, banks in turn."""
        return (self.row * organisation.columns + self.column) * (organisation.banks // organisation.ranks) + self.bank

    def key(self, organisation: Organisation) -> IntArray:
        """(n,) number of the first burst over all ranks: the same for two reads of one table row."""
        return self.place(organisation) + self.rank * (organisation.banks // organisation.ranks * organisation.rows * organisation.columns)


@dataclass(frozen=True)
class Gathered:
    """What one gather took: clocks of the memory, commands of each rank, bits moved.

    Attributes:
        delivered: Clock at which the last instruction has arrived.
        read: Clock at which the last row is read (or found in a cache).
        added: Clock at which the last row is added.
        summed: Clock at which the last sum lies in a buffer chip.
        returned: Clock at which the last sum is on the host.
        counts: Commands of each simulated rank, {rank: {command: count}}.
        bits: Bits by path (`instruction`, `column`, `partial`, `result`), FP32 elements `added`, burst `accesses` and cache `hits`.
        host_adds: FP32 additions left to the host.
    """

    delivered: int
    read: int
    added: int
    summed: int
    returned: int
    counts: dict[int, dict[str, int]]
    bits: dict[str, int]
    host_adds: int


class NearRankSpec(ScaledLogic, UnitSpec):
    """Gather-reduce units; a subclass says where the data end and how look-ups are dealt to reducers."""

    CLOCK: ClassVar[str] = "adder_clock_mhz"
    instruction_bits: PositiveInt
    """Bits of the instruction of one look-up."""
    channel_bits_per_clock: PositiveInt
    """Instruction bits a clock from the memory controller to the buffer chips of a channel."""
    rank_bits_per_clock: PositiveInt | None = None
    """Instruction bits a clock from the buffer chip to the DRAM chips of a rank; none: the buffer chip makes ordinary commands."""
    ranks_per_dimm: PositiveInt = 1
    """Ranks whose partial sums one buffer chip adds."""
    adder_clock_mhz: PositiveFloat | None = None
    """Clock of an adder that takes `adder_bytes` a clock; none: adders keep up with the data path."""
    adder_bytes: PositiveInt = 64
    """Bytes that the adders of one reducer take a clock."""
    activate_pj: NonNegativeFloat | None = None
    """Energy of activating and precharging one row of a rank; none: from the currents of the DRAM."""
    column_read_pj_per_bit: NonNegativeFloat
    """Energy of one bit from an open row to the reducer."""
    partial_pj_per_bit: NonNegativeFloat = 0.0
    """Energy of one bit of a partial sum from a reducer in the DRAM to the buffer chip."""
    pj_per_add: NonNegativeFloat
    """Energy of adding one FP32 element (weighted: multiply and add)."""
    cache_pj_per_access: NonNegativeFloat = 0.0
    """Energy of one access to a cache beside the reducer."""
    mm2_per_buffer: NonNegativeFloat = 0.0
    """Area of the units in one buffer chip."""
    mm2_per_chip: NonNegativeFloat = 0.0
    """Area of the units in one DRAM chip."""
    tables: ClassVar[tuple[str, ...]] = ("row", "table")
    """Placements (`mapping.tables`) that these units can gather from."""

    @property
    def reads_end_at(self) -> Level:
        """Where the data of a read end."""
        return "rank"

    def reducers_per_rank(self, organisation: Organisation) -> int:
        """Reducers of one rank, by where the data end."""
        groups = organisation.bankgroups
        return {"rank": 1, "bankgroup": groups, "bank": groups * organisation.banks_per_group}[self.reads_end_at]

    def logic_clock_mhz(self, device: DeviceSpec) -> float:
        """Clock of the adders: their own, or the one that keeps up with bursts of the rank's bus, or of a bank group or bank."""
        organisation, timing = resolve_organisation(device.dram), common_timing(device.dram)
        gap = max(timing["nBL"], timing["nCCDS"]) if self.reads_end_at == "rank" else timing["nCCDL"]
        return self.adder_clock_mhz or organisation.burst_bytes / self.adder_bytes * 1e6 / (gap * timing["tCK_ps"])

    def reducer_of(self, reads: Reads, organisation: Organisation) -> IntArray:
        """(n,) reducer over all ranks that adds each read."""
        banks = organisation.banks // organisation.ranks
        each = self.reducers_per_rank(organisation)
        return reads.rank * each + reads.bank // (banks // each)

    def area_mm2(self, device: DeviceSpec) -> float:
        organisation = resolve_organisation(device.dram)
        ranks = organisation.ranks * organisation.channels
        chips = ranks * (organisation.channel_bits // organisation.device_bits)
        return chips * self.mm2_per_chip + -(-ranks // self.ranks_per_dimm) * self.mm2_per_buffer

    # -- what a subclass may change --------------------------------------------------------------------------------------------------

    def arranged(self, reads: Reads, item: Gather, device: DeviceSpec) -> Reads:
        """The reads in the order of their instructions, at the reducers that they are dealt to."""
        return reads

    def cached(self, bursts: Reads, organisation: Organisation) -> NDArray[np.bool_]:
        """Which bursts a cache beside the reducer has, (n,)."""
        return np.zeros(len(bursts.rank), bool)

    # -- the doors -------------------------------------------------------------------------------------------------------------------

    def run_kernel(
        self, item: AnyPrimitive, device: DeviceSpec, batch: int, lookups: LookUps | None = None, end_to_end: bool = False
    ) -> KernelRun:
        if not isinstance(item, Gather) or lookups is None:
            return near_rank_sums.run_sum(self, item, device, batch, end_to_end)
        organisation = resolve_organisation(device.dram)
        placement = place(item.tables, self._policy(device), organisation, device.dram.channels, self.stripes(device))
        where = placement.locate(lookups.table, lookups.index)
        gathered = self.simulate(item, device, where, lookups.sample * len(item.tables) + lookups.table)
        cycles = gathered.summed
        if end_to_end:
            cycles = gathered.returned + -(-self._host(gathered, device).latency_ps // common_timing(device.dram)["tCK_ps"])
        busiest = max(_by_channel(gathered.counts, organisation), key=lambda counts: sum(counts.values()))
        return KernelRun(
            cycles=cycles,
            commands={name: int(count) * self.stripes(device) for name, count in busiest.items()},
            energy_pj=self._energy(gathered, device, end_to_end),
            limited_by=self.limit(gathered, end_to_end),
        )

    def gather(self, item: Gather, device: DeviceSpec, batch: int, where: Coordinates, bag: IntArray) -> OperatorCost:
        self._policy(device)
        gathered = self.simulate(item, device, where, bag)
        host = self._host(gathered, device)
        counts = add_up(*gathered.counts.values())
        return OperatorCost(
            unit="pim",
            latency_ps=gathered.returned * common_timing(device.dram)["tCK_ps"] + host.latency_ps,
            resources=(MEMORY,),
            energy_pj=add_up(self._energy(gathered, device, True), host.energy_pj),
            external_bytes=(gathered.bits["result"] + gathered.bits["instruction"]) // 8,
            commands={name: int(count) * self.stripes(device) for name, count in counts.items()},
            limited_by=self.limit(gathered, True),
        )

    def compute(self, item: AnyPrimitive, *operands: NDArray[Any], device: DeviceSpec | None = None) -> NDArray[Any]:
        """Sums of rows in FP32: in order of look-up within a reducer, then over the reducers in order.

        Args:
            item: A `Gather` of one table, or a `Reduce`, whose operand is vectors (batch, k, outputs).
            *operands: rows (rows, dim) in FP32, FP16 or INT8; indices (batch, pooling); optionally weights of the look-ups (batch,
                pooling), None for a plain sum (a mean: weights 1 / pooling; INT8 rows with scales: weight x scale); optionally the
                reducer of each row (rows,), as `reducers` says; one reducer without it.
            device: For a `Reduce`: the device over whose reducers the vectors are dealt.

        Returns:
            (batch, dim) FP32.

        Raises:
            ConfigError: a kernel or type that these units do not run.
        """
        if not isinstance(item, Gather) or not 2 <= len(operands) <= 4:
            return near_rank_sums.sum_values(self, item, operands, device)
        rows, indices = operands[:2]
        weights, reducer = (*operands[2:], None, None)[:2]
        if rows.dtype not in (np.float32, np.float16, np.int8):
            raise ConfigError(f"kernel embedding: rows of {rows.dtype}: units of kind {self.kind} add float32, float16 or int8")
        where = np.zeros(len(rows), np.int64) if reducer is None else np.asarray(reducer)
        numbers, where = np.unique(where, return_inverse=True)
        batch, pooling = indices.shape
        partial = np.zeros((batch, len(numbers), rows.shape[1]), np.float32)
        sample = np.arange(batch)
        for look_up in range(pooling):
            value = rows[indices[:, look_up]].astype(np.float32)
            if weights is not None:
                value = weights[:, look_up, None].astype(np.float32) * value
            partial[sample, where[indices[:, look_up]]] += value
        total = partial[:, 0]
        for number in range(1, len(numbers)):
            total = total + partial[:, number]
        return total

    def reducers(self, item: Gather, device: DeviceSpec) -> IntArray:
        """Reducer that adds each row of a gather's first table, (rows,): the last operand of `compute`."""
        organisation = resolve_organisation(device.dram)
        rows = np.arange(item.tables[0].rows)
        placement = place(item.tables, self._policy(device), organisation, device.dram.channels, self.stripes(device))
        where = placement.locate(np.zeros_like(rows), rows)
        return self.reducer_of(self._reads(where, rows, device), organisation)

    # -- the steps -------------------------------------------------------------------------------------------------------------------

    def simulate(self, item: Gather, device: DeviceSpec, where: Coordinates, bag: IntArray) -> Gathered:
        """All steps of a gather, from the first instruction to the last sum."""
        organisation, timing = resolve_organisation(device.dram), common_timing(device.dram)
        copies, beat = self.stripes(device), max(timing["nBL"], timing["nCCDS"])
        reads = self.arranged(self._reads(where, bag, device), item, device)
        due = self._delivered(reads, organisation)
        read, counts, bits = self._read(reads, due, device)
        taken = self._added(reads, due, read, device)
        dims = np.array([table.dim for table in item.tables], np.int64)
        bursts = -(-(-(-dims // copies) * 4) // organisation.burst_bytes)  # of a sum in FP32, for each table
        each = self.reducers_per_rank(organisation)

        sums, ready = _last(np.stack([reads.bag, self.reducer_of(reads, organisation)]), taken)
        rank = sums[1] // each
        elements = dims[reads.bag % len(dims)].sum()
        if self.reads_end_at != "rank":
            size = bursts[sums[0] % len(dims)]
            ready = serve(rank, ready, size * beat)
            bits["partial"] = int(size.sum()) * organisation.burst_bytes * 8
            elements += dims[sums[0] % len(dims)].sum()
        sums, summed = _last(np.stack([sums[0], rank // self.ranks_per_dimm]), ready)

        size = bursts[sums[0] % len(dims)] * copies
        channel = sums[1] * self.ranks_per_dimm // organisation.ranks
        returned = serve(channel, summed, size * beat)
        sent = np.bincount(reads.rank // organisation.ranks, minlength=organisation.channels) * self.instruction_bits
        busy = -(-sent // self.channel_bits_per_clock) + np.bincount(channel, size * beat, organisation.channels).astype(np.int64)
        bits |= {"instruction": int(sent.sum()), "result": int(size.sum()) * organisation.burst_bytes * 8, "added": int(elements)}
        return Gathered(
            delivered=int(due.max(initial=0)),
            read=int(read.max(initial=0)),
            added=int(taken.max(initial=0)),
            summed=int(summed.max(initial=0)),
            returned=int(max(returned.max(initial=0), busy.max(initial=0))),
            counts=counts,
            bits=bits,
            host_adds=int(dims[sums[0] % len(dims)].sum() - dims[np.unique(sums[0]) % len(dims)].sum()),
        )

    def _policy(self, device: DeviceSpec) -> str:
        """The placement of the tables, if these units can gather from it on this device."""
        policy, ranks = device.mapping.tables, device.dram.ranks
        if policy not in self.tables:
            raise ConfigError(f"mapping.tables: {policy!r}: units of kind {self.kind} gather from {' or '.join(self.tables)}")
        if ranks % self.ranks_per_dimm:
            raise ConfigError(f"unit.ranks_per_dimm: {self.ranks_per_dimm}: must divide the {ranks} ranks of a channel (dram.ranks)")
        return policy

    def _reads(self, where: Coordinates, bag: IntArray, device: DeviceSpec) -> Reads:
        organisation = resolve_organisation(device.dram)
        rank, bank = np.divmod(where.bank, organisation.banks // organisation.ranks)
        return Reads(where.channel * organisation.ranks + rank, bank, where.row, where.column, where.bursts, bag)

    def _delivered(self, reads: Reads, organisation: Organisation) -> IntArray:
        """Clock at which each instruction has arrived where its row is read."""
        start = np.zeros(len(reads.rank), np.int64)
        due = deliver(reads.rank // organisation.ranks, start, self.instruction_bits, self.channel_bits_per_clock)
        if self.rank_bits_per_clock is None:
            return due
        return deliver(reads.rank, due, self.instruction_bits, self.rank_bits_per_clock)

    def _read(self, reads: Reads, due: IntArray, device: DeviceSpec) -> tuple[IntArray, dict[int, dict[str, int]], dict[str, int]]:
        """Clock at which each row is read; commands of each rank; bits and accesses."""
        organisation = resolve_organisation(device.dram)
        whole = np.gcd.reduce(np.append(reads.bursts, organisation.columns))
        piece = 1 if self.reads_end_at == "rank" else int(whole)
        owner, parts = _parts(reads, piece, organisation)
        hit = self.cached(parts, organisation)
        ready, counts = due[owner], {}
        for rank in np.unique(reads.rank):
            mine = np.flatnonzero((parts.rank == rank) & ~hit)
            done = read_rank(device.dram, self.reads_end_at, piece, parts.bank[mine], parts.row[mine], parts.column[mine], ready[mine])
            ready[mine] = done.ready
            counts[int(rank)] = done.counts
        last = np.full(len(due), 0, np.int64)
        np.maximum.at(last, owner, ready)
        bits = {"column": int((~hit).sum()) * piece * organisation.burst_bytes * 8 * self.stripes(device)}
        bits |= {"accesses": len(hit), "hits": int(hit.sum())}
        return last, counts, bits

    def _added(self, reads: Reads, due: IntArray, last: IntArray, device: DeviceSpec) -> IntArray:
        """Clock at which the adders of each rank have taken each row, whose last burst came at `last`."""
        if self.adder_clock_mhz is None:
            return last
        organisation, tck = resolve_organisation(device.dram), common_timing(device.dram)["tCK_ps"]
        burst = round(organisation.burst_bytes / self.adder_bytes * 1e6 / self.adder_clock_mhz)
        begin = np.maximum(due * tck, last * tck - (reads.bursts - 1) * burst)
        return -(-serve(self.reducer_of(reads, organisation), begin, reads.bursts * burst) // tck)

    def _host(self, gathered: Gathered, device: DeviceSpec) -> OperatorCost:
        """The host's additions of sums of several DIMMs; nothing where one has them all."""
        from pimsim.units.host import roofline

        return roofline(device, gathered.host_adds, gathered.bits["result"] // 8) if gathered.host_adds else NO_WORK

    def _energy(self, gathered: Gathered, device: DeviceSpec, end_to_end: bool) -> dict[str, float]:
        """Dynamic energy by part over all channels, in picojoules."""
        from pimsim.engine.memory import command_energy

        bits, activations = gathered.bits, sum(counts.get("ACT", 0) for counts in gathered.counts.values()) * self.stripes(device)
        opened = command_energy(device.dram, {"ACT": activations}, 0)["dram_activate"]
        energy = {
            "dram_activate": opened if self.activate_pj is None else activations * self.activate_pj,
            "pim_column": bits["column"] * self.column_read_pj_per_bit,
            "pim_add": bits["added"] * self.pj_per_add,
        }
        if bits["hits"]:
            energy["pim_cache"] = bits["accesses"] * self.cache_pj_per_access
        if "partial" in bits:
            energy["pim_partial"] = bits["partial"] * self.partial_pj_per_bit
        if device.dram.io_pj_per_bit is not None:
            crossing = bits["instruction"] + (bits["result"] if end_to_end else 0)
            energy["dram_io"] = crossing * device.dram.io_pj_per_bit
        return energy

    def limit(self, gathered: Gathered, end_to_end: bool) -> str:
        """What set the time, for the report."""
        if end_to_end and gathered.returned > 1.05 * gathered.summed:
            return "instructions and results on the channel"
        if gathered.summed > 1.05 * gathered.added:
            return "partial sums to the buffer chip"
        if gathered.added > 1.05 * gathered.read:
            return "adders of the busiest rank"
        return "instructions" if gathered.delivered > 0.9 * gathered.read else "row reads of the busiest rank"


def _by_channel(counts: dict[int, dict[str, int]], organisation: Organisation) -> list[dict[str, float]]:
    """Commands of each channel."""
    ranks = organisation.ranks
    return [add_up(*(each for rank, each in counts.items() if rank // ranks == n)) for n in range(organisation.channels)]


def _parts(reads: Reads, piece: int, organisation: Organisation) -> tuple[IntArray, Reads]:
    """Reads of `piece` bursts: the look-up that each belongs to, and where it is."""
    count = reads.bursts // piece
    owner = np.repeat(np.arange(len(count)), count)
    step = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
    down, column = np.divmod(reads.column[owner] + step * piece, organisation.columns)
    size = np.full(len(owner), piece, np.int64)
    return owner, Reads(reads.rank[owner], reads.bank[owner], reads.row[owner] + down, column, size, reads.bag[owner])


def _last(key: IntArray, clock: IntArray) -> tuple[IntArray, IntArray]:
    """The distinct columns of `key` (2, n), and the last clock of each."""
    found, inverse = np.unique(key, axis=1, return_inverse=True)
    last = np.zeros(found.shape[1], np.int64)
    np.maximum.at(last, inverse.reshape(-1), clock)
    return found, last
