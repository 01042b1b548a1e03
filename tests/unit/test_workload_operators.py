"""Operators: conformance, MAC counts worked out by hand, and references against loops or torch."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from pimsim.discovery import implementations
from pimsim.graph import Elementwise, Gather, MatMul, Move, Product, Table
from workloads.operators.add import Add
from workloads.operators.attention import AttentionInteraction
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
from workloads.testing.operators import OperatorConformance, lowered, random_inputs, random_parameters


class TestAdd(OperatorConformance):
    cases = (Add(shape=(5,), count=3), Add(shape=(2, 3), count=2), Add(shape=(4,), count=1))


class TestAttention(OperatorConformance):
    cases = (
        AttentionInteraction(fields=5, dim=4, head_dim=3),
        AttentionInteraction(fields=4, dim=6, heads=3, head_dim=2, scaled=True),
        AttentionInteraction(fields=3, dim=4, heads=1, head_dim=5, residual=False),
    )


class TestBiInteraction(OperatorConformance):
    cases = (BiInteraction(fields=6, dim=4),)


class TestBilinear(OperatorConformance):
    cases = (BilinearFusion(left_features=6, right_features=10), BilinearFusion(left_features=6, right_features=9, heads=3))


class TestCin(OperatorConformance):
    cases = (
        CompressedInteraction(fields=4, dim=3, maps=(5, 2)),
        CompressedInteraction(fields=3, dim=2, maps=(4,), bias=False, activation="relu"),
    )


class TestCrossMatrix(OperatorConformance):
    cases = (CrossNetwork(features=7, layers=3), CrossNetwork(features=4, layers=1))


class TestCrossVector(OperatorConformance):
    element_wise = ("*.bias",)
    cases = (CrossNetwork(features=7, layers=3, kind="vector"),)


class TestCrossPair(OperatorConformance):
    cases = (
        CrossPair(left_features=5, right_features=9, out_features=4),
        CrossPair(left_features=9, right_features=5, out_features=9, bias=False),
        CrossPair(left_features=5, right_features=5, out_features=5),
    )


class TestFieldAttention(OperatorConformance):
    element_wise = ("norm.*",)
    cases = (
        FieldAttention(in_fields=5, out_fields=3, dim=8),
        FieldAttention(in_fields=3, out_fields=4, dim=6, heads=3, layer_norm=True),
    )


class TestFeatureGate(OperatorConformance):
    cases = (
        FeatureGate(fields=4, dim=3, context=(0, 2), hidden=(5,)),
        FeatureGate(fields=2, dim=3, context=(0, 1)),
    )


class TestNumeric(OperatorConformance):
    element_wise = ("weight",)
    cases = (NumericEmbedding(features=3, dim=4),)


class TestTotal(OperatorConformance):
    cases = (Total(shape=(5,)), Total(shape=(3, 4)), Total(shape=(1,)))


class TestTransformer(OperatorConformance):
    element_wise = ("*norm.*",)
    cases = (
        Transformer(in_fields=5, out_fields=3, dim=8, heads=4),
        Transformer(in_fields=3, out_fields=4, dim=16, layer_norm=True),
    )


class TestConcat(OperatorConformance):
    cases = (
        Concat(shapes=((3,), (5,))),
        Concat(shapes=((3, 4), (1, 4))),
        Concat(shapes=((3,), (2, 4)), flatten=True),
        Concat(shapes=((6,),)),
    )


class TestDotProduct(OperatorConformance):
    cases = (
        DotProduct(dense_features=13, sparse_fields=26, dim=16, out_features=32),
        DotProduct(dense_features=16, sparse_fields=8, dim=16, out_features=32, bias=False),
        DotProduct(dense_features=16, sparse_fields=10, dim=16, out_features=55, activation="relu"),
    )


class TestEfc(OperatorConformance):
    cases = (
        EmbeddingFullyConnected(in_fields=26, out_fields=16, dim=8),
        EmbeddingFullyConnected(in_fields=3, out_fields=5, dim=4, bias=False, activation="none"),
    )


class TestEmbedding(OperatorConformance):
    cases = (
        Embedding(tables=(Table(name="a", rows=10, dim=4, pooling=3), Table(name="b", rows=7, dim=4))),
        Embedding(tables=(Table(name="a", rows=10, dim=4), Table(name="b", rows=7, dim=8))),
    )


class TestFc(OperatorConformance):
    cases = (FullyConnected(in_features=13, out_features=7), FullyConnected(in_features=4, out_features=4, bias=False))


class TestFm(OperatorConformance):
    cases = (
        FactorizationMachine(fields=10, dim=4, out_features=6),
        FactorizationMachine(fields=3, dim=4, out_features=4, activation="relu"),
    )


class TestGating(OperatorConformance):
    cases = (
        SigmoidGating(left_features=5, right_features=9, out_features=4, activation="relu"),
        SigmoidGating(left_features=9, right_features=5, out_features=9, bias=False, activation="sigmoid"),
        SigmoidGating(left_features=5, right_features=5, out_features=5),
    )


class TestInteract(OperatorConformance):
    cases = (
        DenseToFields(in_features=20, dim=4),
        DenseToFields(in_features=32, dim=4),
        DenseToFields(in_features=5, dim=4, fields=2, activation="relu"),
    )


class TestLayerNorm(OperatorConformance):
    element_wise = ("*",)
    cases = (LayerNorm(shape=(6,)), LayerNorm(shape=(3, 5)), LayerNorm(shape=(3, 5), axis="fields"))


class TestMlp(OperatorConformance):
    cases = (
        MultiLayerPerceptron(sizes=(13, 8, 4)),
        MultiLayerPerceptron(sizes=(5, 3, 1), bias=False, output_activation="sigmoid"),
    )


class TestSum(OperatorConformance):
    cases = (
        Sum(left_features=5, right_features=9, out_features=4),
        Sum(left_features=9, right_features=5, out_features=9, activation="relu"),
        Sum(left_features=4, right_features=4, out_features=6, bias=False),
    )


def test_every_operator_file_is_found_and_stands_in_a_suite():
    found = implementations("workloads.operators", "OPERATOR")
    suites = {type(case) for suite in OperatorConformance.__subclasses__() for case in suite.cases}
    assert set(found.values()) == suites
    assert {"fc", "efc", "dot_product", "gating", "sum", "fm", "interact", "mlp", "layer_norm", "concat", "embedding"} <= set(found)


def test_dot_product_macs_by_hand():
    """Criteo's raw inputs to 128: k = 16; 13*16 + 26*16*16 + 136 pairs * 16 + 136*128."""
    operator = DotProduct(dense_features=13, sparse_fields=26, dim=16, out_features=128)
    assert (operator.vectors, operator.pairs) == (16, 136)
    assert operator.macs == 208 + 6656 + 2176 + 17408
    assert [type(o) for o in lowered(operator)[0].operators[2:]] == [MatMul, MatMul, Move, Product, MatMul]


