"""A bank of finished searches: one SQLite file with every task's anchors and trials, genes by name and figures by metric.

Figures are those that searches see, supernet scores on validation rows and the simulator's; test figures are not in it. What is best
depends on the objectives of the search that asks, so all trials are kept and nothing is ordered beforehand.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cosearch.pool import Metrics
from pimsim.errors import RunError

SCHEMA = 1
_TABLES = """
CREATE TABLE IF NOT EXISTS task (digest TEXT PRIMARY KEY, name TEXT, dataset TEXT, space TEXT, device TEXT, anchors TEXT);
CREATE TABLE IF NOT EXISTS trial (task TEXT REFERENCES task, genes TEXT, metrics TEXT);
CREATE INDEX IF NOT EXISTS trial_task ON trial (task);
"""


@dataclass(frozen=True)
class Task:
    """One finished search.

    Attributes:
        digest: Of its configuration; the same search added again replaces itself.
        name: The search's.
        dataset: Name of its data.
        space: Name of its model space.
        device: Name of its base device.
        anchors: Figures of every anchor in order, nothing for one that could not be evaluated.
        trials: Genes by name and figures of every trial.
    """

    digest: str
    name: str
    dataset: str
    space: str
    device: str
    anchors: tuple[Metrics, ...]
    trials: tuple[tuple[dict[str, Any], Metrics], ...]


class Bank:
    """A bank file.

    Args:
        path: The file.
        create: Make it if there is none.

    Raises:
        RunError: there is none, or the file is no bank of this version.
    """

    def __init__(self, path: Path, create: bool = False) -> None:
        self.path = path
        if not create and not path.is_file():
            raise RunError(f"{path}: no such bank of searches; `cosearch transfer add RUN --bank {path}` makes one")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"{path}: cannot be written: {error.strerror}") from None
        with self._open() as bank:
            version = bank.execute("PRAGMA user_version").fetchone()[0]
            if create and version == 0 and not bank.execute("SELECT 1 FROM sqlite_master").fetchone():
                bank.executescript(f"BEGIN;{_TABLES}PRAGMA user_version = {SCHEMA};COMMIT;")
            elif version != SCHEMA:
                raise RunError(f"{path}: not a bank of searches (version {version}, allowed: {SCHEMA})")

    def add(self, task: Task) -> None:
        """Stores a task with its trials, all or nothing."""
        with self._open() as bank:
            bank.execute("DELETE FROM trial WHERE task = ?", (task.digest,))
            named = (task.digest, task.name, task.dataset, task.space, task.device, json.dumps(task.anchors))
            bank.execute("INSERT OR REPLACE INTO task VALUES (?, ?, ?, ?, ?, ?)", named)
            rows = [(task.digest, json.dumps(genes), json.dumps(metrics)) for genes, metrics in task.trials]
            bank.executemany("INSERT INTO trial VALUES (?, ?, ?)", rows)

    def tasks(self) -> list[Task]:
        """Every task, in order of digest."""
        try:
            with self._open() as bank:
                rows = bank.execute("SELECT digest, name, dataset, space, device, anchors FROM task ORDER BY digest").fetchall()
                return [Task(*named, anchors=tuple(json.loads(anchors)), trials=_trials(bank, named[0])) for *named, anchors in rows]
        except (ValueError, TypeError) as error:
            raise RunError(f"{self.path}: unreadable task: {error}") from None

    def copy_to(self, path: Path) -> None:
        """Writes the bank as it is now into another file, in one step."""
        draft = path.with_name(path.name + ".part")
        draft.unlink(missing_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._open() as bank, sqlite3.connect(draft) as copy:
            bank.backup(copy)
        copy.close()
        os.replace(draft, path)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """A connection whose changes are kept if the block ends well."""
        try:
            connection = sqlite3.connect(self.path, timeout=60)
            try:
                with connection:
                    yield connection
            finally:
                connection.close()
        except sqlite3.Error as error:
            raise RunError(f"{self.path}: not a readable bank of searches: {error}") from None


def _trials(bank: sqlite3.Connection, task: str) -> tuple[tuple[dict[str, Any], Metrics], ...]:
    rows = bank.execute("SELECT genes, metrics FROM trial WHERE task = ? ORDER BY rowid", (task,))
    return tuple((json.loads(genes), json.loads(metrics)) for genes, metrics in rows)


def bank_file(given: str | Path | None) -> Path:
    """The bank that is meant: the given file, else `bank.db` in the cache folder (`$COSEARCH_CACHE`, `~/.cache/cosearch/cache`)."""
    from workloads.data.location import cache_root

    return Path(given) if given is not None else cache_root() / "bank.db"
