"""Slicing equals extraction; the supernet computes only what a network is; live operators match those of `workloads`."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pimsim.configs import names
from supernet.genotype import Block, Genotype
from supernet.model import Supernet, block_operators
from supernet.quantise import quantised
from supernet.space import load_space
from supernet.standalone import Model, attention, features, field_norm, parameter_shapes
from workloads.operators.base import activate

SCHEMA = {"dense": ["d0", "d1", "d2"], "sparse": ["a", "b", "c", "d"], "cardinalities": [5, 6, 7, 8]}
FULL = {"dense_operators": ["fc", "dot_product", "gating", "cross", "sum"], "blocks": 3}
SPARSE = {"sparse_operators": ["efc", "transformer", "attention"]}
BITS = (32, 16, 8, 4)
CASES = [
    ("tiny", {}, SCHEMA),
    ("tiny", {**FULL, "layer_norm": False}, SCHEMA),
    ("tiny", {**FULL, "dense_dims": [4, 16, 32], "sparse_dims": [4, 6, 8]}, SCHEMA),  # 4 and 32: skipped projections
    ("quickstart", {}, {**SCHEMA, "dense": []}),
    ("nasrec_small", {}, SCHEMA),
    ("tiny", {**FULL, "dense_columns": "source", "blocks": 4}, SCHEMA),
    ("tiny", {**FULL, **SPARSE, "layer_norm": False}, SCHEMA),
    ("tiny", {**FULL, **SPARSE, "operator_weight_bits": BITS, "activation_bits": BITS, "weight_bits": BITS}, SCHEMA),
]


def batch(schema, rows=6, seed=0):
    rng = np.random.default_rng(seed)
    dense = rng.standard_normal((rows, len(schema["dense"]))).astype(np.float32)
    sparse = np.stack([rng.integers(n, size=rows) for n in schema["cardinalities"]], axis=1).astype(np.int32)
    return torch.from_numpy(dense), torch.from_numpy(sparse)


def randomise(supernet, seed=1):
    """Distinct values everywhere, gains and biases included."""
    generator = torch.Generator().manual_seed(seed)
    for tensor in supernet.weights.values():
        tensor.normal_(0.0, 0.3, generator=generator)
    return supernet


@pytest.mark.parametrize(("name", "overrides", "schema"), CASES)
def test_slice_equals_extraction(name, overrides, schema):
    compare(load_space(name, overrides), schema, 20)


@pytest.mark.slow
@pytest.mark.parametrize("name", names("spaces"))
def test_slice_equals_extraction_for_500_networks_of_every_shipped_space(name):
    compare(load_space(name), SCHEMA, 500)


@pytest.mark.parametrize("name", names("spaces"))
def test_slice_equals_extraction_in_every_shipped_space(name):
    dims = {"dense_dims": [8, 16, 48], "sparse_dims": [4, 6, 10]}  # the space's genes at widths that are quick to draw
    compare(load_space(name, dims), SCHEMA, 20)


def compare(space, schema, networks):
    """Logits of slices of one supernet's weights and of the extracted networks, both at the precisions of drawn genotypes."""
    space = space.for_tables(len(schema["sparse"]))
    supernet, rng = randomise(Supernet(space, schema)), np.random.default_rng(11)
    dense, sparse = batch(schema)
    for _ in range(networks):
        genotype = space.sample(rng)
        model = supernet.extract(genotype)
        canonical = genotype.canonical()
        weights = quantised(supernet.parameters(canonical), canonical)
        model.load_state_dict(quantised(model.state_dict(), canonical))
        head_input = features(canonical.model_dump(mode="json"), weights, dense, model.embed(sparse))
        logits = head_input @ weights["head.weight"][0] + weights["head.bias"]
        torch.testing.assert_close(model(dense, sparse), logits, rtol=1e-5, atol=1e-5)


