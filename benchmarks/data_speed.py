"""Speed of data preparation: a synthetic file in Criteo's raw format to the binary cache, beside pyarrow reading the same file; batches.

    python benchmarks/data_speed.py [--rows 5000000] [--work FOLDER] [--settings prep=paper,shuffle=1]

Every step runs in a process of its own: wall seconds, CPU seconds of all threads, peak memory. Both readers run in turn on the same file
with two threads; pyarrow parses it in blocks and throws them away, while ours also splits, numbers or hashes the values, and writes
checksummed arrays. The file has the published table sizes, Zipf 1.05, and a share of missing values. Needs about 2 KB of disk a row.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROWS = 1 << 17
STEPS = ("write", "warm", "ours", "pyarrow", "ours", "pyarrow", "batches", "batches")


def write(path: Path, rows: int) -> None:
    """The raw file: label, 13 whole numbers, 26 tokens of eight hexadecimal digits, tab-separated."""
    import pyarrow as pa
    import pyarrow.csv

    from pimsim.mapping.indices import zipf_ranks
    from workloads.data.adapters.criteo import COLUMNS, Criteo

    random, names = np.random.default_rng(1), [column.name for column in COLUMNS]
    options = pa.csv.WriteOptions(include_header=False, delimiter="\t", quoting_style="none")
    digits = np.frombuffer(b"0123456789abcdef", np.uint8)
    shifts = np.arange(28, -1, -4, dtype=np.uint64)
    with path.open("wb") as handle:
        for start in range(0, rows, ROWS):
            count = min(ROWS, rows - start)
            columns = [pa.array((random.random(count) < 0.25).astype(np.int64))]
            for _ in range(13):
                columns.append(pa.array(random.lognormal(2, 1.5, count).astype(np.int64), mask=random.random(count) < 0.2))
            for size in Criteo.table_rows:
                token = (zipf_ranks(random.random(count), size, 1.05).astype(np.uint64) * np.uint64(2654435761) + np.uint64(size)) % 2**32
                text = digits[(token[:, None] >> shifts) & np.uint64(15)].view("S8").ravel().tolist()
                columns.append(pa.array(text, pa.string(), mask=random.random(count) < 0.05))
            pa.csv.write_csv(pa.table(columns, names), handle, options)


def ours(path: Path, settings: str) -> dict[str, float]:
    """The cache."""
    from workloads.data.prepare import prepare

    rows = sum(split["rows"] for split in json.loads((prepare(f"criteo:{settings}", path) / "meta.json").read_text())["splits"].values())
    return {"rows": rows}


def pyarrow(path: Path) -> dict[str, float]:
    """The same file in blocks, with the types that it holds."""
    import pyarrow as pa
    import pyarrow.csv

    from workloads.data.adapters.criteo import COLUMNS, DENSE

    pa.set_cpu_count(2)
    names = [column.name for column in COLUMNS]
    kinds = {name: pa.int64() if name in DENSE or name == "label" else pa.string() for name in names}
    with pa.csv.open_csv(
        path,
        pa.csv.ReadOptions(column_names=names, block_size=8 << 20),
        pa.csv.ParseOptions(delimiter="\t", quote_char=False),
        pa.csv.ConvertOptions(column_types=kinds, strings_can_be_null=True),
    ) as reader:
        return {"rows": sum(len(batch) for batch in reader)}


def batches(path: Path, settings: str) -> dict[str, float]:
    """One shuffled epoch of training rows in batches of 4096; its own seconds, without opening the cache."""
    from workloads.data import Dataset, iterate
    from workloads.data.prepare import prepare

    split = Dataset(prepare(f"criteo:{settings}", path)).split("train")
    wall, cpu = time.perf_counter(), time.process_time()
    rows = sum(len(batch.label) for batch in iterate(split, 4096, np.random.default_rng(0)))
    return {"rows": rows, "wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}


def measured(step: str, path: Path, rows: int, settings: str) -> dict[str, float]:
    """One step in a process of its own."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, __file__, "--step", step, "--file", str(path), "--rows", str(rows), "--settings", settings]
    answer = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall_s": time.perf_counter() - started, "cpu_s": cpu} | answer


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--settings", default="")
    parser.add_argument("--step")
    parser.add_argument("--file", type=Path)
    arguments = parser.parse_args()
    if arguments.step:
        work = {"ours": ours, "batches": batches}.get(arguments.step)
        if work is not None:
            found = work(arguments.file, arguments.settings)
        elif arguments.step == "pyarrow":
            found = pyarrow(arguments.file)
        else:
            write(arguments.file, arguments.rows)
            found = {"rows": arguments.rows}
        print(json.dumps(found | {"peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
        return
    with tempfile.TemporaryDirectory(dir=arguments.work) as folder:
        path, small = Path(folder) / "train.txt", Path(folder) / "small.txt"
        cpu: dict[str, list[float]] = {}
        for number, step in enumerate(STEPS):
            os.environ["COSEARCH_CACHE"] = str(Path(folder) / f"cache-{number if step == 'ours' else 4}")  # built afresh each time
            if step == "warm":  # compiles the parser
                measured("write", small, 1000, "")
                measured("ours", small, 1000, arguments.settings)
                continue
            found = measured(step, path, arguments.rows, arguments.settings)
            cpu.setdefault(step, []).append(found["cpu_s"])
            size = f" {path.stat().st_size / 1e9:.2f} GB" if step == "write" else f" {found['rows'] / found['wall_s']:,.0f} rows/s"
            print(f"{step:8} {found['wall_s']:7.2f} s  CPU {found['cpu_s']:7.2f} s  peak {found['peak_mb']:6.0f} MB {size}", flush=True)
        print(f"CPU seconds, ours over pyarrow's parsing alone: {np.mean(cpu['ours']) / np.mean(cpu['pyarrow']):.2f}")


if __name__ == "__main__":
    main()
