"""`pimsim devices`: the shipped device files."""

from __future__ import annotations

from typing import Annotated

import typer

from pimsim import configs
from pimsim.console import quiet, write_json


def devices(
    json: Annotated[str | None, typer.Option("--json", help="Write a JSON object to FILE (- = standard output).")] = None,
) -> None:
    """List the shipped devices: name, kind, what they are, and where their numbers come from."""
    from pimsim.spec.device import load_device

    rows = []
    for name in configs.names("devices"):
        device = load_device(name)
        rows.append({"name": name, "kind": device.kind, "summary": device.summary, "source": device.source})
    write_json({"devices": rows}, json)
    if quiet(json):
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("name", "kind", "summary", box=None, header_style="bold")
    for row in rows:
        table.add_row(row["name"], row["kind"], row["summary"])
    Console().print(table)


COMMAND = devices
