"""Precisions of single operators: genes and their canonical form, arithmetic, training through them, simulated traffic and latency."""

from __future__ import annotations

import hashlib
from itertools import pairwise
from math import prod

import numpy as np
import pytest
import torch

from pimsim.api import CostCache, load_device, simulate
from pimsim.configs import config_root
from pimsim.errors import ConfigError
from pimsim.graph import MatMul, Move, Product
from supernet.final import FinalSettings, evaluate, train_alone
from supernet.genotype import ACTIVATION_GENES, WEIGHT_GENES, Block, Genotype
from supernet.lowering import count, to_workload, weight_bytes
from supernet.quantise import quantise, quantised
from supernet.space import load_space
from supernet.standalone import Model, features
from supernet.training import TrainingSettings, _Run
from workloads.data import iterate, open_dataset

SCHEMA = {"dense": ["d0", "d1", "d2"], "sparse": ["a", "b", "c", "d"], "cardinalities": [5, 6, 7, 8]}
BITS = (32, 16, 8, 4)
WIDE = {"operator_weight_bits": [8, 4], "activation_bits": [16, 8, 4]}


def one_block(dense_op="fc", sparse_op="efc", **genes):
    inputs = {"dense_inputs": (0,), "sparse_inputs": (0,), "dense_left": 0, "dense_right": 0}
    return Block(dense_op=dense_op, sparse_op=sparse_op, **{"dense_dim": 8, "sparse_dim": 4, **inputs, **genes})


def network(*blocks, **genes):
    return Genotype(space="x", blocks=blocks, embedding_dim=4, **genes)


def test_digests_and_draws_of_spaces_without_these_genes_are_as_they_were():
    # Taken before the genes came: digests of the shipped networks, and of twenty crossovers and mutations of a space.
    shipped = {path.stem: Genotype.load(path).digest() for path in (config_root() / "genotypes").glob("*.json")}
    assert shipped["nasrecnet_criteo_full"] == "9775498c99d2a4bc" and shipped["nasrecnet_kdd12_full"] == "dc90f592d888592e"
    for name, expected in (("tiny", "0cecedaa3288bbe4"), ("nasrec_full", "050f84eb805eddee")):
        space, rng, digests = load_space(name), np.random.default_rng(5), ""
        one = space.sample(rng)
        for _ in range(20):
            other = space.sample(rng)
            one = space.mutate(space.crossover(one, other, rng), rng)
            digests += one.digest()
        assert hashlib.sha256(digests.encode()).hexdigest()[:16] == expected
        assert not {*WEIGHT_GENES, *ACTIVATION_GENES} & set(one.blocks[0].model_dump())
        assert not {"operator_weight_bits", "activation_bits"} & set(space.model_dump())


def test_size_sampling_mutation_and_crossover_with_the_genes():
    plain, space, rng = load_space("tiny"), load_space("tiny", WIDE), np.random.default_rng(0)
    assert space.size() == plain.size() * (2 * 2 * 3 * 3) ** 2
    flat = space.genes()
    assert prod(len(values) for values in flat.values()) == space.size()
    assert flat["blocks.1.sparse_bits"] == (8, 4) and flat["blocks.0.dense_activation_bits"] == (16, 8, 4)
    seen = set()
    for _ in range(60):
        a, b = space.sample(rng), space.sample(rng)
        mutant, child = space.mutate(a, rng), space.crossover(a, b, rng)
        for genotype in (a, mutant, child):
            assert space.why_not(genotype) is None and space.from_flat(space.to_flat(genotype)) == genotype
            assert Genotype.from_json(genotype.to_json()) == genotype
            assert "dense_bits" in plain.why_not(genotype)
        changed = [gene for gene, value in space.to_flat(a).items() if space.to_flat(mutant)[gene] != value]
        assert len(changed) == 1
        seen.add(changed[0].split(".")[-1])
        assert all(x.dense_bits in (y.dense_bits, z.dense_bits) for x, y, z in zip(child.blocks, a.blocks, b.blocks, strict=True))
    assert seen >= {*WEIGHT_GENES, *ACTIVATION_GENES}
    assert {block.dense_bits for block in space.widest(rng).blocks} == {8}
    with pytest.raises(ConfigError, match="activation_bits"):
        load_space("tiny", {"activation_bits": [7]})
    with pytest.raises(ConfigError, match="stands twice"):
        load_space("tiny", {"activation_bits": [8, 8]})


