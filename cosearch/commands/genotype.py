"""`cosearch genotype`: what a genotype file describes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pimsim.console import quiet, write_json

FIELDS = {"criteo": (13, 26), "avazu": (0, 23), "kdd12": (3, 10), "frappe": (0, 10)}
"""Dense and sparse fields of the data sets that published networks are for."""


def genotype(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Genotype as JSON: ours, or a published NASRecNet.")],
    dataset: Annotated[str, typer.Option("--dataset", help=f"Field counts: {', '.join(FIELDS)}.")] = "criteo",
    json: Annotated[str | None, typer.Option("--json", help="Write a JSON object to FILE (- = standard output).")] = None,
) -> None:
    """Size of a genotype's network: blocks, live blocks, multiply-accumulates, parameters, digest, canonical form."""
    facts = describe(file, dataset)
    write_json(facts, json)
    if not quiet(json):
        for name, value in facts.items():
            if name != "canonical":
                print(f"{name.replace('_', ' '):18} {f'{value:,}' if isinstance(value, int) else value}")


def describe(file: Path, dataset: str) -> dict[str, Any]:
    """Facts about a genotype file.

    Raises:
        ConfigError: unreadable file, or unknown data set.
    """
    from pimsim.errors import ConfigError, unknown_name
    from supernet.genotype import Genotype
    from supernet.lowering import count

    if dataset not in FIELDS:
        raise ConfigError("--dataset: " + unknown_name("data set", dataset, FIELDS))
    dense, sparse = FIELDS[dataset]
    model = Genotype.load(file)
    canonical = model.canonical()
    macs, parameters = count(model, dense, sparse)
    return {
        "space": model.space,
        "dataset": dataset,
        "blocks": len(model.blocks),
        "live_blocks": len(canonical.blocks),
        "macs_live": macs,
        "parameters_live": parameters,
        "digest": model.digest(),
        "canonical": canonical.model_dump(mode="json"),
    }


COMMAND = genotype
