"""The report's two charts, as Vega-Lite specifications."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cosearch.fronts import front_of
from cosearch.goal import Goal
from cosearch.metrics import METRICS, objectives_of
from cosearch.pareto import hypervolume
from cosearch.problem import Problem
from cosearch.store import Trial

INK, GREY, ACCENT = "#1f2933", "#9aa5b1", "#b4431f"


def pareto_chart(trials: list[Trial], problem: Problem, picked: int | None) -> dict[str, Any]:
    """Every candidate over the first two objectives, coloured by the third; front points ringed, the picked one starred."""
    import altair as alt

    x, y, *rest = problem.objectives[1], problem.objectives[0], *problem.objectives[2:]
    front = {t.id for t in front_of(trials, problem.goal)}
    shown = {name for name in (*problem.objectives, "auc", "area_mm2", "macs") if name in METRICS}
    rows = [
        {"id": t.id, "place": _place(t, front, problem.goal), **{name: t.metrics[name] for name in sorted(shown)}}
        for t in trials
        if t.error is None
    ]
    tooltip = [alt.Tooltip("id:Q", title="candidate")]
    for name in sorted(shown):
        digits = ".4f" if name in ("logloss", "auc") else ",.4~g"
        tooltip.append(alt.Tooltip(f"{name}:Q", title=METRICS[name].label, format=digits))
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X(f"{x}:Q", title=METRICS[x].label, scale=_scale(rows, x)),
        y=alt.Y(f"{y}:Q", title=f"{METRICS[y].label} (supernet)", scale=alt.Scale(zero=False)),
        tooltip=tooltip,
    )
    colour = alt.value(GREY)
    if rest:
        scale = alt.Scale(scheme="viridis", type="log" if _wide([row[rest[0]] for row in rows]) else "linear")
        legend = alt.Legend(titleLimit=400, gradientOpacity=1, orient="top", gradientLength=260, format=",.3~g")
        colour = alt.Color(f"{rest[0]}:Q", title=METRICS[rest[0]].label, scale=scale, legend=legend)
    on_front, others, out = (f"datum.place == '{place}'" for place in ("front", "other", "infeasible"))
    layers = [
        base.transform_filter(out).mark_point(shape="cross", size=30, opacity=0.45, filled=True, color=GREY),
        base.transform_filter(others).mark_circle(size=34, opacity=0.4).encode(color=colour),
        base.transform_filter(on_front).mark_circle(size=110, opacity=1, stroke=INK, strokeWidth=1.2).encode(color=colour),
        base.transform_filter(f"datum.id == {-1 if picked is None else picked}").mark_point(
            shape="circle", size=420, color=ACCENT, strokeWidth=2, filled=False
        ),
    ]
    return _finish(alt.layer(*layers), 420)


def _place(trial: Trial, front: set[int], goal: Goal) -> str:
    if trial.id in front:
        return "front"
    return "infeasible" if goal.violation(trial.metrics) else "other"


def progress_chart(trials: list[Trial], problem: Problem) -> dict[str, Any]:
    """Share of the objectives' box that the front dominates, after every candidate."""
    import altair as alt

    rows = hypervolume_history(trials, problem)
    chart = (
        alt.Chart(alt.Data(values=rows))
        .mark_line(interpolate="step-after", color=ACCENT, strokeWidth=2)
        .encode(
            x=alt.X("candidates:Q", title="candidates evaluated"),
            y=alt.Y("hypervolume:Q", title="dominated share of the objective box", scale=alt.Scale(zero=False)),
            tooltip=[alt.Tooltip("candidates:Q"), alt.Tooltip("hypervolume:Q", format=".4f")],
        )
    )
    return _finish(chart, 220)


def hypervolume_history(trials: list[Trial], problem: Problem) -> list[dict[str, float]]:
    """Hypervolume of the feasible candidates after every candidate, in order of id.

    The box spans the objectives of all finished candidates, on a logarithmic scale for those that span more than a factor of five.
    """
    good = [t for t in sorted(trials, key=lambda t: t.id) if t.error is None]
    values = np.array([objectives_of(t.metrics, problem.objectives) for t in good]).reshape(len(good), -1)
    if not len(values):
        return []
    for column in values.T:
        if _wide(column):
            column[:] = np.log(column)
    low, high = values.min(axis=0), values.max(axis=0)
    feasible = np.array([not problem.goal.violation(t.metrics) for t in good])
    history = []
    for count, trial in enumerate(good, start=1):
        share = hypervolume(values[:count][feasible[:count]], low, high)
        history.append({"candidates": trial.id + 1, "hypervolume": round(share, 6)})
    return history


def _wide(values: Sequence[float] | np.ndarray) -> bool:
    """True for positive figures that span more than a factor of five: they are shown and measured on a logarithmic scale."""
    return len(values) > 0 and min(values) > 0 and max(values) / min(values) > 5


def _scale(rows: list[dict[str, Any]], name: str) -> Any:
    import altair as alt

    return alt.Scale(type="log", nice=False, padding=14) if _wide([row[name] for row in rows]) else alt.Scale(zero=False)


def _finish(chart: Any, height: int) -> dict[str, Any]:
    """Full width, quiet axes."""
    text = {"labelColor": INK, "titleColor": INK, "titleFontWeight": "normal", "labelFontSize": 11.5, "titleFontSize": 12.5}
    return (
        chart.properties(width="container", height=height)
        .configure(font="inherit", background="transparent")
        .configure_axis(gridColor="#e4e7eb", domainColor=GREY, tickColor=GREY, titlePadding=12, **text)
        .configure_legend(**text)
        .configure_view(stroke=None)
        .to_dict()
    )
