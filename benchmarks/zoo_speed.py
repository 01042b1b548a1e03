"""Processor seconds of an epoch (training and validation, one thread) of zoo models with the settings of BARS on Frappe.

OMP_NUM_THREADS=1 python benchmarks/zoo_speed.py [--epochs 3] [--only MODEL]...
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

from cosearch.train import load_job
from supernet.zoo_training import train_zoo


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=3, help="at least 2; the first one warms up and is left out")
    parser.add_argument("--only", action="append", help="a model; may be repeated")
    chosen = parser.parse_args()
    for name in chosen.only or ["deepfm", "dcnv2"]:
        job = load_job(name, "frappe", "bars", {"epochs": max(2, chosen.epochs)})
        with tempfile.TemporaryDirectory() as folder:
            history = train_zoo(job.network, job.dataset, job.settings, Path(folder), seed=0, open_test=False).history  # type: ignore[arg-type]
        seconds = [epoch.cpu_seconds for epoch in history[1:]]
        print(f"{name:10} {statistics.median(seconds):.2f} s of processor time an epoch (median of {len(seconds)})")


if __name__ == "__main__":
    main()
