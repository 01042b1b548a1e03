"""The front of a run (of the candidates that keep the constraints), `pareto.csv`, and the pick of one point.

The file holds no wall times and keeps a fixed order, so that equal runs give equal bytes.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np

from cosearch.goal import Goal
from cosearch.metrics import METRICS, figure_of, objectives_of
from cosearch.pareto import front_indices, knee
from cosearch.problem import Problem
from cosearch.runfolder import write_atomic
from cosearch.store import Trial, table_columns
from pimsim.errors import RunError

FIRST = ("logloss", "auc", "latency_us", "energy_uj", "area_mm2", "macs", "parameters")
LAST = ("power_w", "throughput_samples_per_s", "latency_p99_us", "edp_uj_us", "memory_bytes")
MODEL_GENES = ("weight_bits", "embedding_bits", "embedding_dim")
TABLE_COLUMNS = ("embedding_dims", "table_bits")


def front_of(trials: list[Trial], goal: Goal) -> list[Trial]:
    """The feasible non-dominated trials, by the first objective and then by id; of equal points only the first asked."""
    good = sorted((t for t in trials if t.error is None and not goal.violation(t.metrics)), key=lambda t: t.id)
    values = np.array([objectives_of(t.metrics, goal.objectives) for t in good]).reshape(len(good), len(goal.objectives))
    front = [(tuple(values[i]), good[i]) for i in front_indices(values)]
    return [trial for _, trial in sorted(front, key=lambda pair: (pair[0][0], pair[1].id))]


def why_no_front(trials: list[Trial], goal: Goal) -> str | None:
    """One line when trials are finished and none keeps the constraints: how near the nearest comes; else None."""
    good = [t for t in trials if t.error is None]
    if not good or any(not goal.violation(t.metrics) for t in good):
        return None
    near = min(good, key=lambda t: (goal.violation(t.metrics), t.id))
    broken = [c for c in goal.constraints if c.violation(figure_of(near.metrics, c.metric))]
    missed = [f"{c.metric} {near.metrics[c.metric]:.6g}, allowed {c}" for c in broken]
    return f"none of {len(good)} candidates keeps the constraints; candidate {near.id} comes nearest: {'; '.join(missed)}"


def pareto_rows(trials: list[Trial], problem: Problem) -> list[dict[str, Any]]:
    """The front as flat rows, best log loss (first objective) first."""
    rows = []
    for trial in front_of(trials, problem.goal):
        row: dict[str, Any] = {"id": trial.id} | {name: trial.metrics.get(name) for name in FIRST}
        row |= {"device": Path(problem.device).stem, "genotype_digest": trial.candidate.model.digest(), "digest": trial.digest}
        row |= {name: getattr(trial.candidate.model, name) for name in MODEL_GENES} | table_columns(trial.candidate.model)
        row |= dict(trial.candidate.hardware)
        rows.append(row | {name: trial.metrics.get(name) for name in LAST})
    return rows


def write_pareto(path: Path, trials: list[Trial], problem: Problem) -> list[dict[str, Any]]:
    """Writes `pareto.csv` in one step; a float as the shortest text that reads back to it, `n/a` for what is not modelled."""
    rows = pareto_rows(trials, problem)
    empty = ["id", *FIRST, "device", "genotype_digest", "digest", *MODEL_GENES, *TABLE_COLUMNS, *problem.hardware, *LAST]
    names = list(rows[0]) if rows else empty
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([["n/a" if row[name] is None else row[name] for name in names] for row in rows])
    write_atomic(path, text.getvalue())
    return rows


def pick_trial(trials: list[Trial], problem: Problem, pick: str) -> Trial:
    """One trial: `logloss` (the front's best), `knee` (of the front), or any finished trial by its id.

    Raises:
        RunError: no such trial, one that failed, or no trial at all.
    """
    front = front_of(trials, problem.goal)
    if not front and pick in ("logloss", "knee"):
        raise RunError(why_no_front(trials, problem.goal) or "no finished candidate yet")
    if pick == "logloss":
        return min(front, key=lambda t: (t.metrics["logloss"], t.id))
    if pick == "knee":
        return front[knee(np.array([objectives_of(t.metrics, problem.objectives) for t in front]))]
    by_id = {str(t.id): t for t in trials}
    if pick not in by_id:
        raise RunError(f"--pick {pick!r}: no such candidate (allowed: knee, logloss, or an id from 0 to {len(trials) - 1})")
    if by_id[pick].error is not None:
        raise RunError(f"--pick {pick}: this candidate could not be evaluated: {by_id[pick].error}")
    return by_id[pick]


def front_table(trials: list[Trial], problem: Problem, mark: int | None = None, hardware: bool = True) -> Any:
    """The front as a rich table for a terminal; `mark` stars one id, `hardware` adds a column for each hardware gene."""
    from rich.table import Table

    shown = [*FIRST[:5], "macs"]
    shown += [name for name in dict.fromkeys((*problem.objectives, *problem.constraints)) if name not in shown]
    varied = [key for key, choices in problem.hardware.items() if hardware and len(choices) > 1]
    heads = [METRICS[name].label.replace(" (", "\n(").replace(" per ", " per\n") for name in shown]
    genes = [key.replace(".", "\n") for key in varied]
    table = Table("id", *heads, "weight\nbits", "table\ndims", "table\nbits", *genes, box=None, header_style="bold")
    for column in table.columns:
        column.justify = "right"
    for trial in front_of(trials, problem.goal):
        figures = [_figure(name, trial.metrics.get(name)) for name in shown]
        model = trial.candidate.model
        values = dict(trial.candidate.hardware)
        name = f"{trial.id}*" if trial.id == mark else f"{trial.id} "
        tables = (_span(text) for text in table_columns(model).values())
        table.add_row(name, *figures, str(model.weight_bits), *tables, *(str(values[key]) for key in varied))
    return table


def _span(values: str) -> str:
    """`8`, or `2-16` of numbers that differ."""
    numbers = sorted({int(value) for value in values.split()})
    return str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]}-{numbers[-1]}"


def _figure(name: str, value: float | None) -> str:
    if value is None:
        return "n/a"
    if name in ("logloss", "auc"):
        return f"{value:.4f}"
    return f"{value:,.0f}" if value >= 1000 or float(value).is_integer() else f"{value:.3g}"
