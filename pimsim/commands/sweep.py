"""`pimsim sweep`: many points of a design space, resumable, on as many workers as wanted."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from pimsim.sweep.store import SweepStore


def sweep(
    file: Annotated[str, typer.Argument(help="Sweep file, or the name of a shipped one.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the results; the same command again goes on.")],
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Workers; results do not depend on it.")] = 1,
    executor: Annotated[str, typer.Option("--executor", help="Where they run: local or ray.")] = "local",
) -> None:
    """Simulate every point of a sweep: a row each in DIR/results.parquet, and charts."""
    from pimsim.errors import ConfigError
    from pimsim.sweep.charts import write_charts
    from pimsim.sweep.plan import load_sweep
    from pimsim.sweep.run import run_sweep

    spec = load_sweep(file)
    try:
        store = run_sweep(spec, out, jobs, executor, _Progress())
    except KeyboardInterrupt:
        print("interrupted: what was finished is kept; the same command goes on", file=sys.stderr)
        raise SystemExit(130) from None
    failed = [row["error"] for row in store.table() if row["error"] is not None]
    if len(failed) == len(store.rows):
        raise ConfigError(f"every point failed, the first: {failed[0]}")
    _print(store, write_charts(store))


class _Progress:
    """One line on standard error: over itself on a terminal, else now and then."""

    def __init__(self) -> None:
        self.said = 0.0

    def __call__(self, done: int, total: int) -> None:
        import time

        watched = sys.stderr.isatty()
        if done == total or time.monotonic() - self.said > (0.2 if watched else 10):
            self.said = time.monotonic()
            print(f"{done} of {total} points", end="\r" if watched and done < total else "\n", file=sys.stderr, flush=True)


def _print(store: SweepStore, charts: list[Path]) -> None:
    from rich.console import Console
    from rich.table import Table

    rows = store.table()
    good = [row for row in rows if row["error"] is None]
    console = Console() if sys.stdout.isatty() else Console(width=160)
    best = sorted(good, key=lambda row: row["latency_us"])[:10]
    if best:
        names = [name for name in best[0] if name not in ("error", "macs", "limited_by", "bottleneck", "cycles")]
        table = Table(*names, box=None, header_style="bold", title=f"fastest {len(best)} of {len(good)} points", title_justify="left")
        for row in best:
            table.add_row(*("n/a" if row[n] is None else f"{row[n]:,.4g}" if isinstance(row[n], float) else str(row[n]) for n in names))
        console.print(table)
    failed = [row for row in rows if row["error"] is not None]
    if failed:
        console.print(f"{len(failed)} points failed, the first ({failed[0]['id']}): {failed[0]['error']}", markup=False)
    console.print(f"rows    {store.folder / 'results.parquet'}", highlight=False)
    for path in charts:
        console.print(f"chart   {path}", highlight=False)


COMMAND = sweep
