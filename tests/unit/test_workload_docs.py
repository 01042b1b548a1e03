"""The tables and YAML examples on the page about workloads are true."""

from __future__ import annotations

import re
from pathlib import Path

from cosearch.commands.genotype import describe
from pimsim import configs
from pimsim.discovery import implementations
from supernet.provider import provider as genotypes
from workloads.zoo import provider

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_yaml_example_loads(tmp_path):
    (example,) = re.findall(r"```yaml\n(.*?)```", (DOCS / "workloads.md").read_text(), re.DOTALL)
    (tmp_path / "mine.yaml").write_text(example)
    workload = provider.load(tmp_path / "mine.yaml")
    assert workload.batch == 64 and workload.gathers[0].gathered_bytes == (1 + 20) * 16


def test_table_of_models_is_true():
    rows = re.findall(r"^\| `(\w+)` \| [^|]*\| ([\d,]+) \| ([\d,]+) \|$", (DOCS / "workloads.md").read_text(), re.MULTILINE)
    assert [name for name, _, _ in rows] == configs.names("workloads")
    for name, gathered, macs in rows:
        workload = provider.load(name)
        assert sum(g.gathered_bytes for g in workload.gathers) == int(gathered.replace(",", ""))
        assert workload.macs == int(macs.replace(",", ""))


def test_table_of_operators_names_every_file():
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \| `[A-Z]", (DOCS / "workloads.md").read_text(), re.MULTILINE)
    assert sorted(re.findall(r"\w+", " ".join(rows))) == sorted(implementations("workloads.operators", "OPERATOR"))


def test_table_of_genotypes_is_true():
    number = r"([\d,]+)"
    pattern = rf"^\| `(nasrecnet_\w+)` \| [\d.]+ M \| {number} \| {number} \| {number} \| {number} / {number} \| ([\d, ]+) \|$"
    rows = re.findall(pattern, (DOCS / "workloads.md").read_text(), re.MULTILINE)
    assert [row[0] for row in rows] and {row[0] for row in rows} == set(genotypes.names())
    for name, *figures, dead in rows:
        facts = describe(configs.config_root() / "genotypes" / f"{name}.json", name.split("_")[1])
        keys = ("macs_live", "macs_executed", "macs_simulated", "parameters_live", "parameters_executed")
        assert [facts[key] for key in keys] == [int(figure.replace(",", "")) for figure in figures]
        assert facts["dead_blocks"] == [int(block) for block in dead.split(",")]
