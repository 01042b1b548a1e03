"""Zero-cost proxies: what a network with fresh weights and a few training batches lets one guess of its quality, without training.

Every proxy is a function of an untrained network; by all of them more promises a better network. Fresh weights come from a seed, tables of
the rows that the batches look up. The head, which training starts at zero, is drawn like any other layer here: else no gradient would reach
what lies before it. Precisions play no part: nothing is rounded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from supernet.genotype import Genotype
from supernet.lowering import count
from supernet.model import schema_dict
from supernet.runs import fixed_arithmetic
from supernet.standalone import Model, features
from workloads.data import Dataset

ROWS = 61
"""Rows of a batch: a prime, which tells the axis of rows from those of fields and dims in the outputs of activations."""
BATCHES = 4
"""Batches; ZiCo needs two or more."""

Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""Dense values (rows, dense), field-local rows of the tables (rows, fields), labels (rows,)."""
Gradients = dict[str, torch.Tensor]


@dataclass
class Fresh:
    """An untrained network.

    Attributes:
        genotype: Canonical.
        model: With fresh weights.
        batches: Of training rows.
    """

    genotype: Genotype
    model: Model
    batches: list[Batch]

    @cached_property
    def gradients(self) -> list[Gradients]:
        """Gradient of every batch's mean log loss with respect to every weight but the tables."""
        return [self._gradients(batch) for batch in self.batches]

    @cached_property
    def gradient(self) -> Gradients:
        """The same for all batches together."""
        return {name: torch.stack([found[name] for found in self.gradients]).mean(0) for name in self.gradients[0]}

    @property
    def weights(self) -> dict[str, torch.nn.Parameter]:
        """Every weight but the tables."""
        return {name: weight for name, weight in self.model.named_parameters() if not name.startswith("embedding")}

    def _gradients(self, batch: Batch) -> Gradients:
        dense, sparse, label = batch
        loss = torch.nn.functional.binary_cross_entropy_with_logits(self.model(dense, sparse), label)
        found = torch.autograd.grad(loss, list(self.weights.values()), allow_unused=True)
        pairs = zip(self.weights.items(), found, strict=True)
        return {name: torch.zeros_like(weight) if gradient is None else gradient for (name, weight), gradient in pairs}


def _counts(net: Fresh) -> tuple[int, int]:
    return count(net.genotype, len(net.model.schema["dense"]), len(net.model.schema["sparse"]))


def macs(net: Fresh) -> float:
    """Multiply-accumulates of a sample: the trivial proxy that the others must beat."""
    return float(_counts(net)[0])


def parameters(net: Fresh) -> float:
    """Trained values, tables excluded: the other trivial one."""
    return float(_counts(net)[1])


def grad_norm(net: Fresh) -> float:
    """Sum over the weights of the Euclidean norm of each one's gradient (Abdelfattah et al., ICLR 2021)."""
    return float(sum(gradient.norm() for gradient in net.gradient.values()))


def snip(net: Fresh) -> float:
    """Sum of |weight * gradient| (Lee et al., SNIP, ICLR 2019)."""
    return float(sum((weight.detach() * net.gradient[name]).abs().sum() for name, weight in net.weights.items()))


def synflow(net: Fresh) -> float:
    """Natural logarithm of the sum of weight * dR/dweight, R the logit of ones through absolute weights (Tanaka et al., NeurIPS 2020).

    Needs no data. LayerNorm, which would take out every scale, is left out; in double precision and as a logarithm, for its many decades.
    """
    dense, sparse, _ = net.batches[0]
    ones = (net.model.embed(sparse[:1]) != 0).double()
    weights = {n: w.detach().double().abs().requires_grad_() for n, w in net.weights.items() if "norm." not in n}
    tree = net.genotype.model_dump(mode="json")
    x = features(tree, weights, dense.new_ones(1, dense.shape[1], dtype=torch.float64), ones)
    logit = torch.nn.functional.linear(x, weights["head.weight"], weights["head.bias"]).sum()
    gradients = torch.autograd.grad(logit, list(weights.values()), allow_unused=True)
    flow = sum(float((w * g).detach().abs().sum()) for w, g in zip(weights.values(), gradients, strict=True) if g is not None)
    return float(np.log(max(flow, 1e-300)))


