"""What a simulation answers: latency, throughput, energy by part, area, bandwidth, and a table of operators."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class OperatorRow:
    """One operator of a batch that runs alone.

    Attributes:
        name: Name in the graph.
        kind: Primitive.
        unit: `host`, `pim`, `link`, or `-`.
        latency_us: Time from start to end for the batch.
        stall_us: Time it was ready and waited for the host or the memory.
        energy_uj: Dynamic energy for the batch.
        share: Its latency as a share of a lone batch's latency if it lies on the critical path, else 0; the shares add up to 1.
        limited_by: The term that set its latency.
    """

    name: str
    kind: str
    unit: str
    latency_us: float
    stall_us: float
    energy_uj: float | None
    share: float
    limited_by: str


@dataclass(frozen=True)
class Report:
    """Answer of one simulation; times in microseconds, energy in microjoules per sample.

    None is a quantity that is not modelled: `area_mm2` is the logic added beside the memory, so a plain memory has none; energy and power
    need currents of the standard, `dram_io` the device's energy per bit (left out of the total where there is none).

    Attributes:
        batches: Batches that the figures are taken from.
        utilisation: Share of the time for which this model's operators ran on `host`, in `memory` and on the units (`pim`), and for which
            its transfers occupied the link, if there is one (`link_send` and `link_receive`, or `link`).
        saturated: True when batches arrived faster than they were served: latency then grows with the number of batches.
    """

    device: str
    workload: str
    fidelity: str
    batch: int
    latency_us: dict[str, float]
    throughput_samples_per_s: float
    energy_uj_per_sample: dict[str, float | None]
    area_mm2: float | None
    power_w: float | None
    bandwidth_gbps: dict[str, float]
    bottleneck: str
    operators: tuple[OperatorRow, ...]
    provenance: dict[str, Any]
    batches: int = 1
    utilisation: dict[str, float] = field(default_factory=dict)
    saturated: bool = False

    def to_json(self) -> dict[str, Any]:
        """The object that `pimsim run --json` writes."""
        from dataclasses import asdict

        value = asdict(self)
        value["operators"] = list(value["operators"])
        return {key: _printable(part) for key, part in value.items()}


@dataclass(frozen=True)
class SystemReport:
    """Answer of a simulation of several models that share a device.

    Attributes:
        device: Name of the device.
        fidelity: How operator costs were found.
        models: One report per model, with the standing power of its share of the time.
        utilisation: Share of the time for which anything ran on `host`, in `memory`, on the units (`pim`) and on a link.
        area_mm2: Logic added beside the memory.
        power_w: Power of the whole.
        bandwidth_gbps: Of all models, and the memory's peak.
        bottleneck: The busiest of host, memory and link, and the model that occupies it most.
        provenance: Versions, digests, seed.
    """

    device: str
    fidelity: str
    models: tuple[Report, ...]
    utilisation: dict[str, float]
    area_mm2: float | None
    power_w: float | None
    bandwidth_gbps: dict[str, float]
    bottleneck: str
    provenance: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """The object that `pimsim run --json` writes for several workloads."""
        from dataclasses import fields

        value = {part.name: getattr(self, part.name) for part in fields(self)}
        value["models"] = [model.to_json() for model in self.models]
        return {key: _printable(part) for key, part in value.items()}


def _printable(value: Any) -> Any:
    """The same value with `n/a` for None."""
    if isinstance(value, dict):
        return {key: _printable(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_printable(part) for part in value]
    return "n/a" if value is None else value
