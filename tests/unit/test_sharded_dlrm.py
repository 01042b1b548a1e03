"""A user's own DLRM in one file and one command: tables sharded by columns and by rows, means, weighted rows, dot-product interaction."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

pytest.importorskip("torch")

FILE = """
import torch
from torch import nn


class ColumnSharded(nn.Module):
    def __init__(self, rows, dim, shards):
        super().__init__()
        self.shards = nn.ModuleList(nn.EmbeddingBag(rows, dim // shards, mode="sum", include_last_offset=True) for _ in range(shards))

    def forward(self, ids, offsets):
        return torch.cat([shard(ids, offsets) for shard in self.shards], dim=1)


class RowSharded(nn.Module):
    def __init__(self, rows, dim, shards):
        super().__init__()
        self.per = rows // shards
        self.shards = nn.ModuleList(nn.EmbeddingBag(self.per, dim, mode="sum") for _ in range(shards))

    def forward(self, ids):
        out = 0
        for i, shard in enumerate(self.shards):
            mine = ids // self.per == i
            out = out + shard(torch.where(mine, ids - i * self.per, 0), per_sample_weights=mine.float())
        return out


class Dlrm(nn.Module):
    def __init__(self, dim=16):
        super().__init__()
        self.bottom = nn.Sequential(nn.Linear(13, 32), nn.ReLU(), nn.Linear(32, dim), nn.ReLU())
        self.tables = nn.ModuleList(nn.EmbeddingBag(rows, dim, mode="sum") for rows in (1000, 500))
        self.history = nn.EmbeddingBag(20_000, dim, mode="mean", padding_idx=0)
        self.weighted = nn.EmbeddingBag(3000, dim, mode="sum")
        self.columns, self.rows = ColumnSharded(100_000, dim, 2), RowSharded(40_000, dim, 4)
        pairs = torch.tril_indices(7, 7, offset=-1)
        self.register_buffer("i", pairs[0])
        self.register_buffer("j", pairs[1])
        self.top = nn.Sequential(nn.Linear(dim + 21, 24), nn.ReLU(), nn.Linear(24, 1), nn.Sigmoid())

    def forward(self, dense, ids, offsets, history, weighted_ids, weights, column_ids, column_offsets, row_ids):
        x = self.bottom(dense)
        looked = [table(i, o) for table, i, o in zip(self.tables, ids, offsets)]
        looked += [self.history(history), self.weighted(weighted_ids, per_sample_weights=weights)]
        looked += [self.columns(column_ids, column_offsets), self.rows(row_ids)]
        t = torch.cat([x, *looked], dim=1).view(x.shape[0], -1, x.shape[1])
        z = torch.bmm(t, torch.transpose(t, 1, 2))[:, self.i, self.j]
        return self.top(torch.cat([x, z], dim=1))


def build(batch=4):
    def whole(rows, *shape):
        return torch.randint(0, rows, shape)

    ids, offsets = [whole(1000, batch), whole(500, batch * 4)], [torch.arange(batch), torch.arange(0, batch * 4, 4)]
    rest = whole(20_000, batch, 10), whole(3000, batch, 5), torch.rand(batch, 5), whole(100_000, batch * 20)
    return Dlrm(), (torch.randn(batch, 13), ids, offsets, *rest, torch.arange(0, batch * 20 + 1, 20), whole(40_000, batch, 8))
"""
BAGS = {
    "tables.0": (1000, 16, 1),
    "tables.1": (500, 16, 4),
    "history": (20_000, 16, 10),
    "weighted": (3000, 16, 5),
    "columns.shards.0": (100_000, 8, 20),
    "columns.shards.1": (100_000, 8, 20),
    **{f"rows.shards.{i}": (10_000, 16, 8) for i in range(4)},
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "my_dlrm.py").write_text(FILE)
    return tmp_path / "my_dlrm.py"


def test_every_shard_is_a_look_up_and_every_product_is_counted(file):
    from workloads.importers import import_model

    imported = import_model(f"{file}:build")
    tables = {table.name: (table.rows, table.dim, table.pooling) for gather in imported.workload.gathers for table in gather.tables}
    assert tables == BAGS and imported.report.lowered["aten.embedding_bag"] == 10 and not imported.report.unsupported
    assert imported.workload.macs == 13 * 32 + 32 * 16 + 7 * 7 * 16 + 37 * 24 + 24


def test_one_command_gives_latency_energy_and_operators(file, tmp_path, caplog):
    from pimsim.cli import app

    out = tmp_path / "report.json"
    done = CliRunner().invoke(app, ["run", "--device", "recnmp", "--model", f"{file}:build", "--batch", "8", "--json", str(out)])
    assert done.exit_code == 0, done.output
    found = json.loads(out.read_text())
    rows = {row["name"]: row for row in found["operators"]}
    assert set(BAGS) <= set(rows) and all(rows[name]["kind"] == "gather" and rows[name]["unit"] == "pim" for name in BAGS)
    assert found["latency_us"]["mean"] > max(row["latency_us"] for row in rows.values()) > 0
    assert found["energy_uj_per_sample"]["total"] > 0
    assert f"note: {file}:build: weighted.weight: the weights of its rows are multiplied in a pass of its own" in caplog.text
