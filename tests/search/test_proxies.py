"""Zero-cost proxies against plain reckonings on small networks, and what they may depend on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from supernet.lowering import count
from supernet.proxies import BATCHES, PROXIES, ROWS, ProxyScorer
from supernet.space import load_space
from workloads.data import open_dataset


@pytest.fixture(scope="module")
def scorer(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COSEARCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield ProxyScorer(open_dataset("synthetic:rows=3000", progress=lambda line: None), seed=5)


@pytest.fixture(scope="module")
def networks():
    rng = np.random.default_rng(1)
    return [load_space(name).sample(rng) for name in ("tiny", "tiny", "quickstart", "quickstart", "nasrec_small")]


def fc_network(scorer):
    """One fully connected layer beside one over fields: everything can be reckoned by hand."""
    for seed in range(500):
        drawn = load_space("tiny").sample(np.random.default_rng(seed)).canonical()
        block = drawn.blocks[0]
        if len(drawn.blocks) == 1 and (block.dense_op, block.sparse_op, block.fm, block.interact) == ("fc", "efc", False, False):
            return scorer.fresh(drawn)
    raise AssertionError("no such network drawn")


def test_values_depend_on_network_data_and_seed_alone(scorer, networks):
    found = [scorer.score(network) for network in networks]
    assert [scorer.score(network) for network in reversed(networks)] == found[::-1]
    assert scorer.score(networks[0].canonical()) == found[0]
    assert all(np.isfinite(list(values.values())).all() and set(values) == set(PROXIES) for values in found)
    for name in PROXIES:
        assert len({values[name] for values in found}) > 3, name


def test_size_is_that_of_the_cost_model(scorer, networks):
    found = scorer.score(networks[2], ("macs", "parameters"))
    assert (found["macs"], found["parameters"]) == count(networks[2], 4, 12)


def test_precisions_play_no_part(scorer):
    space = load_space("extended").for_tables(12)
    drawn = space.sample(np.random.default_rng(0))
    assert drawn.digest() != drawn.full_precision().digest()
    assert scorer.score(drawn) == scorer.score(drawn.full_precision())
    assert scorer.score(drawn, ("synflow",))["synflow"] > 0  # 16-bit activations would overflow


def test_gradients_are_those_of_the_mean_loss_over_all_rows(scorer, networks):
    net = scorer.fresh(networks[2])
    dense, sparse, label = (torch.cat(parts) for parts in zip(*net.batches, strict=True))
    assert len(label) == BATCHES * ROWS
    functional.binary_cross_entropy_with_logits(net.model(dense, sparse), label).backward()
    gradients = {name: weight.grad for name, weight in net.weights.items() if weight.grad is not None}
    assert PROXIES["grad_norm"](net) == pytest.approx(float(sum(g.norm() for g in gradients.values())), rel=1e-3)
    snip = sum((net.weights[name].detach() * g).abs().sum() for name, g in gradients.items())
    assert PROXIES["snip"](net) == pytest.approx(float(snip), rel=1e-3)
    assert len(gradients) == sum(1 for g in net.gradient.values() if g.abs().sum() > 0)  # the head lets gradients through


def test_synflow_is_the_sum_over_paths_of_absolute_weights(scorer):
    """In a network of two linear layers every path has two weights, so the flow is twice the logit."""
    net = fc_network(scorer)
    weights = {name: weight.detach().double().abs() for name, weight in net.weights.items()}
    block, dim = net.genotype.blocks[0], net.genotype.embedding_dim
    dense = weights["blocks.0.fc.weight"].sum(1)
    fields = weights["blocks.0.efc.weight"].sum(1).repeat_interleave(dim)
    assert len(dense) == block.dense_dim
    logit = (weights["head.weight"][0] * torch.cat([dense, fields])).sum()
    assert PROXIES["synflow"](net) == pytest.approx(float((2 * logit).log()), rel=1e-9)


def test_naswot_counts_activations_in_the_same_state(scorer):
    net = fc_network(scorer)
    dense, sparse, _ = net.batches[0]
    w = {name: weight.detach() for name, weight in net.weights.items()}

    def normed(x, name):
        return functional.layer_norm(x, x.shape[-1:], w[f"{name}.norm.weight"], w[f"{name}.norm.bias"])

    on = normed(dense @ w["blocks.0.fc.weight"].T, "blocks.0.fc") > 0
    fields = normed(net.model.embed(sparse).transpose(1, 2) @ w["blocks.0.efc.weight"].T, "blocks.0.efc") > 0
    codes = torch.cat([on, fields.flatten(1)], dim=1).numpy()
    same = (codes[:, None] == codes).mean(2)
    assert PROXIES["naswot"](net) == pytest.approx(np.linalg.slogdet(same + 1e-6 * np.eye(ROWS))[1], rel=1e-6)


def test_zico_falls_when_gradients_disagree(scorer, networks):
    net, other = scorer.fresh(networks[2]), scorer.fresh(networks[2])
    calm = [{name: (0.9 * whole + 0.1 * part[name]) for name, whole in net.gradient.items()} for part in net.gradients]
    other.gradients = calm  # closer to their mean, which stays
    assert PROXIES["zico"](other) > PROXIES["zico"](net)


def test_jacob_cov_is_worst_when_every_row_has_the_same_gradient(scorer):
    net = fc_network(scorer)
    usual = PROXIES["jacob_cov"](net)
    dense, sparse, label = net.batches[0]
    net.batches[0] = (dense[:1].repeat(ROWS, 1), sparse[:1].repeat(ROWS, 1), label)
    assert PROXIES["jacob_cov"](net) < usual