def test_canonical_form_drops_the_bits_of_dead_operators_and_those_that_say_nothing():
    bits = {"dense_bits": 8, "sparse_bits": 4, "dense_activation_bits": 8, "sparse_activation_bits": 16}
    fields_only, dense_only = one_block(**bits), one_block(**bits)
    last = one_block(dense_inputs=(2,), sparse_inputs=(1,), dense_bits=16, sparse_activation_bits=32)
    one, two, three = network(fields_only, dense_only, last, weight_bits=16).canonical().blocks
    assert (one.dense_bits, one.sparse_bits, one.dense_activation_bits, one.sparse_activation_bits) == (None, 4, None, 16)
    assert (two.dense_bits, two.sparse_bits, two.dense_activation_bits, two.sparse_activation_bits) == (8, None, 8, None)
    assert (three.dense_bits, three.sparse_activation_bits) == (None, None)  # as the network's 16 bits; 32 bits
    assert network(one_block(dense_bits=8), weight_bits=8).digest() == network(one_block(), weight_bits=8).digest()
    digests = [network(one_block(**{gene: 8})).digest() for gene in bits]
    assert len({network(one_block()).digest(), *digests}) == 5


@pytest.mark.parametrize("bits", BITS)
def test_quantise_holds_few_values_and_gradients_pass_straight_through(bits):
    x = torch.randn(5, 7, generator=torch.Generator().manual_seed(1)).requires_grad_()
    seed = torch.randn(5, 7, generator=torch.Generator().manual_seed(2))
    held = quantise(x, bits)
    held.backward(seed)
    assert torch.equal(x.grad, seed)
    assert torch.equal(held.detach(), quantise(x.detach(), bits))  # to the bit what inference computes
    assert torch.equal(quantise(held.detach(), bits), held.detach()) or bits < 16
    torch.testing.assert_close(quantise(held.detach(), bits), held.detach())
    if bits < 16:
        top, levels = x.detach().abs().amax(1, keepdim=True), 2 ** (bits - 1) - 1
        codes = held.detach() / top * levels
        assert (codes.round() - codes).abs().max() < 1e-4 and codes.abs().max() <= levels + 1e-4
        assert ((held - x).abs() <= top / levels / 2 * 1.0001).all()
    assert torch.equal(quantise(x.detach().T, bits, axis=0), quantise(x.detach(), bits).T)


@pytest.mark.parametrize("dense_op", ["fc", "dot_product", "gating", "cross", "sum"])
@pytest.mark.parametrize("sparse_op", ["efc", "transformer", "attention"])
def test_activations_are_rounded_alone_and_by_sample(dense_op, sparse_op):
    """Every operator feels its activation bits, and no sample feels another's values."""
    rng = np.random.default_rng(3)
    dense, embedded = torch.from_numpy(rng.standard_normal((6, 3))).float(), torch.from_numpy(rng.standard_normal((6, 4, 4))).float()
    block = one_block(dense_op, sparse_op)
    weights = dict(Model(network(block).model_dump(mode="json"), SCHEMA).named_parameters())
    with torch.no_grad():

        def made(**bits):
            tree = network(block.model_copy(update=bits)).canonical().model_dump(mode="json")
            return features(tree, weights, dense, embedded)

        whole, width = made(), block.dense_dim
        for kind, own, other in (("dense", slice(width), slice(width, None)), ("sparse", slice(width, None), slice(width))):
            far = []
            for bits in (16, 8, 4):
                rounded = made(**{f"{kind}_activation_bits": bits})
                assert torch.equal(rounded[:, other], whole[:, other])
                far.append(float((rounded[:, own] - whole[:, own]).abs().mean()))
            assert 0 < far[0] < far[1] < far[2]
        four = made(dense_activation_bits=4, sparse_activation_bits=4)
        dense[1:] *= 100
        embedded[1:] *= 100
        torch.testing.assert_close(made(dense_activation_bits=4, sparse_activation_bits=4)[0], four[0])


def test_a_product_by_hand_at_four_bits():
    """relu(W x) of one dense layer without LayerNorm, weights rounded by row, the activation by sample."""
    genotype = network(one_block(dense_bits=4, dense_activation_bits=8), layer_norm=False)
    model = Model(genotype.canonical().model_dump(mode="json"), SCHEMA, generator=torch.Generator().manual_seed(4))
    model.load_state_dict(quantised(model.state_dict(), genotype))
    weight = model.blocks._modules["0"].fc.weight.detach().double().numpy()
    codes = np.round(weight / np.abs(weight).max(1, keepdims=True) * 7)
    np.testing.assert_allclose(codes * np.abs(weight).max(1, keepdims=True) / 7, weight, atol=1e-7)
    x = np.array([[0.5, -1.27, 0.333], [2.0, 1.0, -0.001]])
    scale = np.abs(x).max(1, keepdims=True) / 127
    expected = np.maximum((np.round(x / scale) * scale) @ weight.T, 0)
    out = model.features(torch.from_numpy(x).float(), torch.zeros(2, 4, 4))[:, :8].detach().numpy()
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-6)
    assert genotype.weight_bits_of("blocks.0.interact.out.weight") == 4 and genotype.weight_bits_of("blocks.0.fm.out.weight") == 32


