"""`cosearch genotype`: what a genotype file describes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pimsim.console import quiet, write_json

if TYPE_CHECKING:
    from supernet.genotype import Genotype

FIELDS = {"criteo": (13, 26), "avazu": (0, 23), "kdd12": (3, 10), "frappe": (0, 10)}
"""Dense and sparse fields of the data sets that published networks are for."""


def genotype(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Genotype as JSON: ours, an export's model.json, or a published NASRecNet.")],
    dataset: Annotated[
        str | None, typer.Option("--dataset", help=f"Field counts: {', '.join(FIELDS)}; without it, the file's own, else criteo's.")
    ] = None,
    json: Annotated[str | None, typer.Option("--json", help="Write a JSON object to FILE (- = standard output).")] = None,
) -> None:
    """Size of a genotype's network: blocks, live blocks, multiply-accumulates, parameters, digest, canonical form."""
    facts = describe(file, dataset)
    write_json(facts, json)
    if not quiet(json):
        for name, value in facts.items():
            if name != "canonical":
                text = "n/a" if value is None else f"{value:,}" if isinstance(value, int) else value
                print(f"{name.replace('_', ' '):18} {text}")


def describe(file: Path, dataset: str | None) -> dict[str, Any]:
    """Facts about a genotype file.

    Raises:
        ConfigError: unreadable file, or unknown data set.
    """
    from pimsim.errors import ConfigError, unknown_name
    from supernet.lowering import count

    if dataset is not None and dataset not in FIELDS:
        raise ConfigError("--dataset: " + unknown_name("data set", dataset, FIELDS))
    model, own = read_genotype(file)
    if dataset is None and own is not None:
        dense, sparse = own
    else:
        dataset = dataset or "criteo"
        dense, sparse = FIELDS[dataset]
    canonical = model.canonical()
    macs, parameters = count(model, dense, sparse)
    return {
        "space": model.space,
        "dataset": dataset,
        "dense_fields": dense,
        "sparse_fields": sparse,
        "blocks": len(model.blocks),
        "live_blocks": len(canonical.blocks),
        "macs_live": macs,
        "parameters_live": parameters,
        "digest": model.digest(),
        "canonical": canonical.model_dump(mode="json"),
    }


def read_genotype(file: Path) -> tuple[Genotype, tuple[int, int] | None]:
    """A genotype file; for an export's `model.json` also its numbers of dense and sparse fields.

    Raises:
        ConfigError: not a readable genotype.
    """
    import json

    from supernet.genotype import Genotype

    try:
        tree = json.loads(file.read_text(encoding="utf-8"))
        schema = tree["schema"]
        fields = len(schema["dense"]), len(schema["sparse"])
        return Genotype.from_json(json.dumps(tree["genotype"]), str(file)), fields
    except (OSError, ValueError, KeyError, TypeError):
        return Genotype.load(file), None


COMMAND = genotype
