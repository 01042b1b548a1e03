"""Genotypes: JSON round trip, canonical form by hand, digests, published NASRecNets, refusals."""

from __future__ import annotations

import json
from math import log10
from pathlib import Path

import numpy as np
import pytest

from pimsim.configs import config_root
from pimsim.errors import ConfigError, RunError
from supernet.genotype import Block, Genotype
from supernet.space import load_space

GOLDEN = Path(__file__).parents[2] / ".." / "shared" / "golden" / "nasrec"


def fc(inputs, dim=16, sparse=(0,), fields=8, **genes):
    sizes = {"dense_dim": dim, "sparse_dim": fields}
    return Block(dense_op="fc", sparse_op="efc", dense_inputs=inputs, sparse_inputs=sparse, **sizes, **genes)


def test_json_round_trip_of_every_space():
    for name in ("tiny", "quickstart", "nasrec_small"):
        space, rng = load_space(name), np.random.default_rng(1)
        for _ in range(20):
            genotype = space.sample(rng)
            assert Genotype.from_json(genotype.to_json()) == genotype
            assert Genotype.from_json(genotype.canonical().to_json()) == genotype.canonical()


def test_dead_block_is_dropped_and_inputs_are_renumbered():
    genotype = Genotype(space="x", blocks=(fc((0,)), fc((0, 1), dim=32), fc((2, 0), sparse=(2,))))
    canonical = genotype.canonical()  # block 1's dense output is read by block 2, nobody reads its sparse output
    assert [b.sparse_op for b in canonical.blocks] == [None, "efc", "efc"]
    genotype = Genotype(space="x", blocks=(fc((0,)), fc((0,), dim=32), fc((2, 0), sparse=(2,))))
    canonical = genotype.canonical()
    assert len(canonical.blocks) == 2 and canonical.blocks[1].dense_inputs == (0, 1) and canonical.blocks[1].sparse_inputs == (1,)


def test_sparse_and_dense_outputs_live_separately():
    # Block 1 is read only for its fields, block 2 only for its dense vector.
    genotype = Genotype(space="x", blocks=(fc((0,), fm=True), fc((0,), interact=True, fm=True), fc((2,), sparse=(1,))))
    one, two, _ = genotype.canonical().blocks
    assert one.dense_op is None and one.dense_dim == 0 and not one.fm and one.sparse_op == "efc"
    assert two.dense_op == "fc" and not two.interact and two.fm and two.sparse_op == "efc"  # FM keeps the sparse operator alive


def test_merger_keeps_the_dense_operator_alive():
    genotype = Genotype(space="x", blocks=(fc((0,), interact=True, fm=True), fc((0,), sparse=(1,))))
    one, _ = genotype.canonical().blocks
    assert one.dense_op == "fc" and one.interact and not one.fm


def test_digest_ignores_dead_genes_and_order_but_nothing_else():
    base = Genotype(space="x", blocks=(fc((0,)), fc((0, 1))))
    assert base.digest() == Genotype(space="y", blocks=(fc((0,), fields=4, interact=True), fc((1, 0)))).digest()
    assert base.digest() == base.canonical().digest()
    changed = [
        base.model_copy(update={"weight_bits": 8}),
        base.model_copy(update={"embedding_bits": 8}),
        base.model_copy(update={"layer_norm": False}),
        Genotype(space="x", blocks=(fc((0,), dim=32), fc((0, 1)))),
        Genotype(space="x", blocks=(fc((0,)), fc((0, 1), fm=True))),
    ]
    assert len({g.digest() for g in [base, *changed]}) == 6


def test_sum_is_symmetric_and_gating_is_not():
    def pair(op, left, right):
        last = Block(dense_op=op, sparse_op="efc", dense_dim=8, sparse_dim=4, sparse_inputs=(0,), dense_left=left, dense_right=right)
        return Genotype(space="x", blocks=(fc((0,)), last)).digest()

    assert pair("sum", 0, 1) == pair("sum", 1, 0)
    assert pair("gating", 0, 1) != pair("gating", 1, 0)


def test_canonical_is_idempotent_and_keeps_its_digest():
    space, rng = load_space("nasrec_small"), np.random.default_rng(7)
    for _ in range(100):
        canonical = space.sample(rng).canonical()
        assert canonical.canonical() == canonical