DATA = "synthetic:rows=6000,seed=3,fields=4,largest=20,triples=0,first_order_std=30,pairs_std=15,positive_rate=0.5"
"""Labels nearly without noise, so that what rounding costs is not lost in it."""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COSEARCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield open_dataset(DATA, progress=lambda line: None)


def four_bits():
    four = {"dense_dim": 16, "fm": True} | dict.fromkeys(WEIGHT_GENES + ACTIVATION_GENES, 4)
    blocks = (one_block("fc", **four), one_block("dot_product", dense_inputs=(0, 1), sparse_inputs=(1,), **four))
    return network(*blocks, weight_bits=4, embedding_bits=4, layer_norm=False)


def test_training_through_four_bits_beats_rounding_afterwards(data, tmp_path):
    """Mean validation log loss over two seeds."""
    genotype, found = four_bits(), {"after": [], "trained": []}
    sharp = {"epochs": 12, "patience": 12, "batch": 256, "learning_rate": 0.01, "embedding_l2": 0.01}
    for how, results in found.items():
        settings = FinalSettings(**sharp, quantisation=how)
        results += [train_alone(genotype, data, settings, tmp_path / f"{how}{seed}", seed, open_test=False) for seed in (0, 1)]
    after, trained = (np.mean([result.valid.logloss for result in found[how]]) for how in ("after", "trained"))
    whole = np.mean([result.valid_full_precision.logloss for result in found["after"]])
    assert whole + 0.005 < after  # rounding costs something here at all
    assert trained < after
    # what is kept is rounded already, and is what the module computes
    one = found["trained"][0]
    weight = one.model.get_parameter("blocks.0.fc.weight").detach()
    codes = weight / weight.abs().amax(1, keepdim=True) * 7
    torch.testing.assert_close(codes, codes.round(), rtol=0, atol=1e-4)
    assert evaluate(one.model, data.split("valid")) == one.valid


@pytest.mark.parametrize("how", ["after", "trained"])
def test_a_step_of_the_supernet_computes_the_network_at_its_precisions_or_at_32_bits(data, how):
    only = {key: [4] for key in ("weight_bits", "embedding_bits", "operator_weight_bits", "activation_bits")}
    run = _Run(load_space("tiny", only), data, TrainingSettings(batch=256, embedding_l2=0, widest_share=0, quantisation=how))
    steps = run.steps()
    for _ in range(6):  # the head starts at zero
        next(steps)
    drawn = next(run.paths()).genotype
    expected = drawn if how == "trained" else drawn.full_precision()
    model = run.supernet.extract(expected)
    model.load_state_dict(quantised(model.state_dict(), expected))
    batch = next(iterate(run.split, run.batch, np.random.default_rng([run.settings.seed, 2, 0]), start=6, drop_last=True))
    with torch.no_grad():
        logit = model(torch.from_numpy(batch.dense), torch.from_numpy(batch.sparse))
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logit, torch.from_numpy(batch.label).float())
    slices = run.supernet.slices(drawn)
    before = {name: piece.read(run.supernet.weights[piece.shared]).clone() for name, piece in slices.items()}
    assert next(steps) == pytest.approx(float(loss), rel=1e-5)
    moved = {name: float((piece.read(run.supernet.weights[piece.shared]) != before[name]).float().mean()) for name, piece in slices.items()}
    assert moved["head.weight"] > 0.5 and np.mean(list(moved.values())) > 0.5  # gradients reach behind the rounding
    identity = run.settings.model_dump()
    assert ("quantisation" in identity) == (how == "trained")  # as before there was a choice


