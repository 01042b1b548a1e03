"""What a memory system is: standard, organisation, speed bin, controller. The numbers of a standard live in `pimsim/dram/`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from pimsim.spec.base import Sourced, Spec


class ControllerSpec(Spec):
    """Memory controller: queues, scheduling, page policy and refresh."""

    scheduler: Literal["frfcfs", "frfcfs-row-hit", "fcfs"] = "frfcfs"
    """`frfcfs`: oldest ready request first, column commands before row commands, with Ramulator 2.1's active buffer."""
    row_policy: Literal["open", "closed", "auto-precharge"] = "open"
    """`open` leaves a row open until a conflict or a refresh; `closed` precharges it after one access, but a queued hit goes first, with
    auto-precharge; `auto-precharge` closes it with every access, so that no access hits."""
    refresh: Literal["on", "off", "per-bank", "same-bank"] = "on"
    """`on`: all-bank refresh of every rank each nREFI; `off`: none; `per-bank`, `same-bank`: some banks at a time, where the standard
    has it."""
    read_queue: PositiveInt = 32
    """Entries of the read queue of one channel."""
    write_queue: PositiveInt = 32
    """Entries of the write queue of one channel."""
    write_low_watermark: float = Field(default=0.2, ge=0, le=1)
    """Share of the write queue at which draining stops."""
    write_high_watermark: float = Field(default=0.8, ge=0, le=1)
    """Share of the write queue at which draining starts."""
    merge_reads: bool = False
    """A read of a burst that a waiting read asks for is answered by that one, without an entry of its own."""


class DramSpec(Sourced):
    """A memory system of identical channels."""

    standard: str
    """File name in `pimsim/dram/`, for example `ddr4`."""
    organisation: str
    """Organisation preset of the standard, for example `8Gb_x8`."""
    speed: str = Field(coerce_numbers_to_str=True)
    """Speed bin of the standard, for example `3200AA`."""
    channels: PositiveInt = 1
    """Independent channels (pseudo-channels for HBM)."""
    ranks: PositiveInt = 1
    """Ranks per channel."""
    address_map: str = "row-bank-bankgroup-rank-column-channel"
    """Order of the address fields from the most significant bit down."""
    timing: dict[str, NonNegativeInt] = Field(default_factory=dict)
    """Overrides of the speed bin's timing, in clocks, under the standard's names (nRCD, nCCDL, nFAW, nREFI ...)."""
    controller: ControllerSpec = ControllerSpec()
    """Memory controller."""
    io_pj_per_bit: float | None = Field(default=None, ge=0)
    """Energy of moving one bit between the memory device and the host (I/O, PHY, interposer or board); none = not modelled."""

    def __hash__(self) -> int:
        """By what sets the timing, so that results can be cached by specification."""
        where = (self.standard, self.organisation, self.speed, self.channels, self.ranks, self.address_map, self.io_pj_per_bit)
        return hash((where, tuple(sorted(self.timing.items())), self.controller))
