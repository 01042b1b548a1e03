"""Trains the zoo models of BARS on Frappe with its settings and prints the table of `docs/training.md`; stops and resumes anywhere.

python benchmarks/zoo_accuracy.py [--seeds 3] [--only MODEL]...
"""

from __future__ import annotations

import argparse
import sys

from cosearch.train import Job, load_job, load_preset, train, train_seed

DATA, PRESET = "frappe", "bars"


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def row(job: Job, seeds: int) -> str:
    """A model's line of the table."""
    result = train(job, seeds, job.folder(), say)
    auc, loss, published = result["auc"], result["logloss"], result["published_auc"]
    spread = f" +- {auc['std']:.5f}" if auc["std"] is not None else ""
    epochs = "/".join(str(run["epochs"]) for run in result["runs"])
    figures = f"{auc['mean']:.5f}{spread} | {published:.4f} | {auc['mean'] - published:+.4f} | {loss['mean']:.4f}"
    return f"| {job.name} | {figures} | {epochs} | {result['seconds_per_epoch']:.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", action="append", help="a model; may be repeated")
    chosen = parser.parse_args()
    names = chosen.only or list(load_preset(PRESET, DATA)[1].models)
    jobs = [load_job(name, DATA, PRESET, {}) for name in names]
    for seed in range(chosen.seeds):  # all models with one seed before the next seed
        for job in jobs:
            train_seed(job, seed, job.folder(), say)
    print("| model | test AUC | BARS | difference | test log loss | epochs | CPU s/epoch |")
    print("|---|---|---|---|---|---|---|")
    for job in jobs:
        print(row(job, chosen.seeds))


if __name__ == "__main__":
    main()
