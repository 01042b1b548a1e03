"""The micro-benchmarks of the PrIM study on the UPMEM model."""

from __future__ import annotations

from typing import Any

from pimsim.api import load_device
from pimsim.units.upmem import UpmemSpec


def _dpu() -> UpmemSpec:
    unit = load_device("upmem").unit
    assert isinstance(unit, UpmemSpec)
    return unit


def cycles_per_instruction(tasklets: int) -> float:
    """Cycles between two instructions of one tasklet, over a long loop."""
    return _dpu().compute_cycles(100_000, tasklets) / 100_000


def dma_cycles(size_bytes: int, write: bool = False) -> float:
    """Cycles of one MRAM transfer."""
    return _dpu().dma_cycles(size_bytes, write)


def mram_bandwidth(size_bytes: int, write: bool = False, dpus: int = 1) -> float:
    """MRAM bandwidth in MB/s."""
    return _dpu().mram_bandwidth(size_bytes, write, dpus)


def throughput_mops(op: str, dtype: str) -> float:
    """Arithmetic throughput of a DPU with 16 tasklets in million operations a second."""
    return _dpu().throughput_mops(op, dtype)


def stream_mbps(kernel: str) -> float:
    """WRAM bandwidth of a STREAM kernel in MB/s."""
    return _dpu().stream_mbps(kernel)


def transfer_gbps(kind: Any, bytes_per_dpu: int = 32 << 20, dpus: int = 64) -> float:
    """Bandwidth of transfers between the host and the DPUs of a rank in GB/s."""
    device = load_device("upmem")
    return bytes_per_dpu * dpus / _dpu().transfer_ps(bytes_per_dpu, dpus, kind, device) * 1000
