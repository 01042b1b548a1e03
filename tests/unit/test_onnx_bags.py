"""Embedding bags that PyTorch's ONNX exporter leaves as loops: the same look-ups and products as through `torch.export`."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from pimsim.errors import ConfigError
from workloads.importers import import_model

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
nn = torch.nn
BATCH = 4
POOLING = (20, 1, 3)


class Dlrm(nn.Module):
    """Three bags, of flat indices with offsets or of a matrix of indices."""

    def __init__(self, mode: str = "sum") -> None:
        super().__init__()
        self.bottom = nn.Sequential(nn.Linear(13, 16), nn.ReLU())
        self.tables = nn.ModuleList(nn.EmbeddingBag(rows, 16, mode=mode) for rows in (1000, 200, 50))
        self.top = nn.Linear(64, 1)

    def forward(self, dense: torch.Tensor, *ids: torch.Tensor) -> torch.Tensor:
        if len(ids) == 3:
            looked = [table(each) for table, each in zip(self.tables, ids, strict=True)]
        else:
            looked = [table(each, offsets) for table, each, offsets in zip(self.tables, ids[:3], ids[3:], strict=True)]
        return torch.sigmoid(self.top(torch.cat([self.bottom(dense), *looked], dim=1)))


def flat(batch: int) -> tuple[torch.Tensor, ...]:
    ids = [torch.zeros(batch * each, dtype=torch.long) for each in POOLING]
    return torch.randn(batch, 13), *ids, *[torch.arange(0, batch * each, each) for each in POOLING]


def matrix(batch: int) -> tuple[torch.Tensor, ...]:
    return torch.randn(batch, 13), *[torch.zeros(batch, each, dtype=torch.long) for each in POOLING]


def export(model: nn.Module, example: tuple[torch.Tensor, ...], path: Path, open_axes: bool) -> Path:
    names = [f"x{i}" for i in range(len(example))]
    axes = {name: {0: "N"} for name in names} if open_axes else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(model.eval(), example, path, dynamo=False, input_names=names, dynamic_axes=axes)
    return path


@pytest.mark.parametrize("mode", ["sum", "mean"])
@pytest.mark.parametrize(("make", "open_axes"), [(flat, False), (matrix, True), (matrix, False)], ids=["flat", "matrix-open", "matrix"])
def test_a_loop_over_bags_is_one_look_up(tmp_path, make, open_axes, mode):
    from workloads.importers.torch_export import import_module

    path = export(Dlrm(mode), make(BATCH), tmp_path / "model.onnx", open_axes)
    assert [node.op_type for node in onnx.load(path).graph.node].count("Loop") == 3
    found, own = import_model(path), import_module(Dlrm(mode), make(BATCH), doubled=make(2 * BATCH))
    tables, expected = ([t for g in each.workload.gathers for t in g.tables] for each in (found, own))
    assert [(t.name, t.rows, t.dim, t.pooling) for t in tables] == [(t.name, t.rows, t.dim, t.pooling) for t in expected]
    assert [t.pooling for t in tables] == list(POOLING)
    for fact in ("macs", "weight_bytes"):
        assert getattr(found.workload, fact) == getattr(own.workload, fact)
    passes = [(o.op, o.function, o.elements) for each in (found, own) for o in each.workload.operators if o.op == "elementwise"]
    assert sorted(passes[: len(passes) // 2]) == sorted(passes[len(passes) // 2 :])
    assert not found.report.unsupported and found.workload.batch == (16 if open_axes else BATCH)


def test_rows_with_weights_keep_their_products(tmp_path):
    class Weighted(nn.Module):
        def __init__(self):
            super().__init__()
            self.bag = nn.EmbeddingBag(100, 8, mode="sum")

        def forward(self, ids, weights):
            return self.bag(ids, per_sample_weights=weights)

    path = export(Weighted(), (torch.zeros(4, 3, dtype=torch.long), torch.ones(4, 3)), tmp_path / "w.onnx", open_axes=True)
    imported = import_model(path)
    [gather] = imported.workload.gathers
    assert gather.lookups == 3 and not imported.report.unsupported
    assert [(o.op, o.elements) for o in imported.workload.operators if o.op == "elementwise"] == [("elementwise", 24)]
    assert [(o.elements_in, o.elements_out) for o in imported.workload.operators if o.op == "reduce"] == [(24, 8)]


def test_flat_indices_of_an_open_length_are_refused(tmp_path):
    class Bag(nn.Module):
        def __init__(self):
            super().__init__()
            self.bag = nn.EmbeddingBag(100, 8, mode="sum")

        def forward(self, x, ids, offsets):
            return self.bag(ids, offsets) + x

    example = torch.zeros(4, 8), torch.zeros(12, dtype=torch.long), torch.arange(0, 12, 3)
    names, axes = ["x", "ids", "offsets"], {"x": {0: "N"}, "ids": {0: "n"}, "offsets": {0: "N"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(Bag().eval(), example, tmp_path / "m.onnx", dynamo=False, input_names=names, dynamic_axes=axes)
    with pytest.raises(ConfigError, match=r"input 'ids': axis 0 \(n\) has no size: export the model with one"):
        import_model(tmp_path / "m.onnx")