def test_dot_product_skips_projections_that_fit():
    """32 outputs: k = 8, 36 pairs; a 16-wide dense input and 8 fields need no projection."""
    fits = DotProduct(dense_features=16, sparse_fields=8, dim=16, out_features=32)
    assert set(fits.parameter_shapes()) == {"out.weight", "out.bias"}
    exact = DotProduct(dense_features=16, sparse_fields=10, dim=16, out_features=55)  # 10 * 11 / 2 = 55
    assert exact.parameters == 0 and exact.macs == 55 * 16


@pytest.mark.parametrize(
    ("operator", "macs", "parameters"),
    [
        (FullyConnected(in_features=128, out_features=256), 32768, 33024),
        (EmbeddingFullyConnected(in_fields=26, out_fields=48, dim=16), 19968, 1296),
        (FactorizationMachine(fields=48, dim=16, out_features=256), 4096, 4352),
        (DenseToFields(in_features=256, dim=16), 32768, 32896),
        (DenseToFields(in_features=128, dim=16), 0, 0),
        (SigmoidGating(left_features=64, right_features=32, out_features=16), 5120, 5200),
        (Sum(left_features=64, right_features=32, out_features=16), 1024, 1040),
        (MultiLayerPerceptron(sizes=(128, 64, 32)), 10240, 10336),
        # projection 26*48*16, four per-field layers (3 + 1) and two (1 + 1) of 16*16, both attention products 48*48*16
        (Transformer(in_fields=26, out_fields=48, dim=16), 19968 + 6 * 48 * 256 + 2 * 48 * 48 * 16, 1296 + 6 * 256 + 6 * 16 + 64),
        (CrossPair(left_features=64, right_features=32, out_features=16), 64 * 64 + 64 * 16, 64 * 64 + 64 + 64 * 16 + 16),
        # projection 26*48*16, queries, keys and values 16*16 each, both attention products 48*48*16
        (FieldAttention(in_fields=26, out_fields=48, dim=16), 19968 + 3 * 48 * 256 + 2 * 48 * 48 * 16, 1296 + 3 * 256),
        (CrossNetwork(features=429, layers=3), 3 * 429 * 429, 3 * 430 * 429),
        (CrossNetwork(features=429, layers=3, kind="vector"), 3 * 429, 3 * 2 * 429),
        (CompressedInteraction(fields=26, dim=16, maps=(100, 50)), (26 * 100 + 100 * 50) * 26 * 16, (2600 + 5000) * 26 + 150),
        (AttentionInteraction(fields=39, dim=16, heads=2, head_dim=32), 4 * 39 * 16 * 64 + 2 * 39 * 39 * 64, 4 * 16 * 64),
        (BiInteraction(fields=39, dim=16), 0, 0),
        (BilinearFusion(left_features=400, right_features=800, heads=10), 400 + 2 * 800 + 40 * 80 * 10, 1202 + 40 * 80 * 10),
    ],
)
def test_macs_and_parameters_by_hand(operator, macs, parameters):
    assert (operator.macs, operator.parameters) == (macs, parameters)


