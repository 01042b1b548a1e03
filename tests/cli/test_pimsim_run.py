"""`pimsim devices`, `schema` and `run` as a user calls them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from pimsim.api import CostCache, load_device, simulate
from pimsim.graph import Gather, Table, Workload


def pimsim(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "pimsim.cli", *words], capture_output=True, text=True)


def test_run_writes_the_contract(tmp_path: Path) -> None:
    done = pimsim("run", "--device", "hbm_pim", "--workload", "deepfm_criteo", "--batch", "2", "--out", str(tmp_path / "o"), "--json", "-")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    keys = {"device", "workload", "fidelity", "batch", "latency_us", "throughput_samples_per_s", "energy_uj_per_sample", "area_mm2"}
    assert keys | {"power_w", "bandwidth_gbps", "bottleneck", "operators", "provenance"} <= set(report)
    assert set(report["latency_us"]) == {"mean", "p50", "p95", "p99"} and set(report["bandwidth_gbps"]) == {"achieved", "peak"}
    assert report["bandwidth_gbps"]["achieved"] < report["bandwidth_gbps"]["peak"] == 1024.0
    assert {"name", "kind", "unit", "latency_us", "energy_uj", "share"} <= set(report["operators"][0])
    files = ("--device", str(tmp_path / "o/device.yaml"), "--workload", str(tmp_path / "o/workload.json"))
    again = pimsim("run", *files, "--batch", "2", "--json", "-")
    assert again.returncode == 0, again.stderr
    second = json.loads(again.stdout)
    for key in ("latency_us", "energy_uj_per_sample", "area_mm2", "operators"):
        assert second[key] == report[key]


def test_a_plain_memory_has_no_area() -> None:
    done = pimsim("run", "--device", "ddr4_3200", "--workload", "deepfm_criteo", "--batch", "1", "--json", "-")
    assert json.loads(done.stdout)["area_mm2"] == "n/a"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "--device", "hbm_pm", "--workload", "rm1"], "did you mean 'hbm_pim'"),
        (["run", "--device", "hbm_pim", "--workload", "rm9"], "unknown workload 'rm9'"),
        (["run", "--device", "hbm_pim", "--workload", "rm1", "--set", "dram.chanels=3"], "did you mean 'channels'"),
        (["run", "--device", "hbm_pim", "--workload", "rm1", "--set", "dram.timing.nRCDRD=-1"], "dram.timing.nRCDRD: -1"),
        (["run", "--device", "hbm_pim", "--workload", "rm1", "--set", "dram.timing.nRCDR=1"], "nRCDR"),
        (["run", "--device", "hbm_pim", "--workload", "rm1", "--set", "dram.channels"], "expected KEY=VALUE"),
        (["run", "--device", "hbm_pim", "--workload", "rm1", "--fidelity", "exact"], "unknown fidelity 'exact'"),
        (["run", "--device", "hbm_pim", "--workload", "rm1", "--set", "mapping.tables=striped"], "striped"),
        (["run", "--device", "hbm_pim", "--workload", "/no/such.json"], "/no/such.json"),
        (["run", "--device", "hbm_pim", "--workload", "rm2", "--set", "dram.channels=1"], "do not fit"),
        (["run", "--device", "hbm_pim", "--workload", "rm1", "--seed", "-1"], "--seed"),
        (["run", "--device", "hbm_pim", "--workload", "rm1", "--batch", "1.5"], "--batch"),
        (["run", "--device", "hbm_pim"], "--workload"),
        (["rum"], "rum"),
    ],
)
def test_bad_input_gets_one_line_and_status_2(words: list[str], message: str) -> None:
    done = pimsim(*words)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert message in done.stderr and "Traceback" not in done.stderr


def test_a_broken_workload_file_names_the_operator(tmp_path: Path) -> None:
    path = tmp_path / "w.json"
    path.write_text(json.dumps({"name": "w", "operators": [{"op": "matmul", "name": "m", "in_features": 0, "out_features": 1}]}))
    done = pimsim("run", "--device", "hbm_pim", "--workload", str(path))
    assert done.returncode == 2 and "operators.0" in done.stderr and "in_features" in done.stderr


def test_a_reader_who_leaves_early_sees_no_traceback() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "pimsim.cli", "schema"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        process.stdout.close()
        errors = process.stderr.read()
    assert errors == "" and process.returncode == 1


def test_the_written_folder_runs_again_with_the_indices_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    np.savez(tmp_path / "mine" / "ids.npz", t=np.arange(8)[:, None] % 100)
    table = {"name": "t", "rows": 100, "dim": 16}
    indices = {"kind": "file", "path": "ids.npz"}
    graph = {"name": "w", "batch": 4, "indices": indices, "operators": [{"op": "gather", "name": "e", "tables": [table]}]}
    (tmp_path / "mine" / "w.json").write_text(json.dumps(graph))
    where = ("--device", "ddr4_3200", "--json", "-", "--workload")
    first = pimsim("run", *where, str(tmp_path / "mine/w.json"), "--out", str(tmp_path / "out"))
    assert first.returncode == 0, first.stderr
    again = pimsim("run", *where, str(tmp_path / "out/workload.json"))
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["latency_us"] == json.loads(first.stdout)["latency_us"]


def test_one_cache_serves_workloads_with_equal_index_sources() -> None:
    def workload(rows: int) -> Workload:
        return Workload(name="w", operators=(Gather(name="e", tables=(Table(name="t", rows=rows, dim=16, pooling=20),)),))

    device, shared = load_device("ddr4_3200"), CostCache()
    simulate(device, workload(1_000_000), 16, costs=shared)
    assert simulate(device, workload(50), 16, costs=shared) == simulate(device, workload(50), 16)


def test_the_schema_knows_every_section() -> None:
    done = pimsim("schema")
    assert set(json.loads(done.stdout)["properties"]) >= {"name", "dram", "unit", "host", "mapping"}


def test_a_users_own_device_file(tmp_path: Path) -> None:
    shipped = yaml.safe_load((Path(__file__).parents[2] / "configs/devices/hbm_pim.yaml").read_text())
    shipped["name"], shipped["dram"]["channels"] = "mine", 8
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(shipped))
    done = pimsim("run", "--device", str(path), "--workload", "deepfm_criteo", "--batch", "1", "--json", "-")
    assert json.loads(done.stdout)["device"] == "mine"


def test_models_run_together(tmp_path: Path) -> None:
    done = pimsim(
        "run", "--device", "ddr4_3200", "--workload", "dlrm_criteo", "--workload", "deepfm_criteo", "--batch", "8", "--batch", "4",
        "--arrivals", "poisson:20000", "--batches", "60", "--out", str(tmp_path / "o"), "--json", "-",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    whole = json.loads(done.stdout)
    assert [model["workload"] for model in whole["models"]] == ["dlrm_criteo", "deepfm_criteo"]
    assert [model["batch"] for model in whole["models"]] == [8, 4]
    for part in ("host", "memory"):
        assert 0 < whole["utilisation"][part] <= 1
        assert whole["utilisation"][part] == pytest.approx(sum(model["utilisation"][part] for model in whole["models"]))
    assert whole["power_w"] == pytest.approx(sum(model["power_w"] for model in whole["models"]))
    assert all(model["latency_us"]["p99"] > model["latency_us"]["mean"] for model in whole["models"])
    assert (tmp_path / "o/workload_2/workload.json").is_file()


@pytest.mark.parametrize("words", [["--batch", "1", "--batch", "2"], ["--arrivals", "closed", "--arrivals", "closed:2"]])
def test_options_of_several_models_are_one_or_one_each(words: list[str]) -> None:
    done = pimsim("run", "--device", "ddr4_3200", "--workload", "rm1", *words)
    assert done.returncode == 2 and words[0] in done.stderr and "given 2 times for 1 workloads" in done.stderr
