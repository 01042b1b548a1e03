"""`cosearch genotype`: what a genotype file describes, and its workload for the simulator."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pimsim.console import quiet, write_json

if TYPE_CHECKING:
    from supernet.genotype import Genotype


def genotype(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Genotype as JSON: ours, an export's model.json, or a published NASRecNet.")],
    dataset: Annotated[
        str | None,
        typer.Option(
            "--dataset", help="Data set whose fields it reads: criteo, avazu, kdd12, frappe; without it, the file's own, else criteo."
        ),
    ] = None,
    workload: Annotated[
        Path | None, typer.Option("--workload", help="Write the live network as a workload: pimsim run --workload FILE.")
    ] = None,
    json: Annotated[str | None, typer.Option("--json", help="Write a JSON object to FILE (- = standard output).")] = None,
) -> None:
    """Size of a genotype's network: blocks, live blocks, multiply-accumulates, parameters, digest, canonical form."""
    facts = describe(file, dataset)
    if workload is not None:
        _save_workload(file, dataset, workload)
    write_json(facts, json)
    if not quiet(json):
        for name, value in facts.items():
            if name != "canonical":
                print(f"{name.replace('_', ' '):20} {_text(value)}")


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(str(item) for item in value) or "none"
    return "n/a" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def describe(file: Path, dataset: str | None) -> dict[str, Any]:
    """Facts about a genotype file. Counts leave the embedding tables out.

    `macs_live` and `macs_executed` count a dot-product's whole Gram matrix, as the published figures do; `macs_simulated` is what
    the simulator multiplies for the live network, of each Gram matrix the strict lower triangle. `executed` means every block
    with both its operators, dead or not, as the published code runs it. Blocks are numbered from 1.

    Raises:
        ConfigError: unreadable file, or unknown data set.
    """
    from supernet.lowering import count, count_executed, to_workload

    model, schema = read_genotype(file)
    dataset, schema = _resolved(dataset, schema)
    dense, sparse = len(schema["dense"]), len(schema["sparse"])
    canonical = model.canonical()
    macs, parameters = count(model, dense, sparse)
    macs_executed, parameters_executed = count_executed(model, dense, sparse)
    return {
        "space": model.space,
        "dataset": dataset,
        "dense_fields": dense,
        "sparse_fields": sparse,
        "blocks": len(model.blocks),
        "live_blocks": len(canonical.blocks),
        "dead_blocks": list(model.dead_blocks()),
        "macs_live": macs,
        "macs_executed": macs_executed,
        "macs_simulated": to_workload(model, schema, file.stem).macs,
        "parameters_live": parameters,
        "parameters_executed": parameters_executed,
        "digest": model.digest(),
        "canonical": canonical.model_dump(mode="json"),
    }


def _resolved(dataset: str | None, own: dict[str, Any] | None) -> tuple[str | None, dict[str, Any]]:
    """The data set's name, None for a file's own, and its schema."""
    from pimsim.errors import ConfigError, unknown_name
    from supernet.provider import schema_of
    from workloads.zoo.datasets import dataset_fields, dataset_names

    if dataset is None and own is not None:
        return None, own
    dataset = dataset or "criteo"
    if dataset not in dataset_names():
        raise ConfigError("--dataset: " + unknown_name("data set", dataset, dataset_names()))
    return dataset, schema_of(dataset_fields(dataset))


def _save_workload(file: Path, dataset: str | None, target: Path) -> None:
    from pimsim.errors import RunError
    from supernet.lowering import to_workload
    from supernet.provider import BATCH

    model, own = read_genotype(file)
    _, schema = _resolved(dataset, own)
    try:
        to_workload(model, schema, file.stem, batch=BATCH).save(target)
    except OSError as error:
        raise RunError(f"--workload {target}: cannot be written: {error.strerror}") from None


def read_genotype(file: Path) -> tuple[Genotype, dict[str, Any] | None]:
    """A genotype file; for an export's `model.json` also its schema: names of dense and sparse fields, rows of each table.

    Raises:
        ConfigError: not a readable genotype.
    """
    import json

    from supernet.genotype import Genotype

    try:
        tree = json.loads(file.read_text(encoding="utf-8"))
        schema = tree["schema"]
        known = {"dense": list(schema["dense"]), "sparse": list(schema["sparse"]), "cardinalities": list(schema["cardinalities"])}
        return Genotype.from_json(json.dumps(tree["genotype"]), str(file)), known
    except (OSError, ValueError, KeyError, TypeError):
        return Genotype.load(file), None


COMMAND = genotype