def test_a_training_through_precisions_resumes_to_the_bit(data, tmp_path):
    settings = FinalSettings(epochs=2, batch=512, quantisation="trained")
    whole = train_alone(four_bits(), data, settings, tmp_path / "whole", seed=2, open_test=False)

    class StopError(Exception):
        pass

    def stop(progress):
        raise StopError

    with pytest.raises(StopError):
        train_alone(four_bits(), data, settings, tmp_path / "parts", seed=2, open_test=False, progress=stop)
    parts = train_alone(four_bits(), data, settings, tmp_path / "parts", seed=2, open_test=False)
    assert parts.valid == whole.valid
    assert all(torch.equal(a, b) for a, b in zip(whole.model.state_dict().values(), parts.model.state_dict().values(), strict=True))


LARGE = {"dense": [f"d{i}" for i in range(256)], "sparse": ["a"], "cardinalities": [100]}


def large(**bits):
    return Genotype(space="x", blocks=(one_block(dense_dim=512, sparse_dim=4, **bits),), embedding_dim=16)


@pytest.mark.parametrize("bits", BITS)
def test_traffic_and_latency_of_one_product_by_hand(bits):
    """A dense layer of 512 x 256: what the simulator moves and how long it takes on the host, counted here."""
    device, batch = load_device("ddr4_3200"), 1
    host = device.host
    for weight_bits, activation_bits in ((bits, 32), (32, bits), (bits, bits)):
        workload = to_workload(large(dense_bits=weight_bits, dense_activation_bits=activation_bits), LARGE, "net", batch=batch)
        (product,) = [item for item in workload.operators if item.name == "block1.fc"]
        assert product.weight_bytes == 512 * 256 * weight_bits // 8
        assert (product.input_bytes, product.output_bytes) == (256 * activation_bits // 8, 512 * activation_bits // 8)
        assert {item.activation_bits for item in workload.operators if item.name.startswith("block1.fc")} == {activation_bits}
        cost = CostCache().costs(workload, device, batch)["block1.fc"]
        touched = 512 * 256 * weight_bits / 8 + (256 + 512) * activation_bits / 8
        longest = max(2 * 512 * 256 / (host.peak_gflops * host.efficiency), touched / host.llc_gbps)
        assert cost.latency_ps == pytest.approx((host.dispatch_ns + longest) * 1000, abs=1)
        small_cache = load_device("ddr4_3200", {"host.llc_bytes": 4096})
        assert CostCache().costs(workload, small_cache, batch)["block1.fc"].external_bytes == 512 * 256 * weight_bits // 8


def test_fewer_bits_are_faster_where_the_device_gains_by_them():
    made = [to_workload(large(dense_bits=bits, dense_activation_bits=bits), LARGE, "net", batch=4) for bits in BITS]
    # HBM-PIM widens packed 4-bit weights in two cycles a burst: nothing to gain beyond 8 bits
    for name, overrides, gaining in (("ddr4_3200", {"host.llc_bytes": 4096}, BITS), ("hbm_pim", {"dram.channels": 1}, BITS[:3])):
        device = load_device(name, overrides)
        latencies = [simulate(device, workload).latency_us["mean"] for workload in made[: len(gaining)]]
        assert all(wide > narrow for wide, narrow in pairwise(latencies))


def test_precisions_reach_mergers_joins_and_attention():
    bits = {"dense_bits": 8, "sparse_bits": 4, "dense_activation_bits": 16, "sparse_activation_bits": 8}
    first, last = one_block("fc"), one_block("dot_product", "attention", dense_inputs=(0, 1), sparse_inputs=(0, 1), fm=True, interact=True)
    genotype = network(first, last.model_copy(update=bits), weight_bits=32)
    workload = to_workload(genotype, SCHEMA, "net")
    items = {item.name: item for item in workload.operators}

    def found(kind, start):
        chosen = [item for name, item in items.items() if name.startswith(start) and isinstance(item, kind)]
        assert chosen
        return {(getattr(item, "weight_bits", None), item.activation_bits) for item in chosen}

    assert found(MatMul, "block1") == {(32, 32)}
    assert found(MatMul, "block2.dot_product") | found(MatMul, "block2.interact") == {(8, 16)}
    assert found(MatMul, "block2.attention") | found(MatMul, "block2.fm") == {(4, 8)}
    assert found(Product, "block2.attention") == {(None, 8)} and found(Product, "block2.dot_product") == {(None, 16)}
    assert found(Move, "block2.fields") == {(None, 16)}  # read by both operators: at the wider precision
    assert found(MatMul, "head") == {(32, 32)}
    plain = weight_bytes(network(first, last), 3, 4)
    assert plain == 4 * count(network(first, last), 3, 4)[1]
    assert plain * 4 / 32 < weight_bytes(genotype, 3, 4) < plain
