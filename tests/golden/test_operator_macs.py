"""The operators' MACs, summed over a published NASRecNet, against its published figure."""

from __future__ import annotations

from pathlib import Path

import pytest

from supernet.genotype import Genotype
from workloads.operators.dot_product import DotProduct
from workloads.operators.efc import EmbeddingFullyConnected
from workloads.operators.fc import FullyConnected
from workloads.operators.fm import FactorizationMachine
from workloads.operators.interact import DenseToFields

GENOTYPE = Path(__file__).resolve().parents[2].parent / "shared" / "golden" / "nasrec" / "criteo_small.json"
DIM = 16


def _live_operators(genotype: Genotype, dense: int, sparse: int):
    """Every operator of the live network with its shapes: 13 dense and 26 sparse inputs for Criteo."""
    width, fields = [dense], [sparse]
    for block in genotype.canonical().blocks:
        features = sum(width[i] for i in block.dense_inputs)
        inputs = sum(fields[i] for i in block.sparse_inputs)
        if block.dense_op == "fc":
            yield FullyConnected(in_features=features, out_features=block.dense_dim)
        elif block.dense_op == "dot_product":
            yield DotProduct(dense_features=features, sparse_fields=inputs, dim=DIM, out_features=block.dense_dim)
        if block.sparse_op == "efc":
            yield EmbeddingFullyConnected(in_fields=inputs, out_fields=block.sparse_dim, dim=DIM)
        if block.fm:
            yield FactorizationMachine(fields=block.sparse_dim, dim=DIM, out_features=block.dense_dim)
        if block.interact:
            yield DenseToFields(in_features=block.dense_dim, dim=DIM)
        width.append(block.dense_dim)
        fields.append(block.sparse_dim + (8 if block.interact else 0))
    yield FullyConnected(in_features=width[-1] + fields[-1] * DIM, out_features=1, activation="none")


@pytest.mark.skipif(not GENOTYPE.is_file(), reason="no ../shared/golden/nasrec beside the checkout")
def test_criteo_small_has_its_published_macs():
    """2.20 M, published. That counts whole Gram matrices, as a batched matmul computes them; ours, strict lower triangles."""
    operators = list(_live_operators(Genotype.load(GENOTYPE), 13, 26))
    ours = sum(o.macs for o in operators)
    crossed = [o for o in operators if isinstance(o, DotProduct)]
    whole = sum(((o.vectors + 1) ** 2 - o.pairs) * DIM for o in crossed)
    assert len(crossed) == 2
    assert ours + whole == pytest.approx(2.20e6, rel=0.01)
    assert ours + whole == pytest.approx(2.208e6, abs=500)  # an independent count of the same network
    assert ours == pytest.approx(2.20e6, rel=0.01)  # and so far the triangle alone is within a hundredth, too
