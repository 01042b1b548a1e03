"""The rows of a sweep: a journal that survives a kill at any moment, and a Parquet table beside it.

`results.jsonl` gets a line the moment a point is finished; `results.parquet` is written again from it, at most every two seconds and at
the end, sorted by point, so that it does not depend on the number of workers. `sweep.json` holds the sweep as it was asked for.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from pimsim.errors import RunError
from pimsim.sweep.measure import columns
from pimsim.sweep.plan import SweepSpec


class SweepStore:
    """The folder of one sweep.

    Raises:
        RunError: the folder holds another sweep, or cannot be read or written.
    """

    def __init__(self, folder: Path, spec: SweepSpec) -> None:
        self.folder, self.spec, self.points = folder, spec, spec.all_points()
        self.rows: dict[int, dict[str, Any]] = {}
        asked = spec.model_dump(mode="json", exclude={"plots"})
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / "sweep.json"
            if path.exists() and json.loads(path.read_text(encoding="utf-8")) != asked:
                raise RunError(f"{folder}: holds another sweep; choose another --out")
            path.write_text(json.dumps(asked, indent=1), encoding="utf-8")
            self._read_journal()
        except (OSError, ValueError) as error:
            raise RunError(f"{folder}: cannot be used: {error}") from None

    def _read_journal(self) -> None:
        """Reads finished rows; a last line that a kill cut short is dropped."""
        journal = self.folder / "results.jsonl"
        if not journal.exists():
            return
        lines = journal.read_bytes().split(b"\n")
        if lines[-1]:
            os.truncate(journal, journal.stat().st_size - len(lines[-1]))
        for line in lines[:-1]:
            row = json.loads(line)
            self.rows[row["id"]] = row

    def add(self, id: int, figures: dict[str, Any]) -> None:
        """Keeps the figures of one point."""
        row = {"id": id, **figures}
        with (self.folder / "results.jsonl").open("a", encoding="utf-8") as journal:
            journal.write(json.dumps(row) + "\n")
            journal.flush()
            os.fsync(journal.fileno())
        self.rows[id] = row

    def table(self) -> list[dict[str, Any]]:
        """Finished rows in the order of points: id, parameters, figures, error."""
        names = list(dict.fromkeys(key for point in self.points for key in point))
        return [
            {"id": id}
            | {name: self.points[id].get(name) for name in names}
            | {name: self.rows[id].get(name) for name in (*columns(self.spec), "error")}
            for id in sorted(self.rows)
        ]

    def write_parquet(self) -> None:
        """Writes the table, whole or not at all."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = self.table()
        if not table:
            return
        arrays = {name: _array([row[name] for row in table]) for name in table[0]}
        draft = self.folder / "results.parquet.part"
        pq.write_table(pa.table(arrays), draft)
        os.replace(draft, self.folder / "results.parquet")


def _array(values: list[Any]) -> Any:
    """A column of one type: numbers, else truth values, else text."""
    import pyarrow as pa

    present = [value for value in values if value is not None]
    if all(isinstance(value, bool) for value in present) and present:
        return pa.array(values, pa.bool_())
    if all(isinstance(value, int) and not isinstance(value, bool) for value in present) and present:
        return pa.array(values, pa.int64())
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in present) and present:
        return pa.array([None if value is None else float(value) for value in values], pa.float64())
    return pa.array([None if value is None else str(value) for value in values], pa.string())