def naswot(net: Fresh) -> float:
    """log |det K|, K_ij = ReLUs that rows i and j have in the same state, as a share of all (Mellor et al., ICML 2021).

    Rows whose codes differ much are easily told apart. Shares, where the published K holds numbers, keep mere width out of it.
    """
    with torch.no_grad(), _ReluStates() as states:
        net.model(*net.batches[0][:2])
    codes = torch.cat([state.movedim(state.shape.index(ROWS), 0).flatten(1) for state in states.found], dim=1).double()
    kernel = (codes @ codes.T + (1 - codes) @ (1 - codes).T) / codes.shape[1]
    return float(torch.linalg.slogdet(kernel + 1e-6 * torch.eye(ROWS, dtype=torch.float64)).logabsdet)


def jacob_cov(net: Fresh) -> float:
    """How little the logit's gradients at the looked-up embeddings correlate between rows (Mellor et al., arXiv 2006.04647v1).

    -sum of log(v + k) + 1 / (v + k) over the eigenvalues v of their correlation matrix, k = 1e-5.
    """
    dense, sparse, _ = net.batches[0]
    embedded = net.model.embed(sparse).detach().requires_grad_()
    (jacobian,) = torch.autograd.grad(net.model.logits(dense, embedded).sum(), embedded)
    correlation = torch.corrcoef(jacobian.flatten(1).double()).nan_to_num()
    values = torch.linalg.eigvalsh(correlation) + 1e-5
    return -float((values.log() + 1 / values).sum())


def zico(net: Fresh) -> float:
    """Sum over the layers of log(sum of mean |gradient| / its standard deviation over the batches) (Li et al., ZiCo, ICLR 2023)."""
    total = 0.0
    for name, weight in net.weights.items():
        if weight.dim() < 2:
            continue
        sizes = torch.stack([gradients[name] for gradients in net.gradients]).abs().double()
        mean, deviation = sizes.mean(0), sizes.std(0, correction=0)
        ratio = float((mean / deviation)[deviation > 0].sum())
        total += float(np.log(ratio)) if ratio > 0 else 0.0
    return total


PROXIES: dict[str, Callable[[Fresh], float]] = {
    "macs": macs,
    "parameters": parameters,
    "grad_norm": grad_norm,
    "snip": snip,
    "synflow": synflow,
    "naswot": naswot,
    "jacob_cov": jacob_cov,
    "zico": zico,
}
"""Every proxy by name."""


class ProxyScorer:
    """Proxies of genotypes on a data set; a value is a function of (digest, data, seed).

    Args:
        dataset: gives `BATCHES` batches of `ROWS` training rows.
        seed: of the rows and of the fresh weights.
    """

    def __init__(self, dataset: Dataset, seed: int) -> None:
        train = dataset.split("train")
        rows = np.random.default_rng([seed, 9]).choice(len(train), BATCHES * ROWS, replace=len(train) < BATCHES * ROWS)
        sparse = np.asarray(train.sparse)[rows]
        self.seed, self.schema = seed, schema_dict(dataset.schema)
        for field in range(sparse.shape[1]):  # tables of the rows that are looked up
            values, sparse[:, field] = np.unique(sparse[:, field], return_inverse=True)
            self.schema["cardinalities"][field] = len(values)
        arrays = (np.asarray(train.dense)[rows], sparse, np.asarray(train.label)[rows].astype(np.float32))
        self.batches: list[Batch] = list(zip(*(torch.from_numpy(a).split(ROWS) for a in arrays), strict=True))

    def score(self, genotype: Genotype, names: tuple[str, ...] = tuple(PROXIES)) -> dict[str, float]:
        """The named proxies of a network; those that are not finite (a gradient that overflows, say) count as least."""
        with fixed_arithmetic(1):
            net = self.fresh(genotype)
            found = {name: PROXIES[name](net) for name in names}
        return {name: value if np.isfinite(value) else -1e300 for name, value in found.items()}

    def fresh(self, genotype: Genotype) -> Fresh:
        """The network with fresh weights, every value at 32 bits."""
        canonical = genotype.full_precision().canonical()
        generator = torch.Generator().manual_seed(self.seed)
        model = Model(canonical.model_dump(mode="json"), self.schema, generator=generator)
        with torch.no_grad():
            bound = (6.0 / (model.head.weight.shape[1] + 1)) ** 0.5  # type: ignore[union-attr, operator]
            model.head.weight.uniform_(-bound, bound, generator=generator)  # type: ignore[union-attr, operator]
        return Fresh(canonical, model, self.batches)


class _ReluStates(TorchDispatchMode):
    """Which ReLUs are on, as they run."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[torch.Tensor] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        if function is torch.ops.aten.relu.default:
            self.found.append(out > 0)
        return out
