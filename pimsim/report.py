"""What a simulation answers: latency, throughput, energy by part, area, bandwidth, and a table of operators."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class OperatorRow:
    """One operator of a batch that runs alone.

    Attributes:
        name: Name in the graph.
        kind: Primitive.
        unit: `host`, `pim`, or `-`.
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

    def to_json(self) -> dict[str, Any]:
        """The object that `pimsim run --json` writes."""
        from dataclasses import asdict

        value = asdict(self)
        value["operators"] = list(value["operators"])
        return {key: _printable(part) for key, part in value.items()}


def _printable(value: Any) -> Any:
    """The same value with `n/a` for None."""
    if isinstance(value, dict):
        return {key: _printable(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_printable(part) for part in value]
    return "n/a" if value is None else value