def test_embedding_bytes_follow_precision_and_pooling():
    tables = tuple(Table(name=f"t{bits}", rows=100, dim=16, bits=bits, pooling=5) for bits in (32, 16, 8, 4))
    gather = lowered(Embedding(tables=tables))[0].gathers[0]
    assert isinstance(gather, Gather)
    assert gather.gathered_bytes == 5 * (64 + 32 + 16 + 8)
    assert gather.output_bytes == 4 * 16 * 4


def _run(operator, seed=0):
    rng = np.random.default_rng(seed)
    parameters, inputs = random_parameters(operator, rng), random_inputs(operator, 3, rng)
    return parameters, inputs, operator.reference(parameters, *inputs)


def test_efc_against_a_loop():
    operator = EmbeddingFullyConnected(in_fields=4, out_fields=3, dim=2, activation="none")
    parameters, (x,), out = _run(operator)
    for b, o, d in np.ndindex(3, 3, 2):
        expected = sum(parameters["weight"][o, i] * x[b, i, d] for i in range(4)) + parameters["bias"][o]
        assert out[b, o, d] == pytest.approx(expected)


def test_fm_against_all_pairs():
    _, (e,), out = _run(FactorizationMachine(fields=5, dim=3, out_features=3))
    pairs = sum(2 * e[:, i] * e[:, j] for i in range(5) for j in range(i))
    np.testing.assert_allclose(out, pairs, rtol=1e-9, atol=1e-12)


def test_bi_interaction_against_all_pairs():
    _, (e,), out = _run(BiInteraction(fields=5, dim=3))
    np.testing.assert_allclose(out, sum(e[:, i] * e[:, j] for i in range(5) for j in range(i)), rtol=1e-9, atol=1e-12)


def test_cin_against_its_formula():
    operator = CompressedInteraction(fields=3, dim=2, maps=(4, 2), bias=False)
    p, (x,), out = _run(operator)
    first = np.einsum("hij,bid,bjd->bhd", p["0.weight"].reshape(4, 3, 3), x, x)
    second = np.einsum("hij,bid,bjd->bhd", p["1.weight"].reshape(2, 4, 3), first, x)
    np.testing.assert_allclose(out, np.concatenate([first.sum(2), second.sum(2)], axis=1), rtol=1e-9)


def test_cross_against_its_formula():
    p, (x,), out = _run(CrossNetwork(features=3, layers=2, kind="vector"))
    for b in range(3):
        first = x[b] * np.dot(p["0.weight"][0], x[b]) + p["0.bias"] + x[b]
        np.testing.assert_allclose(out[b], x[b] * np.dot(p["1.weight"][0], first) + p["1.bias"] + first, rtol=1e-9)
    p, (x,), out = _run(CrossNetwork(features=3, layers=2))
    for b in range(3):
        first = x[b] * (p["0.weight"] @ x[b] + p["0.bias"]) + x[b]
        np.testing.assert_allclose(out[b], x[b] * (p["1.weight"] @ first + p["1.bias"]) + first, rtol=1e-9)


