"""Lowering: multiply-accumulates and weights equal those of the torch module; published counts; precision in the workload."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from pimsim.graph import Gather, MatMul
from supernet.genotype import Genotype
from supernet.lowering import count, to_workload
from supernet.space import load_space
from supernet.standalone import Model

SCHEMA = {"dense": ["d0", "d1", "d2"], "sparse": ["a", "b", "c", "d"], "cardinalities": [5, 6, 7, 8]}
GOLDEN = Path(__file__).parents[2] / ".." / "shared" / "golden" / "nasrec"
OPERATORS = {
    "dense_operators": ["fc", "dot_product", "gating", "cross", "sum"],
    "sparse_operators": ["efc", "transformer", "attention"],
}


def torch_macs(model: Model, schema: dict) -> tuple[int, int]:
    """Multiply-accumulates of one row as torch executes them, and those of Gram matrices beyond their strict lower triangles."""
    dense, sparse = torch.zeros(1, len(schema["dense"])), torch.zeros(1, len(schema["sparse"]), dtype=torch.int32)
    grams = []
    original = torch.bmm

    def spy(a, b):
        grams.append((a.shape[1], a.shape[2]))
        return original(a, b)

    with pytest.MonkeyPatch.context() as patch, FlopCounterMode(display=False) as counter:
        patch.setattr(torch, "bmm", spy)
        model(dense, sparse)
    excess = sum((n * n - n * (n - 1) // 2) * k for n, k in grams)
    return counter.get_total_flops() // 2, excess


@pytest.mark.parametrize(
    ("name", "overrides"),
    [("tiny", {}), ("tiny", {**OPERATORS, "layer_norm": False, "dense_dims": [4, 32]}), ("quickstart", OPERATORS)],
)
def test_macs_and_weights_equal_the_torch_module(name, overrides):
    space, rng = load_space(name, {**overrides, "weight_bits": [32]}), np.random.default_rng(8)
    for _ in range(40):
        genotype = space.sample(rng)
        model = Model(genotype.canonical().model_dump(mode="json"), SCHEMA)
        workload = to_workload(genotype, SCHEMA, "net")
        executed, excess = torch_macs(model, SCHEMA)
        assert workload.macs == executed - excess
        linear = sum(p.numel() for n, p in model.named_parameters() if "norm" not in n and "embedding" not in n)
        assert workload.weight_bytes == 4 * linear
        dense_parameters = sum(p.numel() for n, p in model.named_parameters() if n != "embedding.weight")
        assert count(genotype, 3, 4) == (executed, dense_parameters)


def test_precision_reaches_the_workload():
    space = load_space("tiny", {"weight_bits": [8], "embedding_bits": [8]})
    workload = to_workload(space.sample(np.random.default_rng(0)), SCHEMA, "net")
    (gather,) = workload.gathers
    assert isinstance(gather, Gather) and [t.name for t in gather.tables] == SCHEMA["sparse"]
    assert {t.bits for t in gather.tables} == {8} and gather.gathered_bytes == 4 * 4  # 4 tables x dim 4 x 1 byte
    assert {o.weight_bits for o in workload.operators if isinstance(o, MatMul)} == {8}


def test_only_live_operators_are_lowered():
    space, rng = load_space("nasrec_small"), np.random.default_rng(3)
    for _ in range(30):
        genotype = space.sample(rng)
        workload = to_workload(genotype, SCHEMA, "net")
        assert workload == to_workload(genotype.canonical(), SCHEMA, "net")
        unread = [name for name, readers in workload.graph.out_degree() if readers == 0]
        assert unread == ["head"]


@pytest.mark.skipif(not GOLDEN.is_dir(), reason="../shared/golden/nasrec is not here")
def test_published_macs_of_nasrec_small_on_criteo():
    macs, parameters = count(Genotype.load(GOLDEN / "criteo_small.json"), 13, 26)
    assert macs == pytest.approx(2.20e6, rel=0.01)
    assert parameters == pytest.approx(1.74e6, rel=0.05)  # our own earlier count, without norms
