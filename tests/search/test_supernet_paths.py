"""What a step of the supernet trains: several operators a block, phases, the sandwich rule; gradients added up on shared slices."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from pimsim.errors import ConfigError
from supernet.gradients import merged
from supernet.model import Slice, Supernet
from supernet.paths import NetworkPath, join
from supernet.quantise import stored_rows
from supernet.runs import fixed_arithmetic, read_torch, save_atomically
from supernet.sampling import STRATEGIES, Phase, Sandwich, smallest, widest
from supernet.space import load_space
from supernet.tables import widest_dims
from supernet.training import TrainingSettings, _Run, train_supernet
from workloads.data import open_dataset

SCHEMA = {"dense": ["d0", "d1", "d2"], "sparse": ["a", "b", "c", "d"], "cardinalities": [5, 6, 7, 8]}
FULL = {"dense_operators": ["fc", "dot_product", "gating", "sum"], "sparse_operators": ["efc", "transformer"], "blocks": 3}
SPACES = [("tiny", {}), ("tiny", FULL), ("tiny", {**FULL, "dense_columns": "source"})]
DATA = "synthetic:rows=3000,seed=3,fields=4,largest=20,first_order_std=2"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COSEARCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield open_dataset(DATA, progress=lambda line: None)


def random_supernet(space, seed=1):
    supernet, generator = Supernet(space, SCHEMA), torch.Generator().manual_seed(seed)
    for tensor in supernet.weights.values():
        tensor.normal_(0.0, 0.3, generator=generator)
    return supernet


def inputs(rows=5):
    generator = torch.Generator().manual_seed(9)
    return torch.randn(rows, 3, generator=generator), torch.randn(rows, 4, 4, generator=generator)


@pytest.mark.parametrize(("name", "overrides"), SPACES)
def test_one_operator_of_each_kind_is_the_network_itself(name, overrides):
    space, rng = load_space(name, overrides), np.random.default_rng(0)
    for _ in range(30):
        genotype = space.sample(rng)
        alone = join(genotype, [[b.dense_op] for b in genotype.blocks], [[b.sparse_op] for b in genotype.blocks], space.blocks, rng)
        assert alone == NetworkPath.of(genotype, space.blocks)


def masked(supernet, dense, embedded):
    """Every operator of two blocks at full width, as full-size products over zero-padded layouts; no LayerNorm, no transformer."""
    weights, limits = {name: w.double() for name, w in supernet.weights.items()}, supernet.limits
    joined, fields = [dense.double()], [embedded.double()]
    for number in (1, 2):
        base = f"blocks.{number - 1}"

        def layer(name, x, base=base):
            return x @ weights[f"{base}.{name}.weight"].T + weights[f"{base}.{name}.bias"]

        def over_fields(name, x, base=base):
            return torch.einsum("of,bfe->boe", weights[f"{base}.{name}.weight"], x) + weights[f"{base}.{name}.bias"][:, None]

        x, sets = torch.cat(joined, 1), torch.cat(fields, 1)
        own = over_fields("efc", sets).relu()
        together = torch.cat([layer("dot_product.dense", x)[:, None], over_fields("dot_product.fields", sets)], 1)
        row, column = torch.tril_indices(together.shape[1], together.shape[1], -1)
        pairs = (together @ together.transpose(1, 2))[:, row, column]
        made = {"fc": layer("fc", x).relu(), "dot_product": layer("dot_product.out", pairs)}
        # The merger's weight has columns for each maker; it reads each pair's vector for itself, so its bias counts once for each.
        merger, shift = weights[f"{base}.interact.out.weight"], weights[f"{base}.interact.out.bias"]
        more = sum(made[op] @ merger[:, (at := limits.made_by(op)) : at + limits.dense_dim].T + shift for op in made)
        sums = own.sum(1)
        made["fc"] = made["fc"] + layer("fm.out", sums.square() - own.square().sum(1))  # efc stands beside fc
        joined.append(torch.cat([made[op] for op in limits.column_sets], 1) if limits.column_sets else sum(made.values()))
        fields.append(torch.cat([own, more.reshape(len(own), 8, -1)], 1))
    ends = {op: torch.cat([made[op], fields[-1].flatten(1)], 1) for op in made}
    return sum(ends[op] @ weights[f"head.{op}.weight"][0] + weights[f"head.{op}.bias"] for op in made).float()


@pytest.mark.parametrize("columns", ["operator", "source"])
def test_several_operators_are_read_joined_or_as_their_sum(columns):
    space = load_space("tiny", {"layer_norm": False, "dense_columns": columns})
    supernet, (dense, embedded) = random_supernet(space), inputs()
    rng = np.random.default_rng(0)
    path = join(space.widest(rng), [["fc", "dot_product"]] * 2, [["efc"]] * 2, space.blocks, rng)
    weights = {name: piece.read(supernet.weights[piece.shared]) for name, piece in supernet.path_slices(path).items()}
    found = supernet.logits(path, weights, dense, embedded)
    torch.testing.assert_close(found, masked(supernet, dense, embedded), rtol=1e-4, atol=1e-4)


def test_a_dead_block_is_left_out_and_the_rest_uses_the_last_shared_blocks():
    space, rng = load_space("tiny", {**FULL, "max_fan_in": 1}), np.random.default_rng(2)
    seen = set()
    for _ in range(60):
        path = STRATEGIES["any_path"](space, rng)
        seen.add(len(set(path.shared)))
        assert max(path.shared) == 3 and path.shared == tuple(sorted(path.shared))
        assert set(path.shared) == set(range(min(path.shared), 4))
        read = {s for block in path.genotype.blocks for s in block.sources} | set(path.outputs)
        assert set(range(1, len(path.shared) + 1)) <= read
    assert seen == {1, 2, 3}


def test_any_path_draws_sets_of_operators_and_full_path_takes_all():
    space, rng = load_space("tiny", FULL), np.random.default_rng(0)
    counts = {1: 0, 2: 0, 3: 0, 4: 0}
    for _ in range(80):
        path = STRATEGIES["any_path"](space, rng)
        last = [path.genotype.blocks[number - 1] for number in path.outputs]
        counts[sum(block.dense_op is not None for block in last)] += 1
    assert min(counts.values()) > 8
    full = STRATEGIES["full_path"](space, rng)
    assert full.shared == (1,) * 4 + (2,) * 4 + (3,) * 4
    operators = [{op for b, s in zip(full.genotype.blocks, full.shared, strict=True) if s == n for op in b.operators} for n in (1, 2, 3)]
    assert operators == [{"fc", "dot_product", "gating", "sum", "efc", "transformer", "fm", "interact"}] * 3
    assert {block.dense_dim for block in full.genotype.blocks} == {16}


def test_merged_gradients_cover_what_any_slice_covers_once():
    generator = torch.Generator().manual_seed(0)
    slices = [Slice("w", 3, ((0, 4), (6, 8))), Slice("w", 5, ((2, 7), (2, 7))), Slice("w", 2, ((9, 10),))]
    pieces = [(s, torch.randn(s.rows, sum(b - a for a, b in s.columns), generator=generator)) for s in slices]
    total, covered = torch.zeros(5, 12), torch.zeros(5, 12, dtype=torch.bool)
    for s, gradient in pieces:
        for part, (start, stop) in zip(gradient.split([b - a for a, b in s.columns], 1), s.columns, strict=True):
            total[: s.rows, start:stop] += part
            covered[: s.rows, start:stop] = True
    again, times = torch.zeros(5, 12), torch.zeros(5, 12)
    for s, gradient in merged(pieces):
        for part, (start, stop) in zip(gradient.split([b - a for a, b in s.columns], 1), s.columns, strict=True):
            again[: s.rows, start:stop] = part
            times[: s.rows, start:stop] += 1
    torch.testing.assert_close(again, total)
    assert torch.equal(times, covered.float())
    ((vector, gradient),) = merged([(Slice("b", 2, ()), torch.ones(2)), (Slice("b", 3, ()), torch.ones(3))])
    assert vector.rows == 3 and torch.equal(gradient, torch.tensor([2.0, 2.0, 1.0]))


@pytest.mark.parametrize(
    "changes",
    [{"sampling": "full_path", "widest_share": 0}, {"sandwich": {"random": 2}}, {"sandwich": {"random": 1, "distil": False}}],
    ids=["full_path", "distil", "labels"],
)
def test_a_step_has_the_gradient_of_the_summed_losses(data, changes):
    space = load_space("tiny", {**FULL, "dense_columns": "source"})
    settings = TrainingSettings.model_validate({"epochs": 1, "batch": 64, "seed": 3} | changes)
    run = _Run(space, data, settings)
    generator = torch.Generator().manual_seed(4)
    for tensor in run.supernet.weights.values():
        tensor.normal_(0.0, 0.3, generator=generator)
    dense = torch.randn(6, len(data.schema.dense), generator=generator)
    embedded = torch.randn(6, len(data.schema.sparse), space.embedding_dim, generator=generator)
    label = torch.tensor([0.0, 1, 1, 0, 1, 0])
    leaf = embedded.clone().requires_grad_()
    loss, pieces = run._gradients(list(run.paths()), dense, leaf, label)

    # The same in one graph: whole shared weights as leaves, losses added.
    shared = {name: tensor.clone().requires_grad_() for name, tensor in run.supernet.weights.items()}
    other, losses, target = embedded.clone().requires_grad_(), [], label
    for path in run.paths():
        weights = {name: piece.read(shared[piece.shared]) for name, piece in run.supernet.path_slices(path).items()}
        logit = run.supernet.logits(path, weights, dense, other)
        losses.append(binary_cross_entropy_with_logits(logit, target))
        if settings.sandwich and settings.sandwich.distil:
            target = torch.sigmoid(logit.detach()) if len(losses) == 1 else target
    sum(losses).backward()
    assert float(loss) == pytest.approx(float(losses[0].detach()), rel=1e-6)
    assert len(losses) == (settings.sandwich.random + 2 if settings.sandwich else 1)
    torch.testing.assert_close(leaf.grad, other.grad, rtol=1e-4, atol=1e-6)
    found = {name: torch.zeros_like(tensor) for name, tensor in shared.items()}
    for piece, gradient in pieces:
        parts = gradient.split([b - a for a, b in piece.columns], 1) if piece.columns else [gradient]
        for view, part in zip(piece.views(found[piece.shared]), parts, strict=True):
            view += part
    for name, tensor in shared.items():
        if name != "embedding.weight":
            expected = tensor.grad if tensor.grad is not None else torch.zeros_like(tensor)
            torch.testing.assert_close(found[name], expected, rtol=1e-4, atol=1e-5, msg=name)


def test_a_sandwich_is_the_widest_the_smallest_and_random_ones():
    space, rng = load_space("nasrec_full"), np.random.default_rng(0)
    wide, small = widest(space, rng), smallest(space, rng)
    assert {b.dense_dim for b in wide.genotype.blocks if b.dense_op} == {1024}
    assert {b.dense_dim for b in small.genotype.blocks if b.dense_op} == {16}
    assert all(len(b.dense_inputs) <= 1 and len(b.sparse_inputs) <= 1 and not b.fm and not b.interact for b in small.genotype.blocks)


def test_networks_of_one_step_read_the_first_elements_of_the_same_rows(data):
    space = load_space("tiny", {"table_dims": [1, 2, 4], "layer_norm": False}).for_tables(len(data.schema.sparse))
    run = _Run(space, data, TrainingSettings(epochs=1, batch=64, sandwich=Sandwich(random=1), embedding_l2=0))
    paths = list(run.paths())
    assert paths[0].genotype.embedding_dims is None and set(paths[1].genotype.embedding_dims) == {1}
    sparse = torch.zeros(3, len(data.schema.sparse), dtype=torch.long)
    whole = run.table.look_up(sparse, widest_dims([path.genotype.embedding_dims for path in paths])).detach()
    for path in paths:
        alone = run.table.look_up(sparse, path.genotype.embedding_dims)
        assert torch.equal(stored_rows(whole, path.genotype.full_precision()), alone)
    before = [part.weight.clone() for part in run.table.parts]
    steps = run.steps()
    for _ in range(4):  # the heads begin at zero, so that the first step of each moves the head alone
        next(steps)
    assert all((part.weight[:, -1] != old[:, -1]).any() for part, old in zip(run.table.parts, before, strict=True))


def test_a_phase_draws_from_its_part_of_the_space(data):
    space = load_space("tiny", FULL)
    phases = [{"share": 0.5, "only": {"dense_dims": [16], "dense_operators": ["gating", "fc"]}}, {"share": 0.25, "only": {"fm": [False]}}]
    run = _Run(space, data, TrainingSettings.model_validate({"epochs": 4, "batch": 64, "phases": phases, "widest_share": 0}))
    drawn = []
    for step in range(run.total):
        run.step = step
        drawn += [(step / run.total, block) for path in run.paths() for block in path.genotype.blocks]
    first = [block for progress, block in drawn if progress < 0.5 and block.dense_op]
    second = [block for progress, block in drawn if 0.5 <= progress < 0.75 and block.dense_op]
    rest = [block for progress, block in drawn if progress >= 0.75 and block.dense_op]
    assert {b.dense_op for b in first} == {"fc", "gating"} and {b.dense_dim for b in first} == {16}
    assert {b.dense_op for b in second} == set(space.dense_operators) and not any(b.fm for b in second)
    assert {b.dense_dim for b in rest} == {8, 16} and any(b.fm for b in rest)


@pytest.mark.parametrize(
    ("only", "line"),
    [
        ({"dense_dims": [17]}, r"training\.phases\.0\.only\.dense_dims: 17, allowed: 8, 16"),
        ({"dense_dim": [16]}, r"training\.phases\.0\.only\.dense_dim: .*dense_dims"),
        ({"dense_dims": []}, r"training\.phases\.0\.only\.dense_dims: None, allowed: 8, 16"),
    ],
)
def test_a_phase_that_the_space_does_not_have_is_refused_at_once(data, tmp_path, only, line):
    settings = TrainingSettings(epochs=1, batch=64, phases=(Phase(share=0.5, only=only),))
    with pytest.raises(ConfigError, match=line):
        train_supernet(load_space("tiny"), data, settings, tmp_path)


def test_shares_of_phases_above_one_are_refused():
    with pytest.raises(ValueError, match=r"shares add up to 1\.2"):
        TrainingSettings(phases=(Phase(share=0.6, only={"fm": (True,)}),) * 2)


@pytest.mark.parametrize("sampling", STRATEGIES)
def test_every_way_of_training_goes_on_to_the_bit(data, tmp_path, sampling):
    space = load_space("tiny", {"sparse_operators": ["efc", "transformer"]})
    phases = (Phase(share=0.6, only={"dense_dims": (16,)}),)
    settings = TrainingSettings(epochs=0.2, batch=128, sampling=sampling, phases=phases, sandwich=Sandwich(random=1), widest_share=0.2)
    with fixed_arithmetic(1):
        whole, first = _Run(space, data, settings), _Run(space, data, settings)
        losses = list(whole.steps())
        steps = first.steps()
        half = [next(steps) for _ in range(2)]
        save_atomically(first.state(), tmp_path / "checkpoint.pt")
        second = _Run(space, data, settings)
        second.load(read_torch(tmp_path / "checkpoint.pt"))
        assert half + list(second.steps()) == losses and len(losses) > 2
    assert all(torch.equal(second.supernet.weights[name], tensor) for name, tensor in whole.supernet.weights.items())
