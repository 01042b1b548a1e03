"""The hand-checked micro-cases, command by command: every latency and every command clock equal to Ramulator 2.1's."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pimsim.dram.standard import Command, resolve_timing
from pimsim.engine.dram import replay
from pimsim.mapping.address import map_of
from pimsim.spec.dram import ControllerSpec, DramSpec

GOLDEN = Path(__file__).parents[2].parent / "shared" / "golden" / "dram"
NAMES = {"PREpb": "PRE", "PREab": "PREA", "REFab": "REF", "ACT1": "ACT"}
PRESETS = {
    "ddr4": ("8Gb_x8", "3200AA"),
    "ddr5": ("16Gb_x8", "4800BN"),
    "gddr6": ("8Gb_x16", "14000_1350mV"),
    "hbm2": ("4Gb", "2000"),
    "lpddr5": ("8Gb_x16", "6400"),
}
OURS = tuple(PRESETS)


def _cases() -> dict:
    path = GOLDEN / "micro_cases.json"
    return json.loads(path.read_text()) if path.exists() else {}


CASES = {name: case for name, case in _cases().items() if name.startswith(OURS)}


def spec_of(config: str) -> DramSpec:
    """The specification of a reference configuration, by its name."""
    controller = ControllerSpec(
        scheduler="frfcfs-row-hit" if "rowhit" in config else "frfcfs", refresh="off" if "noref" in config else "on"
    )
    standard = config.split("_")[1]
    organisation, speed = PRESETS[standard]
    ranks = 2 if "_r2" in config else 1
    return DramSpec(standard=standard, organisation=organisation, speed=speed, ranks=ranks, controller=controller)


def test_reference_data_is_there():
    if not GOLDEN.exists():
        pytest.skip(f"no reference data at {GOLDEN}")
    assert len(CASES) >= 33


@pytest.mark.parametrize("name", CASES)
def test_micro_case_is_exact(name):
    case = CASES[name]
    reference = case["ramulator"]
    spec = spec_of(reference["cfg"])
    kind, rank, group, bank, row, column = np.array(case["requests"], np.int64).T
    fields = {"channel": 0 * rank, "rank": rank, "bankgroup": group, "bank": bank, "row": row, "column": column}
    result = replay(spec, map_of(spec).encode(fields), kind == 1, interval=case["interval"], log_commands=True)
    latency = [None if write else int(clocks) for write, clocks in zip(kind, result.departed - result.arrived, strict=True)]
    assert latency == reference["latency"]
    issued = [(int(entry["cycle"]), Command(entry["command"]).name) for entry in result.command_log]
    assert issued == [(entry[0], NAMES.get(entry[1], entry[1])) for entry in reference["cmds"]]


@pytest.mark.parametrize("config", ["ram_ddr4_3200_r1", "ram_ddr5_4800", "ram_hbm2_2000_1pc", "ram_gddr6_14000", "ram_lpddr5_6400"])
def test_timing_values_are_the_reference_ones(config):
    """Ours may have names that the reference lacks (same-bank refresh)."""
    if not GOLDEN.exists():
        pytest.skip(f"no reference data at {GOLDEN}")
    reference = json.loads((GOLDEN / "reference_configs.json").read_text())[config]["timing"]
    ours = resolve_timing(spec_of(config))
    assert {name: ours[name] for name in reference if name != "rate"} == {k: v for k, v in reference.items() if k != "rate"}
