"""Speed of the embedding look-up kernels beside torch's embedding bags: same rows, same indices, same number of threads, cold caches.

    python benchmarks/embedding_speed.py [--threads 1]

Both run in turn; the table is a ratio of medians (above 1: ours is faster). Before each run 96 MB of other memory are read, so that neither
finds the rows that the other has just read.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch

from pimsim.numerics.embedding import Format, StoredTable, embedding_bag

SHAPES = ((1_000_000, 64, 80, 256), (1_000_000, 128, 20, 256), (4_000_000, 32, 80, 256), (20_000, 64, 80, 256), (1_000_000, 16, 1, 20_000))
OTHER = np.zeros(12_000_000)


def theirs(
    format: Format, table: StoredTable, indices: torch.Tensor, offsets: torch.Tensor, weights: torch.Tensor | None
) -> Callable[[], torch.Tensor]:
    """The call of torch on the same stored rows."""
    if format in ("int8", "int4"):
        name = "embedding_bag_byte" if format == "int8" else "embedding_bag_4bit"
        look_up, packed = getattr(torch.ops.quantized, f"{name}_rowwise_offsets"), torch.from_numpy(table.data)
        return lambda: look_up(packed, indices, offsets, False, 0, False, weights, None, False)
    kind = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}[format]
    rows = torch.from_numpy(table.data).view(kind)
    factors = None if weights is None else weights.to(kind)
    return lambda: torch.nn.functional.embedding_bag(indices, rows, offsets, mode="sum", per_sample_weights=factors)


def seconds(calls: list[Callable[[], object]], repeats: int) -> np.ndarray:
    """(calls, repeats) seconds, in turn."""
    taken = np.zeros((len(calls), repeats + 1))
    for repeat in range(repeats + 1):
        for number, call in enumerate(calls):
            OTHER.sum()
            began = time.perf_counter()
            call()
            taken[number, repeat] = time.perf_counter() - began
    return taken[:, 1:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=31)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rng = np.random.default_rng(0)
    print(f"{'rows':>9} {'dim':>4} {'pooling':>7} {'bags':>6}  {'format':9} {'weighted':8} {'ours us':>8} {'torch us':>8} {'ratio':>6}")
    for rows, dim, pooling, bags in SHAPES:
        values = rng.standard_normal((rows, dim), dtype=np.float32)
        indices, offsets = rng.integers(0, rows, bags * pooling), np.arange(0, bags * pooling + 1, pooling)
        weights = rng.random(len(indices)).astype(np.float32)
        out = np.empty((bags, dim), np.float32)
        there = torch.from_numpy(indices), torch.from_numpy(offsets[:-1].copy())
        for format in ("float32", "float16", "bfloat16", "int8", "int4"):
            table = StoredTable.encode(values, format)
            for weighted in (False, True):
                factors = weights if weighted else None
                ours = lambda: embedding_bag(table, indices, offsets, weights=factors, threads=options.threads, out=out)  # noqa: B023, E731
                other = theirs(format, table, *there, torch.from_numpy(weights) if weighted else None)
                a, b = np.median(seconds([ours, other], options.repeats), axis=1) * 1e6
                print(f"{rows:9} {dim:4} {pooling:7} {bags:6}  {format:9} {weighted!s:8} {a:8.0f} {b:8.0f} {b / a:6.2f}", flush=True)


if __name__ == "__main__":
    main()