def naive(genotype, model, dense, sparse):
    """An un-canonicalised network, dead parts and all, evaluated block by block with the references of `workloads`."""
    from supernet.blocks.base import places

    weights = {name: tensor.detach().double().numpy() for name, tensor in model.state_dict().items()}
    vectors, sets = [dense.double().numpy()], [model.embed(sparse).detach().double().numpy()]

    def run(name, place, read):
        kind, base = block_operators()[name], f"blocks.{place.number - 1}.{name}"
        operator = kind.operator(place, bias=False)
        parameters = {key: weights[f"{base}.{key}"] for key in operator.parameter_shapes()}
        out = operator.reference(parameters, *(read[source] for source in kind.sources(place)))
        return out if kind.norm_inside else activate(kind.activation, normalised(name, base, out))

    def normalised(name, base, out):
        flat = out.reshape(len(out), -1) if name == "interact" else out
        axis = 1 if name == "efc" else -1
        scaled = (flat - flat.mean(axis, keepdims=True)) / np.sqrt(flat.var(axis, keepdims=True) + 1e-5)
        gain, shift = weights[f"{base}.norm.weight"], weights[f"{base}.norm.bias"]
        if name == "efc":
            gain, shift = gain[:, None], shift[:, None]
        return (scaled * gain + shift).reshape(out.shape)

    for place in places(genotype, len(SCHEMA["dense"]), len(SCHEMA["sparse"])):
        block = place.block
        read = {"dense": [vectors[i] for i in block.dense_inputs], "fields": [sets[i] for i in block.sparse_inputs]}
        read = {kind: np.concatenate(parts, axis=1) for kind, parts in read.items() if parts}
        if block.reads("pair"):
            read |= {"left": vectors[block.dense_left], "right": vectors[block.dense_right]}
        read["own dense"] = out = run(block.dense_op, place, read)
        read["own fields"] = own = run(block.sparse_op, place, read)
        vectors.append(out + run("fm", place, read) if block.fm else out)
        sets.append(np.concatenate([own, run("interact", place, read)], axis=1) if block.interact else own)
    head_input = np.concatenate([vectors[-1], sets[-1].reshape(len(dense), -1)], axis=1)
    return head_input @ weights["head.weight"][0] + weights["head.bias"]


def test_torch_equals_the_references_of_the_operators():
    # Every genotype whose canonical form keeps both operators of all its blocks is evaluated twice, in torch and in NumPy.
    space, rng = load_space("tiny", {**FULL, **SPARSE, "dense_dims": [8, 4, 32]}), np.random.default_rng(5)
    dense, sparse = batch(SCHEMA)
    seen, operators = 0, set()
    while seen < 60:
        genotype = space.sample(rng).canonical()
        if not all(block.dense_op and block.sparse_op for block in genotype.blocks):
            continue
        model = Model(genotype.model_dump(mode="json"), SCHEMA, generator=torch.Generator().manual_seed(seen))
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.5, generator=torch.Generator().manual_seed(parameter.numel()))
        expected = naive(genotype, model, dense, sparse)
        np.testing.assert_allclose(model(dense, sparse).detach().numpy(), expected, rtol=2e-3, atol=2e-3)
        seen, operators = seen + 1, operators.union(*(block.operators for block in genotype.blocks))
    assert operators == set(block_operators())


def test_no_output_aliases_another():
    # dense width 8 * dim skips the merger's projection; the later sum with FM must not reach into the merged fields
    genotype = Genotype(
        space="x",
        embedding_dim=4,
        layer_norm=False,
        blocks=(
            Block(
                dense_op="fc", sparse_op="efc", dense_dim=32, sparse_dim=4, dense_inputs=(0,), sparse_inputs=(0,), interact=True,
                fm=True,
            ),
        ),
    )  # fmt: skip
    model = Model(genotype.model_dump(mode="json"), SCHEMA)
    assert "blocks.0.interact.out.weight" not in model.state_dict()
    dense, sparse = batch(SCHEMA)
    head_input = model.features(dense, model.embed(sparse)).detach()
    plain = torch.relu(dense @ model.blocks._modules["0"].fc.weight.T)
    torch.testing.assert_close(head_input[:, 32 + 16 :], plain)
    assert not torch.allclose(head_input[:, :32], plain)