def test_cross_pair_is_a_step_of_a_cross_network():
    p, (left, right), out = _run(CrossPair(left_features=4, right_features=4, out_features=4))
    network = CrossNetwork(features=4, layers=2)
    own = {"0.weight": p["cross.weight"], "0.bias": p["cross.bias"]}
    first = CrossNetwork(features=4, layers=1).reference(own, left)
    second = CrossPair(left_features=4, right_features=4, out_features=4).reference(p, left, first)
    again = {key.replace("0.", "1."): value for key, value in own.items()}
    np.testing.assert_allclose(second, network.reference(own | again, left), rtol=1e-12)
    np.testing.assert_allclose(out, left * (right @ p["cross.weight"].T + p["cross.bias"]) + right, rtol=1e-12)
    p, (left, right), out = _run(CrossPair(left_features=2, right_features=4, out_features=3, bias=False))
    inner = right + np.pad(left * (right @ p["cross.weight"].T)[:, :2], ((0, 0), (0, 2)))  # a narrow left reaches its own width
    np.testing.assert_allclose(out, inner @ p["out.weight"].T, rtol=1e-12)


def test_field_attention_against_torch():
    torch = pytest.importorskip("torch")
    p, (x,), out = _run(FieldAttention(in_fields=5, out_fields=6, dim=8, layer_norm=True))
    p = {name: torch.from_numpy(array) for name, array in p.items()}
    projected = torch.from_numpy(x).transpose(1, 2) @ p["weight"].T
    tokens = torch.nn.functional.layer_norm(projected, (6,), p["norm.weight"], p["norm.bias"]).transpose(1, 2)
    q, k, v = ((tokens @ p[f"{part}.weight"].T).unflatten(2, (2, 4)).transpose(1, 2) for part in ("query", "key", "value"))
    mixed = torch.nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
    np.testing.assert_allclose(out, torch.relu(mixed + tokens).numpy(), rtol=1e-8, atol=1e-10)


def test_attention_against_a_loop():
    operator = AttentionInteraction(fields=3, dim=4, heads=2, head_dim=3)
    p, (x,), out = _run(operator)
    for b, i, h in np.ndindex(3, 3, 2):
        rows = slice(3 * h, 3 * h + 3)
        scores = np.exp([(p["query.weight"][rows] @ x[b, i]) @ (p["key.weight"][rows] @ x[b, j]) for j in range(3)])
        mixed = sum(s * (p["value.weight"][rows] @ x[b, j]) for j, s in enumerate(scores / scores.sum()))
        expected = np.maximum(mixed + p["residual.weight"][rows] @ x[b, i], 0)
        np.testing.assert_allclose(out[b, i, rows], expected, rtol=1e-9, atol=1e-12)


def test_transformer_against_torch_modules():
    """The published operator: a projection over fields, `MultiheadAttention`, two layers, post-norms."""
    torch = pytest.importorskip("torch")
    operator = Transformer(in_fields=5, out_fields=6, dim=16, layer_norm=True)
    p, (x,), out = _run(operator)
    p = {name: torch.from_numpy(array) for name, array in p.items()}
    attention = torch.nn.MultiheadAttention(16, 8, batch_first=True, dtype=torch.float64)
    state = {"in_proj_weight": "qkv.weight", "in_proj_bias": "qkv.bias", "out_proj.weight": "out.weight", "out_proj.bias": "out.bias"}
    attention.load_state_dict({name: p[ours] for name, ours in state.items()})
    norm = torch.nn.functional.layer_norm
    e = norm(torch.from_numpy(x).transpose(1, 2) @ p["weight"].T, (6,), p["norm.weight"], p["norm.bias"]).transpose(1, 2)
    a = norm(e + attention(e, e, e, need_weights=False)[0], (16,), p["attention_norm.weight"], p["attention_norm.bias"])
    inner = torch.relu(a @ p["inner.weight"].T + p["inner.bias"])
    last = norm(a + inner @ p["outer.weight"].T + p["outer.bias"], (16,), p["output_norm.weight"], p["output_norm.bias"])
    np.testing.assert_allclose(out, last.detach().numpy(), rtol=1e-8, atol=1e-10)


def test_bilinear_against_its_formula():
    p, (left, right), out = _run(BilinearFusion(left_features=4, right_features=6, heads=2))
    pairs = sum(np.einsum("bj,ji,bi->b", right[:, 3 * h : 3 * h + 3], p["pair.weight"][h], left[:, 2 * h : 2 * h + 2]) for h in (0, 1))
    linear = left @ p["left.weight"][0] + p["left.bias"] + right @ p["right.weight"][0] + p["right.bias"]
    np.testing.assert_allclose(out[:, 0], linear + pairs, rtol=1e-9)


def test_feature_gate_reads_its_context_only():
    operator = FeatureGate(fields=3, dim=2, context=(1,))
    p, (e,), out = _run(operator)
    gate = 2 / (1 + np.exp(-(e[:, 1] @ p["gate.0.weight"].T + p["gate.0.bias"])))
    np.testing.assert_allclose(out, e.reshape(3, -1) * gate, rtol=1e-9)


