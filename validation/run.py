"""Reads the reference files, runs their cases, and judges them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, PositiveFloat, model_validator

from pimsim import configs
from pimsim.errors import ConfigError, unknown_name
from pimsim.spec.base import Spec, validate

REFERENCES = Path(__file__).parent / "references"
GOLDEN = Path(__file__).parents[2] / "shared" / "golden"
"""Results of reference simulators; cases that need them are skipped where they are absent."""


class ReferenceAbsentError(Exception):
    """The reference results that a case compares with are not on this machine."""


class Case(Spec):
    """One published number, or one set of runs of a reference simulator."""

    id: str
    metric: str
    published: float | None = None
    """The claim; None where the case itself reads reference results and answers with an error (then 0 is perfect)."""
    unit: str = ""
    source: str
    """Paper, section, figure or table; repository and commit."""
    status: Literal["verified", "secondary", "derived", "recalled", "reference-simulator"]
    """How well the claim is known: seen in the paper's abstract or its authors' code (verified), in somebody else's summary (secondary),
    computed from such (derived), remembered (recalled), or measured with a public simulator."""
    tolerance: PositiveFloat | None = None
    """Largest relative error."""
    run: str | None = None
    """`module:function` in `validation/cases/`."""
    arguments: dict[str, Any] = Field(default_factory=dict)
    """What the function is called with."""
    known_gap: str | None = None
    """Why the figure is known to differ: a named effect, measured."""
    not_modelled: str | None = None
    """Why there is no figure of ours."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.run is None) == (self.not_modelled is None):
            raise ValueError("give run, or the reason in not_modelled")
        if self.run is not None and self.tolerance is None:
            raise ValueError("tolerance is missing")
        return self


class Reference(Spec):
    """One system's claims: `references/<name>.yaml`."""

    system: str
    cases: list[Case]


@dataclass(frozen=True)
class Verdict:
    """One case and our figure.

    Attributes:
        system: The system.
        case: The claim.
        simulated: Our figure, or None (not modelled, reference absent).
        relative_error: Our figure over the claim, less one; the figure itself where there is no single claim.
        skipped: Why there is no figure.
    """

    system: str
    case: Case
    simulated: float | None = None
    relative_error: float | None = None
    skipped: str | None = None

    @property
    def ok(self) -> bool | None:
        """Within tolerance; None where there is no figure."""
        if self.relative_error is None or self.case.tolerance is None:
            return None
        return abs(self.relative_error) <= self.case.tolerance

    @property
    def failed(self) -> bool:
        """Out of tolerance without a known reason."""
        return self.ok is False and self.case.known_gap is None

    def to_json(self) -> dict[str, Any]:
        """The keys of `pimsim validate --json`."""
        case = self.case
        return {
            "id": case.id,
            "system": self.system,
            "metric": case.metric,
            "unit": case.unit,
            "source": case.source,
            "status": case.status,
            "published": case.published,
            "simulated": self.simulated,
            "relative_error": self.relative_error,
            "tolerance": case.tolerance,
            "ok": self.ok,
            "known_gap": case.known_gap,
            "not_modelled": case.not_modelled,
            "skipped": self.skipped,
        }


def references() -> list[Reference]:
    """Every reference file, in the order of names.

    Raises:
        ConfigError: a malformed file, or an id that stands twice.
    """
    found = [validate(Reference, configs.read_yaml(path), str(path)) for path in sorted(REFERENCES.glob("*.yaml"))]
    ids = [case.id for reference in found for case in reference.cases]
    twice = sorted({id for id in ids if ids.count(id) > 1})
    if twice:
        raise ConfigError(f"{REFERENCES}: id {twice[0]!r} stands twice")
    return found


def run_cases(only: list[str] | None = None, progress: Callable[[str], None] = lambda id: None) -> Iterator[Verdict]:
    """Runs the cases whose id is given, or begins with it (all without any), and yields each as it is done.

    Raises:
        ConfigError: an id that no case has.
    """
    every = [(reference.system, case) for reference in references() for case in reference.cases]
    for wanted in only or []:
        if not any(_asked(case.id, [wanted]) for _, case in every):
            raise ConfigError("--only: " + unknown_name("case", wanted, [case.id for _, case in every]))
    for system, case in every:
        if only and not _asked(case.id, only):
            continue
        progress(case.id)
        yield judged(system, case)


def _asked(id: str, only: list[str]) -> bool:
    return any(id == wanted or id.startswith(f"{wanted}-") for wanted in only)


def judged(system: str, case: Case) -> Verdict:
    """Our figure for one case."""
    if case.run is None:
        return Verdict(system, case, skipped=case.not_modelled)
    module, _, name = case.run.partition(":")
    try:
        simulated = float(getattr(importlib.import_module(f"validation.cases.{module}"), name)(**case.arguments))
    except ReferenceAbsentError as absent:
        return Verdict(system, case, skipped=str(absent))
    error = simulated if case.published is None else simulated / case.published - 1
    return Verdict(system, case, simulated, error)


def golden(*parts: str) -> Path:
    """A file of the reference results.

    Raises:
        ReferenceAbsentError: it is not on this machine.
    """
    path = GOLDEN.joinpath(*parts)
    if not path.exists():
        raise ReferenceAbsentError(f"no reference results at {path}")
    return path
