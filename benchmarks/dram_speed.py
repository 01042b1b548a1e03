"""Speed of the DRAM engine: thousand requests per CPU second on the reference traces, one thread.

    python benchmarks/dram_speed.py --requests 2000000

Traces are made by `../shared/golden/dram/make_traces.py` (DDR4-3200, one rank, M1 map; the row-conflict trace in M0). The CPU
time is the kernel's alone: without compilation, address mapping and trace making.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from pathlib import Path

import numpy as np

from pimsim.dram.standard import resolve_organisation
from pimsim.engine.channel import Requests, channel
from pimsim.engine.tables import lower
from pimsim.mapping.address import flat_bank, map_of
from pimsim.spec.device import load_device

MAKER = Path(__file__).parents[2] / "shared" / "golden" / "dram" / "make_traces.py"
RUNS = (("stream", 0), ("random", 0), ("emb128", 0), ("rw7030", 0), ("rowconf", 0), ("random", 32))


def traces(kind: str, requests: int) -> tuple[np.ndarray, np.ndarray]:
    """Addresses and writes of one reference trace."""
    specification = importlib.util.spec_from_file_location("make_traces", MAKER)
    if specification is None or specification.loader is None or not MAKER.exists():
        raise SystemExit(f"{MAKER}: not found")
    maker = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(maker)
    organisation, address, is_write = maker.make("ddr4_3200_r1", kind, requests)
    if kind != "rowconf":
        address = maker.interleave_bank_groups(organisation, address)
    return address.astype(np.uint64), is_write


def cpu_seconds(kind: str, interval: int, requests: int) -> tuple[float, int]:
    """CPU seconds of the kernel and simulated clocks."""
    spec = load_device("ddr4_3200").dram
    tables, organisation = lower(spec), resolve_organisation(spec)
    address, is_write = traces(kind, requests)
    fields = map_of(spec).decode(address)
    none = np.empty(0, np.int64)
    channel(tables).serve(Requests(none, none, none, np.empty(0, bool)))
    simulated = channel(tables, kept=requests)
    offered = Requests(flat_bank(organisation, fields), fields["row"], fields["column"], is_write, none, interval)
    began = time.process_time()
    simulated.serve(offered)
    return time.process_time() - began, simulated.counted().cycles


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=2_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    print(f"{'trace':10} {'interval':>8} {'CPU s':>8} {'kreq/s':>8} {'Mclock/s':>9}")
    for kind, interval in RUNS:
        best, cycles = min(cpu_seconds(kind, interval, options.requests) for _ in range(options.repeats))
        print(f"{kind:10} {interval:8d} {best:8.3f} {options.requests / best / 1e3:8.0f} {cycles / best / 1e6:9.1f}")


if __name__ == "__main__":
    main()
