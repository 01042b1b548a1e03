"""Speed and memory of the supernet: training steps, one network alone, scores of candidates. Each case runs in a process of its own.

    python benchmarks/supernet_speed.py [--cases sampled widest ...] [--repeats 24] [--threads 2] [--json FILE]

| case | what is timed |
|---|---|
| `sampled` | a training step of NASRec-Full at batch 512 after the warm-up: a path drawn as training draws it, another one every step |
| `widest` | the same on the warm-up's widest paths: every connection at full width |
| `train` | a training step of the published Criteo-Full network alone at batch 512 |
| `evaluate` | that network's logits of 8,192 rows, in the chunks that `evaluate` cuts, and their log loss |
| `score` | `Scorer.score` of a drawn candidate of `--space` on all validation rows of Frappe, after the first |

The first four have Criteo's shape (13 dense fields, 26 tables of 3,069,296 rows in all, each at most 500,000), uniform indices, random
labels, Adagrad, row-wise for the supernet's tables unless `--tables adagrad`. Printed: median and 90th percentile of wall seconds, median
and mean of CPU seconds (of all threads; they say more than the clock on a shared machine) and the process's peak of resident memory,
interpreter and libraries included.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

CASES = ("sampled", "widest", "train", "evaluate", "score")
ROOT = Path(__file__).parents[1]
LARGEST = 500_000
"""Rows of a table at most, as NASRec caps them for its search."""


def criteo(rows: int) -> Any:
    """Random rows of Criteo's shape, with what a training asks of a data set."""
    from supernet.provider import schema_of
    from workloads.data import Schema, Split
    from workloads.zoo.datasets import dataset_fields

    schema = schema_of(dataset_fields("criteo"))
    schema["cardinalities"] = [min(n, LARGEST) for n in schema["cardinalities"]]
    rng = np.random.default_rng(0)
    columns = [rng.integers(n, size=rows, dtype=np.int32) for n in schema["cardinalities"]]
    dense, label = rng.random((rows, len(schema["dense"])), dtype=np.float32), rng.integers(2, size=rows, dtype=np.uint8)
    split = Split(dense, np.stack(columns, axis=1), label)
    return SimpleNamespace(name="criteo-shape", schema=Schema(**schema), split=lambda name: split)


def supernet_steps(options: argparse.Namespace) -> Callable[[], object]:
    """A step of supernet training; a warm-up without end keeps to the widest paths, one of no steps to sampled ones."""
    from supernet.space import load_space
    from supernet.training import TrainingSettings, _Run

    share = 1.0 if options.case == "widest" else 0.0
    settings = TrainingSettings(
        epochs=1e6, batch=512, optimizer="adagrad", learning_rate=0.12, embedding_learning_rate=0.12, widest_share=share,
        embedding_optimizer=options.tables, embedding_l2=0.0, threads=options.threads, seed=options.seed,
    )  # fmt: skip
    data = criteo(64 * 512)
    space = load_space(options.space or "nasrec_full").for_tables(len(data.schema.sparse))
    steps = _Run(space, data, settings).steps()
    return lambda: next(steps)


def published(options: argparse.Namespace) -> Callable[[], object]:
    """The published Criteo-Full network alone: a training step, or an evaluation."""
    import torch

    from supernet import final
    from supernet.genotype import Genotype
    from supernet.model import schema_dict
    from supernet.standalone import Model

    genotype = Genotype.load(ROOT / "configs" / "genotypes" / "nasrecnet_criteo_full.json").canonical()
    data = criteo(512 if options.case == "train" else 8192)
    if options.case == "evaluate":
        generator = torch.Generator().manual_seed(options.seed)
        model = Model(genotype.model_dump(mode="json"), schema_dict(data.schema), generator)
        return lambda: final.evaluate(model, data.split("valid"))
    plain = {"dropout": 0.0, "average": False, "embedding_l2": 0.0}  # what the other code does
    settings = final.FinalSettings(epochs=1000, batch=512, optimizer="adagrad", threads=options.threads, **plain)
    run = final._begin(genotype, data, settings, options.seed)
    return lambda: final._epoch(run, genotype, data.split("train"), settings, options.seed)  # an epoch of one batch


def scores(options: argparse.Namespace) -> Callable[[], object]:
    """Scores of drawn candidates by a barely trained supernet: what is in the weights takes no part in the time."""
    from supernet.scoring import Scorer, ScoringSettings
    from supernet.space import load_space
    from supernet.training import TrainingSettings, train_supernet
    from workloads.data import open_dataset

    data, rng = open_dataset("frappe"), np.random.default_rng(options.seed)
    space = load_space(options.space or "quickstart").for_tables(len(data.schema.sparse))
    with tempfile.TemporaryDirectory() as folder:
        train_supernet(space, data, TrainingSettings(epochs=0.02, threads=options.threads), Path(folder))
        scorer = Scorer(Path(folder), data, ScoringSettings(valid_rows=None, threads=options.threads))
    return lambda: scorer.score(space.sample(rng))


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Runs one case in this process."""
    import torch

    torch.set_num_threads(options.threads)
    prepare = {"sampled": supernet_steps, "widest": supernet_steps, "train": published, "evaluate": published, "score": scores}
    call = prepare[options.case](options)
    for _ in range(options.warm_up):
        call()
    wall, cpu = [], []
    for _ in range(options.repeats):
        began, used = time.perf_counter(), time.process_time()
        call()
        wall.append(time.perf_counter() - began)
        cpu.append(time.process_time() - used)
    return {
        "case": options.case,
        "wall_s": float(np.median(wall)),
        "wall_p90_s": float(np.percentile(wall, 90)),
        "cpu_s": float(np.median(cpu)),
        "cpu_mean_s": float(np.mean(cpu)),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main() -> None:
    """Prints one line a case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=CASES)
    parser.add_argument("--case", choices=CASES, help="run this one here and print its JSON")
    parser.add_argument("--space", help="another space than the case's own")
    parser.add_argument("--tables", default="rowwise_adagrad", choices=("rowwise_adagrad", "adagrad"), help="the supernet's tables")
    parser.add_argument("--repeats", type=int, default=24)
    parser.add_argument("--warm-up", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.case:
        print(json.dumps(measure(options)))
        return
    rows = []
    print(f"{'case':10} {'wall s':>8} {'p90 s':>8} {'CPU s':>8} {'mean CPU':>8} {'peak MB':>8}")
    for case in options.cases:
        passed = [f"--{name}={getattr(options, name.replace('-', '_'))}" for name in ("tables", "repeats", "warm-up", "threads", "seed")]
        passed += [f"--space={options.space}"] if options.space else []
        done = subprocess.run([sys.executable, __file__, f"--case={case}", *passed], stdout=subprocess.PIPE, text=True, check=True)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
        values = [rows[-1][key] for key in ("wall_s", "wall_p90_s", "cpu_s", "cpu_mean_s")]
        print(f"{case:10} " + " ".join(f"{v:8.3f}" for v in values) + f" {rows[-1]['peak_mb']:8.0f}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