@pytest.mark.skipif(not GOLDEN.is_dir(), reason="../shared/golden/nasrec is not here")
def test_published_winner_has_one_dead_block():
    genotype = Genotype.load(GOLDEN / "criteo_small.json")
    assert len(genotype.blocks) == 7 and len(genotype.canonical().blocks) == 6


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", "expected a JSON object"),
        ("{", "not valid JSON"),
        ('{"space": "x", "blocks": []}', "blocks"),
        ('{"space": "x", "blocks": [{"dense_op": "fx", "sparse_op": null}]}', "did you mean 'fc'"),
        ('{"space": "x", "bocks": []}', "blocks"),
        ('{"space": "x", "blocks": [{"dense_op": "fc", "sparse_op": null, "dense_dim": 8, "dense_inputs": [1]}]}', "source 1"),
        ('{"micro": [], "macro": [], "config": "autoctrl"}', "autoctr"),
        ('{"micro": [{}], "macro": [{}], "config": "autoctr"}', "not a NASRecNet"),
    ],
)
def test_bad_input_is_one_line(text, message):
    with pytest.raises(ConfigError, match=message) as error:
        Genotype.from_json(text, "g.json")
    assert "\n" not in str(error.value) and str(error.value).startswith("g.json")


def test_size_of_nasrec_full():
    # facts: 10^43.9 genotypes, without the precision genes
    space = load_space("nasrec_full", {"weight_bits": [32], "embedding_bits": [32]})
    assert log10(space.size()) == pytest.approx(43.9, abs=0.05)
    genotype = space.sample(np.random.default_rng(0))
    assert Genotype.from_json(genotype.to_json()) == genotype


def test_the_command_describes_a_published_network_and_writes_its_workload(tmp_path):
    from cosearch.commands.genotype import genotype
    from workloads.zoo import provider

    file = config_root() / "genotypes" / "nasrecnet_criteo_full.json"
    genotype(file, workload=tmp_path / "net.json", json=str(tmp_path / "facts.json"))
    facts = json.loads((tmp_path / "facts.json").read_text())
    assert (facts["space"], facts["dataset"], facts["blocks"], facts["live_blocks"]) == ("nasrec_full", "criteo", 7, 4)
    assert facts["dead_blocks"] == [4, 5, 6] and facts["macs_live"] < facts["macs_executed"]
    assert Genotype.model_validate(facts["canonical"]).digest() == facts["digest"]
    workload = provider.load(tmp_path / "net.json")
    assert workload.macs == facts["macs_simulated"] < facts["macs_live"]
    with pytest.raises(ConfigError, match="--dataset: unknown data set 'cirteo'; did you mean 'criteo'"):
        genotype(file, dataset="cirteo")
    with pytest.raises(RunError, match="cannot be written"):
        genotype(file, workload=tmp_path / "nowhere" / "net.json", json="-")


@pytest.mark.parametrize("layer_norm", [True, False])
def test_the_canonical_form_computes_the_same(layer_norm):
    """Every block of a network, dead or not, against its canonical form with the same weights: equal logits, fewer parameters."""
    import torch

    from supernet.standalone import Model

    schema = {"dense": ["d0", "d1"], "sparse": ["a", "b", "c"], "cardinalities": [5, 6, 7]}
    sizes = {"dense_dims": [8, 32], "sparse_dims": [4, 6], "embedding_dim": 8, "layer_norm": layer_norm}
    space, rng = load_space("nasrec_full", sizes), np.random.default_rng(4)
    dense = torch.from_numpy(rng.standard_normal((5, 2)))
    sparse = torch.from_numpy(np.stack([rng.integers(n, size=5) for n in (5, 6, 7)], axis=1))
    smaller, threads = 0, torch.get_num_threads()
    torch.set_num_threads(1)  # small matrices: more threads only wait for each other
    for _ in range(12):
        genotype = space.sample(rng)
        canonical, dead = genotype.canonical(), genotype.dead_blocks()
        whole, live = (Model(g.model_dump(mode="json"), schema).double() for g in (genotype, canonical))
        with torch.no_grad():
            for parameter in whole.parameters():
                parameter.copy_(torch.from_numpy(rng.standard_normal(parameter.shape)) / 2)
            state = whole.state_dict()
            kept = [number - 1 for number in range(1, 8) if number not in dead]
            names = {name: _renamed(name, kept) for name in live.state_dict()}
            live.load_state_dict({name: state[old] for name, old in names.items()})
            torch.testing.assert_close(live(dense, sparse), whole(dense, sparse), rtol=1e-9, atol=1e-9)
        smaller += len(names) < len(state)
    torch.set_num_threads(threads)
    assert smaller > 6


def _renamed(name, kept):
    """A canonical network's parameter under its name in the whole network."""
    head, _, rest = name.partition(".")
    if head != "blocks":
        return name
    number, _, rest = rest.partition(".")
    return f"blocks.{kept[int(number)]}.{rest}"
