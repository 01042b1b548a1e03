"""The tables and YAML examples on the page about workloads are true."""

from __future__ import annotations

import re
from pathlib import Path

from workloads.zoo import provider

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_yaml_example_loads(tmp_path):
    (example,) = re.findall(r"```yaml\n(.*?)```", (DOCS / "workloads.md").read_text(), re.DOTALL)
    (tmp_path / "mine.yaml").write_text(example)
    workload = provider.load(tmp_path / "mine.yaml")
    assert workload.batch == 64 and workload.gathers[0].gathered_bytes == (1 + 20) * 16


def test_table_of_models_is_true():
    rows = re.findall(r"^\| `(\w+)` \| D[^|]*\| ([\d,]+) \| ([\d,]+) \|$", (DOCS / "workloads.md").read_text(), re.MULTILINE)
    assert {name for name, _, _ in rows} == {"rm1", "rm2", "rm3", "dlrm_criteo", "deepfm_criteo"}
    for name, gathered, macs in rows:
        workload = provider.load(name)
        assert sum(g.gathered_bytes for g in workload.gathers) == int(gathered.replace(",", ""))
        assert workload.macs == int(macs.replace(",", ""))
