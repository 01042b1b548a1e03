"""`pimsim replay` and `pimsim check` as a user types them: contract keys, exit statuses, one readable line for bad input."""

from __future__ import annotations

import csv
import gzip
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from pimsim.cli import app
from pimsim.errors import PimsimError
from pimsim.trace import Trace, write_trace

KEYS = {
    "device", "requests", "reads", "writes", "cycles", "tck_ps", "mean_read_latency_cycles", "max_read_latency_cycles",
    "row_hits", "row_misses", "row_conflicts", "commands", "bandwidth_gbps", "peak_bandwidth_gbps", "energy_nj",
    "simulate_seconds",
}  # fmt: skip
ENERGY = {"activate", "read", "write", "refresh", "background", "io", "total"}


def pimsim(*arguments: object) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"COLUMNS": "200"}
    command = [sys.executable, "-m", "pimsim.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


@pytest.fixture(scope="module")
def trace(tmp_path_factory) -> Path:
    rng = np.random.default_rng(5)
    path = tmp_path_factory.mktemp("traces") / "t.npz"
    address = (rng.integers(0, 1 << 22, 2000) * 64).astype(np.uint64)
    write_trace(path, Trace(address, rng.random(2000) < 0.25), "npz")
    return path


def test_replay_writes_the_contract(trace, tmp_path):
    log, timeline = tmp_path / "c.csv", tmp_path / "t.json.gz"
    done = pimsim("replay", trace, "--device", "ddr4_3200", "--json", "-", "--commands", log, "--timeline", timeline)
    assert done.returncode == 0 and done.stderr == ""
    result = json.loads(done.stdout)
    assert KEYS <= set(result) and set(result["energy_nj"]) == ENERGY
    assert {"ACT", "PRE", "RD", "WR", "REF"} <= set(result["commands"])
    assert result["device"] == "ddr4_3200" and result["requests"] == 2000 == result["reads"] + result["writes"]
    assert result["energy_nj"]["io"] == "n/a"
    with log.open() as handle:
        rows = list(csv.DictReader(handle))
    assert list(rows[0]) == ["cycle", "command", "channel", "rank", "bankgroup", "bank", "row", "column"]
    assert len(rows) == sum(result["commands"].values())
    with gzip.open(timeline, "rt") as handle:
        events = json.load(handle)["traceEvents"]
    assert sum(event["ph"] == "X" for event in events) == len(rows)


def test_replay_prints_a_table(trace):
    done = pimsim("replay", trace, "--device", "hbm2_2000", "--set", "dram.channels=4")
    assert done.returncode == 0
    for text in ("mean read latency", "GB/s", "energy, total", "requests/s"):
        assert text in done.stdout


def _cycles(trace: Path, *arguments: str) -> dict:
    done = CliRunner().invoke(app, ["replay", str(trace), "--device", "ddr4_3200", "--json", "-", *arguments])
    assert done.exit_code == 0, done.exception
    return json.loads(done.stdout)


def test_replay_options_change_what_they_name(trace):
    base = _cycles(trace)
    assert _cycles(trace, "--refresh", "off")["commands"]["REF"] == 0 < base["commands"]["REF"]
    assert _cycles(trace, "--row-policy", "closed")["row_conflicts"] == 0 < base["row_conflicts"]
    assert _cycles(trace, "--scheduler", "fcfs")["cycles"] > base["cycles"]
    assert _cycles(trace, "--interval", "100")["cycles"] > 199_900
    assert _cycles(trace, "--map", "bankgroup-interleave")["cycles"] != base["cycles"]
    assert _cycles(trace, "--set", "dram.timing.nFAW=80")["cycles"] > base["cycles"]
    assert _cycles(trace, "--set", "dram.ranks=2")["cycles"] != base["cycles"]


def test_chunks_and_threads_change_nothing(trace, tmp_path):
    base = _cycles(trace, "--set", "dram.channels=4")
    pieces = _cycles(trace, "--set", "dram.channels=4", "--chunk", "300", "--threads", "2")
    assert base | {"simulate_seconds": 0} == pieces | {"simulate_seconds": 0}
    text = tmp_path / "t.trace"
    with np.load(trace) as arrays:
        write_trace(text, Trace(arrays["address"], arrays["is_write"]), "ramulator")
    assert _cycles(text, "--chunk", "700")["cycles"] == _cycles(trace)["cycles"]


def test_chunks_find_what_is_wrong_with_a_trace(tmp_path):
    path = tmp_path / "late.npz"
    arrival = np.array([0, 10, 20, 15], np.int64)
    np.savez(path, address=np.zeros(4, np.uint64), is_write=np.zeros(4, bool), arrival_cycle=arrival)
    for extra in ([], ["--chunk", "3"]):
        done = pimsim("replay", path, "--device", "ddr4_3200", *extra)
        assert done.returncode == 2 and "record 3: 15: earlier than the one before" in done.stderr


def test_why_adds_up_and_banks_add_up(trace):
    result = _cycles(trace, "--why", "--per-bank")
    loss = result["bandwidth_loss"]
    assert sum(loss["clocks"].values()) == loss["total_clocks"] >= result["cycles"]
    assert sum(loss["percent"].values()) == pytest.approx(100, abs=1e-9)
    (channel,) = result["channels"]
    for parts in ("banks", "bankgroups"):
        assert sum(part["row_conflicts"] for part in channel[parts]) == channel["row_conflicts"] == result["row_conflicts"]
        assert sum(part["reads"] for part in channel[parts]) == result["commands"]["RD"]
    printed = pimsim("replay", trace, "--device", "ddr4_3200", "--why", "--per-bank").stdout
    assert "activation window" in printed and "bank group" in printed


def test_energy_of_ranks_and_channels_adds_up(trace):
    result = _cycles(trace, "--per-bank", "--set", "dram.ranks=2", "--set", "dram.channels=2")
    ranks = [rank["energy_nj"] for channel in result["channels"] for rank in channel["ranks"]]
    assert len(ranks) == 4
    for part in ("activate", "read", "write", "refresh", "background", "total"):
        assert sum(rank[part] for rank in ranks) == pytest.approx(result["energy_nj"][part])
    assert len({rank["activate"] for rank in ranks}) > 1 and ranks[0]["io"] == result["energy_nj"]["io"] == "n/a"


def test_merged_reads_take_one_command(tmp_path):
    path = tmp_path / "same.npz"
    np.savez(path, address=np.array([64, 64, 64, 128], np.uint64), is_write=np.zeros(4, bool))
    plain, merged = _cycles(path), _cycles(path, "--set", "dram.controller.merge_reads=true")
    assert (plain["commands"]["RD"], plain["merged_reads"]) == (4, 0)
    assert (merged["commands"]["RD"], merged["merged_reads"]) == (2, 2)
    assert merged["cycles"] < plain["cycles"]


BAD = [
    (["--device", "ddr4_3300"], r"did you mean 'ddr4_3200'"),
    (["--set", "dram.timing.nCCDM=3"], r"'nCCDM'; did you mean 'nCCD[LS]'"),
    (["--set", "dram.timing.nCL=-1"], r"dram\.timing\.nCL: -1"),
    (["--set", "dram.timing.nREFI=100"], r"nREFI: 100: must exceed"),
    (["--set", "dram.rnks=2"], r"dram\.rnks: unknown key; did you mean 'ranks'"),
    (["--set", "dram.speed=3200A"], r"unknown ddr4 speed bin .*did you mean '3200AA'"),
    (["--set", "dram.standard=drd4"], r"unknown DRAM standard .*did you mean 'ddr4'"),
    (["--scheduler", "frfcs"], r"--scheduler: .*did you mean 'frfcfs'"),
    (["--map", "row-bank"], r"dram\.address_map"),
    (["--interval", "-3"], r"--interval -3"),
    (["--threads", "0"], r"--threads 0: must be at least 1"),
    (["--chunk", "0"], r"--chunk 0: must be at least 1"),
    (["--chunk", "5", "--why"], r"--chunk 5: .*--why need the trace in one piece"),
    (["--commands", "/nowhere/c.csv"], r"--commands /nowhere/c.csv: cannot be written"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=lambda value: "_".join(value) if isinstance(value, list) else "")
def test_bad_input_is_one_line(trace, arguments, message):
    if "--device" not in arguments:
        arguments = ["--device", "ddr4_3200", *arguments]
    done = CliRunner().invoke(app, ["replay", str(trace), *arguments])
    assert isinstance(done.exception, PimsimError), done.exception
    assert re.search(message, str(done.exception)) and "\n" not in str(done.exception), str(done.exception)


def test_malformed_trace_names_file_and_line(tmp_path):
    path = tmp_path / "bad.trace"
    path.write_text("LD 0x40\nLD oops\n")
    done = pimsim("replay", path, "--device", "ddr4_3200")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert f"{path} line 2" in done.stderr and "'LD 0x1a2b40'" in done.stderr


@pytest.mark.parametrize("device", ["ddr4_3200", "hbm2_2000"])
def test_check_passes_on_the_shipped_memories(device):
    done = pimsim("check", device, "--json", "-")
    assert done.returncode == 0, done.stdout
    result = json.loads(done.stdout)
    assert result["device"] == device and len(result["checks"]) >= 6
    for check in result["checks"]:
        assert {"name", "expected", "simulated", "unit", "ok"} <= set(check) and check["ok"]


def test_check_fails_where_a_closed_form_does_not_hold():
    """With a read queue of one entry no closed form of bandwidth can be reached."""
    done = pimsim("check", "ddr4_3200", "--set", "dram.controller.read_queue=1", "--json", "-")
    assert done.returncode == 1
    assert {c["name"] for c in json.loads(done.stdout)["checks"] if not c["ok"]} >= {"activation-window-limited rate"}
