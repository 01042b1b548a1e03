"""How much a cache helps an index trace: reuse of rows, and the hit rate of an exact cache over its size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pimsim.errors import ConfigError


def reuse(trace: Mapping[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """Reuse of the rows of each table.

    Args:
        trace: {table name: (samples, pooling) row numbers}; -1 is no look-up.

    Returns:
        {table name: look-ups, rows touched, mean look-ups of a touched row, share of touched rows that are touched once, share of the
        look-ups that go to the hottest hundredth of the touched rows}.

    Raises:
        ConfigError: a table without look-ups.
    """
    facts = {}
    for name, rows in trace.items():
        counts = np.sort(np.unique(rows[rows >= 0], return_counts=True)[1])[::-1]
        if not len(counts):
            raise ConfigError(f"trace: {name}: no look-up at all")
        facts[name] = {
            "lookups": int(counts.sum()),
            "rows": len(counts),
            "mean_reuse": float(counts.mean()),
            "touched_once": float((counts == 1).mean()),
            "hottest_percent_lookups": float(counts[: max(1, len(counts) // 100)].sum() / counts.sum()),
        }
    return facts


def in_order(trace: Mapping[str, np.ndarray]) -> np.ndarray:
    """All look-ups of a trace, sample by sample and table by table, as row numbers of one memory in which the tables follow each other.

    Entries of -1 are no look-ups.

    Raises:
        ConfigError: tables with different numbers of samples, or none.
    """
    samples = {len(rows) for rows in trace.values()}
    if len(samples) != 1 or 0 in samples:
        raise ConfigError(f"trace: tables of {sorted(samples)} samples, expected the same number, at least 1")
    parts, offset = [], 0
    for rows in trace.values():
        table = np.asarray(rows, np.int64).reshape(len(rows), -1)
        parts.append(np.where(table < 0, -1, table + offset))
        offset += int(table.max()) + 1
    rows_in_order = np.concatenate(parts, axis=1).ravel()
    return rows_in_order[rows_in_order >= 0]


def hit_rates(
    trace: Mapping[str, np.ndarray], row_bytes: int = 64, ways: int = 16, sizes: Sequence[int] | None = None
) -> list[dict[str, float]]:
    """Hit rate of a cache of whole rows, shared by all tables, for several sizes; exact, access by access, from an empty cache.

    Args:
        trace: {table name: (samples, pooling) row numbers}.
        row_bytes: bytes of one row, which is one line of the cache.
        ways: lines of a set (least recently used goes).
        sizes: capacities in bytes, multiples of row_bytes x ways; powers of two up to all touched rows when None.

    Returns:
        For each size `size_bytes` and `hit_rate`.

    Raises:
        ConfigError: a malformed trace, or a size that is no whole number of sets.
    """
    from pydantic import ValidationError

    from pimsim.units.cache import CacheSpec, hits

    line = in_order(trace)
    smallest = row_bytes * ways
    if sizes is None:
        touched = len(np.unique(line)) * row_bytes
        sizes = [smallest << step for step in range(max(1, int(np.ceil(np.log2(max(2.0, touched / smallest)))) + 1))]
    rates = []
    for size in sizes:
        try:
            cache = CacheSpec(size_bytes=size, line_bytes=row_bytes, ways=ways)
        except ValidationError:
            raise ConfigError(f"cache size {size}: expected a multiple of row bytes x ways = {smallest}") from None
        rates.append({"size_bytes": size, "hit_rate": float(hits(cache, line).mean())})
    return rates


def write_hit_rate_plot(path: Path, curves: Mapping[str, Sequence[Mapping[str, float]]]) -> None:
    """Hit rate against cache size as an SVG file.

    Args:
        path: ends in `.svg`.
        curves: {name: result of `hit_rates`}.

    Raises:
        ConfigError: another ending, or the file cannot be written.
    """
    import vl_convert

    if path.suffix != ".svg":
        raise ConfigError(f"{path}: unknown format (allowed: .svg)")
    values = [
        {"trace": name, "KiB": point["size_bytes"] / 1024, "hit_rate": point["hit_rate"]} for name in curves for point in curves[name]
    ]
    chart: dict[str, Any] = {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "width": 420,
        "height": 280,
        "background": "white",
        "data": {"values": values},
        "mark": {"type": "line", "point": True},
        "encoding": {
            "x": {"field": "KiB", "type": "quantitative", "scale": {"type": "log", "base": 2}, "title": "cache size (KiB)"},
            "y": {"field": "hit_rate", "type": "quantitative", "scale": {"domain": [0, 1]}, "title": "hit rate"},
            "color": {"field": "trace", "type": "nominal", "title": None},
        },
    }
    try:
        path.write_text(vl_convert.vegalite_to_svg(chart), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from None
