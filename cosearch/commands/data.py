"""`cosearch data`: the binary cache of a data set, and index traces from it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import numpy as np


def data(
    dataset: Annotated[
        str, typer.Argument(help="Data set, with settings if wanted: frappe, criteo:prep=paper; or your own schema file: mine.yaml.")
    ],
    source: Annotated[Path | None, typer.Option("--source", help="Folder with the raw files, or one raw file.")] = None,
    trace: Annotated[Path | None, typer.Option("--trace", help="Also write look-ups of the training rows to FILE.npz.")] = None,
    samples: Annotated[int, typer.Option("--samples", min=1, help="Samples of the trace, consecutive in the file.")] = 10_000,
    history: Annotated[
        int | None, typer.Option("--history", min=1, help="Trace the last K items of each user instead, in order of time (movielens).")
    ] = None,
    shortest: Annotated[
        int | None, typer.Option("--shortest", min=1, help="Also take users with fewer items, this many at least (with --history).")
    ] = None,
    plot: Annotated[Path | None, typer.Option("--plot", help="Also draw the trace's hit rate against cache size to FILE.svg.")] = None,
    row_bytes: Annotated[int, typer.Option("--row-bytes", min=1, help="Bytes of an embedding row, for --plot.")] = 64,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Chooses the trace's first sample.")] = 0,
    fields: Annotated[
        Path | None, typer.Option("--fields", help="Also write fields and table sizes to FILE.yaml, for a model file's `dataset:`.")
    ] = None,
) -> None:
    """Build the binary cache of a data set from its raw files; write a trace of its look-ups for the simulator."""
    from workloads.data import open_dataset
    from workloads.data.prepare import prepare

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    folder = open_dataset(dataset, say).folder if source is None else prepare(dataset, source, say)
    print(folder)
    if fields is not None:
        _write_fields(fields, dataset, folder)
    if trace is not None or plot is not None:
        from workloads.indices import save_npz

        rows = _look_ups(dataset, folder, source, samples, history, shortest, seed)
        if trace is not None:
            save_npz(trace, rows)
            say(f"{trace}: {len(rows)} tables, {len(next(iter(rows.values()))):,} samples")
        _report(rows, row_bytes, plot)


def _write_fields(target: Path, dataset: str, folder: Path) -> None:
    """The data set's fields as a file like those in `configs/datasets/`."""
    import yaml

    from pimsim.errors import RunError
    from workloads.data import Dataset
    from workloads.zoo.datasets import fields_of

    opened = Dataset(folder)
    tree = fields_of(opened.schema).model_dump(mode="json", exclude_defaults=True)
    tree |= {"summary": f"{dataset}: {len(opened.schema.dense)} dense and {len(opened.schema.sparse)} sparse fields", "source": str(folder)}
    try:
        target.write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    except OSError as error:
        raise RunError(f"--fields {target}: cannot be written: {error.strerror}") from None


def _look_ups(
    dataset: str, folder: Path, source: Path | None, samples: int, history: int | None, shortest: int | None, seed: int
) -> dict[str, np.ndarray]:
    from workloads.data import Dataset, data_root
    from workloads.data.adapters.base import adapter
    from workloads.indices import trace_from_split, user_histories

    if history is None:
        opened = Dataset(folder)
        return trace_from_split(opened.split("train"), opened.schema, samples, seed)
    chosen = adapter(dataset)
    name, user, item, time = chosen.events(source or data_root() / chosen.folder)
    return {name: user_histories(user, item, time, history, samples, seed, shortest)}


def _report(rows: dict[str, np.ndarray], row_bytes: int, plot: Path | None) -> None:
    """Reuse of every table on standard error, and the plot."""
    from rich.console import Console
    from rich.table import Table

    from workloads.indices import hit_rates, reuse, write_hit_rate_plot

    table = Table("table", box=None, header_style="bold")
    for head in ("look-ups", "rows", "mean reuse", "touched once", "hottest 1 %"):
        table.add_column(head, justify="right")
    for name, fact in reuse(rows).items():
        shares = f"{fact['touched_once']:.1%}", f"{fact['hottest_percent_lookups']:.1%}"
        table.add_row(name, f"{fact['lookups']:,}", f"{fact['rows']:,}", f"{fact['mean_reuse']:.2f}", *shares)
    console = Console(stderr=True)
    console.print(table)
    if plot is not None:
        curve = hit_rates(rows, row_bytes)
        write_hit_rate_plot(plot, {"trace": curve})
        for point in curve:
            console.print(f"cache of {point['size_bytes'] / 1024:,.0f} KiB: {point['hit_rate']:.1%} hits")


COMMAND = data
