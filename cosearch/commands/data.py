"""`cosearch data`: the binary cache of a data set."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer


def data(
    dataset: Annotated[str, typer.Argument(help="Data set, with settings if wanted: frappe, criteo:min_count=5.")],
    source: Annotated[Path, typer.Option("--source", help="Folder with the raw files, or one raw file.")],
) -> None:
    """Build the binary cache of a data set from its raw files."""
    from workloads.data.prepare import prepare

    print(prepare(dataset, source, lambda line: print(line, file=sys.stderr, flush=True)))


COMMAND = data
