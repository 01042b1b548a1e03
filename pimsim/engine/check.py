"""Closed-form facts of a memory beside what the engine simulates: of one channel, but capacity and PIM peak of the whole device.

Closed forms, in clocks (RCD and RTP under the standard's own names):

    unloaded latency        1 + nRCD + read latency, less the cycles of RD, plus those of ACT, plus the CAS that starts a data clock
    peak bandwidth          a burst each max(nBL, nCCDS, nCCDL / bank groups)
    refresh-limited         peak * (1 - (ranks * nRPab + nRFC + nRCD) / nREFI)
    row-cycle limit         a burst each max(nRC, nRAS + nRP, nRCD + nRTP + nRP) from one bank with a new row each time
    activation window       a burst each max(nFAW / 4, nRRDS, nRRDL / bank groups, nBL, nRC / banks, command bus) with a new row each
    time, banks in turn; on a single command bus an ACT may lose its slot to a column command, hence its tolerance
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pimsim.dram.standard import Command, Organisation, common_timing, evaluate, resolve_organisation, resolve_timing, standard_of
from pimsim.engine.dram import ReplayResult, replay
from pimsim.errors import TraceError
from pimsim.mapping.address import compose, map_of
from pimsim.spec.device import DeviceSpec
from pimsim.spec.dram import DramSpec


@dataclass(frozen=True)
class Check:
    """One fact: closed form and simulation, and whether they agree within the tolerance (relative)."""

    name: str
    expected: float
    simulated: float
    unit: str
    tolerance: float

    @property
    def ok(self) -> bool:
        """True when the simulation is within the tolerance."""
        return abs(self.simulated - self.expected) <= self.tolerance * abs(self.expected)

    def as_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "name": self.name,
            "expected": self.expected,
            "simulated": self.simulated,
            "unit": self.unit,
            "tolerance": self.tolerance,
            "ok": self.ok,
        }


def checks(device: DeviceSpec) -> list[Check]:
    """Every check that applies to a device."""
    one = device.dram.model_copy(update={"channels": 1})
    found = [_latency(one), _peak(one), _refresh(one), _capacity(device.dram), _row_cycle(one), _activation_window(one)]
    pim = _pim_peak(device, one)
    return [*found, pim] if pim else found


def _with(spec: DramSpec, refresh: str) -> DramSpec:
    update = {"refresh": refresh, "row_policy": "open", "scheduler": "frfcfs"}
    return spec.model_copy(update={"controller": spec.controller.model_copy(update=update)})


def _run(spec: DramSpec, **coordinates: Any) -> ReplayResult:
    address = compose(spec, channel=0, **coordinates)
    return replay(spec, address, np.zeros(len(address), bool))


def _rate(spec: DramSpec, **coordinates: Any) -> float:
    """Bursts per clock between the middle of a run and its end, without the ramp at the start."""
    done = np.sort(_run(spec, **coordinates).departed)
    half = len(done) // 2
    return (len(done) - 1 - half) / float(done[-1] - done[half])


def _gbps(spec: DramSpec, rate: float) -> float:
    return rate * resolve_organisation(spec).burst_bytes / resolve_timing(spec)["tCK_ps"] * 1e3


def _banks_in_turn(organisation: Organisation, count: int) -> np.ndarray:
    """Flat banks, bank groups in turn first, then banks, then ranks."""
    step = np.arange(count)
    group = step % organisation.bankgroups
    bank = step // organisation.bankgroups % organisation.banks_per_group
    rank = step // (organisation.bankgroups * organisation.banks_per_group) % organisation.ranks
    return (rank * organisation.bankgroups + group) * organisation.banks_per_group + bank


def _latency(spec: DramSpec) -> Check:
    timing, standard = common_timing(spec), standard_of(spec)
    column = 1 + timing["nRCD"] + standard.two_cycle.get(Command.ACT, 1) - standard.two_cycle.get(Command.RD, 1)
    if standard.data_clock:
        column += 1
    if Command.RD in standard.rising_edge:
        column |= 1
    expected = column + evaluate(standard.read_latency, timing)
    simulated = _run(_with(spec, "off"), bank=[0], row=[0], column=[0]).mean_read_latency_cycles
    return Check("unloaded read latency", expected, simulated or 0.0, "clocks", 0.0)


def _peak_rate(spec: DramSpec) -> float:
    timing, organisation = common_timing(spec), resolve_organisation(spec)
    return 1 / max(timing["nBL"], timing["nCCDS"], timing["nCCDL"] / organisation.bankgroups)


def _streaming(spec: DramSpec, count: int) -> float:
    """Rate of a stream that turns through the bank groups of rank 0, then columns, then banks and rows."""
    organisation = resolve_organisation(spec)
    groups, columns = organisation.bankgroups, organisation.columns
    step = np.arange(count)
    place = step // (groups * columns)
    bank = step % groups * organisation.banks_per_group + place % organisation.banks_per_group
    row = place // organisation.banks_per_group % organisation.rows
    return _rate(spec, bank=bank, row=row, column=step // groups % columns)


def _peak(spec: DramSpec) -> Check:
    quiet = _with(spec, "off")
    return Check("peak bandwidth", _gbps(spec, _peak_rate(spec)), _gbps(spec, _streaming(quiet, 20_000)), "GB/s", 0.01)


def _refresh(spec: DramSpec) -> Check:
    timing, organisation = common_timing(spec), resolve_organisation(spec)
    share = 1 - (organisation.ranks * timing["nRPab"] + timing["nRFC"] + timing["nRCD"]) / timing["nREFI"]
    count = int(32 * timing["nREFI"] * _peak_rate(spec))  # 32 refresh intervals
    simulated = _streaming(_with(spec, "on"), min(count, 400_000))
    return Check("refresh-limited bandwidth", _gbps(spec, _peak_rate(spec) * share), _gbps(spec, simulated), "GB/s", 0.02)


def _capacity(spec: DramSpec) -> Check:
    """Highest address that the map takes, against the product of the organisation."""
    organisation, address_map = resolve_organisation(spec), map_of(spec)
    low, high = 0, 1 << 63
    while high - low > 1:
        middle = (low + high) // 2
        try:
            address_map.decode(np.array([middle], np.uint64))
            low = middle
        except TraceError:
            high = middle
    return Check("capacity", organisation.total_bytes / 2**30, (low + 1) / 2**30, "GiB", 0.0)


def _one_row(timing: dict[str, int]) -> int:
    """Clocks from one ACT of a bank to the next with one read between them."""
    return max(timing["nRC"], timing["nRAS"] + timing["nRP"], timing["nRCD"] + timing["nRTP"] + timing["nRP"])


def _row_cycle(spec: DramSpec) -> Check:
    timing, quiet = common_timing(spec), _with(spec, "off")
    expected = _one_row(timing)
    rows = np.arange(2_000) % resolve_organisation(spec).rows
    rate = _rate(quiet, bank=np.zeros_like(rows), row=rows, column=np.zeros_like(rows))
    clock_us = timing["tCK_ps"] * 1e-6
    return Check("row-cycle-limited rate of one bank", 1 / (expected * clock_us), rate / clock_us, "million bursts/s", 0.01)


def _bus_clocks(spec: DramSpec) -> int:
    """Clocks of the busiest command bus for one access to a new row: ACT (and ACT2), RD and PRE, or ACT and PRE on their own bus."""
    standard = standard_of(spec)
    commands = [Command.ACT, Command.PRE]
    if standard.act2_within:
        commands.append(Command.ACT2)
    if not standard.dual_bus:
        commands.append(Command.RD)
    return sum(standard.two_cycle.get(command, 1) for command in commands)


def _lost_slot(spec: DramSpec, timing: dict[str, int]) -> float:
    """Clocks that an ACT may lose to a column command on a shared command bus: one of four, or each where nRRDS binds as well."""
    standard = standard_of(spec)
    if standard.dual_bus:
        return 0.0
    return standard.two_cycle.get(Command.RD, 1) / (4 if timing["nFAW"] > 4 * timing["nRRDS"] else 1)


def _activation_window(spec: DramSpec) -> Check:
    timing, organisation, quiet = common_timing(spec), resolve_organisation(spec), _with(spec, "off")
    per_rank = max(timing["nFAW"] / 4, timing["nRRDS"], timing["nRRDL"] / organisation.bankgroups)
    cycle = _one_row(timing)
    expected = max(per_rank / organisation.ranks, timing["nBL"], timing["nCCDS"], cycle / organisation.banks, _bus_clocks(spec))
    bank = _banks_in_turn(organisation, 8_000)
    row = np.arange(8_000) // organisation.banks % organisation.rows
    rate = _rate(quiet, bank=bank, row=row, column=np.zeros_like(bank))
    clock_us = timing["tCK_ps"] * 1e-6
    slot = _lost_slot(spec, timing)
    tolerance = 0.01 + slot / (expected + slot)
    return Check("activation-window-limited rate", 1 / (expected * clock_us), rate / clock_us, "million bursts/s", tolerance)


def _pim_peak(device: DeviceSpec, one: DramSpec) -> Check | None:
    """Bandwidth of all units of a channel reading their banks in lock-step, where the unit says what it should be."""
    from pimsim.engine.stream import issue_stream

    unit: Any = device.unit
    if not all(hasattr(unit, name) for name in ("peak_gbps", "column_gap", "units_per_channel")):
        return None
    organisation, timing, bits = resolve_organisation(one), resolve_timing(one), 16
    reads = [(Command.RD, 0, 0)] * 256
    program = np.array([(Command.ACT, 0, 0), *reads], np.int64)
    result = issue_stream(_with(one, "off"), program, column_gap=unit.column_gap(bits, organisation, timing))
    gap_ns = (result.clocks[-1] - result.clocks[1]) / (len(reads) - 1) * timing["tCK_ps"] * 1e-3
    simulated = unit.units_per_channel * organisation.burst_bytes / float(gap_ns)
    channels = device.dram.channels
    expected = unit.peak_gbps(bits, organisation, timing) * channels
    return Check("PIM peak bandwidth", expected, simulated * channels, "GB/s", 0.01)
