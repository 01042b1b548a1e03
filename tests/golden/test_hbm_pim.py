"""HBM-PIM kernels against the vendor's simulator: clocks of both columns, command counts, and logs command by command.

Measured when written: all 92 kernels equal in clocks, with units and without, and in every command count; all six logs equal.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from pimsim.api import load_device, run_kernel
from pimsim.dram.standard import Command, resolve_organisation
from pimsim.engine.fenced import serve
from pimsim.engine.pim_requests import MatVec, elementwise, matvec
from pimsim.graph import Elementwise, MatMul
from pimsim.units.plain import plain_memory, stream_bursts, stream_requests

GOLDEN = Path(__file__).parents[3] / "shared" / "golden" / "pim"
KERNELS = json.loads((GOLDEN / "hbm_pim_reference.json").read_text())["results"] if GOLDEN.is_dir() else []
NAMES = ("RD", "WR", "ACT", "PRE", "REF")


def item_of(reference: dict) -> MatMul | Elementwise:
    if reference["kernel"] == "GEMV":
        return MatMul(name="k", out_features=reference["out_dim"], in_features=reference["in_dim"], weight_bits=16, activation_bits=16)
    function = reference["kernel"].lower()
    operands = 1 if function == "relu" else 2
    return Elementwise(name="k", function=function, elements=reference["out_dim"], operands=operands, activation_bits=16)


def label(reference: dict) -> str:
    return "-".join(str(reference[name]) for name in ("kernel", "out_dim", "in_dim", "batch", "channels"))


def test_reference_is_there() -> None:
    if not GOLDEN.is_dir():
        pytest.skip(f"no reference data at {GOLDEN}")
    assert len(KERNELS) == 92


@pytest.mark.parametrize("reference", KERNELS, ids=label)
def test_kernel_equals_the_vendors(reference: dict) -> None:
    device = load_device("hbm_pim", {"dram.channels": reference["channels"]})
    run = device.unit.run_kernel(item_of(reference), device, reference["batch"])
    assert run.cycles == reference["pim_cycles"]
    assert {name: run.commands.get(name, 0) for name in NAMES} == reference["pim_cmds_per_channel"]


@pytest.mark.parametrize("reference", KERNELS, ids=label)
def test_plain_memory_equals_the_vendors(reference: dict) -> None:
    device = load_device("hbm_pim", {"dram.channels": reference["channels"]})
    item, batch = item_of(reference), reference["batch"]
    assert plain_memory(item, device, batch, None).cycles == reference["hbm_cycles"]
    single = device.dram.model_copy(update={"channels": 1})
    reads, writes = stream_bursts(item, batch, reference["channels"], 32)
    address = np.arange(reads + writes, dtype=np.uint64) * np.uint64(32)
    counts = serve(single, stream_requests(single, address, reads), idle_ranks=device.unit.idle_ranks, refresh_yields=True).counts
    assert {name: counts.get(name, 0) for name in NAMES} == reference["hbm_cmds_per_channel"]


def vendors_log(name: str) -> list[tuple[int, int, int, int]]:
    """(clock, command, rank, bank) of every command."""
    path = GOLDEN / name
    if not path.is_file():
        pytest.skip(f"no command log at {path}")
    codes = [Command.RD, Command.WR, Command.ACT, Command.PRE, Command.REF]
    with path.open() as handle:
        rows = list(csv.reader(handle))[1:]
    return [(int(row[0]), int(codes[int(row[2])]), int(row[3]), int(row[4])) for row in rows]


@pytest.mark.parametrize(
    ("name", "kernel"),
    [
        ("commands_gemv_1ch_64x256.csv", ("gemv", 2)),
        ("commands_gemv_1ch_64x1024.csv", ("gemv", 8)),
        ("commands_gemv_1ch_64x4096.csv", ("gemv", 32)),
        ("commands_add_1ch_16384.csv", ("add", 2)),
        ("commands_relu_1ch_16384.csv", ("relu", 1)),
        ("commands_hbm_1ch_share_gemv4096x1024.csv", ("plain", 0)),
    ],
)
def test_command_log_equals_the_vendors(name: str, kernel: tuple[str, int]) -> None:
    expected = vendors_log(name)
    device = load_device("hbm_pim", {"dram.channels": 1})
    organisation, mode = resolve_organisation(device.dram), device.unit.all_bank_mode(16, device)
    if kernel[0] == "gemv":
        requests = matvec(MatVec(8, 8, kernel[1], 1, 1), organisation, mode)
    elif kernel[0] == "plain":
        reads, writes = 64 * 1024 // 16 + 1, 4
        requests = stream_requests(device.dram, np.arange(reads + writes, dtype=np.uint64) * np.uint64(32), reads)
    else:
        requests = elementwise(8, 8, kernel[1], organisation, mode)
    log = serve(device.dram, requests, mode, device.unit.idle_ranks, refresh_yields=True, log_commands=True).log
    ours = [(t, c, int(b == -2), max(b, 0)) for t, c, b, _ in log.tolist()]
    assert ours == expected


def test_one_call_gives_both_columns() -> None:
    report = run_kernel(load_device("hbm_pim"), MatMul(name="k", out_features=4096, in_features=4096, weight_bits=16, activation_bits=16))
    assert (report.cycles, report.baseline.cycles) == (13166, 36082)
    assert report.to_json()["speedup"] == pytest.approx(2.7405, abs=1e-3)
