"""Charts of a sweep, as an architect would put them into a paper: SVG files made offline, and Vega-Lite beside them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pimsim.errors import ConfigError
from pimsim.sweep.plan import Plot
from pimsim.sweep.store import SweepStore

LABELS = {
    "latency_us": "latency (us)",
    "latency_p95_us": "latency, 95th percentile (us)",
    "latency_p99_us": "latency, 99th percentile (us)",
    "energy_uj": "energy (uJ)",
    "energy_uj_per_sample": "energy per sample (uJ)",
    "area_mm2": "area of the units (mm2)",
    "power_w": "power (W)",
    "speedup": "speed-up over plain memory",
    "throughput_samples_per_s": "throughput (samples/s)",
    "bandwidth_gbps": "bandwidth (GB/s)",
}


def write_charts(store: SweepStore) -> list[Path]:
    """Writes one SVG file for each plot of the sweep; nothing if no point succeeded.

    Raises:
        ConfigError: a plot names a column that the results lack.
    """
    import vl_convert as vlc

    rows = [row for row in store.table() if row["error"] is None]
    if not rows:
        return []
    known = [name for name in rows[0] if name not in ("id", "error")]
    varying = _varying(rows)
    plots = store.spec.plots or _usual(rows, varying)
    written = []
    for number, plot in enumerate(plots):
        for name in (plot.x, plot.y, plot.color):
            if name is not None and name not in known:
                raise ConfigError(f"plots.{number}: {name!r}: no such column (allowed: {', '.join(known)})")
        chart = _chart(plot, rows, varying)
        path = store.folder / f"{_file(plot)}.svg"
        path.write_text(vlc.vegalite_to_svg(json.dumps(chart)), encoding="utf-8")
        written.append(path)
    return written


def _varying(rows: list[dict[str, Any]]) -> list[str]:
    """Parameters with more than one value."""
    figures = {"id", "error", "limited_by", "bottleneck", "macs", "cycles", *LABELS}
    return [name for name in rows[0] if name not in figures and len({str(row[name]) for row in rows}) > 1]


def _usual(rows: list[dict[str, Any]], varying: list[str]) -> list[Plot]:
    """Latency over each parameter that varies (coloured by the next), over energy and over area."""
    plots = [Plot(x=name, y="latency_us", color=next((o for o in varying if o != name), None)) for name in varying]
    energy = "energy_uj" if "energy_uj" in rows[0] else "energy_uj_per_sample"
    for name in (energy, "area_mm2"):
        if len({row[name] for row in rows if row[name] is not None}) > 1:
            plots.append(Plot(x=name, y="latency_us", color=varying[0] if varying else None))
    return plots


def _file(plot: Plot) -> str:
    return "-".join(name.replace(".", "_") for name in (plot.y, "over", plot.x, *(("by", plot.color) if plot.color else ())))


def _chart(plot: Plot, rows: list[dict[str, Any]], varying: list[str]) -> dict[str, Any]:
    import altair as alt

    shape = next((name for name in varying if name not in (plot.x, plot.y, plot.color)), None)
    names = [name for name in (plot.x, plot.y, plot.color, shape) if name is not None]
    shown = [{name: row[name] for name in names} for row in rows]
    data = alt.Data(values=[{name.replace(".", "_"): value for name, value in row.items()} for row in shown])

    def axis(name: str, kind: Any) -> Any:
        values = [row[name] for row in shown if row[name] is not None]
        numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
        field, title = name.replace(".", "_"), LABELS.get(name, name)
        if not numeric:
            return kind(f"{field}:N", title=title)
        if kind is alt.Color:
            few = len(set(values)) <= 8
            return kind(f"{field}:{'O' if few else 'Q'}", title=title, scale=alt.Scale(scheme="viridis"))
        wide = bool(values) and min(values) > 0 and max(values) > 20 * min(values)
        if wide:
            scale = alt.Scale(type="log", nice=False, domain=[min(values) / 1.3, max(values) * 1.3])
            return kind(f"{field}:Q", title=title, scale=scale, axis=alt.Axis(tickCount=6))
        return kind(f"{field}:Q", title=title, scale=alt.Scale(zero=False, nice=True))

    encoding = {"x": axis(plot.x, alt.X), "y": axis(plot.y, alt.Y)}
    if plot.color is not None:
        encoding["color"] = axis(plot.color, alt.Color)
    if shape is not None:
        encoding["shape"] = alt.Shape(f"{shape.replace('.', '_')}:N", title=shape)
    chart = alt.Chart(data).mark_point(size=60, opacity=0.9, filled=True).encode(**encoding).properties(width=420, height=300)
    spec: dict[str, Any] = chart.configure_view(stroke=None).configure_axis(grid=True, gridOpacity=0.4).to_dict()
    return spec
