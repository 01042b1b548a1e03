"""`pimsim run`: a model on a device."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from pimsim.console import quiet, write_json

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console
    from rich.table import Table

    from pimsim.report import Report, SystemReport

V = TypeVar("V")


def run(
    device: Annotated[str, typer.Option("--device", help="Device name (pimsim devices) or YAML file.")],
    workload: Annotated[
        list[str] | None, typer.Option("--workload", help="Workload name, .json or .yaml file; several share the device.")
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option("--model", help="Your own model: FILE.py:FUNCTION (a torch module and its example) or FILE.onnx.")
    ] = None,
    allow_unsupported: Annotated[
        bool, typer.Option("--allow-unsupported", help="Leave operators of --model that cannot be lowered out, and name them.")
    ] = False,
    batch: Annotated[
        list[int] | None, typer.Option("--batch", help="Samples per batch, for all or one per workload; without it, the workload's own.")
    ] = None,
    fidelity: Annotated[str, typer.Option("--fidelity", help="event: every memory access is a command; analytic: closed forms.")] = "event",
    arrivals: Annotated[
        list[str] | None,
        typer.Option(
            "--arrivals",
            help="closed (default), closed:CLIENTS, closed:CLIENTS:THINK_US, poisson:RATE in samples per second, or trace:FILE; "
            "for all or one per workload.",
        ),
    ] = None,
    batches: Annotated[int, typer.Option("--batches", min=1, help="Batches to simulate where arrivals go on for ever.")] = 1000,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Override a device key: dram.channels=4.")] = None,
    against: Annotated[
        str | None, typer.Option("--against", help="Compare with this device; none: with the same device without its units.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the arrival times.")] = 0,
    out: Annotated[str | None, typer.Option("--out", help="Folder for the resolved device, the workload and the report.")] = None,
    json: Annotated[str | None, typer.Option("--json", help="Write a JSON object to FILE (- = standard output).")] = None,
) -> None:
    """Simulate a model on a device: latency, throughput, energy by part, area, bandwidth, and a table of operators."""
    from pimsim import comparison
    from pimsim.api import Load, load_device, load_workload, simulate_together
    from pimsim.configs import parse_override
    from pimsim.errors import ConfigError

    spec = load_device(device, dict(parse_override(text) for text in set_ or []))
    graphs = [load_workload(name) for name in workload or []]
    graphs += [load_workload(name, allow_unsupported=allow_unsupported) for name in model or []]
    if not graphs:
        raise ConfigError("--workload or --model: missing: what to simulate")
    given: list[int | None] = [*batch] if batch else [None]
    sizes = _each("--batch", given, len(graphs))
    processes = _each("--arrivals", arrivals or ["closed"], len(graphs))
    loads = [Load(graph, size, process) for graph, size, process in zip(graphs, sizes, processes, strict=True)]
    together = simulate_together(spec, loads, fidelity, seed=seed, batches=batches)
    report = together.models[0] if len(loads) == 1 else together
    answer, other = report.to_json(), None
    if against is not None:
        other = simulate_together(comparison.other_device(against, spec), loads, fidelity, seed=seed, batches=batches)
        answer = comparison.to_json(report, other.models[0] if len(loads) == 1 else other)
    write_json(answer, json)
    if out is not None:
        _write_folder(out, spec, [load.workload for load in loads], answer)
    if not quiet(json):
        _print(report, other)


def _each(option: str, values: list[V], count: int) -> list[V]:
    """One value per workload, from one for all or one each."""
    from pimsim.errors import ConfigError

    if len(values) not in (1, count):
        raise ConfigError(f"{option}: given {len(values)} times for {count} workloads (allowed: once, or once per workload)")
    return values * count if len(values) == 1 else values


def _write_folder(out: str, spec, graphs, answer: dict[str, Any]) -> None:  # type: ignore[no-untyped-def]
    from pathlib import Path

    import yaml

    from pimsim.errors import RunError

    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "device.yaml").write_text(yaml.safe_dump(spec.model_dump(mode="json"), sort_keys=False), encoding="utf-8")
        for number, graph in enumerate(graphs, start=1):
            inside = folder if len(graphs) == 1 else folder / f"workload_{number}"
            inside.mkdir(exist_ok=True)
            _save_workload(graph, inside)
        write_json(answer, str(folder / "report.json"))
    except OSError as error:
        raise RunError(f"--out {out}: cannot be written: {error.strerror}") from None


def _save_workload(graph, folder: Path) -> None:  # type: ignore[no-untyped-def]
    """Writes the workload with the file of its indices, if it has one, beside it."""
    import shutil
    from pathlib import Path

    source = graph.indices
    if source.kind == "file":
        file, copy = Path(graph.folder or ".") / source.path, folder / Path(source.path).name
        if not copy.exists() or not copy.samefile(file):
            shutil.copyfile(file, copy)
        graph = graph.model_copy(update={"indices": source.model_copy(update={"path": copy.name})})
    graph.save(folder / "workload.json")


def _figure(value: float | None, form: str) -> str:
    return "n/a" if value is None else format(value, form)


def _print(report: Report | SystemReport, other: SystemReport | None) -> None:
    from rich.console import Console

    from pimsim import comparison
    from pimsim.report import Report

    console = Console() if sys.stdout.isatty() else Console(width=140)
    for mine, theirs in zip(comparison.models(report), other.models if other else (), strict=False):
        console.print(f"[bold]{mine.workload}[/bold], batch {mine.batch}", comparison.table(mine, theirs), "", sep="\n")
    if isinstance(report, Report):
        _print_model(console, report)
        console.print(_operators(report))
        return
    for model in report.models:
        _print_model(console, model)
        console.print()
    console.print(f"[bold]together[/bold] on [bold]{report.device}[/bold]")
    _print_whole(console, report)
    console.print(f"bottleneck  {report.bottleneck}")


def _print_model(console: Console, report: Report) -> None:
    latency, energy = report.latency_us, report.energy_uj_per_sample
    console.print(f"[bold]{report.workload}[/bold] on [bold]{report.device}[/bold], batch {report.batch}, {report.fidelity} fidelity")
    if latency["p50"] == latency["p99"]:
        console.print(f"latency     {latency['mean']:,.2f} us")
    else:
        figures = ", ".join(f"{name} {value:,.2f} us" for name, value in latency.items())
        console.print(f"latency     {figures}, {report.batches:,} batches")
    if report.saturated:
        console.print("            batches arrive faster than they are served: latency grows with their number")
    console.print(f"throughput  {report.throughput_samples_per_s:,.0f} samples/s")
    console.print(f"energy      {_figure(energy['total'], ',.3f')} uJ/sample")
    for part, value in sorted(energy.items(), key=lambda item: -(item[1] or 0)):
        if part != "total":
            console.print(f"            {_figure(value, ',.3f'):>12}  {part.replace('_', ' ')}", highlight=False)
    _print_whole(console, report)
    console.print(f"bottleneck  {report.bottleneck}")


def _print_whole(console: Console, report: Report | SystemReport) -> None:
    console.print(f"power       {_figure(report.power_w, '.2f')} W    area {_figure(report.area_mm2, '.2f')} mm2")
    console.print(f"bandwidth   {report.bandwidth_gbps['achieved']:.1f} of {report.bandwidth_gbps['peak']:.1f} GB/s")
    console.print("busy        " + ", ".join(f"{part} {share:.0%}" for part, share in report.utilisation.items()))


def _operators(report: Report) -> Table:
    from rich.table import Table

    table = Table("operator", "kind", "unit", "latency us", "stall us", "energy uJ", "share", "limited by", box=None, header_style="bold")
    for column in table.columns[:2]:
        column.overflow = "fold"
    for column in table.columns[3:7]:
        column.justify = "right"
    for row in report.operators:
        share = f"{row.share:.1%}" if row.share else ""
        numbers = (f"{row.latency_us:.3f}", f"{row.stall_us:.3f}", _figure(row.energy_uj, ".3f"), share)
        table.add_row(row.name, row.kind, row.unit, *numbers, row.limited_by)
    return table


COMMAND = run
