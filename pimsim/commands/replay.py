"""`pimsim replay`: a memory trace through the command-level DRAM engine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pimsim.console import quiet, write_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.table import Table as RichTable

    from pimsim.engine.dram import Part, ReplayResult
    from pimsim.spec.dram import DramSpec

SWITCHES = {
    "scheduler": ("frfcfs", "frfcfs-row-hit", "fcfs"),
    "row_policy": ("open", "closed", "auto-precharge"),
    "refresh": ("on", "off", "per-bank", "same-bank"),
}


def replay(
    trace: Annotated[Path, typer.Argument(help=".npz, Ramulator LD/ST or DRAMsim3 trace; text may be gzipped.")],
    device: Annotated[str, typer.Option(help="Shipped device name or device file.")],
    interval: Annotated[int, typer.Option(help="Request i not before clock i * N; 0 saturates.")] = 0,
    scheduler: Annotated[str | None, typer.Option(help="frfcfs, frfcfs-row-hit or fcfs.")] = None,
    row_policy: Annotated[str | None, typer.Option(help="open, closed or auto-precharge.")] = None,
    refresh: Annotated[str | None, typer.Option(help="on (all banks), off, per-bank or same-bank.")] = None,
    map_name: Annotated[str | None, typer.Option("--map", help="Address map, by name or as an order of fields.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Override a device key: KEY=VALUE, for example dram.ranks=2.")] = None,
    threads: Annotated[int, typer.Option(help="Channels simulated at a time.")] = 1,
    chunk: Annotated[int | None, typer.Option(help="Read the trace N requests at a time: traces larger than memory.")] = None,
    why: Annotated[bool, typer.Option("--why", help="Charge the clocks of the data bus to causes.")] = False,
    per_bank: Annotated[bool, typer.Option("--per-bank", help="Counts by channel, bank group and bank, energy by rank.")] = False,
    commands: Annotated[Path | None, typer.Option(help="Write every command to a CSV file.")] = None,
    timeline: Annotated[Path | None, typer.Option(help="Write a Chrome/Perfetto timeline (.json.gz).")] = None,
    json: Annotated[str | None, typer.Option("--json", help="Write a JSON object to FILE (- = standard output).")] = None,
) -> None:
    """Replay a memory trace: cycles, latency, bandwidth, row hits, commands, energy."""
    from pimsim.configs import parse_override
    from pimsim.errors import ConfigError, TraceError, unknown_name
    from pimsim.spec.device import load_device
    from pimsim.trace.commands import write_csv, write_timeline

    overrides = dict(parse_override(text) for text in set_ or [])
    for key, value in {"scheduler": scheduler, "row_policy": row_policy, "refresh": refresh}.items():
        if value is None:
            continue
        if value not in SWITCHES[key]:
            raise ConfigError(f"--{key.replace('_', '-')}: {unknown_name(key.replace('_', ' '), value, SWITCHES[key])}")
        overrides[f"dram.controller.{key}"] = value
    if map_name is not None:
        overrides["dram.address_map"] = map_name
    if interval < 0:
        raise ConfigError(f"--interval {interval}: must not be negative")
    if threads < 1:
        raise ConfigError(f"--threads {threads}: must be at least 1")
    if chunk is not None and chunk < 1:
        raise ConfigError(f"--chunk {chunk}: must be at least 1")
    log = commands is not None or timeline is not None
    if chunk is not None and (log or why):
        raise ConfigError(f"--chunk {chunk}: --commands, --timeline and --why need the trace in one piece")
    spec = load_device(device, overrides)
    try:
        if chunk is None:
            result = _whole(spec.dram, trace, interval, threads, log, why)
        else:
            result = _in_parts(spec.dram, trace, interval, threads, chunk)
    except TraceError as error:
        text = str(error)
        raise TraceError(text if text.startswith(str(trace)) else f"{trace}: {text}") from None
    if commands is not None and result.command_log is not None:
        write_csv(commands, result.command_log, spec.dram)
    if timeline is not None and result.command_log is not None:
        write_timeline(timeline, result.command_log, spec.dram)
    summary = summarise(spec.name, result)
    if per_bank:
        from pimsim.engine.statistics import per_channel

        summary["channels"] = per_channel(spec.dram, result)
    write_json(summary, json)
    if not quiet(json):
        _show(summary, trace)


def _whole(dram: DramSpec, path: Path, interval: int, threads: int, log: bool, why: bool) -> ReplayResult:
    from pimsim.engine.dram import replay as run
    from pimsim.trace import read_trace

    trace = read_trace(path)
    arrival = None if interval else trace.arrival_cycle
    return run(dram, trace.address, trace.is_write, arrival, interval, log_commands=log, threads=threads, why=why)


def _in_parts(dram: DramSpec, path: Path, interval: int, threads: int, chunk: int) -> ReplayResult:
    import sys
    import time

    from pimsim.engine.dram import replay_parts
    from pimsim.trace import read_parts

    def parts() -> Iterator[Part]:
        done, said = 0, time.monotonic()
        for trace in read_parts(path, chunk):
            yield trace.address, trace.is_write, None if interval else trace.arrival_cycle
            done += len(trace.address)
            if time.monotonic() - said > (1 if sys.stderr.isatty() else 30):
                said = time.monotonic()
                print(f"{done:,} requests", end="\r" if sys.stderr.isatty() else "\n", file=sys.stderr, flush=True)

    return replay_parts(dram, parts(), interval, threads)


def summarise(device: str, result: ReplayResult) -> dict[str, Any]:
    """The JSON object of one replay; what is not modelled is `n/a`."""

    def known(value: float | None) -> float | str:
        return "n/a" if value is None else value

    return {
        "device": device,
        "requests": result.requests,
        "reads": result.reads,
        "writes": result.writes,
        "cycles": result.cycles,
        "tck_ps": result.tck_ps,
        "mean_read_latency_cycles": known(result.mean_read_latency_cycles),
        "max_read_latency_cycles": known(result.max_read_latency_cycles),
        "row_hits": result.row_hits,
        "row_misses": result.row_misses,
        "row_conflicts": result.row_conflicts,
        "forwarded_reads": result.forwarded,
        "coalesced_writes": result.coalesced,
        "merged_reads": result.merged,
        "commands": result.commands,
        "bytes": result.bytes,
        "bandwidth_gbps": result.bandwidth_gbps,
        "peak_bandwidth_gbps": result.peak_bandwidth_gbps,
        "energy_nj": {part: known(nj) for part, nj in result.energy_nj.items()},
        **({} if result.bandwidth_loss is None else {"bandwidth_loss": _loss(result.bandwidth_loss)}),
        "simulate_seconds": result.simulate_seconds,
    }


def _loss(clocks: dict[str, int]) -> dict[str, Any]:
    """Clocks of the data buses by cause, and in per cent of all."""
    total = sum(clocks.values())
    return {
        "total_clocks": total,
        "clocks": clocks,
        "percent": {cause: 100 * count / total if total else 0.0 for cause, count in clocks.items()},
    }


def _show(summary: dict[str, Any], path: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    def text(value: float | str, form: str) -> str:
        return value if isinstance(value, str) else format(value, form)

    table = Table("quantity", "value", box=None, header_style="bold", title=f"{path.name} on {summary['device']}", title_justify="left")
    time_us = summary["cycles"] * summary["tck_ps"] * 1e-6
    rows = [
        ("requests", f"{summary['requests']:,} ({summary['reads']:,} reads, {summary['writes']:,} writes)"),
        ("time", f"{summary['cycles']:,} clocks = {time_us:,.3f} us"),
        ("bandwidth", f"{summary['bandwidth_gbps']:.3f} of {summary['peak_bandwidth_gbps']:.3f} GB/s"),
        ("mean read latency", text(summary["mean_read_latency_cycles"], ",.2f") + " clocks"),
        ("max read latency", text(summary["max_read_latency_cycles"], ",") + " clocks"),
        ("row hits / misses / conflicts", f"{summary['row_hits']:,} / {summary['row_misses']:,} / {summary['row_conflicts']:,}"),
        ("commands", ", ".join(f"{name} {count:,}" for name, count in summary["commands"].items())),
        *((f"energy, {part}", text(nj, ",.2f") + ("" if nj == "n/a" else " nJ")) for part, nj in summary["energy_nj"].items()),
        ("simulated at", f"{summary['requests'] / max(summary['simulate_seconds'], 1e-9) / 1e3:,.0f} thousand requests/s"),
    ]
    for row in rows:
        table.add_row(*row)
    console = Console()
    console.print(table)
    if "bandwidth_loss" in summary:
        loss = Table("data bus", "clocks", "%", box=None, header_style="bold")
        for cause, clocks in summary["bandwidth_loss"]["clocks"].items():
            loss.add_row(cause, f"{clocks:,}", f"{summary['bandwidth_loss']['percent'][cause]:.2f}")
        loss.add_row("all", f"{summary['bandwidth_loss']['total_clocks']:,}", "100.00")
        console.print()
        console.print(loss)
    if "channels" in summary:
        console.print()
        console.print(_channel_table(summary["channels"]))


def _channel_table(channels: list[dict[str, Any]]) -> RichTable:
    from rich.table import Table

    names = ("reads", "writes", "activations", "row_hits", "row_misses", "row_conflicts")
    table = Table("channel", "bank group", "bank", *(name.replace("_", " ") for name in names), box=None, header_style="bold")
    for channel in channels:
        table.add_row(str(channel["channel"]), "all", "all", *(f"{channel[name]:,}" for name in names))
        for bank in channel["banks"]:
            where = f"{bank['rank']}.{bank['bankgroup']}"
            table.add_row("", where, str(bank["bank"]), *(f"{bank[name]:,}" for name in names))
    return table


COMMAND = replay
