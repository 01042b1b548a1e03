"""A model on a device beside the same model on another one, or on the same one without its units: PIM against no PIM."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pimsim.errors import ConfigError
from pimsim.report import Report, SystemReport
from pimsim.spec.device import DeviceSpec, load_device

if TYPE_CHECKING:
    from rich.table import Table

NO_UNITS = "none"


def other_device(name_or_path: str, device: DeviceSpec) -> DeviceSpec:
    """The device to compare with.

    Args:
        name_or_path: A device by name or file; `none`: the same memory and host without the units, everything mapped to the host.
        device: The device that is compared.

    Raises:
        ConfigError: an unknown device, or `none` for a device without units.
    """
    if name_or_path != NO_UNITS:
        return load_device(name_or_path)
    if device.unit is None:
        raise ConfigError(f"--against none: {device.name} has no units that could be left out (allowed: the name or file of a device)")
    return without_units(device)


def without_units(device: DeviceSpec) -> DeviceSpec:
    """The same memory and host, with every operator on the host; tables that were cut over units are dealt row by row."""
    placed = {"tables": "row"} if device.mapping.tables == "striped" else {}
    on_host = {name: "host" for name, value in device.mapping if value == "pim"}
    mapping = device.mapping.model_copy(update=placed | on_host)
    return device.model_copy(update={"name": f"{device.name} without units", "unit": None, "mapping": mapping})


def ratios(device: Report, other: Report) -> dict[str, float | None]:
    """How many times better the device is: latency and energy of the other over its own, its throughput over the other's.

    None where one of the two is not modelled.
    """
    latency, theirs = device.latency_us, other.latency_us
    energy, their_energy = device.energy_uj_per_sample["total"], other.energy_uj_per_sample["total"]
    return {
        "speedup": _over(theirs["mean"], latency["mean"]),
        "speedup_p99": _over(theirs["p99"], latency["p99"]),
        "throughput": _over(device.throughput_samples_per_s, other.throughput_samples_per_s),
        "energy": _over(their_energy, energy),
    }


def to_json(device: Report | SystemReport, other: Report | SystemReport) -> dict[str, Any]:
    """The device's own report with the other's under `against` and `comparison`: one set of ratios, or one per model."""
    found = [
        {name: "n/a" if value is None else value for name, value in ratios(one, two).items()}
        for one, two in zip(models(device), models(other), strict=True)
    ]
    return device.to_json() | {"against": other.to_json(), "comparison": found if isinstance(device, SystemReport) else found[0]}


def models(report: Report | SystemReport) -> tuple[Report, ...]:
    """The reports of single models."""
    return report.models if isinstance(report, SystemReport) else (report,)


def table(device: Report, other: Report) -> Table:
    """Both side by side, for a terminal."""
    from rich.table import Table

    better = ratios(device, other)
    rows = [
        ("latency us (mean)", *_pair(device.latency_us["mean"], other.latency_us["mean"]), better["speedup"]),
        ("latency us (p99)", *_pair(device.latency_us["p99"], other.latency_us["p99"]), better["speedup_p99"]),
        ("throughput samples/s", *_pair(device.throughput_samples_per_s, other.throughput_samples_per_s, ",.0f"), better["throughput"]),
        ("energy uJ/sample", *_pair(device.energy_uj_per_sample["total"], other.energy_uj_per_sample["total"]), better["energy"]),
        ("power W", *_pair(device.power_w, other.power_w), None),
        ("area mm2 (logic added)", *_pair(device.area_mm2, other.area_mm2), None),
        ("bandwidth GB/s", *_pair(device.bandwidth_gbps["achieved"], other.bandwidth_gbps["achieved"]), None),
        ("bottleneck", device.bottleneck, other.bottleneck, None),
    ]
    found = Table("", device.device, other.device, "better by", box=None, header_style="bold")
    for column in found.columns[1:]:
        column.justify = "right"
    if all(report.latency_us["p50"] == report.latency_us["p99"] for report in (device, other)):
        del rows[1]
    for name, ours, theirs, ratio in rows:
        found.add_row(name, ours, theirs, "" if ratio is None else f"{ratio:,.2f}x")
    return found


def _over(first: float | None, second: float | None) -> float | None:
    return None if first is None or not second else first / second


def _pair(ours: float | None, theirs: float | None, form: str = ",.2f") -> tuple[str, str]:
    return tuple("n/a" if value is None else format(value, form) for value in (ours, theirs))  # type: ignore[return-value]