def test_every_parameter_of_a_canonical_network_is_used():
    space, rng = load_space("nasrec_small"), np.random.default_rng(2)
    dense, sparse = batch(SCHEMA)
    for _ in range(15):
        model = Model(space.sample(rng).canonical().model_dump(mode="json"), SCHEMA)
        model(dense, sparse).sum().backward()
        assert all(parameter.grad is not None for parameter in model.parameters())


def test_parameter_names_and_shapes_are_those_of_the_operators():
    from supernet.blocks.base import places

    sizes = {"layer_norm": False, "dense_dims": [4, 16, 32]}
    space, rng = load_space("tiny", {**FULL, **SPARSE, **sizes}), np.random.default_rng(4)
    for _ in range(60):
        genotype = space.sample(rng).canonical()
        shapes, expected = parameter_shapes(genotype.model_dump(mode="json"), 3, 4), {}
        for place in places(genotype, 3, 4):
            block = place.block
            for name in block.operators:
                operator = block_operators()[name].operator(place, bias=True)
                for key, shape in operator.parameter_shapes().items():
                    expected[f"blocks.{place.number - 1}.{name}.{key}"] = shape
        assert {k: v for k, v in shapes.items() if not k.startswith("head.")} == expected


@pytest.mark.parametrize(("rows", "fields", "dim", "heads"), [(3, 1, 16, 8), (5, 18, 4, 4), (2, 64, 16, 8), (4, 33, 32, 8)])
def test_fused_attention_equals_softmax_and_its_gradient(rows, fields, dim, heads):
    generator = torch.Generator().manual_seed(fields)
    qkv = torch.randn(rows, fields, 3 * dim, generator=generator) * 4
    seed = torch.randn(rows, fields, dim, generator=generator)
    fused, exact = qkv.clone().requires_grad_(), qkv.double().requires_grad_()  # only float32 takes the fused kernel
    ours, theirs = attention(fused, heads), attention(exact, heads)
    ours.backward(seed)
    theirs.backward(seed.double())
    torch.testing.assert_close(ours.double(), theirs, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(fused.grad.double(), exact.grad, rtol=1e-4, atol=1e-4)
    assert type(ours.grad_fn).__name__ == "_AttentionBackward" and type(theirs.grad_fn).__name__ != "_AttentionBackward"


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("shape", [(4, 1, 3), (16, 37, 16), (5, 300, 4)])
def test_fused_norm_over_fields_equals_torch_and_its_gradient(shape, relu):
    generator = torch.Generator().manual_seed(shape[0])
    inputs = [torch.randn(size, generator=generator) * 2 + 1 for size in (shape, shape[0], shape[0])]
    seed, found = torch.randn(shape, generator=generator), []
    for dtype in (torch.float32, torch.float64):  # only float32 takes the fused kernel
        x, gain, bias = leaves = [t.to(dtype, copy=True).requires_grad_() for t in inputs]
        out = field_norm({"n.norm.weight": gain, "n.norm.bias": bias}, "n", x, relu)
        out.backward(seed.to(dtype))
        found.append([out.detach(), *(leaf.grad for leaf in leaves)])
        assert (type(out.grad_fn).__name__ == "_NormBackward") == (dtype == torch.float32)
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-4, atol=1e-4)


def test_fused_attention_does_not_depend_on_the_number_of_threads():
    qkv = torch.randn(7, 20, 48, generator=torch.Generator().manual_seed(0))
    before = torch.get_num_threads()
    found = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        leaf = qkv.clone().requires_grad_()
        out = attention(leaf, 8)
        out.square().sum().backward()
        found.append((out.detach(), leaf.grad))
    torch.set_num_threads(before)
    assert all(torch.equal(a, b) for other in found[1:] for a, b in zip(found[0], other, strict=True))
