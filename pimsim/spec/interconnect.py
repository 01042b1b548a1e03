"""The network on the memory's die between a channel's interface and its compute units."""

from __future__ import annotations

from typing import Literal

from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from pimsim.spec.base import Sourced


class InterconnectSpec(Sourced):
    """A bus, H-tree or mesh in every channel; its nodes are the channel's units, its port is the channel's interface."""

    kind: Literal["bus", "htree", "mesh"]
    """`bus`: one shared wire; `htree`: a balanced binary tree with the units as leaves; `mesh`: a grid with the port at a corner."""
    link_bits: PositiveInt = 256
    """Width of a link: bits of one flit (ISAAC: 256-bit flits)."""
    clock_mhz: PositiveFloat = 500.0
    """Clock of the links (estimate: 256 bits at 500 MHz carry what a pseudo-channel of HBM2 does)."""
    hop_cycles: PositiveInt = 1
    """Cycles of one hop (estimate: a registered repeater or a single-cycle router)."""
    pj_per_bit_hop: NonNegativeFloat | None = None
    """Energy of a bit over one hop; none: 0.054 on a bus or tree, 0.081 in a mesh (ISAAC's bus and router at 32 nm, CiMLoop library)."""
    pj_per_flit_hop: NonNegativeFloat = 0.0
    """Energy of a flit over one hop that does not depend on its width (arbitration)."""

    @property
    def bit_hop_pj(self) -> float:
        """Energy of a bit over one hop."""
        if self.pj_per_bit_hop is not None:
            return self.pj_per_bit_hop
        return 0.081 if self.kind == "mesh" else 0.054
