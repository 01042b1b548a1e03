"""Every operator on random shapes: torch = NumPy = the simulator's units in FP32; work and bytes are those of the exported graph."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from pimsim.api import load_device
from pimsim.discovery import implementations
from pimsim.graph import MatMul, Product, Table
from workloads.operators.add import Add
from workloads.operators.attention import AttentionInteraction
from workloads.operators.base import Operator
from workloads.operators.bi_interaction import BiInteraction
from workloads.operators.bilinear import BilinearFusion
from workloads.operators.cin import CompressedInteraction
from workloads.operators.concat import Concat
from workloads.operators.cross import CrossNetwork
from workloads.operators.cross_pair import CrossPair
from workloads.operators.dot_product import DotProduct
from workloads.operators.efc import EmbeddingFullyConnected
from workloads.operators.embedding import Embedding
from workloads.operators.fc import FullyConnected
from workloads.operators.feature_gate import FeatureGate
from workloads.operators.field_attention import FieldAttention
from workloads.operators.fm import FactorizationMachine
from workloads.operators.gating import SigmoidGating
from workloads.operators.interact import DenseToFields
from workloads.operators.layer_norm import LayerNorm
from workloads.operators.mlp import MultiLayerPerceptron
from workloads.operators.numeric import NumericEmbedding
from workloads.operators.sum import Sum
from workloads.operators.total import Total
from workloads.operators.transformer import Transformer
from workloads.testing.on_unit import compute_on, relative_error
from workloads.testing.operators import lowered, random_inputs, random_parameters, unused_gram_macs

N = st.integers(1, 24)
FEW = st.integers(1, 7)
DIM = st.sampled_from([1, 2, 4, 8, 16])
BIAS = st.booleans()
ACT = st.sampled_from(["none", "relu", "sigmoid"])
SHAPE = st.tuples(N) | st.tuples(FEW, FEW)
TABLES = st.lists(st.tuples(N, DIM, st.integers(1, 5)), min_size=1, max_size=4)


def _embedding(sizes: list[tuple[int, int, int]]) -> Embedding:
    return Embedding(tables=tuple(Table(name=f"t{i}", rows=r, dim=d, pooling=p) for i, (r, d, p) in enumerate(sizes)))


def _bilinear(left: int, right: int, heads: int) -> BilinearFusion:
    return BilinearFusion(left_features=left * heads, right_features=right * heads, heads=heads)


def _concat(dim: int, fields: list[int], flatten: bool) -> Concat:
    return Concat(shapes=tuple((count, dim) for count in fields), flatten=flatten)


def _gate(fields: int, dim: int, context: list[int], hidden: list[int]) -> FeatureGate:
    return FeatureGate(fields=fields, dim=dim, context=tuple(sorted({c % fields for c in context})), hidden=tuple(hidden))


def _norm(shape: tuple[int, ...], fields: bool) -> LayerNorm:
    return LayerNorm(shape=shape, axis="fields" if fields and len(shape) == 2 else "features", eps=0.1)


SOME = st.lists(N, min_size=1, max_size=3)
SHAPES: dict[type[Operator], st.SearchStrategy[Operator]] = {
    Add: st.builds(Add, shape=SHAPE, count=FEW),
    AttentionInteraction: st.builds(AttentionInteraction, fields=FEW, dim=DIM, heads=FEW, head_dim=FEW, scaled=BIAS, residual=BIAS),
    BiInteraction: st.builds(BiInteraction, fields=N, dim=DIM),
    BilinearFusion: st.builds(_bilinear, FEW, FEW, FEW),
    CompressedInteraction: st.builds(CompressedInteraction, fields=FEW, dim=DIM, maps=SOME.map(tuple), bias=BIAS, activation=ACT),
    Concat: st.builds(_concat, DIM, SOME, BIAS),
    CrossNetwork: st.builds(CrossNetwork, features=N, layers=st.integers(1, 3), kind=st.sampled_from(["vector", "matrix"])),
    CrossPair: st.builds(CrossPair, left_features=N, right_features=N, out_features=N, bias=BIAS),
    DotProduct: st.builds(DotProduct, dense_features=N, sparse_fields=N, dim=DIM, out_features=N, bias=BIAS, activation=ACT),
    EmbeddingFullyConnected: st.builds(EmbeddingFullyConnected, in_fields=N, out_fields=N, dim=DIM, bias=BIAS, activation=ACT),
    Embedding: TABLES.map(_embedding),
    FullyConnected: st.builds(FullyConnected, in_features=N, out_features=N, bias=BIAS, activation=ACT),
    FeatureGate: st.builds(_gate, FEW, DIM, SOME, st.lists(N, max_size=2)),
    FieldAttention: st.builds(
        FieldAttention, in_fields=FEW, out_fields=FEW, dim=st.sampled_from([6, 12]), heads=st.sampled_from([1, 2, 3]), layer_norm=BIAS
    ),
    FactorizationMachine: st.builds(FactorizationMachine, fields=N, dim=DIM, out_features=N, bias=BIAS, activation=ACT),
    SigmoidGating: st.builds(SigmoidGating, left_features=N, right_features=N, out_features=N, bias=BIAS, activation=ACT),
    DenseToFields: st.builds(DenseToFields, in_features=N, dim=DIM, fields=FEW, bias=BIAS, activation=ACT),
    LayerNorm: st.builds(_norm, SHAPE, BIAS),
    MultiLayerPerceptron: st.builds(
        MultiLayerPerceptron, sizes=st.lists(N, min_size=2, max_size=4).map(tuple), bias=BIAS, output_activation=ACT
    ),
    NumericEmbedding: st.builds(NumericEmbedding, features=N, dim=DIM),
    Sum: st.builds(Sum, left_features=N, right_features=N, out_features=N, bias=BIAS, activation=ACT),
    Total: st.builds(Total, shape=SHAPE, bias=st.booleans()),
    Transformer: st.builds(
        Transformer,
        in_fields=FEW,
        out_fields=FEW,
        dim=st.sampled_from([8, 16]),
        heads=st.sampled_from([1, 4, 8]),
        layer_norm=BIAS,
        eps=st.just(0.1),
    ),
}
UNITS = {name: load_device(name).unit for name in ("upmem", "hbm_pim")}
GATHERING = {name: load_device(name).unit for name in ("recnmp", "tensordimm", "trim_g")}
OPERATORS = pytest.mark.parametrize("kind", SHAPES, ids=lambda kind: kind.__name__)
RANDOM = settings(max_examples=12, deadline=None, database=None, suppress_health_check=list(HealthCheck))


def _example(operator: Operator, batch: int = 3) -> tuple[dict[str, np.ndarray], list[np.ndarray]]:
    """Parameters and inputs that FP32 holds exactly; with look-ups that are none where a table pools several."""
    rng = np.random.default_rng(7)
    parameters = {name: array.astype(np.float32).astype(np.float64) for name, array in random_parameters(operator, rng).items()}
    inputs = random_inputs(operator, batch, rng)
    if isinstance(operator, Embedding):
        inputs = [np.where((rng.random(ids.shape) < 0.3) & (ids.shape[1] > 1), -1, ids) for ids in inputs]
        return parameters, inputs
    return parameters, [x.astype(np.float32).astype(np.float64) for x in inputs]


def test_every_operator_has_random_shapes():
    assert set(implementations("workloads.operators", "OPERATOR").values()) == set(SHAPES)


@OPERATORS
def test_torch_is_the_reference(kind):
    torch = pytest.importorskip("torch")

    @seed(1)
    @RANDOM
    @given(operator=SHAPES[kind])
    def check(operator):
        parameters, inputs = _example(operator)
        expected = operator.reference(parameters, *inputs)
        assert expected.shape == (3, *operator.out_shape)
        tensors = {name: torch.from_numpy(array) for name, array in parameters.items()}
        out = operator.forward(tensors, *(torch.from_numpy(x) for x in inputs)).numpy()
        np.testing.assert_allclose(out, expected, rtol=1e-9, atol=1e-11)

    check()


@OPERATORS
def test_units_of_the_simulator_compute_the_reference(kind):
    """In FP32; every product with weights that the lowered graph counts is one that the unit did."""

    @seed(2)
    @RANDOM
    @given(operator=SHAPES[kind], name=st.sampled_from([*UNITS, *(GATHERING if kind is Embedding else ())]))
    def check(operator, name):
        parameters, inputs = _example(operator)
        found, macs = compute_on((UNITS | GATHERING)[name], operator, parameters, inputs)
        expected = operator.reference(parameters, *inputs)
        assert found.dtype == np.float32 and found.shape == expected.shape
        assert relative_error(found, expected) < 3e-5, operator
        stationary = sum(item.macs for item in lowered(operator)[0].operators if isinstance(item, MatMul))
        assert macs == 3 * stationary, operator

    check()


def _alone(operator: Operator, parameters: dict[str, np.ndarray]):
    """The operator as a module of its own, in FP32."""
    import torch

    class Alone(torch.nn.Module):
        def __init__(self):
            super().__init__()
            for name, array in parameters.items():
                self.register_parameter(name.replace(".", "_"), torch.nn.Parameter(torch.from_numpy(array).float()))

        def forward(self, *inputs):
            weights = {name: getattr(self, name.replace(".", "_")) for name in parameters}
            return operator.forward(weights, *inputs)

    return Alone()


@OPERATORS
def test_work_and_bytes_are_those_of_the_exported_graph(kind):
    """Counted by the importer from `torch.export`, which knows nothing of the operator's lowering."""
    torch = pytest.importorskip("torch")
    from workloads.importers.torch_export import import_module

    @seed(3)
    @settings(RANDOM, max_examples=2)
    @given(operator=SHAPES[kind])
    def check(operator):
        parameters, inputs = _example(operator, batch=4)
        own, out = lowered(operator)
        if len(own.operators) == len(inputs):
            return  # costs nothing: its input is its output
        example = tuple(torch.from_numpy(x) if x.dtype == np.int64 else torch.from_numpy(x).float() for x in inputs)
        twice = tuple(torch.cat([x, x]) for x in example)
        found = import_module(_alone(operator, parameters), example, doubled=twice).workload
        assert found.macs == own.macs + unused_gram_macs(own), operator
        assert sum(g.gathered_bytes for g in found.gathers) == sum(g.gathered_bytes for g in own.gathers)
        assert sum(g.table_bytes for g in found.gathers) == sum(g.table_bytes for g in own.gathers)
        assert found.weight_bytes == own.weight_bytes, operator
        assert _activation_bytes(found, MatMul) == _activation_bytes(own, MatMul), operator
        assert _activation_bytes(found, Product)[0] == _activation_bytes(own, Product)[0] + _second_operands(own), operator
        assert math.prod(operator.out_shape) * 4 == own.graph.nodes[out]["operator"].output_bytes

    check()


def _activation_bytes(workload, kind) -> tuple[int, int]:
    """Bytes that the primitives of a kind read and write per sample."""
    items = [item for item in workload.operators if isinstance(item, kind)]
    return sum(item.input_bytes for item in items), sum(item.output_bytes for item in items)


def _second_operands(workload) -> int:
    """A Gram matrix reads its vectors once; a product of a matrix and its transpose, twice."""
    return sum(item.groups * item.m * item.k * 4 for item in workload.operators if isinstance(item, Product) and item.triangle)
