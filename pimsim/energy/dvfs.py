"""Voltage and frequency scaling of logic: energies, standing power and clocks of units and host at the point that was chosen.

    energy of an operation:  E0 * (V / V0)^2         standing power:  P0 * V / V0
    highest clock:           f0 * ((V - Vt) / (V0 - Vt))^a * V0 / V    (alpha-power law), or the table of operating points

Modelling decisions:
    * A device is brought to its point once, when it is loaded; every engine then sees ordinary numbers. The device that results states
      them for the new voltage, so that bringing it there again changes nothing.
    * Only logic scales: arithmetic of the units, caches beside reducers, the power of running DPUs; arithmetic, last-level cache, dispatch
      and standing power of the host. DRAM timing, column reads and interface energy belong to the memory's own supply and stay.
    * What a unit's clock changes beside its time, the unit says (`UnitSpec.at_clock`).
    * The host's cache runs at the cores' clock.
    * With a table, a clock alone chooses the lowest voltage that allows it. Without one, a unit's clock alone is a design choice at the
      nominal voltage: it is held against `max_clock_mhz` only when a voltage is chosen too.

Not modelled: time and energy of changing the point, leakage growing faster than the voltage, regulators.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeVar

from pimsim.errors import ConfigError, unknown_name

if TYPE_CHECKING:
    from pimsim.spec.device import DeviceSpec, HostSpec
    from pimsim.spec.operating import ScaledLogic

L = TypeVar("L", bound="ScaledLogic")
DYNAMIC = (
    *("pj_per_mac_8", "pj_per_mac_16", "pj_per_mac_32", "column_mac_pj", "pj_per_add", "cache_pj_per_access", "active_mw"),
    *("pj_per_flop", "pj_per_llc_byte"),
)
STANDING = ("static_w",)


def at_operating_point(device: DeviceSpec) -> DeviceSpec:
    """The device with energies, standing power and clocks of the chosen points; itself where none was chosen.

    Raises:
        ConfigError: a point that is unknown or lacks what scales it, or whose clock is above what its voltage allows.
    """
    from pimsim.spec.operating import ScaledLogic

    changed: dict[str, Any] = {}
    if isinstance(device.unit, ScaledLogic):
        changed["unit"] = _point(device.unit, "unit", device.unit.logic_clock_mhz(device)).at_clock()
    changed["host"] = _host_clock(_point(device.host, "host", device.host.clock_mhz or device.host.nominal_clock_mhz))
    return device if all(getattr(device, name) is value for name, value in changed.items()) else device.model_copy(update=changed)


def highest_clock_mhz(logic: ScaledLogic, voltage_v: float) -> float | None:
    """Highest clock at a voltage by the table, else by the alpha-power law; None when the section has neither."""
    if logic.operating_points:
        return max((point.clock_mhz for point in logic.operating_points if point.voltage_v <= voltage_v * (1 + 1e-9)), default=0.0)
    if logic.max_clock_mhz is None or logic.threshold_v is None or logic.nominal_voltage_v is None:
        return None
    return logic.max_clock_mhz * _speed(logic, voltage_v) / _speed(logic, logic.nominal_voltage_v)


def _speed(logic: ScaledLogic, voltage_v: float) -> float:
    assert logic.threshold_v is not None
    return float(max(voltage_v - logic.threshold_v, 0.0) ** logic.velocity_exponent / voltage_v)


def _least_voltage(logic: ScaledLogic, section: str, clock_mhz: float) -> float:
    """Lowest voltage of the table that allows a clock."""
    fast = [point.voltage_v for point in logic.operating_points if point.clock_mhz >= clock_mhz]
    if not fast:
        most = max(point.clock_mhz for point in logic.operating_points)
        raise ConfigError(f"{section}.{logic.CLOCK}: {clock_mhz:g}: above the {most:g} MHz of {section}.operating_points")
    return min(fast)


def _point(logic: L, section: str, clock_mhz: float | None) -> L:
    """One section at its point."""
    update: dict[str, Any] = {}
    voltage = logic.voltage_v
    if logic.operating_point is not None:
        points = {point.name: point for point in logic.operating_points}
        if logic.operating_point not in points:
            raise ConfigError(f"{section}.operating_point: " + unknown_name("operating point", logic.operating_point, points or ["none"]))
        point = points[logic.operating_point]
        voltage, clock_mhz = point.voltage_v, point.clock_mhz
        update = {logic.CLOCK: clock_mhz, "operating_point": None}
    elif voltage is None and logic.operating_points and getattr(logic, logic.CLOCK, None) is not None:
        voltage = _least_voltage(logic, section, float(clock_mhz or 0))
    if voltage is None:
        return logic
    nominal = logic.nominal_voltage_v
    if nominal is None:
        raise ConfigError(f"{section}.voltage_v: {voltage:g}: needs {section}.nominal_voltage_v, for which the energies hold")
    allowed = highest_clock_mhz(logic, voltage)
    if allowed is None:
        raise ConfigError(
            f"{section}.voltage_v: {voltage:g}: needs {section}.max_clock_mhz and {section}.threshold_v, or {section}.operating_points"
        )
    if clock_mhz is not None and clock_mhz > allowed * (1 + 1e-9):
        raise ConfigError(f"{section}.voltage_v: {voltage:g} V allows {allowed:.4g} MHz at most, the clock is {clock_mhz:.4g} MHz")
    ratio = voltage / nominal
    powers = dict.fromkeys(DYNAMIC, 2) | dict.fromkeys(STANDING, 1)
    scaled = {name: getattr(logic, name) * ratio**power for name, power in powers.items() if hasattr(logic, name)}
    note = {name: f"{logic.source.get(name, '')} x ({voltage:g} / {nominal:g} V)^{powers[name]}" for name in scaled}
    law = {"max_clock_mhz": allowed} if logic.max_clock_mhz is not None and not math.isclose(ratio, 1) else {}
    rebased = {"voltage_v": voltage, "nominal_voltage_v": voltage, "source": logic.source | (note if not math.isclose(ratio, 1) else {})}
    return logic.model_copy(update=update | scaled | law | rebased)


def _host_clock(host: HostSpec) -> HostSpec:
    """The host with throughput and dispatch at its clock."""
    clock, nominal = host.clock_mhz, host.nominal_clock_mhz
    if clock is None or clock == nominal:
        return host
    if nominal is None:
        raise ConfigError(f"host.clock_mhz: {clock:g}: needs host.nominal_clock_mhz, for which the host's throughput holds")
    allowed = highest_clock_mhz(host, host.voltage_v or host.nominal_voltage_v or math.inf)
    if allowed is not None and clock > allowed * (1 + 1e-9):
        raise ConfigError(f"host.clock_mhz: {clock:g}: above the {allowed:.4g} MHz that its voltage allows")
    ratio = clock / nominal
    note = {name: f"{host.source.get(name, '')} x {clock:g} / {nominal:g} MHz" for name in ("peak_gflops", "llc_gbps")}
    return host.model_copy(
        update={
            "peak_gflops": host.peak_gflops * ratio,
            "llc_gbps": host.llc_gbps * ratio,
            "llc_latency_ns": host.llc_latency_ns / ratio,
            "dispatch_ns": host.dispatch_ns / ratio,
            "nominal_clock_mhz": clock,
            "source": host.source | note,
        }
    )
