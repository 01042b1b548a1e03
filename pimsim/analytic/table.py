"""Many devices as columns: every specification is resolved once, so that one operator on thousands of devices is one NumPy evaluation."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pimsim.dram.standard import Command, common_timing, evaluate, resolve_organisation, standard_of
from pimsim.energy.dram import command_energy_pj
from pimsim.mapping.address import map_of
from pimsim.spec.device import DeviceSpec
from pimsim.spec.dram import DramSpec

Array = NDArray[np.float64]


COMMANDS = (Command.ACT, Command.PRE, Command.RD, Command.WR)


timing_of = lru_cache(maxsize=1 << 12)(common_timing)
"""`common_timing`, kept: every closed form of a memory asks for it."""


@lru_cache(maxsize=1 << 16)
def spacings(dram: DramSpec, across: bool = False) -> dict[tuple[Command, Command], int]:
    """Least clocks between two commands of one bank, windows left out; `across` banks: of one rank but different bank groups."""
    timing = timing_of(dram)
    found = {(before, after): 1 for before in COMMANDS for after in COMMANDS}
    for constraint in standard_of(dram).constraints:
        if constraint.window > 1 or constraint.sibling or (across and constraint.level not in ("channel", "rank")):
            continue
        pairs = [(before, after) for before in constraint.preceding for after in constraint.following if (before, after) in found]
        clocks = evaluate(constraint.latency, timing) if pairs else 0
        for pair in pairs:
            found[pair] = max(found[pair], clocks)
    return found


@lru_cache(maxsize=1 << 16)
def memory_facts(dram: DramSpec) -> dict[str, float]:
    """What the closed forms of plain traffic need of one memory, in clocks.

    Returns:
        Geometry (`channels`, `ranks`, `banks` ... as in `Organisation`); `tck_ps`; `burst`: clocks of the data bus a burst takes; `gap`:
        clocks between bursts of one bank group; `rcd`, `rp`, `ras`; `activate`: clocks between activations of a channel (`activate_rank`:
        of a rank); `read`: column command to last beat; `unloaded`: latency of a lone read; `refi`, `refresh`: clocks between refreshes
        and lost with each; `window`: requests that the controller looks at; `switch`: clocks between bursts of two ranks;
        `stream`: clocks between bursts of a contiguous stream, `pair`: clocks of two bursts of neighbouring rows that interleave;
        `act_pj`, `rd_pj`, `wr_pj`, `io_pj` (NaN: not modelled).
    """
    timing, organisation, standard = timing_of(dram), resolve_organisation(dram), standard_of(dram)
    burst = max(timing["nBL"], timing["nCCDS"])
    gap = max(burst, timing["nCCDL"])
    cycles = standard.two_cycle
    spans_ranks = any(c.level == "channel" and c.window == 4 for c in standard.constraints)
    activate = max(timing["nFAW"] / 4, timing["nRRDS"], timing["nRRDL"] / organisation.bankgroups)
    unloaded = 1 + timing["nRCD"] + cycles.get(Command.ACT, 1) - cycles.get(Command.RD, 1) + bool(standard.data_clock)
    unloaded = (unloaded | 1 if Command.RD in standard.rising_edge else unloaded) + evaluate(standard.read_latency, timing)
    turns = [evaluate(c.latency, timing) for c in standard.constraints if c.sibling and {Command.RD} <= set(c.preceding) & set(c.following)]
    switch = min(gap, max([burst, *turns])) if organisation.ranks > 1 else gap
    energy = command_energy_pj(dram) or dict.fromkeys(("ACT", "RD", "WR"), math.nan)
    facts: dict[str, float] = {
        "channels": dram.channels,
        "ranks": organisation.ranks,
        "banks": organisation.banks,
        "groups": organisation.bankgroups,
        "columns": organisation.columns,
        "burst_bytes": organisation.burst_bytes,
        "tck_ps": timing["tCK_ps"],
        "burst": burst,
        "gap": gap,
        "rcd": timing["nRCD"],
        "rp": timing["nRP"],
        "ras": timing["nRAS"],
        "activate": activate / (1 if spans_ranks else organisation.ranks),
        "activate_rank": activate,
        "read": evaluate(standard.read_latency, timing),
        "unloaded": unloaded,
        "refi": timing["nREFI"],
        "refresh": 0 if dram.controller.refresh == "off" else organisation.ranks * timing["nRPab"] + timing["nRFC"] + timing["nRCD"],
        "window": dram.controller.read_queue,
        "switch": switch,
        "act_pj": energy["ACT"],
        "rd_pj": energy["RD"],
        "wr_pj": energy["WR"],
        "io_pj": math.nan if dram.io_pj_per_bit is None else dram.io_pj_per_bit,
    }
    return facts | _stream_facts(dram, facts)


def _stream_facts(dram: DramSpec, facts: dict[str, float]) -> dict[str, float]:
    """How a contiguous stream of one channel walks over columns, bank groups and ranks under the address map."""
    burst, gap = facts["burst"], facts["gap"]
    fields = [(name, size) for name, size in zip(*_order(dram), strict=True) if name != "channel" and size > 1]
    run, spread, groups = 1, 1, 1
    for name, size in fields:
        if name == "column":
            break
        spread *= size
        groups *= size if name == "bankgroup" else 1
    names = [name for name, _ in fields]
    if names and names[0] == "column":
        run = int(facts["columns"])
    after = names[1] if run > 1 and len(names) > 1 else ""
    pair = {"bankgroup": max(2 * burst, gap), "rank": max(2 * facts["switch"], gap)}.get(after, 2 * gap)
    within = min(groups, facts["window"] * groups / max(spread, 1))
    return {"run": run, "stream": gap if run > 1 else max(burst, gap / max(within, 1)), "pair": min(pair, 2 * gap)}


def _order(dram: DramSpec) -> tuple[list[str], list[int]]:
    """Fields and their sizes from the least significant up."""
    address_map = map_of(dram)
    return list(reversed(address_map.order)), list(reversed(address_map.sizes))


def _host_facts(device: DeviceSpec) -> dict[str, float]:
    host = device.host
    return {
        "flops_per_ns": host.peak_gflops * host.efficiency,
        "llc_gbps": host.llc_gbps,
        "llc_bytes": host.llc_bytes,
        "dispatch_ps": host.dispatch_ns * 1000,
        "pj_per_flop": host.pj_per_flop,
        "pj_per_llc_byte": host.pj_per_llc_byte,
        "llc_latency_ns": host.llc_latency_ns,
        "memory_path_ns": host.memory_path_ns,
        "outstanding": math.inf if host.max_outstanding_lines is None else host.max_outstanding_lines,
    }


@dataclass(frozen=True)
class DeviceTable:
    """Devices and their facts as columns.

    Attributes:
        devices: The devices.
        columns: (devices,) float arrays by name: `memory_facts` and the host's.
        kept: Further arrays, devices on their last axis, each made when it was first asked for.
    """

    devices: tuple[DeviceSpec, ...]
    columns: dict[str, Array]
    kept: dict[str, Array] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, devices: Sequence[DeviceSpec]) -> DeviceTable:
        """Resolves every device once."""
        rows = [memory_facts(device.dram) | _host_facts(device) for device in devices]
        return cls(tuple(devices), {name: np.array([row[name] for row in rows], float) for name in rows[0]} if rows else {})

    def __len__(self) -> int:
        return len(self.devices)

    def __getitem__(self, name: str) -> Array:
        return self.columns[name]

    def take(self, index: NDArray[np.int64]) -> DeviceTable:
        """Some of the devices."""
        kept = {name: value[..., index] for name, value in self.kept.items()}
        return DeviceTable(tuple(self.devices[i] for i in index), {name: column[index] for name, column in self.columns.items()}, kept)

    def keep(self, name: str, make: Callable[[], Array]) -> Array:
        """What `make` returns, made once: an array with the devices on its last axis."""
        if name not in self.kept:
            self.kept[name] = make()
        return self.kept[name]

    def unit(self, name: str) -> Array:
        """A number of every device's unit; NaN where it has none."""

        def column() -> Array:
            values = [getattr(device.unit, name, None) for device in self.devices]
            return np.array([math.nan if value is None else value for value in values], float)

        return self.keep("unit." + name, column)

    def timing(self, name: str) -> Array:
        """A timing value of every device, in clocks."""
        return self.keep("timing." + name, lambda: np.array([timing_of(device.dram)[name] for device in self.devices], float))
