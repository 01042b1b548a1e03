"""Dim and precision genes of single tables: space, canonical form, shared weights, training, scores, the network alone."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import torch

from pimsim.errors import ConfigError
from supernet.export import export_model
from supernet.final import FinalSettings, evaluate, train_alone
from supernet.genotype import Block, Genotype
from supernet.lowering import to_workload
from supernet.model import Supernet, schema_dict
from supernet.optim import RowSparseTable
from supernet.quantise import quantised, stored_rows
from supernet.runs import read_json, read_torch
from supernet.scoring import Scorer, ScoringSettings
from supernet.space import load_space
from supernet.standalone import Model, features
from supernet.tables import Tables
from supernet.training import TrainingSettings, train_supernet
from workloads.data import open_dataset

GENES = {"table_dims": [1, 2, 4], "table_bits": [32, 8, 4], "embedding_bits": [32]}
UNBOUND = load_space("tiny", GENES)
SPACE = UNBOUND.for_tables(4)
SCHEMA = {"dense": ["d0", "d1", "d2"], "sparse": ["a", "b", "c", "d"], "cardinalities": [5, 6, 7, 8]}
TRAINING = TrainingSettings(epochs=1, batch=256, checkpoint_seconds=1e-6)
BLOCK = Block(dense_op="fc", sparse_op="efc", dense_dim=8, sparse_dim=4, dense_inputs=(0,), sparse_inputs=(0,))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COSEARCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield open_dataset("synthetic:rows=3000,seed=3,fields=4,largest=20,first_order_std=2", progress=lambda line: None)


@pytest.fixture(scope="module")
def folder(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("supernet")
    train_supernet(UNBOUND, data, TRAINING, folder)
    return folder


def network(**genes):
    return Genotype(space="x", embedding_dim=4, blocks=(BLOCK,), **genes)


def rows_of(schema, count=6):
    rng = np.random.default_rng(0)
    sparse = np.stack([rng.integers(n, size=count) for n in schema["cardinalities"]], axis=1)
    return torch.from_numpy(rng.standard_normal((count, len(schema["dense"]))).astype(np.float32)), torch.from_numpy(sparse)


# -- space and genotype


def test_spaces_without_the_genes_draw_what_they_drew_before():
    for name, drawn, mutant, own in (
        ("tiny", "29408d0dd7091785", "805c20629ec167d8", "1cacdf2051149095"),
        ("nasrec_full", "aed414398a92d9b5", "657a1bebc3d5149f", "087c71e5a57872cc"),
    ):
        space, rng = load_space(name), np.random.default_rng(5)
        genotype = space.sample(rng)
        assert (genotype.digest(), space.mutate(genotype, rng).digest(), space.digest()) == (drawn, mutant, own)
        assert "embedding_dims" not in genotype.to_json() and space.for_tables(9) is space


def test_a_space_that_does_not_know_the_number_of_tables_says_so():
    rng = np.random.default_rng(0)
    for action in (UNBOUND.size, UNBOUND.genes, lambda: UNBOUND.sample(rng), lambda: UNBOUND.widest(rng)):
        with pytest.raises(ConfigError, match="space tiny: table_dims: how many tables there are is not known"):
            action()
    with pytest.raises(ConfigError, match="tables: 4: the data set has 5"):
        SPACE.for_tables(5)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"table_dims": [2, 8]}, "table_dims: 8: allowed are 1 to embedding_dim = 4"),
        ({"table_dims": [2, 2]}, "table_dims: a value stands twice"),
        ({"table_bits": [8, 5]}, r"table_bits.1: 5: .*4, 8, 16 or 32"),
        ({"table_bits": [32, 8]}, "embedding_bits: .*table_bits takes its place"),
        ({"table_dims": []}, "table_dims"),
    ],
)
def test_bad_keys_are_one_line(overrides, message):
    with pytest.raises(ConfigError, match=message) as error:
        load_space("tiny", overrides)
    assert "\n" not in str(error.value)


def test_size_sampling_mutation_crossover_and_flat_genes():
    plain = load_space("tiny", {"embedding_bits": [32]})
    assert SPACE.size() == plain.size() * 3**4 * 3**4 == math.prod(len(values) for values in SPACE.genes().values())
    rng, seen, mutated = np.random.default_rng(1), Counter(), set()
    for _ in range(150):
        a, b = SPACE.sample(rng), SPACE.sample(rng)
        child, mutant = SPACE.crossover(a, b, rng), SPACE.mutate(a, rng)
        seen.update([("dim", a.embedding_dims[2]), ("bits", a.table_bits[0])])
        flat = SPACE.to_flat(mutant)
        changed = [gene for gene, value in SPACE.to_flat(a).items() if flat[gene] != value]
        assert len(changed) == 1
        mutated.update(changed)
        for genotype in (mutant, child):
            assert SPACE.contains(genotype) and SPACE.from_flat(SPACE.to_flat(genotype)) == genotype
            assert Genotype.from_json(genotype.to_json()) == genotype
        assert all(x in pair for x, *pair in zip(child.embedding_dims, a.embedding_dims, b.embedding_dims, strict=True))
    assert min(seen.values()) > 30 and len(seen) == 6  # 50 expected of each
    assert len([gene for gene in mutated if gene.startswith(("embedding_dims", "table_bits"))]) > 4
    assert SPACE.why_not(a.model_copy(update={"embedding_dims": (1, 2)})) == "embedding_dims: 2 values, allowed: 4"
    assert SPACE.why_not(a.model_copy(update={"table_bits": (8, 8, 8, 16)})).startswith("table_bits.3: 16, allowed")
    assert plain.why_not(a) == "embedding_dims: 4 values, allowed: none"


def test_canonical_form_and_digest():
    base = network()
    assert base.digest() == network(embedding_dims=(4, 4), table_bits=(32, 32)).digest()
    assert network(embedding_bits=8).digest() == network(table_bits=(8, 8)).digest()
    assert network(table_bits=(8, 4)).digest() == network(table_bits=(8, 4), embedding_bits=16).digest()
    assert network(embedding_dims=(2, 2)).canonical().embedding_dims == (2, 2)  # zeros follow: not a network of dim 2
    others = [network(embedding_dims=(2, 4)), network(embedding_dims=(4, 2)), network(table_bits=(8, 4)), network(embedding_dims=(2, 2))]
    assert len({genotype.digest() for genotype in (base, *others)}) == 5
    for genotype in others:
        assert genotype.canonical().canonical() == genotype.canonical()


@pytest.mark.parametrize(
    ("genes", "message"),
    [
        ('"embedding_dims": [4, 32]', "embedding_dims: 32: allowed are 1 to embedding_dim = 16"),
        ('"embedding_dims": [4], "table_bits": [8, 8]', "embedding_dims: 1 values and table_bits: 2 values"),
        ('"table_bits": []', "table_bits: 0 values"),
        ('"table_bits": [7]', "table_bits.0: 7"),
    ],
)
def test_bad_genotypes_are_one_line(genes, message):
    text = '{"space": "x", "blocks": [{"dense_op": "fc", "sparse_op": null, "dense_dim": 8, "dense_inputs": [0]}], ' + genes + "}"
    with pytest.raises(ConfigError, match=message) as error:
        Genotype.from_json(text, "g.json")
    assert "\n" not in str(error.value)


# -- weights


def test_slicing_equals_extraction_and_the_network_alone_has_no_padding():
    supernet, rng = Supernet(SPACE, SCHEMA, generator=torch.Generator().manual_seed(0)), np.random.default_rng(2)
    generator = torch.Generator().manual_seed(1)
    for tensor in supernet.weights.values():
        tensor.normal_(0.0, 0.3, generator=generator)
    dense, sparse = rows_of(SCHEMA)
    full = supernet.weights["embedding.weight"][sparse + torch.tensor([0, 5, 11, 18])]
    for _ in range(12):
        genotype = SPACE.sample(rng)
        canonical, model = genotype.canonical(), supernet.extract(genotype)
        model.load_state_dict(quantised(model.state_dict(), canonical))
        weights = quantised(supernet.parameters(canonical), canonical)
        head_input = features(canonical.model_dump(mode="json"), weights, dense, stored_rows(full, canonical))
        torch.testing.assert_close(
            model(dense, sparse), head_input @ weights["head.weight"][0] + weights["head.bias"], rtol=1e-5, atol=1e-5
        )
        held = sum(parameter.numel() for parameter in model.embedding.parameters())
        assert held == sum(rows * dim for rows, dim in zip(SCHEMA["cardinalities"], genotype.embedding_dims, strict=True))
        assert all(not model.embed(sparse)[:, field, dim:].any() for field, dim in enumerate(genotype.embedding_dims))


def test_state_dicts_of_plain_networks_stay_as_they_are():
    plain, own = Model(network().model_dump(mode="json"), SCHEMA), Model(network(table_bits=(8, 8, 8, 4)).model_dump(mode="json"), SCHEMA)
    assert [name for name in plain.state_dict() if "embedding" in name] == ["embedding.weight"]
    assert [name for name in own.state_dict() if "embedding" in name] == [f"embedding.{i}.weight" for i in range(4)]


@pytest.mark.parametrize("name", ["adam", "adagrad", "rowwise_adagrad"])
def test_a_step_moves_only_the_rows_of_the_batch_and_of_those_the_first_columns(name):
    whole = torch.randn(9, 4, generator=torch.Generator().manual_seed(0))
    table = Tables(whole.clone().split([4, 5]), [4, 5], 4, name, 0.0, varied=True)
    before = torch.cat([part.weight for part in table.parts])
    embedded = table.look_up(torch.tensor([[1, 0], [3, 0]]), (2, 3))
    assert embedded.shape == (2, 2, 4) and not embedded[:, 0, 2:].any() and not embedded[:, 1, 3:].any()
    embedded.square().sum().backward()
    table.update(0.1)
    moved = torch.cat([part.weight for part in table.parts]) != before
    expected = torch.zeros(9, 4, dtype=torch.bool)
    expected[1, :2] = expected[3, :2] = expected[4, :3] = True
    assert torch.equal(moved, expected)


def test_a_narrow_read_trains_like_a_narrow_table():
    """The first two columns of a shared table, with decay, against a table of two columns; the decay of the rest is the same."""
    wide = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    one, two = RowSparseTable(wide.clone(), "adam", 0.5, "element"), RowSparseTable(wide[:, :2].clone(), "adam", 0.5)
    for ids in ([[0], [1]], [[1], [5]], [[0], [0]]):
        for table, width in ((one, 2), (two, None)):
            embedded, leaf = table.look_up(torch.tensor(ids), width)
            (embedded - 1).square().sum().backward()
            table.update(leaf, 0.1)
    torch.testing.assert_close(one.settle()[:, :2], two.settle())
    torch.testing.assert_close(one.weight[:, 2:], wide[:, 2:] * math.exp(-3 * 0.1 * 0.5))


# -- training, scores, the network alone


def test_training_binds_the_space_and_resumes_to_the_bit(data, folder, tmp_path):
    assert read_json(folder / "settings.json")["space"]["tables"] == 4

    class StopError(Exception):
        pass

    with pytest.MonkeyPatch.context() as patch, pytest.raises(StopError):
        patch.setattr("supernet.training.save_atomically", _after(3, StopError))
        train_supernet(SPACE, data, TRAINING, tmp_path)
    assert read_torch(tmp_path / "checkpoint.pt")["step"] == 3
    train_supernet(UNBOUND, data, TRAINING, tmp_path)
    one, two = read_torch(folder / "supernet.pt"), read_torch(tmp_path / "supernet.pt")
    assert one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


def _after(count, error):
    from supernet.runs import save_atomically

    calls = []

    def save(value, path):
        calls.append(path)
        if len(calls) > count:
            raise error
        save_atomically(value, path)

    return save


def test_scores_are_those_of_the_extracted_rounded_network_in_any_order(data, folder):
    rng = np.random.default_rng(3)
    genotypes = [SPACE.sample(rng) for _ in range(5)]
    genotypes += [genotypes[0].model_copy(update={"embedding_dims": (4,) * 4, "table_bits": (8,) * 4})]
    settings = ScoringSettings(head_rows=0, valid_rows=None)
    first, second = Scorer(folder, data, settings), Scorer(folder, data, settings)
    scores = [first.score(genotype) for genotype in genotypes]
    assert [second.score(genotype) for genotype in reversed(genotypes)] == scores[::-1]
    assert len({score.logloss for score in scores}) == len(scores)
    for genotype, score in zip(genotypes, scores, strict=True):
        model = first.supernet.extract(genotype)
        model.load_state_dict(quantised(model.state_dict(), genotype.canonical()))
        assert score == pytest.approx(evaluate(model, data.split("valid")), abs=1e-6)
    assert set(first._embedded) == {32, 8}  # one copy for each precision that all tables shared, and the unrounded one


def test_trained_alone_at_its_own_sizes_resumed_and_exported(data, tmp_path):
    genotype = network(embedding_dims=(1, 4, 2, 3), table_bits=(32, 8, 4, 16))
    settings = FinalSettings(epochs=2, batch=256)
    whole = train_alone(genotype, data, settings, tmp_path / "whole", seed=5)

    class StopError(Exception):
        pass

    def stop(progress):
        raise StopError

    with pytest.raises(StopError):
        train_alone(genotype, data, settings, tmp_path / "parts", seed=5, progress=stop)
    parts = train_alone(genotype, data, settings, tmp_path / "parts", seed=5)
    state = whole.model.state_dict()
    assert all(torch.equal(tensor, parts.model.state_dict()[name]) for name, tensor in state.items())
    rows = data.schema.cardinalities
    assert [tuple(state[f"embedding.{i}.weight"].shape) for i in range(4)] == list(zip(rows, (1, 4, 2, 3), strict=True))
    assert len(torch.unique(state["embedding.2.weight"][7])) <= 2 and whole.valid.auc > 0.6
    levels = state["embedding.1.weight"] / state["embedding.1.weight"].abs().amax(1, keepdim=True) * 127
    torch.testing.assert_close(levels, levels.round(), rtol=0, atol=1e-3)
    assert torch.equal(state["embedding.3.weight"], state["embedding.3.weight"].half().float())
    schema = schema_dict(data.schema)
    export_model(genotype, schema, whole.model, tmp_path / "export")
    code = {"__name__": "model"}
    exec((tmp_path / "export" / "model.py").read_text(), code)  # what an export's user imports, without this package
    dense, sparse = rows_of(schema)
    torch.testing.assert_close(code["load"](str(tmp_path / "export"))(dense, sparse), whole.model(dense, sparse))
    with pytest.raises(ConfigError, match="embedding_dims: 2 values, allowed: 4, one for each table"):
        train_alone(network(embedding_dims=(1, 2)), data, settings, tmp_path / "wrong", seed=5)


def test_gradients_pass_straight_through_the_rounding_to_the_elements_that_are_there():
    full = torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    genotype = network(embedding_dims=(1, 4, 2), table_bits=(4, 8, 32))
    held, seed = stored_rows(full, genotype), torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(1))
    held.backward(seed)
    there = torch.arange(4) < torch.tensor([[1], [4], [2]])
    assert torch.equal(full.grad, seed * there) and not torch.equal(held, full * there)
    assert torch.equal(held[:, 2, :2], full[:, 2, :2])  # 32 bits


def test_precisions_of_tables_are_trained_through(data, tmp_path):
    genotype, found = network(embedding_dims=(4, 2, 4, 4), table_bits=(4, 4, 8, 4)), {}
    for how in ("after", "trained"):
        settings = FinalSettings(epochs=2, batch=256, quantisation=how)
        found[how] = train_alone(genotype, data, settings, tmp_path / how, seed=5, open_test=False)
        for number, levels in enumerate((7, 7, 127, 7)):
            table = found[how].model.embedding[number].weight.detach()
            steps = table / table.abs().amax(1, keepdim=True) * levels
            torch.testing.assert_close(steps, steps.round(), rtol=0, atol=1e-3)
        assert found[how].valid != found[how].valid_full_precision and found[how].valid.auc > 0.6
    assert found["after"].valid != found["trained"].valid


def test_workload_has_every_table_at_its_own_size():
    genotype = network(embedding_dims=(1, 4, 2, 3), table_bits=(32, 8, 4, 16))
    workload, plain = to_workload(genotype, SCHEMA, "net"), to_workload(network(), SCHEMA, "net")
    (gather,) = workload.gathers
    assert [(table.dim, table.bits) for table in gather.tables] == [(1, 32), (4, 8), (2, 4), (3, 16)]
    assert gather.gathered_bytes == 4 + 4 + 1 + 6 and gather.output_bytes == 4 * 10
    assert gather.table_bytes == 5 * 4 + 6 * 4 + 7 * 1 + 8 * 6
    assert workload.macs == plain.macs and workload.operators[2:] == plain.operators[2:]  # the products read the whole width
    with pytest.raises(ConfigError, match="table_bits: 3 values, allowed: 4"):
        to_workload(network(table_bits=(8, 8, 4)), SCHEMA, "net")
