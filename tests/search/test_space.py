"""Spaces: exact size, sampling, mutation and crossover that stay inside, refusals."""

from __future__ import annotations

from collections import Counter
from itertools import product
from math import log10

import numpy as np
import pytest

from pimsim.errors import ConfigError
from supernet.genotype import TABLE_GENES, Block
from supernet.space import load_space


def test_size_equals_enumeration():
    space = load_space("tiny", {"dense_dims": [8], "weight_bits": [32], "sparse_dims": [4]})
    count = 0
    for block in range(space.blocks):
        sets = space.input_sets(block)
        genotypes = {
            Block(dense_op=d, sparse_op="efc", dense_dim=8, sparse_dim=4, dense_inputs=i, sparse_inputs=j, interact=m, fm=f)
            for d, i, j, m, f in product(space.dense_operators, sets, sets, space.interact, space.fm)
        }
        count = len(genotypes) * (count or 1)
    assert space.size() == count * 2  # two table precisions


def test_size_of_nasrec_small_without_its_unused_genes():
    # facts: 10^32.3 without left and right genes, and without precision genes
    space = load_space("nasrec_small", {"weight_bits": [32], "embedding_bits": [32]})
    assert log10(space.size()) == pytest.approx(32.3, abs=0.05)


@pytest.mark.parametrize("name", ["tiny", "quickstart", "nasrec_small", "extended"])
def test_sample_mutate_and_crossover_stay_in_the_space(name):
    space, rng = load_space(name).for_tables(3), np.random.default_rng(3)
    for _ in range(200):
        a, b = space.sample(rng), space.sample(rng)
        mutant, child = space.mutate(a, rng), space.crossover(a, b, rng)
        for genotype in (a, mutant, child, space.sample(rng)):
            assert space.why_not(genotype) is None
            type(genotype).model_validate(genotype.model_dump())  # copies are not validated, so do it here
        assert mutant != a
        fields = [(x, y) for x, y in zip(a.blocks, mutant.blocks, strict=True)]
        changed = sum(getattr(x, g) != getattr(y, g) for x, y in fields for g in Block.model_fields)
        changed += (a.weight_bits != mutant.weight_bits) + (a.embedding_bits != mutant.embedding_bits)
        for gene in TABLE_GENES:
            changed += sum(x != y for x, y in zip(getattr(a, gene) or (), getattr(mutant, gene) or (), strict=True))
        assert changed == 1


def test_fan_in_is_uniform_over_sizes():
    space, rng = load_space("nasrec_small"), np.random.default_rng(0)
    sizes = Counter(len(space.sample(rng).blocks[6].dense_inputs) for _ in range(4000))
    assert set(sizes) == {1, 2, 3, 4} and all(abs(n - 1000) < 120 for n in sizes.values())


def test_sampling_is_a_function_of_the_seed():
    space = load_space("quickstart")
    assert space.sample(np.random.default_rng(5)) == space.sample(np.random.default_rng(5))


def test_widest_path_reads_everything_at_full_width():
    space = load_space("quickstart", {"max_fan_in": 2})
    widest = space.widest(np.random.default_rng(0))
    assert "sources, allowed: 1 to 2" in space.why_not(widest)
    assert [len(b.dense_inputs) for b in widest.blocks] == [1, 2, 3, 4]
    assert all(b.dense_dim == 128 and b.sparse_dim == 16 and b.fm and b.interact for b in widest.blocks)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"block": 3}, "did you mean 'blocks'"),
        ({"blocks": 0}, "blocks: 0"),
        ({"dense_operators": ["fcc"]}, "did you mean 'fc'"),
        ({"weight_bits": [7]}, "weight_bits"),
        ({"dense_dims": [8, 8]}, "stands twice"),
    ],
)
def test_bad_space_is_one_line(overrides, message):
    with pytest.raises(ConfigError, match=message) as error:
        load_space("tiny", overrides)
    assert "\n" not in str(error.value)


def test_unknown_space_and_foreign_genotype():
    with pytest.raises(ConfigError, match="did you mean 'quickstart'"):
        load_space("quickstrat")
    space = load_space("tiny")
    with pytest.raises(ConfigError, match="not of space tiny: blocks: 4"):
        space.mutate(load_space("quickstart").sample(np.random.default_rng(0)), np.random.default_rng(0))
