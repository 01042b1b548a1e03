"""`cosearch rank-check`: do supernet scores order networks as training them alone does?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pimsim.console import quiet, write_json


def rank_check(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Run folder with a finished supernet; results go to DIR/rank.")],
    models: Annotated[int, typer.Option("--models", min=5, help="Networks trained alone.")] = 40,
    strategy: Annotated[
        list[str] | None,
        typer.Option(
            "--strategy",
            help="Also train a supernet with this sampling: any_connection, single_path, widest, any_path, full_path; may be given again.",
        ),
    ] = None,
    top_k: Annotated[int, typer.Option("--top-k", min=1, help="Short list whose regret is measured.")] = 5,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the networks, their training and the bootstrap.")] = 0,
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Networks trained side by side; results do not depend on it.")] = 1,
    json: Annotated[str | None, typer.Option("--json", help="Write a JSON object to FILE (- = standard output).")] = None,
) -> None:
    """Rank correlation of supernet scores with networks trained alone, with bootstrap intervals; the same command again resumes."""
    from cosearch.progress import Progress
    from cosearch.rank import RankStudy, rank_check
    from cosearch.runfolder import open_run
    from pimsim.errors import ConfigError, unknown_name
    from supernet.sampling import STRATEGIES

    for name in strategy or []:
        if name not in STRATEGIES:
            raise ConfigError("--strategy: " + unknown_name("sampling strategy", name, STRATEGIES))
    study = RankStudy(models, seed, top_k, strategies=tuple(name for name in STRATEGIES if name in (strategy or [])))
    facts = rank_check(open_run(folder), study, jobs, Progress())
    write_json(facts, json)
    if not quiet(json):
        _print(facts)


def _print(facts: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    truth = facts["truth"]
    table = Table("scored by", box=None, header_style="bold")
    headings = {"kendall": "Kendall tau", "spearman": "Spearman", "pearson": "Pearson", "top_k_regret": f"regret of top {facts['top_k']}"}
    for heading in (*headings.values(), "tau below the first"):
        table.add_column(heading, justify="right")
    digits = {name: 4 if name == "top_k_regret" else 2 for name in headings}
    named = [{**way, "name": f"proxy {way['name']}"} for way in facts["proxies"]]
    for way in (*facts["ways"], facts["calibrated"], *named):
        cells = [_cell(way[name], digits[name]) for name in headings]
        table.add_row(way["name"], *cells, _cell(way["tau_below_shipped"], 2))
    console = Console(width=150)
    console.print(f"{facts['networks']} networks alone: log loss {truth['best']:.4f} to {truth['worst']:.4f}, median {truth['median']:.4f}")
    console.print(table)
    console.print("in brackets: 95 % of bootstrap draws")
    fit = facts["calibrated"]
    kept = f"from {', '.join(fit['features'])}; root mean square error {fit['loo_rmse']:.4f} (of their mean: {fit['spread']:.4f})"
    console.print(f"calibrated: log loss alone {kept}")


def _cell(estimate: dict[str, float] | None, digits: int) -> str:
    if estimate is None:
        return ""
    value, low, high = (f"{estimate[key]:.{digits}f}" for key in ("value", "low", "high"))
    return f"{value} \\[{low}, {high}]"


COMMAND = rank_check