def test_dot_product_against_a_loop():
    operator = DotProduct(dense_features=3, sparse_fields=2, dim=3, out_features=3)  # k = 2, 3 pairs: no projection at all
    parameters, (v, e), out = _run(operator)
    assert not parameters
    expected = [(e[:, 0] * v).sum(1), (e[:, 1] * v).sum(1), (e[:, 1] * e[:, 0]).sum(1)]
    np.testing.assert_allclose(out, np.stack(expected, axis=1), rtol=1e-12)


def test_gating_against_its_formula():
    operator = SigmoidGating(left_features=2, right_features=4, out_features=3)
    p, (left, right), out = _run(operator)
    padded = np.concatenate([left, np.zeros((3, 2))], axis=1)
    gate = 1 / (1 + np.exp(-(padded @ p["gate.weight"].T + p["gate.bias"])))
    np.testing.assert_allclose(out, (gate * right) @ p["out.weight"].T + p["out.bias"], rtol=1e-12)


def test_sum_pads_the_narrow_side_at_its_end():
    _, (left, right), out = _run(Sum(left_features=2, right_features=4, out_features=4))
    np.testing.assert_allclose(out[:, :2], left + right[:, :2])
    np.testing.assert_allclose(out[:, 2:], right[:, 2:])


def test_embedding_sums_its_rows():
    operator = Embedding(tables=(Table(name="a", rows=5, dim=2, pooling=2), Table(name="b", rows=5, dim=2, pooling=2)))
    weights = {"a.weight": np.arange(10.0).reshape(5, 2), "b.weight": 100 + np.arange(10.0).reshape(5, 2)}
    out = operator.reference(weights, np.array([[0, 4], [1, 1]]), np.array([[2, 3], [0, 0]]))
    np.testing.assert_array_equal(out, [[[8, 10], [210, 212]], [[4, 6], [200, 202]]])


def test_references_agree_with_torch_layers():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(5)
    for operator in (LayerNorm(shape=(6,)), LayerNorm(shape=(3, 6)), LayerNorm(shape=(6, 3), axis="fields")):
        parameters, (x,) = random_parameters(operator, rng), random_inputs(operator, 4, rng)
        weight, bias = (torch.from_numpy(parameters[k]) for k in ("weight", "bias"))
        turned = x.transpose(0, 2, 1) if operator.axis == "fields" else x
        expected = torch.nn.functional.layer_norm(torch.from_numpy(turned.copy()), (6,), weight, bias).numpy()
        expected = expected.transpose(0, 2, 1) if operator.axis == "fields" else expected
        np.testing.assert_allclose(operator.reference(parameters, x), expected, rtol=1e-9, atol=1e-12)
    mlp = MultiLayerPerceptron(sizes=(5, 4, 2), output_activation="sigmoid")
    module = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2), torch.nn.Sigmoid()).double()
    state = {k.replace("2.", "1."): v.numpy() for k, v in module.state_dict().items()}
    x = rng.standard_normal((7, 5))
    np.testing.assert_allclose(mlp.reference(state, x), module(torch.from_numpy(x)).detach().numpy(), rtol=1e-9)


def test_relu_and_sigmoid_cost_one_pass():
    workload, out = lowered(FullyConnected(in_features=4, out_features=6, activation="sigmoid"))
    assert out == "operator.sigmoid"
    last = workload.operators[-1]
    assert isinstance(last, Elementwise) and last.elementary_ops == 6


@pytest.mark.parametrize(
    "make",
    [
        lambda: Concat(shapes=((3, 4), (2, 5))),
        lambda: Concat(shapes=((3,), (2, 5))),
        lambda: LayerNorm(shape=(6,), axis="fields"),
        lambda: FullyConnected(in_features=0, out_features=3),
        lambda: FullyConnected(in_features=4, out_features=3, weight_bits=7),
        lambda: MultiLayerPerceptron(sizes=(3,)),
        lambda: FullyConnected(in_features=4, out_features=3, outputs=3),
        lambda: Transformer(in_fields=3, out_fields=3, dim=12),
        lambda: FieldAttention(in_fields=3, out_fields=3, dim=9),
        lambda: BilinearFusion(left_features=4, right_features=6, heads=4),
        lambda: FeatureGate(fields=3, dim=2, context=(3,)),
        lambda: CrossNetwork(features=3, layers=1, kind="low_rank"),
    ],
)
def test_bad_shapes_are_refused(make):
    with pytest.raises(ValidationError):
        make()
