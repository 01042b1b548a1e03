"""`cosearch place`: which operator runs on the host and which at the units beside the memory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pimsim.console import quiet, write_json

if TYPE_CHECKING:
    from cosearch.placement.device import Found


def place(
    model: Annotated[str, typer.Argument(help="Workload name, or .json or .yaml file.")],
    device: Annotated[str, typer.Argument(help="Device name (pimsim devices) or YAML file.")],
    goal: Annotated[str, typer.Option("--goal", help="latency of a lone batch, energy, or edp (their product).")] = "latency",
    batch: Annotated[int | None, typer.Option("--batch", min=1, help="Samples per batch; without it, the workload's own.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Override a device key: dram.channels=8.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Write the device with this placement: pimsim run --device FILE.")] = None,
    json: Annotated[str | None, typer.Option("--json", help="Write a JSON object to FILE (- = standard output).")] = None,
) -> None:
    """Place every operator of a model on the host or on a device's units; never worse than either alone or than the device file."""
    from cosearch.placement.device import GOALS, on_sides, place
    from cosearch.progress import Progress
    from pimsim.api import load_device, load_workload
    from pimsim.configs import parse_override
    from pimsim.errors import ConfigError, unknown_name

    if goal not in GOALS:
        raise ConfigError("--goal: " + unknown_name("goal", goal, GOALS))
    hardware = load_device(device, dict(parse_override(text) for text in set_ or []))
    found = place(load_workload(model), hardware, goal, batch, Progress(quiet=quiet(json)).say)
    write_json(_facts(found, model, device, goal), json)
    if not quiet(json):
        _print(found)
    if out is not None:
        _write(out, on_sides(hardware, found.operators))


def _write(path: Path, device: Any) -> None:
    import yaml

    from pimsim.errors import RunError

    try:
        path.write_text(yaml.safe_dump(device.model_dump(mode="json", exclude_none=True), sort_keys=False), encoding="utf-8")
    except OSError as error:
        raise RunError(f"--out {path}: cannot be written: {error.strerror}") from None


def _facts(found: Found, model: str, device: str, goal: str) -> dict[str, Any]:
    def told(option: Any) -> Any:
        """The reason why an operator cannot run on a side, or what it costs there."""
        return option if isinstance(option, str) else {"latency_us": option.time_ps / 1e6, "energy_uj": option.energy_pj / 1e6}

    options = {name: {side: told(option) for side, option in sides.items()} for name, sides in found.options.items()}
    totals = {
        name: {"latency_us": report.latency_us["mean"], "energy_uj_per_sample": report.energy_uj_per_sample["total"]}
        for name, report in found.reports.items()
    }
    facts = {"model": model, "device": device, "goal": goal, "chosen": found.chosen}
    return {**facts, "operators": found.operators, "options": options, "totals": totals}


def _print(found: Found) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(width=140)
    table = Table("operator", "runs on", box=None, header_style="bold")
    for heading in ("host (us)", "pim (us)", "host (uJ a batch)", "pim (uJ a batch)"):
        table.add_column(heading, justify="right")
    refused: dict[str, str] = {}
    for name, sides in found.options.items():
        cells = []
        for unit in ("time_ps", "energy_pj"):
            for side in ("host", "pim"):
                option = sides[side]
                cells.append("-" if isinstance(option, str) else f"{getattr(option, unit) / 1e6:.4g}")
                if isinstance(option, str):
                    refused[option] = side
        table.add_row(name, found.operators[name], *cells)
    console.print(table)
    for reason in refused:
        console.print(f"- {reason}", markup=False)
    totals = Table("\nplacement", "\nlatency (us)", "energy\n(uJ a sample)", box=None, header_style="bold")
    for name, report in found.reports.items():
        energy = report.energy_uj_per_sample["total"]
        star = " *" if name == found.chosen else ""
        totals.add_row(name + star, f"{report.latency_us['mean']:.4g}", "n/a" if energy is None else f"{energy:.4g}")
    console.print(totals)


COMMAND = place
