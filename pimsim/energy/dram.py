"""Energy of DRAM commands and standing power from supply voltage and IDD currents (Micron TN-41-01, DRAMPower).

    ACT + PRE:  VDD * (IDD0 * nRC - IDD3N * nRAS - IDD2N * nRP) * tCK
    RD, WR:     VDD * (IDD4R - IDD3N) * nBL * tCK,  VDD * (IDD4W - IDD3N) * nBL * tCK
    REF:        VDD * (IDD5AB - IDD3N) * nRFC * tCK
    standing:   VDD * IDD3N while any bank of the rank is open, VDD * IDD2N while all are closed

each times the devices of a rank (channel width / width of the device that the currents belong to).

Modelling decisions: ACT carries the energy of its PRE. Energy of moving bits off the device is `io_pj_per_bit` of the device
file.

Not modelled: word-line pump (IPP), termination, power-down, data-dependent energy. Each standard's `Currents.scope` says what
else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pimsim.dram.standard import Currents, common_timing, resolve_organisation, resolve_timing, standard_of
from pimsim.errors import ConfigError
from pimsim.spec.dram import DramSpec

PARTS = ("activate", "read", "write", "refresh", "background", "io", "total")


@dataclass(frozen=True)
class Activity:
    """What a memory did, over all channels.

    Attributes:
        commands: Commands by name.
        rank_cycles: Clocks times ranks times channels.
        open_rank_cycles: Those of them during which the rank had an open bank.
        bytes: Bytes over the interface.
    """

    commands: Mapping[str, int]
    rank_cycles: int
    open_rank_cycles: int
    bytes: int


def currents_of(spec: DramSpec) -> Currents | None:
    """Currents of a specification, or None where none are public."""
    return standard_of(spec).currents.get((spec.organisation, spec.speed))


def _devices(spec: DramSpec, currents: Currents) -> float:
    return resolve_organisation(spec).channel_bits / currents.width_bits


def command_energy_pj(spec: DramSpec) -> dict[str, float] | None:
    """Energy of one command of one rank in picojoules: ACT (with its PRE), RD, WR, REF; None without public currents."""
    currents = currents_of(spec)
    if currents is None:
        return None
    timing, idd = common_timing(spec), currents.idd_ma
    each = currents.vdd_v * timing["tCK_ps"] * 1e-3 * _devices(spec, currents)  # mA * clocks -> pJ
    read = each * (idd["IDD4R"] - idd["IDD3N"]) * timing["nBL"]
    write = each * (idd["IDD4W"] - idd["IDD3N"]) * timing["nBL"]
    return {
        "ACT": each * (idd["IDD0"] * timing["nRC"] - idd["IDD3N"] * timing["nRAS"] - idd["IDD2N"] * timing["nRP"]),
        "RD": read,
        "RDA": read,
        "WR": write,
        "WRA": write,
        "REF": each * (idd["IDD5AB"] - idd["IDD3N"]) * timing["nRFC"],
    }


def energy_per_command_pj(spec: DramSpec) -> dict[str, float]:
    """As `command_energy_pj`, for callers that need numbers.

    Raises:
        ConfigError: the standard has no public currents for this organisation and speed bin.
    """
    energy = command_energy_pj(spec)
    if energy is None:
        known = ", ".join(f"{o} {s}" for o, s in standard_of(spec).currents) or "none"
        raise ConfigError(f"dram: no public currents for {spec.standard} {spec.organisation} {spec.speed} (known: {known})")
    return energy


def background_power_mw(spec: DramSpec) -> tuple[float, float] | None:
    """Standing power of one rank in milliwatts: (any bank open, all banks closed); None without public currents."""
    currents = currents_of(spec)
    if currents is None:
        return None
    scale = currents.vdd_v * _devices(spec, currents)
    return scale * currents.idd_ma["IDD3N"], scale * currents.idd_ma["IDD2N"]


def energy_breakdown_nj(spec: DramSpec, activity: Activity) -> dict[str, float | None]:
    """Energy by part in nanojoules; a part that is not modelled is None and left out of the total (None without currents)."""
    parts: dict[str, float | None] = dict.fromkeys(PARTS)
    if spec.io_pj_per_bit is not None:
        parts["io"] = activity.bytes * 8 * spec.io_pj_per_bit * 1e-3
    each, power = command_energy_pj(spec), background_power_mw(spec)
    if each is None or power is None:
        return parts
    count = activity.commands.get
    clock_us = resolve_timing(spec)["tCK_ps"] * 1e-6
    closed_cycles = activity.rank_cycles - activity.open_rank_cycles
    parts["activate"] = count("ACT", 0) * each["ACT"] * 1e-3
    parts["read"] = (count("RD", 0) + count("RDA", 0)) * each["RD"] * 1e-3
    parts["write"] = (count("WR", 0) + count("WRA", 0)) * each["WR"] * 1e-3
    if not count("REFPB", 0) and not count("REFSB", 0):  # no public current of a refresh of some banks
        parts["refresh"] = count("REF", 0) * each["REF"] * 1e-3
    parts["background"] = (activity.open_rank_cycles * power[0] + closed_cycles * power[1]) * clock_us
    parts["total"] = sum(value for value in parts.values() if value is not None)
    return parts
