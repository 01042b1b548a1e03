"""Finished trials of a run: an Optuna study in SQLite (for the truth and for optuna-dashboard) and a Parquet table beside it.

A trial enters the study in one transaction the moment it is finished, so a run killed at any moment loses only what was being
evaluated. Numbers of Optuna follow the order of finishing; our own `id`, the order of asking, is a user attribute.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cosearch.candidate import Candidate
from cosearch.metrics import METRICS
from pimsim.errors import RunError
from supernet.genotype import Genotype


@dataclass(frozen=True)
class Trial:
    """One evaluated candidate.

    Attributes:
        id: Place in the order of asking, from 0.
        generation: Generation it was asked in, from 0.
        candidate: What was evaluated.
        digest: The candidate's digest.
        metrics: Figures under the names of `cosearch.metrics.METRICS`, None where not modelled; empty if the evaluation failed.
        error: Why it failed, in one line.
        seconds: Wall time of the evaluation (never part of a result).
    """

    id: int
    generation: int
    candidate: Candidate
    digest: str
    metrics: dict[str, float | None]
    error: str | None = None
    seconds: float = 0.0

    def to_row(self) -> dict[str, Any]:
        """Flat row for tables."""
        tree = self.candidate.to_json()
        row = {"id": self.id, "generation": self.generation, "digest": self.digest}
        row |= {"genotype_digest": self.candidate.model.digest()}
        row |= {name: self.metrics.get(name) for name in METRICS}
        row |= {key: value for key, value in tree["hardware"].items()}
        model = tree["model"]
        row |= {name: model[name] for name in ("weight_bits", "embedding_bits", "embedding_dim")} | table_columns(self.candidate.model)
        return row | {"model": json.dumps(model), "error": self.error, "seconds": self.seconds}


def table_columns(model: Genotype) -> dict[str, str]:
    """`embedding_dims` and `table_bits` of a network as text: a number for each table in order, or the one that they share."""
    dims, bits = model.embedding_dims or (model.embedding_dim,), model.table_bits or (model.embedding_bits,)
    return {"embedding_dims": " ".join(map(str, dims)), "table_bits": " ".join(map(str, bits))}


class TrialStore:
    """The finished trials of one run folder.

    Args:
        folder: Run folder; holds `trials.db` and `trials.parquet`.
        objectives: Names of the objectives (fixed for the life of a study).
        create: Make the study if there is none.

    Raises:
        RunError: the database cannot be read, or there is none.
    """

    STUDY = "search"

    def __init__(self, folder: Path, objectives: tuple[str, ...], create: bool = False) -> None:
        self.folder, self.objectives = folder, objectives
        path = folder / "trials.db"
        if not create and not path.is_file():
            raise RunError(f"{path}: no trials yet")
        self._study = self._open(path, create)

    def _open(self, path: Path, create: bool) -> Any:
        import optuna
        from sqlalchemy import event
        from sqlalchemy.exc import SQLAlchemyError

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        try:
            storage = optuna.storages.RDBStorage(f"sqlite:///{path}", engine_kwargs={"connect_args": {"timeout": 60}})
            event.listen(storage.engine, "connect", _wal)
            storage.engine.dispose()
            if not create:
                return optuna.load_study(study_name=self.STUDY, storage=storage)
            directions = ["minimize" if METRICS[name].sign > 0 else "maximize" for name in self.objectives]
            study = optuna.create_study(study_name=self.STUDY, storage=storage, directions=directions, load_if_exists=True)
            study.set_user_attr("objectives", list(self.objectives))
            return study
        except (SQLAlchemyError, KeyError, RuntimeError, ValueError) as error:
            raise RunError(f"{path}: not a readable trial database: {_one_line(error)}") from None

    def finished(self) -> dict[int, Trial]:
        """Every finished trial by id."""
        from sqlalchemy.exc import SQLAlchemyError

        try:
            frozen = self._study.get_trials(deepcopy=False)
            trials = (_to_trial(t.user_attrs) for t in frozen if t.state.is_finished() and "id" in t.user_attrs)
            return {trial.id: trial for trial in trials}
        except (SQLAlchemyError, KeyError, ValueError) as error:
            raise RunError(f"{self.folder / 'trials.db'}: unreadable trial: {_one_line(error)}") from None

    def add(self, trial: Trial, choices: dict[str, tuple[Any, ...]]) -> None:
        """Stores one finished trial, durably against a kill of the process.

        Args:
            trial: The trial.
            choices: Choices of every hardware gene, which the study records as parameters.
        """
        import optuna

        distributions = {key: optuna.distributions.CategoricalDistribution(values) for key, values in choices.items()}
        failed = trial.error is not None
        self._study.add_trial(
            optuna.trial.create_trial(
                state=optuna.trial.TrialState.FAIL if failed else optuna.trial.TrialState.COMPLETE,
                values=None if failed else [trial.metrics[name] for name in self.objectives],
                params=dict(trial.candidate.hardware),
                distributions=distributions,
                user_attrs=_to_attributes(trial),
            )
        )

    def write_parquet(self, trials: list[Trial]) -> None:
        """Replaces `trials.parquet` in one step by the given trials in order of id."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        rows = [trial.to_row() for trial in sorted(trials, key=lambda t: t.id)]
        if not rows:
            return
        columns = {name: [row[name] for row in rows] for name in rows[0]}
        floats = {name: pa.float64() for name in METRICS} | {"error": pa.string()}
        table = pa.table({name: pa.array(values, type=floats.get(name)) for name, values in columns.items()})
        draft = self.folder / "trials.parquet.part"
        pq.write_table(table, draft)
        os.replace(draft, self.folder / "trials.parquet")


def _wal(connection: Any, _record: Any) -> None:
    """Write-ahead log without a disk flush per transaction: safe against a killed process, and a commit costs a millisecond."""
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")


def _to_attributes(trial: Trial) -> dict[str, Any]:
    return {
        "id": trial.id,
        "generation": trial.generation,
        "digest": trial.digest,
        "candidate": trial.candidate.to_json(),
        "metrics": trial.metrics,
        "error": trial.error,
        "seconds": trial.seconds,
    }


def _to_trial(attributes: dict[str, Any]) -> Trial:
    fields = {name: attributes[name] for name in ("id", "generation", "digest", "metrics", "error", "seconds")}
    return Trial(candidate=Candidate.from_json(attributes["candidate"]), **fields)


def _one_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
