"""`cosearch train`: a zoo model or a genotype alone."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from pimsim.console import quiet, write_json


def train(
    model: Annotated[str, typer.Argument(help="Zoo model, its YAML file, or a genotype: deepfm, mine.yaml, best/model.json.")],
    data: Annotated[str, typer.Option("--data", help="Data set, with settings if wanted: frappe, criteo:prep=paper.")],
    preset: Annotated[
        str | None, typer.Option("--preset", help="Published sizes and settings: bars (for bars_<data set>), or a file of your own.")
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Runs, of seeds 0, 1 and so on.")] = 3,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Another setting: epochs=20; another size of a zoo model: model.dim=8.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Run folder; without it one under runs/train that goes with model, settings and data.")
    ] = None,
    json: Annotated[str | None, typer.Option("--json", help="Write a JSON object to FILE (- = standard output).")] = None,
) -> None:
    """Train one model with several seeds; early stop on validation, one test each. The same command again resumes."""
    from cosearch.train import load_job
    from cosearch.train import train as train_job
    from pimsim.configs import parse_override

    job = load_job(model, data, preset, dict(parse_override(text) for text in set_ or []))
    folder = out or job.folder()
    _check_json(json)
    try:
        result = train_job(job, seeds, folder, lambda line: print(line, file=sys.stderr, flush=True))
    except KeyboardInterrupt:
        print(f"interrupted: {folder} keeps every finished epoch; the same command goes on", file=sys.stderr)
        raise SystemExit(130) from None
    write_json(result, json)
    if not quiet(json):
        _print(result, folder)


def _check_json(target: str | None) -> None:
    """Refuses a file that cannot be written before hours of training rather than after."""
    from pimsim.errors import ConfigError

    if target not in (None, "-") and not Path(str(target)).absolute().parent.is_dir():
        raise ConfigError(f"--json {target}: cannot be written: no such folder")


def _print(result: dict[str, Any], folder: Path) -> None:
    for key, name in (("auc", "test AUC"), ("logloss", "test log loss")):
        spread = result[key]["std"]
        print(f"{name:15} {result[key]['mean']:.5f}" + ("" if spread is None else f" +- {spread:.5f}"))
    if result["published_auc"] is not None:
        print(f"{'published AUC':15} {result['published_auc']}")
    print(f"{'size':15} {result['macs']:,} multiply-accumulates, {result['parameters']:,} parameters")
    print(f"{'an epoch':15} {result['seconds_per_epoch']:.2f} s of processor time")
    print(f"{'runs':15} {folder / 'runs.csv'}")


COMMAND = train
