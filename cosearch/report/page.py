"""Fills the report's template from a run folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cosearch.calibrate import expected
from cosearch.final import RESULT
from cosearch.fronts import front_of, pareto_rows, pick_trial, why_no_front
from cosearch.metrics import METRICS
from cosearch.report.charts import pareto_chart, progress_chart
from cosearch.runfolder import RunFolder, write_atomic
from cosearch.store import Trial
from pimsim.errors import ConfigError
from supernet.genotype import Genotype


def write_report(run: RunFolder, trials: list[Trial]) -> Path:
    """Writes `report.html` into the run folder.

    Args:
        run: The run.
        trials: Its finished trials.

    Returns:
        The file.
    """
    import jinja2
    import vl_convert

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"figure": figure, "clock": lambda seconds: f"{seconds / 60:.1f} min"}
    path = run.path / "report.html"
    page = environment.get_template("page.html.j2").render(**_content(run, trials), bundle=vl_convert.javascript_bundle())
    write_atomic(path, page)
    return path


def write_figure(run: RunFolder, trials: list[Trial], path: Path) -> Path:
    """Writes the Pareto plot as a picture.

    Raises:
        ConfigError: the file's name ends neither in .svg nor in .png, or it cannot be written.
    """
    import vl_convert

    if path.suffix not in {".svg", ".png"}:
        raise ConfigError(f"--figure {path}: unknown format (allowed: .svg, .png)")
    best = _read_json(run.path / "best" / "metrics.json")
    picture = pareto_chart(trials, run.problem, best["id"] if best else None) | {"width": 720, "background": "white"}
    picture["config"] = picture["config"] | {"font": "sans-serif"}
    try:
        if path.suffix == ".svg":
            path.write_text(vl_convert.vegalite_to_svg(picture), encoding="utf-8")
        else:
            path.write_bytes(vl_convert.vegalite_to_png(picture, scale=2))
    except OSError as error:
        raise ConfigError(f"--figure {path}: cannot be written: {error.strerror}") from None
    return path


def _content(run: RunFolder, trials: list[Trial]) -> dict[str, Any]:
    problem = run.problem
    best = _read_json(run.path / "best" / "metrics.json")
    front = front_of(trials, problem.goal)
    shown = best["id"] if best else (pick_trial(trials, problem, problem.final.pick).id if front else None)
    chosen = next((t for t in trials if t.id == shown), None)
    alone = expected(run, front)
    return {
        "problem": problem,
        "resolved": run.resolved,
        "trials": trials,
        "failed": [t for t in trials if t.error],
        "no_front": why_no_front(trials, problem.goal),
        "infeasible": sum(t.error is None and problem.goal.violation(t.metrics) > 0 for t in trials),
        "front": pareto_rows(trials, problem),
        "expected": alone,
        "metrics": METRICS,
        "genes": [key for key, choices in problem.hardware.items() if len(choices) > 1],
        "best": best,
        "chosen": chosen,
        "final": _read_json(run.path / RESULT),
        "simulation": _read_json(run.path / "best" / "simulation.json"),
        "blocks": block_rows(chosen.candidate.model) if chosen else [],
        "tables": table_rows(chosen.candidate.model, _read_json(run.path / "best" / "workload.json")) if chosen and best else [],
        "evaluation_seconds": sum(t.seconds for t in trials),
        "provenance": _read_json(run.path / "provenance.json") or {},
        "settings": _settings(run),
        "charts": {
            "pareto": pareto_chart(trials, problem, shown),
            "progress": progress_chart(trials, problem),
        }
        if any(t.error is None for t in trials)
        else {},
    }


def block_rows(model: Genotype) -> list[dict[str, str]]:
    """The live blocks of a genotype in words: what each makes and what it reads."""
    rows = []
    for number, block in enumerate(model.canonical().blocks, start=1):
        dense = sparse = "-"
        if block.dense_op:
            reads = [f"dense {_sources(block.dense_inputs)}"] if block.reads("dense") else []
            reads += [f"fields {_sources(block.sparse_inputs)}"] if block.reads("sparse") else []
            reads += [f"dense {_sources((block.dense_left, block.dense_right))}"] if block.reads("pair") else []
            dense = f"{block.dense_op} to {block.dense_dim}, from {' and '.join(reads)}"
            dense += _bits(block.dense_bits, block.dense_activation_bits)
        if block.sparse_op:
            sparse = f"{block.sparse_op} to {block.sparse_dim} fields, from fields {_sources(block.sparse_inputs)}"
            sparse += _bits(block.sparse_bits, block.sparse_activation_bits)
        merged = [text for text, on in (("FM onto dense", block.fm), ("dense onto 8 more fields", block.interact)) if on]
        rows.append({"block": str(number), "dense": dense, "sparse": sparse, "mergers": ", ".join(merged) or "-"})
    return rows


def table_rows(model: Genotype, workload: Any) -> list[dict[str, Any]]:
    """Tables (`name`, `rows`, `dim`, `bits`) of a network that tells them apart, of its workload; none of another network."""
    if model.embedding_dims is None and model.table_bits is None:
        return []
    return [table for operator in (workload or {}).get("operators", []) for table in operator.get("tables", [])]


def _bits(weights: int | None, activations: int | None) -> str:
    """An operator's own precisions in words; nothing where it has none."""
    return "".join(f", {what} {bits} bits" for what, bits in (("weights", weights), ("activations", activations)) if bits)


def _sources(indices: tuple[int | None, ...]) -> str:
    return " + ".join("input" if i == 0 else f"block {i}" for i in indices if i is not None)


def _settings(run: RunFolder) -> list[tuple[str, str]]:
    """Every resolved setting but the hardware space, as dotted key and value."""
    tree = run.problem.model_dump(mode="json", exclude={"hardware"})
    rows: list[tuple[str, str]] = []

    def walk(prefix: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, child in value.items():
                walk(f"{prefix}.{key}" if prefix else key, child)
        else:
            rows.append((prefix, ", ".join(map(str, value)) if isinstance(value, list) else str(value)))

    walk("", tree)
    return rows


def figure(value: Any, name: str = "") -> str:
    """A figure for reading: four decimals for scores, four digits otherwise, `n/a` when there is none."""
    if value is None or value == "n/a":
        return "n/a"
    if not isinstance(value, int | float):
        return str(value)
    if name in ("logloss", "auc"):
        return f"{value:.4f}"
    if isinstance(value, int) or float(value).is_integer() or abs(value) >= 10_000:
        return f"{value:,.0f}"
    return f"{value:,.4g}"


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
