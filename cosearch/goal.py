"""What a search is after: objectives, constraints, and optionally one scalar made of loss and complexity."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Self

from pydantic import Field, PositiveFloat, model_validator

from cosearch.metrics import METRICS, figure_of, objectives_of
from pimsim.errors import unknown_name
from pimsim.spec.base import Spec

Metrics = dict[str, float | None]


class Result(NamedTuple):
    """What an algorithm is told of one genome."""

    objectives: tuple[float, ...]
    """Every one to be minimised; one alone where the search has a penalty."""
    violation: float = 0.0
    """How far the constraints are missed, summed; 0 = feasible. Feasible beats infeasible, then less violation beats more."""


@dataclass(frozen=True)
class Constraint:
    """A bound of one metric, `<= bound` or `>= bound`."""

    metric: str
    bound: float
    upper: bool

    FORM = re.compile(r"(<=|>=)\s*(\S+)")

    @classmethod
    def parse(cls, metric: str, text: str) -> Constraint:
        """Reads `<= 50` or `>= 0.97`.

        Raises:
            ValueError: an unknown metric or another form; one line.
        """
        if metric not in METRICS:
            raise ValueError(unknown_name("metric", metric, METRICS))
        found = cls.FORM.fullmatch(text.strip())
        try:
            bound = float(found[2]) if found else math.nan
        except ValueError:
            bound = math.nan
        if found is None or not math.isfinite(bound):
            raise ValueError(f"{metric}: {text!r}: expected '<= NUMBER' or '>= NUMBER'")
        return cls(metric, bound, found[1] == "<=")

    def violation(self, value: float) -> float:
        """By how much a value misses the bound, as a share of the bound (as it is for a bound of 0); 0 = kept."""
        excess = value - self.bound if self.upper else self.bound - value
        return max(0.0, excess) / (abs(self.bound) or 1.0)

    def __str__(self) -> str:
        return f"{self.metric} {'<=' if self.upper else '>='} {self.bound:g}"


class Complexity(Spec):
    """One term of a penalty."""

    weight: float = Field(ge=0)
    """w_c: 0 = no matter; Deep-n-Cheap calls 0.1 balanced and 10 complexity first."""
    reference: PositiveFloat
    """The complexity that counts as 1, in the metric's unit."""


class Penalty(Spec):
    """One objective instead of several: log10(f_p + sum of w_c * complexity / reference).

    The published form (Dey et al., Deep-n-Cheap, ACML 2020; `lossfunc` of the code): f_p is 1 - accuracy for classifiers and a
    multiple of the loss for regression. Here f_p is 1 - AUC, or the log loss less a `floor`: log losses of click models differ in the
    third digit, and a floor (that of a strong reference model, less a little) gives them the range that an accuracy has.
    """

    performance: Literal["logloss", "auc"] = "logloss"
    """f_p = logloss - floor, or 1 - AUC."""
    floor: float = Field(default=0.0, ge=0)
    """Taken off the log loss. What comes below counts as `NEAREST`."""
    complexity: dict[str, Complexity] = Field(min_length=1)
    """The other metrics that count, all of them better when smaller."""

    @model_validator(mode="after")
    def _known(self) -> Self:
        for name in self.complexity:
            if name not in METRICS:
                raise ValueError(f"complexity: {unknown_name('metric', name, METRICS)}")
            if METRICS[name].sign < 0 or name == "logloss":
                raise ValueError(f"complexity: {name!r} is no complexity (allowed: metrics that are better when smaller)")
        if self.floor and self.performance == "auc":
            raise ValueError(f"floor: {self.floor}: belongs to logloss, not to auc")
        return self

    @property
    def metrics(self) -> tuple[str, ...]:
        """Everything it reads."""
        return (self.performance, *self.complexity)

    def value(self, metrics: Metrics) -> float:
        """The scalar to be minimised.

        Raises:
            ValueError: a metric that is not modelled.
        """
        score = figure_of(metrics, self.performance)
        f_p = 1 - score if self.performance == "auc" else max(score - self.floor, NEAREST)
        f_c = sum(term.weight * (figure_of(metrics, name) / term.reference) for name, term in self.complexity.items())
        return math.log10(f_p + f_c)


NEAREST = 1e-6
"""Least f_p of a log loss: a floor that a candidate beats must not end in the logarithm of nothing."""


@dataclass(frozen=True)
class Goal:
    """Turns the metrics of a candidate into what an algorithm is told.

    Attributes:
        objectives: Names of the objectives that the front is made of.
        constraints: What a candidate must keep to be on the front.
        penalty: The algorithm is told this scalar instead of the objectives.
    """

    objectives: tuple[str, ...]
    constraints: tuple[Constraint, ...] = ()
    penalty: Penalty | None = field(default=None)

    @property
    def needed(self) -> tuple[str, ...]:
        """Every metric that a candidate must have."""
        read = self.penalty.metrics if self.penalty else ()
        return tuple(dict.fromkeys((*self.objectives, *(c.metric for c in self.constraints), *read)))

    def violation(self, metrics: Metrics) -> float:
        """Sum of the shares by which the constraints are missed; 0 = feasible."""
        return sum(c.violation(figure_of(metrics, c.metric)) for c in self.constraints)

    def result(self, metrics: Metrics) -> Result:
        """What the algorithm is told.

        Raises:
            ValueError: a metric that is needed and not modelled for this candidate.
        """
        values = objectives_of(metrics, self.objectives)
        return Result((self.penalty.value(metrics),) if self.penalty else values, self.violation(metrics))
