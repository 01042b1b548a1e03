"""Makes index traces from a data set or by drawing, and writes them in the simulator's format."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from pimsim.errors import ConfigError
from pimsim.graph import IndexSource, Table
from pimsim.mapping.indices import draw_table, load_npz
from workloads.data.dataset import Schema, Split

__all__ = ["drawn", "load_npz", "save_npz", "trace_from_split"]


def trace_from_split(split: Split, schema: Schema, samples: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Real look-ups: consecutive rows of a split, so that reuse between neighbours is kept.

    Args:
        split: rows of field-local ids.
        schema: names of the sparse fields, which become the table names.
        samples: number of samples; beyond the split's end it goes on at its start.
        seed: chooses the first row.

    Returns:
        {field name: int64 array (samples, pooling)}; -1, no look-up, fills the samples of a multi-valued field.
    """
    rows = len(split.label)
    start = int(np.random.default_rng(seed).integers(rows))
    window = split.sparse[(start + np.arange(samples)) % rows]
    return {name: window[:, columns].astype(np.int64) for name, columns in schema.columns().items()}


def drawn(tables: Iterable[Table], samples: int, source: IndexSource) -> dict[str, np.ndarray]:
    """Drawn look-ups (uniform, bounded Zipf, hot set, reuse distance), the same as the simulator draws.

    Returns:
        {table name: int64 array (samples, pooling)}.

    Raises:
        ConfigError: a source of kind `file`.
    """
    if source.kind == "file":
        raise ConfigError("indices.kind: 'file': its indices are not drawn; read a file with load_npz")
    return {table.name: draw_table(table, samples, source) for table in tables}


def save_npz(path: Path, trace: Mapping[str, np.ndarray]) -> None:
    """Writes a trace as `.npz`, int32 where the values fit.

    Raises:
        ConfigError: the file cannot be written.
    """
    small = {
        name: array.astype(np.int32) if array.size and array.max() < 2**31 and array.min() >= -(2**31) else array
        for name, array in trace.items()
    }
    try:
        with Path(path).open("wb") as handle:
            np.savez_compressed(handle, allow_pickle=False, **small)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from None
