"""Ordinary writes of a small operand to the banks of a channel in closed form, for kernels whose operands are not resident.

Modelling decisions:
    * Rows of the operand go to the banks in turn, the bursts of one behind each other. The controller's queue sees as many of them as it
      has entries; bank groups within it take turns on the data bus.
    * A bank whose next row of the operand lies beyond the queue is closed and opened again. Openings hide behind other banks' bursts as
      far as the activation limits let them, but for the first one and the end of the last write.

Not modelled: a refresh that closes rows half-way (its own time is added with the rest of the kernel's).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pimsim.analytic.table import DeviceTable
from pimsim.dram.standard import common_timing

Array = NDArray[np.float64]


def upload_clocks(table: DeviceTable, rows: Array, bursts: Array, banks: Array) -> Array:
    """Clocks of writing `rows` rows of `bursts` bursts to `banks` banks of a channel, until their banks can be closed; all (n,).

    Refresh is left out.
    """
    timing = [common_timing(device.dram) for device in table.devices]
    latency, recovery = (np.array([one[name] for one in timing], float) for name in ("nCWL", "nWR"))
    opening = np.array([one.get("nRCDWR", one["nRCD"]) for one in timing], float)
    spread = np.minimum(rows, banks) * table["groups"] * table["ranks"] / table["banks"]  # bank groups that have a row
    seen = np.clip(np.minimum(np.ceil(spread), table["window"] / bursts), 1, table["groups"])
    each = np.maximum(table["burst"], table["gap"] / seen)
    opens = np.where(banks * bursts > table["window"], rows, np.minimum(rows, banks))
    activations = np.maximum(opens * table["activate"] - rows * bursts * each, 0)
    return 1 + opening + (rows * bursts - 1) * each + activations + latency + table["burst"] + recovery


def opened_rows(table: DeviceTable, rows: Array, bursts: Array, banks: Array) -> Array:
    """Rows of banks that the writes open."""
    filled = np.minimum(rows, banks) * np.ceil(rows * bursts / (banks * table["columns"]))
    return np.where(banks * bursts > table["window"], np.maximum(rows, filled), filled)
