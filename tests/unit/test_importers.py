"""Users' own models: sizes and work against PyTorch's own counter, look-ups against the tables, nothing left out unseen."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from pimsim.errors import ConfigError
from pimsim.graph import Elementwise, Gather, MatMul, Move, Product, Reduce
from supernet.zoo import ZooModel
from workloads.importers import claims, import_model
from workloads.importers.aten import FILLS, FREE, OPERATORS
from workloads.importers.lowering import Imported, Lowering
from workloads.importers.records import Call, Program, Ref, Value
from workloads.importers.torch_export import import_module
from workloads.zoo import provider

BATCH = 6


def flops(model: nn.Module, inputs: tuple[torch.Tensor, ...]) -> int:
    """PyTorch's count; attention by its plain products, as the counter knows no fused one on a CPU."""
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        model.train()(*inputs)  # the encoder layer of evaluation is one fused operator, which the counter does not know
    return counter.get_total_flops()


def only(imported: Imported, kind: type) -> list:
    return [operator for operator in imported.workload.operators if isinstance(operator, kind)]


class Dlrm(nn.Module):
    poolings = (20, 1, 3)

    def __init__(self, rows: tuple[int, ...] = (1000, 200, 50), dim: int = 16) -> None:
        super().__init__()
        self.bottom = nn.Sequential(nn.Linear(13, 32), nn.ReLU(inplace=True), nn.Linear(32, dim), nn.ReLU())
        self.tables = nn.ModuleList(nn.EmbeddingBag(each, dim, mode="sum") for each in rows)
        vectors = len(rows) + 1
        self.register_buffer("pairs", torch.tril_indices(vectors, vectors, -1), persistent=False)
        self.top = nn.Sequential(nn.Linear(dim + vectors * (vectors - 1) // 2, 24), nn.ReLU(), nn.Linear(24, 1))

    def forward(self, dense: torch.Tensor, indices: list[torch.Tensor], offsets: torch.Tensor) -> torch.Tensor:
        dense = self.bottom(dense)
        looked = [table(indices[i], offsets[i]) for i, table in enumerate(self.tables)]
        stacked = torch.stack([dense, *looked], dim=1)
        crossed = torch.bmm(stacked, stacked.transpose(1, 2))[:, self.pairs[0], self.pairs[1]]
        return torch.sigmoid(self.top(torch.cat([dense, crossed], dim=1)))

    @classmethod
    def example(cls, batch: int) -> tuple:
        offsets = torch.stack([torch.arange(0, batch * each, each) for each in cls.poolings])
        return torch.randn(batch, 13), [torch.zeros(batch * each, dtype=torch.long) for each in cls.poolings], offsets


class Dcn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cross = nn.ModuleList(nn.Linear(40, 40) for _ in range(3))
        self.bilinear = nn.Parameter(torch.randn(5, 8, 8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        start = x
        for layer in self.cross:
            x = start * layer(x) + x
        fields = x.unflatten(1, (5, 8))
        return torch.einsum("bfd,fde->bfe", fields, self.bilinear).sum((1, 2))


@pytest.mark.parametrize(
    ("model", "inputs"),
    [
        (Dcn(), (torch.randn(BATCH, 40),)),
        (nn.TransformerEncoderLayer(16, 4, 24, dropout=0.0, batch_first=True), (torch.randn(BATCH, 9, 16),)),
        (nn.Sequential(nn.Conv1d(4, 8, 3, groups=2), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 10, 4)), (torch.randn(BATCH, 4, 12),)),
    ],
    ids=["dcn", "transformer", "convolution"],
)
def test_macs_are_those_of_the_flop_counter(model: nn.Module, inputs: tuple) -> None:
    imported = import_module(model, inputs)
    assert 2 * imported.workload.macs * BATCH == flops(model, inputs) > 0
    assert imported.workload.batch == BATCH and not imported.report.unsupported


@pytest.mark.parametrize("name", ["deepfm_frappe", "dcnv2_frappe", "autoint_plus_frappe"])
def test_the_zoo_comes_back_from_its_torch_modules(name: str) -> None:
    model, own = ZooModel(provider.model(name)), provider.load(name)
    inputs = (torch.zeros(BATCH, 0), torch.zeros(BATCH, 10, dtype=torch.long))
    imported = import_module(model, inputs)
    assert imported.workload.macs == own.macs and 2 * own.macs * BATCH == flops(model, inputs)
    assert imported.workload.weight_bytes == own.weight_bytes
    assert sum(g.gathered_bytes for g in imported.workload.gathers) == sum(g.gathered_bytes for g in own.gathers)
    tables = sum(g.table_bytes for g in own.gathers)
    assert tables <= sum(g.table_bytes for g in imported.workload.gathers) <= 1.01 * tables  # rows of the slices are rounded up


@pytest.fixture(scope="module")
def dlrm() -> Imported:
    return import_module(Dlrm(), Dlrm.example(BATCH))


def test_an_embedding_bag_stays_one_look_up_with_the_examples_pooling(dlrm: Imported) -> None:
    tables = [table for gather in dlrm.workload.gathers for table in gather.tables]
    assert [(t.name, t.rows, t.dim, t.pooling) for t in tables] == [
        ("tables.0", 1000, 16, 20),
        ("tables.1", 200, 16, 1),
        ("tables.2", 50, 16, 3),
    ]
    assert 2 * dlrm.workload.macs * BATCH == flops(Dlrm(), Dlrm.example(BATCH))
    [gram] = only(dlrm, Product)
    assert set(dlrm.workload.graph.predecessors("stack")) == {"bottom.3.relu", "tables.0", "tables.1", "tables.2"}
    assert (gram.m, gram.k, gram.n, gram.groups) == (4, 16, 4, 1)
    assert [(m.name, m.out_features, m.in_features, m.bias) for m in only(dlrm, MatMul)][:2] == [
        ("bottom.0", 32, 13, True),
        ("bottom.2", 16, 32, True),
    ]


def test_a_model_with_meta_weights_needs_no_memory() -> None:
    with torch.device("meta"):
        model = Dlrm(rows=(100_000_000, 50_000_000, 7), dim=16)
    imported = import_module(model, Dlrm.example(BATCH))
    assert sum(gather.table_bytes for gather in imported.workload.gathers) == 150_000_007 * 64


def test_an_unknown_table_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"pooling: unknown table 'tables.9'; did you mean 'tables.\d'"):
        import_module(Dlrm(), Dlrm.example(BATCH), pooling={"tables.9": 40})


class Fields(nn.Module):
    """One table for all fields, a history and its target from one table, a mean, and integer arithmetic on the indices."""

    def __init__(self) -> None:
        super().__init__()
        self.fields, self.items = nn.Embedding(90, 8), nn.Embedding(500, 4)
        self.register_buffer("offsets", torch.tensor([0, 30, 60]))

    def forward(self, fields: torch.Tensor, history: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        first = self.fields(fields + self.offsets).flatten(1)
        return torch.cat([first, self.items(history).mean(1), self.items(target)], dim=1)


def test_tables_that_several_bags_read_keep_their_capacity() -> None:
    inputs = (torch.zeros(4, 3, dtype=torch.long), torch.zeros(4, 25, dtype=torch.long), torch.zeros(4, dtype=torch.long))
    imported = import_module(Fields(), inputs)
    found = {table.name: (table.rows, table.dim, table.pooling) for gather in imported.workload.gathers for table in gather.tables}
    assert found == {**{f"fields.{i}": (30, 8, 1) for i in range(3)}, "items.0": (250, 4, 25), "items.1": (250, 4, 1)}
    functions = [(o.function, o.elements) for o in only(imported, Elementwise)]
    assert functions == [("add", 3), ("mul", 4)]  # the offsets, and the division of the mean
    assert [o.elements for o in only(imported, Move)] == [24 + 4 + 4]
    assert any("fields: 3 bags" in note for note in imported.report.notes)


class Weighted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bag = nn.EmbeddingBag(100, 8, mode="sum", include_last_offset=True)

    def forward(self, dense: torch.Tensor, rows: torch.Tensor, offsets: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        return self.bag(rows, offsets, weights) * dense


def test_bags_of_different_sizes_and_weighted_rows() -> None:
    inputs = (torch.randn(4, 8), torch.zeros(10, dtype=torch.long), torch.tensor([0, 1, 3, 6, 10]), torch.ones(10))
    doubled = (torch.randn(8, 8), torch.zeros(20, dtype=torch.long), torch.tensor([0, 1, 3, 6, 10, 11, 13, 16, 20]), torch.ones(20))
    imported = import_module(Weighted(), inputs, doubled=doubled)
    [gather] = imported.workload.gathers
    assert gather.tables[0].pooling == 3  # 10 rows in 4 bags
    assert [(o.function, o.elements) for o in only(imported, Elementwise)] == [("mul", 24), ("mul", 8)]
    with pytest.raises(ConfigError, match=r"shape \(10,\) does not show the batch of 4"):
        import_module(Weighted(), inputs)
    with pytest.raises(ConfigError, match=r"example doubled \(write build\(batch\)"):
        import_module(Dlrm(), Dlrm.example(3))  # as many tables as samples


def test_lazy_layers_take_their_sizes_from_the_example() -> None:
    imported = import_module(nn.Sequential(nn.LazyLinear(7), nn.ReLU(), nn.LazyLinear(1)), torch.randn(BATCH, 12))
    assert imported.workload.macs == 12 * 7 + 7


class Pointwise(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = functional.gelu(x) + 2 * torch.tanh(x) - x.pow(3)
        return functional.layer_norm(y.clamp(min=0), (12,)).sum(1)


def test_element_wise_passes_and_reductions() -> None:
    imported = import_module(Pointwise(), torch.randn(BATCH, 12))
    passes = [(o.function, o.operands) for o in only(imported, Elementwise)]
    gelu, power = [("tanh", 1), ("mul", 2)], [("square", 1), ("mul", 2)]
    assert passes == [*gelu, ("tanh", 1), ("mul", 1), ("add", 2), *power, ("sub", 2), ("relu", 1), ("norm", 1)]
    assert {o.elements for o in only(imported, Elementwise)} == {12}
    [reduce] = only(imported, Reduce)
    assert (reduce.elements_in, reduce.elements_out) == (12, 1)


class Strange(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cumsum(torch.cumsum(x, 1), 1).sort(1)[0].relu() + x.sum()


def test_unsupported_operators_are_named_with_counts() -> None:
    with pytest.raises(ConfigError) as caught:
        import_module(Strange(), torch.randn(BATCH, 12))
    line = str(caught.value)
    assert "aten.cumsum 2x" in line and "aten.sort 1x" in line and "aten.sum (over the samples of a batch) 1x" in line
    assert "--allow-unsupported" in line and "\n" not in line
    imported = import_module(Strange(), torch.randn(BATCH, 12), allow_unsupported=True)
    assert imported.report.unsupported["aten.cumsum"] == 2
    assert [o.function for o in only(imported, Elementwise)] == ["relu", "add"]


def test_products_between_the_samples_of_a_batch_are_refused() -> None:
    class InBatch(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x @ x.T

    with pytest.raises(ConfigError, match="not in proportion to the batch"):
        import_module(InBatch(), torch.randn(BATCH, 12))


def test_the_lowering_knows_no_torch() -> None:
    x, w = Value("x", (4, 3), (8, 3), "float16", "input", "x"), Value("w", (5, 3), (5, 3), "int8", "parameter", "fc.weight")
    y = Value("y", (4, 5), (8, 5), "float16", "result")
    call = Call("aten.linear", {"input": Ref("x"), "weight": Ref("w"), "bias": None}, ("y",), "fc")
    lowering = Lowering(Program({"x": x, "w": w, "y": y}, (call,), 4))
    lowering.run(OPERATORS, FREE, FILLS)
    matmul = lowering.builder.operators[-1]
    assert isinstance(matmul, MatMul) and (matmul.weight_bits, matmul.activation_bits, matmul.macs) == (8, 16, 15)
    code = "import sys, workloads.importers.aten, workloads.importers; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "False"


FILE = """
import torch
from pimsim.graph import Input, Workload

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.bag, self.out = torch.nn.EmbeddingBag(50, 8), torch.nn.Linear(8, 1)
    def forward(self, ids):
        print("forward")
        return self.out(self.bag(ids))

def build(batch=4):
    print("building")
    return Net(), torch.zeros(batch, 5, dtype=torch.long), {"indices": {"kind": "uniform"}, "pooling": {"bag": 7}}

def graph():
    return Workload(name="g", operators=(Input(name="x", elements=3),))

def number(): return 3
def boom(): raise ValueError("no luck")
def leaves(): raise SystemExit(0)
def needs(a): return a
def wrong(): return Net(), torch.zeros(4)
def settings(): return Net(), torch.zeros(4, 5, dtype=torch.long), {"poling": {}}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(FILE)
    return path


def test_a_file_with_a_build_function(file: Path) -> None:
    workload = import_model(f"{file}:build").workload
    assert (workload.name, workload.batch, workload.indices.kind) == ("mine", 4, "uniform")
    assert workload.gathers[0].tables[0].pooling == 7 and workload.macs == 8
    assert import_model(file).workload == workload
    assert import_model(f"{file}:graph").workload.name == "g"


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("nope", "unknown function 'nope'"),
        ("number", "returned int: expected (module, example_inputs)"),
        ("boom", "line 21: ValueError: no luck"),
        ("leaves", "SystemExit: 0"),
        ("needs", "needs a (allowed: no parameters, or batch)"),
        ("wrong", "torch.export failed"),
        ("settings", "unknown key 'poling'; did you mean 'pooling'"),
    ],
)
def test_a_broken_file_gets_one_line(file: Path, function: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        import_model(f"{file}:{function}")
    assert str(caught.value).startswith(str(file)) and message in str(caught.value) and "\n" not in str(caught.value)


def test_the_command_runs_a_users_file_and_says_what_is_wrong(file: Path) -> None:
    def pimsim(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", "pimsim.cli", "run", "--device", "hbm_pim", *words], capture_output=True, text=True)

    done = pimsim("--model", f"{file}:build", "--batch", "8", "--json", "-")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["batch"] == 8 and report["latency_us"]["mean"] > 0
    assert [row["name"] for row in report["operators"]] == ["bag", "bag.mean", "out"]
    missing = pimsim("--model", str(file.with_name("other.py")))
    assert missing.returncode == 2 and missing.stderr == f"error: {file.with_name('other.py')}: no such file\n"


def test_which_names_are_model_files() -> None:
    assert claims("a/b.py:build") and claims("b.py") and claims("m.onnx")
    assert not claims("rm1") and not claims("w.json") and not claims("w.yaml")


def onnx_model(path: Path, axes: list, extra: tuple = ()) -> Path:
    onnx = pytest.importorskip("onnx")
    h, kind = onnx.helper, onnx.TensorProto

    def weight(name: str, *shape: int):  # type: ignore[no-untyped-def]
        return onnx.numpy_helper.from_array(np.zeros(shape, np.float32), name)

    nodes = [
        h.make_node("Gather", ["user", "ids"], ["e"], name="/look/Gather"),
        h.make_node("ReduceSum", ["e", "axes"], ["p"], keepdims=0),
        h.make_node("Gemm", ["x", "w", "b"], ["d"], transB=1, name="/bottom/0/Gemm"),
        h.make_node("Relu", ["d"], ["r"]),
        h.make_node("Concat", ["r", "p"], ["c"], axis=1),
        h.make_node("MatMul", ["c", "v"], ["o"]),
        *[h.make_node(operator, [f"o{i}" if i else "o"], [f"o{i + 1}"]) for i, operator in enumerate(extra)],
        h.make_node("Sigmoid", [f"o{len(extra)}" if extra else "o"], ["y"]),
    ]
    inputs = [h.make_tensor_value_info("x", kind.FLOAT, [axes[0], 13]), h.make_tensor_value_info("ids", kind.INT64, axes)]
    stored = [weight("user", 1000, 16), weight("w", 16, 13), weight("b", 16), weight("v", 32, 3)]
    stored.append(onnx.numpy_helper.from_array(np.array([1]), "axes"))
    graph = h.make_graph(nodes, "g", inputs, [h.make_tensor_value_info("y", kind.FLOAT, [axes[0], 3])], stored)
    onnx.save(h.make_model(graph, opset_imports=[h.make_opsetid("", 18)]), path)
    return path


@pytest.mark.parametrize("batch", ["N", 4])
def test_onnx_look_ups_and_products(tmp_path: Path, batch: object) -> None:
    imported = import_model(onnx_model(tmp_path / "m.onnx", [batch, 20]))
    [gather] = only(imported, Gather)
    [table] = gather.tables
    assert (table.name, table.rows, table.dim, table.pooling) == ("user", 1000, 16, 20)
    assert imported.workload.macs == 13 * 16 + 32 * 3
    assert [(m.out_features, m.in_features, m.bias) for m in only(imported, MatMul)] == [(16, 13, True), (3, 32, False)]
    assert set(imported.workload.graph.predecessors("concat")) == {"look", "relu"}
    assert imported.workload.batch == (16 if batch == "N" else 4)


def test_an_onnx_loop_is_reported_though_its_inputs_are_constants(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    h, kind = onnx.helper, onnx.TensorProto
    body = h.make_graph(
        [h.make_node("Identity", ["go"], ["go_on"]), h.make_node("Add", ["state", "x"], ["next"])],
        "body",
        [
            h.make_tensor_value_info(name, t, s)
            for name, t, s in (("i", kind.INT64, []), ("go", kind.BOOL, []), ("state", kind.FLOAT, None))
        ],
        [h.make_tensor_value_info("go_on", kind.BOOL, []), h.make_tensor_value_info("next", kind.FLOAT, None)],
    )
    stored = [onnx.numpy_helper.from_array(np.array(value), name) for name, value in (("trips", 3), ("yes", True))]
    stored.append(onnx.numpy_helper.from_array(np.zeros((1, 4), np.float32), "zero"))
    loop = h.make_node("Loop", ["trips", "yes", "zero"], ["y"], body=body)
    x, y = (h.make_tensor_value_info(name, kind.FLOAT, ["N", 4]) for name in "xy")
    nodes = [loop, h.make_node("Relu", ["x"], ["z"])]
    onnx.save(h.make_model(h.make_graph(nodes, "g", [x], [y], stored), opset_imports=[h.make_opsetid("", 18)]), tmp_path / "loop.onnx")
    with pytest.raises(ConfigError, match=r"onnx\.Loop 1x"):
        import_model(tmp_path / "loop.onnx")


def test_onnx_errors_are_one_line(tmp_path: Path) -> None:
    path = onnx_model(tmp_path / "m.onnx", ["N", 20], ("Softsign", "Softsign"))
    with pytest.raises(ConfigError, match=r"onnx\.Softsign 2x"):
        import_model(path)
    assert import_model(path, allow_unsupported=True).report.unsupported == {"onnx.Softsign": 2}
    with pytest.raises(ConfigError, match=r"axis 1 \(L\) has no size"):
        import_model(onnx_model(tmp_path / "m.onnx", ["N", "L"]))
    (tmp_path / "b.onnx").write_bytes(b"no model")
    with pytest.raises(ConfigError, match=r"b\.onnx: "):
        import_model(tmp_path / "b.onnx")
    with pytest.raises(ConfigError, match="no such file"):
        import_model(tmp_path / "c.onnx")
