"""The link between a host and a memory with units that does not hang on the host's own channels: PCIe, CXL, NVLink."""

from __future__ import annotations

from typing import Literal

from pydantic import NonNegativeFloat, PositiveFloat

from pimsim.spec.base import Sourced


class LinkSpec(Sourced):
    """One link; `pimsim.engine.link` says what crosses it."""

    send_gbps: PositiveFloat
    """Bandwidth from the host to the memory, GB/s."""
    receive_gbps: PositiveFloat
    """Bandwidth from the memory to the host, GB/s."""
    latency_ns: NonNegativeFloat
    """Fixed time of a transfer in one direction: set-up and the flight of its first byte."""
    pj_per_bit: NonNegativeFloat
    """Energy of moving one bit over it, both ends together."""
    duplex: Literal["full", "half"] = "full"
    """`full`: both directions at the same time; `half`: one transfer at a time."""
