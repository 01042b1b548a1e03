"""Voltage and clock of logic: what a unit or a host may be set to, and what its file's numbers hold for."""

from __future__ import annotations

from typing import ClassVar

from pydantic import PositiveFloat

from pimsim.spec.base import Sourced, Spec


class OperatingPoint(Spec):
    """One row of a voltage and clock table."""

    name: str
    clock_mhz: PositiveFloat
    voltage_v: PositiveFloat


class ScaledLogic(Sourced):
    """Logic whose voltage can be chosen; `pimsim.energy.dvfs` applies the choice when a device is loaded."""

    CLOCK: ClassVar[str] = "clock_mhz"
    """Field that holds the clock."""
    voltage_v: PositiveFloat | None = None
    """Supply voltage of the logic; none: the nominal one."""
    operating_point: str | None = None
    """Name of one of `operating_points`, which sets voltage and clock."""
    operating_points: tuple[OperatingPoint, ...] = ()
    """Voltages and the highest clock of each, in the place of the alpha-power law; a clock alone takes the lowest voltage."""
    nominal_voltage_v: PositiveFloat | None = None
    """Voltage for which the energies and the standing power of this section, and `max_clock_mhz`, hold."""
    max_clock_mhz: PositiveFloat | None = None
    """Highest clock at the nominal voltage."""
    threshold_v: PositiveFloat | None = None
    """Threshold voltage of the transistors, for the alpha-power law."""
    velocity_exponent: PositiveFloat = 1.3
    """Exponent of the alpha-power law: clock ~ (V - threshold)^exponent / V (Sakurai and Newton, JSSC 1990; 1.3 in Zhai, DAC 2004)."""
