"""Rank correlation of supernet scores with networks trained alone: draws networks, trains each from scratch, prints Kendall's tau.

    .venv/bin/python benchmarks/supernet_rank.py --supernet runs/quickstart/supernet --networks 10 --out runs/rank

Resumable: every network keeps its own folder under --out. Only training and validation rows are used.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np


def main() -> None:
    """Prints one line a network, then tau, Spearman's rho and a bootstrap interval of tau."""
    from scipy.stats import kendalltau, spearmanr

    from supernet.final import FinalSettings, train_alone
    from supernet.scoring import Scorer
    from workloads.data import open_dataset

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--supernet", type=Path, required=True, help="folder of a finished supernet")
    parser.add_argument("--dataset", default="frappe")
    parser.add_argument("--networks", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seed", type=int, default=123)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    dataset = open_dataset(arguments.dataset)
    scorer = Scorer(arguments.supernet, dataset)
    rng, settings = np.random.default_rng(arguments.seed), FinalSettings(epochs=arguments.epochs)
    rows = []
    for index in range(arguments.networks):
        genotype = scorer.supernet.space.sample(rng).model_copy(update={"weight_bits": 32, "embedding_bits": 32})
        alone = train_alone(genotype, dataset, settings, arguments.out / genotype.digest(), seed=0, open_test=False)
        rows.append((scorer.score(genotype).logloss, alone.valid.logloss))
        print(f"{index}: supernet {rows[-1][0]:.4f}, alone {rows[-1][1]:.4f} ({alone.seconds:.0f} s)", flush=True)
    pairs = np.array(rows)
    draws = [pairs[rng.integers(len(pairs), size=len(pairs))] for _ in range(2000)]
    taus = [kendalltau(*draw.T)[0] for draw in draws]
    low, high = np.nanpercentile(taus, [2.5, 97.5])
    tau, rho = kendalltau(*pairs.T)[0], spearmanr(*pairs.T)[0]
    print(json.dumps({"networks": len(pairs), "tau": float(tau), "tau_95": [float(low), float(high)], "rho": float(rho)}))


if __name__ == "__main__":
    main()
