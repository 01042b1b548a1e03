"""`pimsim run --against` as a user calls it: PIM against no PIM in one command."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pimsim.api import load_device, load_workload, simulate
from pimsim.comparison import ratios, table, without_units

TABLES = [{"name": f"t{n}", "rows": 200_000, "dim": 64, "pooling": 20} for n in range(4)]
LAYERS = [
    {"op": "gather", "name": "e", "tables": TABLES},
    {"op": "matmul", "name": "m", "inputs": ["e"], "out_features": 512, "in_features": 256, "weight_bits": 16},
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("model") / "w.json"
    path.write_text(json.dumps({"name": "w", "batch": 2, "operators": LAYERS}))
    return str(path)


def pimsim(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "pimsim.cli", *words], capture_output=True, text=True)


def test_json_holds_both_reports_and_their_ratios(model: str, tmp_path: Path) -> None:
    words = ("run", "--device", "recnmp", "--workload", model, "--against", "gpu_v100")
    done = pimsim(*words, "--json", "-", "--out", str(tmp_path / "o"))
    assert done.returncode == 0, done.stderr
    both = json.loads(done.stdout)
    assert both["device"] == "recnmp" and both["against"]["device"] == "gpu_v100"
    found, ours, theirs = both["comparison"], both, both["against"]
    assert found["speedup"] == theirs["latency_us"]["mean"] / ours["latency_us"]["mean"]
    assert found["throughput"] == ours["throughput_samples_per_s"] / theirs["throughput_samples_per_s"]
    assert found["energy"] == theirs["energy_uj_per_sample"]["total"] / ours["energy_uj_per_sample"]["total"]
    assert json.loads((tmp_path / "o" / "report.json").read_text())["comparison"] == found
    alone = simulate(load_device("gpu_v100"), load_workload(model)).to_json()
    assert alone["latency_us"] == theirs["latency_us"] and alone["energy_uj_per_sample"] == theirs["energy_uj_per_sample"]


def test_none_is_the_same_device_with_everything_on_the_host(model: str) -> None:
    words = ("--workload", model, "--set", "dram.channels=8", "--json", "-")
    both = json.loads(pimsim("run", "--device", "hbm_pim", *words, "--against", "none").stdout)
    by_hand = simulate(load_device("hbm_pim", {"dram.channels": 8, "mapping.matmul": "host"}), load_workload(model)).to_json()
    assert both["against"]["latency_us"] == by_hand["latency_us"] != both["latency_us"]
    assert both["against"]["area_mm2"] == "n/a" and both["area_mm2"] > 0
    assert {row["unit"] for row in both["against"]["operators"]} == {"host"}


def test_the_table_shows_both(model: str) -> None:
    done = pimsim("run", "--device", "trim_g", "--workload", model, "--against", "none")
    assert done.returncode == 0, done.stderr
    assert "trim_g without units" in done.stdout and "better by" in done.stdout and "mm2" in done.stdout


def test_striped_tables_are_dealt_row_by_row_without_units(model: str) -> None:
    device = load_device("hbm_pim", {"mapping.tables": "striped", "mapping.embedding": "pim", "dram.channels": 8})
    plain = without_units(device)
    assert plain.mapping.tables == "row" and plain.mapping.embedding == plain.mapping.matmul == "host" and plain.unit is None
    work = load_workload(model)
    near, far = simulate(device, work), simulate(plain, work)
    assert ratios(near, near) == {"speedup": 1, "speedup_p99": 1, "throughput": 1, "energy": 1}
    assert ratios(near, far)["speedup"] == pytest.approx(1 / float(ratios(far, near)["speedup"] or 0))
    assert table(near, far).row_count == 7  # p99 is left out where every batch takes the same time


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--device", "ddr4_3200", "--against", "none"], "--against none: ddr4_3200 has no units"),
        (["--device", "hbm_pim", "--against", "gpu_v10"], "did you mean 'gpu_v100'"),
    ],
)
def test_bad_input_gets_one_line(words: list[str], message: str, model: str) -> None:
    done = pimsim("run", "--workload", model, *words)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and message in done.stderr
