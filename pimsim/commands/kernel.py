"""`pimsim kernel`: one kernel on the units of a device, beside the same work on its plain memory."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from pimsim.console import quiet, write_json

if TYPE_CHECKING:
    from pimsim.kernel_report import KernelReport


def kernel(
    name: Annotated[str, typer.Argument(help="gemv, dot, reduce, add, mul, relu or embedding.")],
    device: Annotated[str, typer.Option("--device", help="Device name (pimsim devices) or YAML file.")],
    out_features: Annotated[int | None, typer.Option("--out-features", help="gemv: rows of the matrix.")] = None,
    in_features: Annotated[int | None, typer.Option("--in-features", help="gemv: columns of the matrix.")] = None,
    elements: Annotated[int | None, typer.Option("--elements", help="add, mul, relu: of the result; reduce: to add.")] = None,
    outputs: Annotated[int | None, typer.Option("--outputs", help="reduce: sums (1).")] = None,
    vectors: Annotated[int | None, typer.Option("--vectors", help="dot: feature vectors of a sample.")] = None,
    full: Annotated[bool, typer.Option("--full", help="dot: the whole Gram matrix, not only its strict lower triangle.")] = False,
    tables: Annotated[int, typer.Option("--tables", help="embedding: tables.")] = 1,
    rows: Annotated[int | None, typer.Option("--rows", help="embedding: rows of each table.")] = None,
    dim: Annotated[int | None, typer.Option("--dim", help="embedding: elements of a row; dot: of a vector.")] = None,
    pooling: Annotated[int, typer.Option("--pooling", help="embedding: look-ups per table and sample (pooling factor).")] = 1,
    bits: Annotated[int | None, typer.Option("--bits", help="Bits of an element: 4, 8, 16 or 32 (16; embedding rows 32).")] = None,
    batch: Annotated[int, typer.Option("--batch", help="Samples.")] = 1,
    zipf: Annotated[float | None, typer.Option("--zipf", help="embedding: draw rows with this Zipf exponent; without it uniform.")] = None,
    indices: Annotated[str | None, typer.Option("--indices", help="embedding: .npz with one (samples, pooling) array a table.")] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="embedding: seed of the draw.")] = 0,
    channels: Annotated[int | None, typer.Option("--channels", help="As --set dram.channels=N.")] = None,
    fidelity: Annotated[str, typer.Option("--fidelity", help="event (every command) or analytic (closed forms).")] = "event",
    end_to_end: Annotated[bool, typer.Option("--end-to-end", help="Count reading results back and the host's share, too.")] = False,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Override a device key: dram.timing.nCCDL=8.")] = None,
    json: Annotated[str | None, typer.Option("--json", help="Write a JSON object to FILE (- = standard output).")] = None,
) -> None:
    """Simulate one kernel on a device's compute units: clocks, commands, energy, and the speed-up over the plain memory."""
    from pimsim.api import load_device, run_kernel
    from pimsim.configs import parse_override
    from pimsim.spec.base import validate
    from pimsim.spec.kernel import KernelSpec

    overrides = dict(parse_override(text) for text in set_ or [])
    if channels is not None:
        overrides["dram.channels"] = channels
    sizes = {"out_features": out_features, "in_features": in_features, "elements": elements, "tables": tables, "rows": rows, "dim": dim}
    sizes |= {"vectors": vectors, "outputs": outputs, "full": full or None}
    more = {"pooling": pooling, "bits": bits, "zipf": zipf, "indices": indices, "seed": seed}
    given = {key: value for key, value in (sizes | more).items() if value is not None}
    asked = validate(KernelSpec, {"name": name} | given, "kernel")
    report = run_kernel(load_device(device, overrides), asked.primitive(), batch, asked.source(), end_to_end, fidelity)
    write_json(report.to_json(), json)
    if not quiet(json):
        _print(report)


def _print(report: KernelReport) -> None:
    from rich.console import Console

    console = Console() if sys.stdout.isatty() else Console(width=140)
    figures = report.to_json()
    console.print(f"[bold]{report.kernel}[/bold] on [bold]{report.device}[/bold]")
    console.print(f"cycles    {report.cycles:,} of {report.tck_ps / 1000:g} ns = {figures['latency_ns'] / 1000:,.3f} us")
    console.print(f"baseline  {report.baseline.cycles:,} = {figures['baseline']['latency_ns'] / 1000:,.3f} us ({report.baseline.what})")
    console.print(f"speed-up  {figures['speedup']:.2f}x")
    if report.host_baseline is not None:
        latency, what = figures["host_baseline"]["latency_ns"] / 1000, report.host_baseline.what
        console.print(f"host      {report.host_baseline.cycles:,} = {latency:,.3f} us ({what})")
        console.print(f"speed-up  {report.host_speedup:.2f}x")
    counts = ", ".join(f"{command} {count:,}" for command, count in report.commands.items() if count)
    console.print(f"commands  {counts} {report.commands_of}")
    for part, value in sorted(report.energy_pj.items(), key=lambda entry: (entry[0] != "total", -(entry[1] or 0))):
        head = "energy    " if part == "total" else "          "
        console.print(f"{head}{'n/a' if value is None else format(value / 1000, ',.3f'):>12} nJ  {part.replace('_', ' ')}", highlight=False)
    console.print(f"area      {report.area_mm2:,.2f} mm2 of units")
    console.print(f"limit     {report.limited_by}")


COMMAND = kernel
