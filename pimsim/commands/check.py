"""`pimsim check`: closed-form facts of a device beside simulated ones."""

from __future__ import annotations

from typing import Annotated

import typer

from pimsim.console import quiet, write_json


def check(
    device: Annotated[str, typer.Argument(help="Shipped device name or device file.")],
    set_: Annotated[list[str] | None, typer.Option("--set", help="Override a device key: KEY=VALUE, for example dram.ranks=2.")] = None,
    json: Annotated[str | None, typer.Option("--json", help="Write a JSON object to FILE (- = standard output).")] = None,
) -> None:
    """Compare closed forms with the simulation: latency, bandwidth, refresh, capacity, row cycle, activation window, PIM peak."""
    from pimsim.configs import parse_override
    from pimsim.engine.check import checks
    from pimsim.spec.device import load_device

    spec = load_device(device, dict(parse_override(text) for text in set_ or []))
    found = checks(spec)
    write_json({"device": spec.name, "checks": [item.as_dict() for item in found]}, json)
    if not quiet(json):
        from rich.console import Console
        from rich.table import Table

        table = Table("check", "expected", "simulated", "unit", "tolerance", "", box=None, header_style="bold")
        for item in found:
            verdict = "ok" if item.ok else "[red]FAILED[/red]"
            table.add_row(item.name, f"{item.expected:,.4g}", f"{item.simulated:,.4g}", item.unit, f"{item.tolerance:.0%}", verdict)
        Console().print(table)
    if not all(item.ok for item in found):
        raise SystemExit(1)


COMMAND = check
