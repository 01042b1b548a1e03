"""TensorDIMM (Kwon et al., MICRO 2019): every embedding row is cut over all ranks of a channel, which add their pieces in lock-step.

Modelling decisions:
    * A channel's instruction is broadcast to its ranks; each reads its piece of the row, at least one burst: rows shorter than a burst
      a rank waste bandwidth and activations.
    * All ranks of a channel do the same at the same time, so one is simulated; look-ups are dealt over channels by the table's row.
    * Gather and reduction are one pass, as in later papers' comparisons: added as it is read.

Not modelled: the list of indices in the DIMM's own memory, gathered rows written back before they are reduced (TensorISA's two passes).
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pimsim.spec.device import DeviceSpec
from pimsim.units.near_rank import NearRankSpec


class TensorDimmSpec(NearRankSpec):
    """Vector adders in the buffer chip of every rank."""

    kind: Literal["tensordimm"]
    tables: ClassVar[tuple[str, ...]] = ("striped",)

    def stripes(self, device: DeviceSpec) -> int:
        return device.dram.ranks


UNIT = TensorDimmSpec
