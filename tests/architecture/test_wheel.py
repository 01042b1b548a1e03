"""A built wheel, installed outside of the checkout, finds its configuration files and runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    [path] = out.glob("*.whl")
    return path


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(folder / "site")}
    return subprocess.run([sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True)


def test_the_wheel_works_away_from_the_checkout(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(site), str(wheel)]
    subprocess.run(command, check=True)
    where = run(tmp_path, "-c", "import pimsim, cosearch, supernet, workloads; print(pimsim.__file__)")
    assert where.stdout.strip().startswith(str(site)), where.stderr
    devices = run(tmp_path, "-m", "pimsim.cli", "devices", "--json", "-")
    assert devices.returncode == 0, devices.stderr
    found = {device["name"] for device in json.loads(devices.stdout)["devices"]}
    shipped = {path.stem for path in (ROOT / "configs" / "devices").glob("*.yaml")}
    assert found == shipped and "hbm_pim" in found
    done = run(tmp_path, "-m", "pimsim.cli", "run", "--device", "hbm_pim", "--workload", "dlrm_criteo", "--batch", "2", "--json", "-")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["latency_us"]["mean"] > 0


def test_the_wheel_holds_the_four_packages_and_the_configs_only(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.split("/")[0] for name in archive.namelist() if ".dist-info" not in name}
        assert tops == {"pimsim", "workloads", "supernet", "cosearch"}
        assert any(name.startswith("pimsim/_configs/searches/") for name in archive.namelist())
