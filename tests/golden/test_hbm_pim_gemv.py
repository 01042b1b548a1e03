"""Matrix-vector kernels of HBM-PIM against the vendor's simulator: command counts equal, clocks within what was measured."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pimsim.dram.standard import resolve_organisation, resolve_timing
from pimsim.engine.pim_streams import MatVec, matvec
from pimsim.engine.stream import issue_stream
from pimsim.spec.device import load_device

GOLDEN = Path(__file__).parents[3] / "shared" / "golden" / "pim" / "hbm_pim_reference.json"


@pytest.fixture(scope="module")
def runs() -> list[tuple[dict, int, dict[str, int]]]:
    """(reference, our clocks, our command counts) of every matrix-vector kernel."""
    if not GOLDEN.is_file():
        pytest.skip(f"{GOLDEN} is not here")
    device = load_device("hbm_pim", {"dram.channels": 1})
    organisation, timing = resolve_organisation(device.dram), resolve_timing(device.dram)
    found = []
    for reference in json.loads(GOLDEN.read_text())["results"]:
        if reference["kernel"] == "GEMV":
            share = MatVec((8,) * reference["in_tiles"], (8,) * reference["out_tiles"], reference["batch"])
            program = matvec(share, organisation, timing, device.unit.banks_per_unit(organisation))
            begin = timing["nREFI"] // 2
            gap = device.unit.column_gap(16, organisation, timing)
            result = issue_stream(device.dram, program, column_gap=gap, begin=begin)
            found.append((reference, result.cycles - begin, result.counts))
    return found


def test_column_commands_are_equal(runs: list[tuple[dict, int, dict[str, int]]]) -> None:
    for reference, _, counts in runs:
        expected = reference["pim_cmds_per_channel"]
        assert (counts["RD"], counts["WR"]) == (expected["RD"], expected["WR"])


def test_clocks_follow_the_vendor(runs: list[tuple[dict, int, dict[str, int]]]) -> None:
    """Kernels that stalled on equally many refreshes (the vendor counts those of a second, idle rank too) are within 4 %."""
    errors = [
        abs(cycles / reference["pim_cycles"] - 1)
        for reference, cycles, counts in runs
        if counts.get("REF", 0) == (reference["pim_cmds_per_channel"]["REF"] + 1) // 2
    ]
    assert len(errors) >= 0.7 * len(runs)
    assert max(errors) < 0.04 and np.mean(errors) < 0.03
