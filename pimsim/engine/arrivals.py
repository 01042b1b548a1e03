"""When batches arrive: at given times, at random, or from clients that wait for their last batch.

closed                 one client, the next batch when the last one has ended
closed:N               N such clients
closed:N:THINK_US      each thinks for a time drawn from an exponential distribution of that mean before its next batch
poisson:RATE           RATE samples per second, in batches at random (exponential gaps)
trace:FILE             one arrival time in microseconds a line, never decreasing; lines that start with # are left out
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pimsim.errors import ConfigError

FORMS = "closed, closed:N, closed:N:THINK_US, poisson:RATE or trace:FILE"
Draw = Callable[[], float]


@dataclass(frozen=True)
class Open:
    """Batches that arrive whether or not earlier ones have ended.

    Attributes:
        times_ps: Times of arrival in picoseconds, never decreasing; may go on for ever.
        endless: True when they do.
    """

    times_ps: Iterable[int]
    endless: bool = False


@dataclass(frozen=True)
class Closed:
    """Clients each with one batch at a time.

    Attributes:
        clients: How many.
        think_ps: Draws the time from the end of a client's batch to its next one (and before its first), in picoseconds.
    """

    clients: int = 1
    think_ps: Draw = lambda: 0.0
    endless: bool = True


Arrivals = Open | Closed


def parse_arrivals(text: str, batch: int, seed: np.random.SeedSequence) -> Arrivals:
    """The arrival process that `--arrivals` names, of batches of `batch` samples.

    Raises:
        ConfigError: an unknown form, a number out of range, or an unreadable file.
    """
    kind, _, rest = text.partition(":")
    if kind == "closed":
        return _closed(text, rest, seed)
    if kind == "trace" and rest:
        return Open(_times_of(Path(rest)))
    rate = _number(rest)
    if kind != "poisson" or not 0 < rate < math.inf:
        raise ConfigError(f"--arrivals: {text!r}: expected {FORMS}, with RATE > 0 in samples per second")
    return Open(poisson_ps(1e12 * batch / rate, seed), endless=True)


def poisson_ps(mean_gap_ps: float, seed: np.random.SeedSequence) -> Iterator[int]:
    """Arrival times with exponential gaps, for ever."""
    gap = exponential(mean_gap_ps, seed)
    return (int(time) for time in itertools.accumulate(gap() for _ in itertools.count()))


def exponential(mean: float, seed: np.random.SeedSequence) -> Draw:
    """Draws of an exponential distribution, made in blocks."""
    rng = np.random.default_rng(seed)

    def endless() -> Iterator[float]:
        while True:
            yield from rng.exponential(mean, 1024).tolist()

    return endless().__next__


def _closed(text: str, rest: str, seed: np.random.SeedSequence) -> Closed:
    if ":" not in text:
        return Closed()
    clients, _, think = rest.partition(":")
    mean_us = _number(think) if think else 0.0
    if not clients.isdecimal() or int(clients) < 1 or not 0 <= mean_us < math.inf:
        raise ConfigError(f"--arrivals: {text!r}: expected closed:N or closed:N:THINK_US with N of at least 1 and THINK_US of at least 0")
    return Closed(int(clients), exponential(mean_us * 1e6, seed) if mean_us else lambda: 0.0)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _times_of(path: Path) -> list[int]:
    """Arrival times of a trace file in picoseconds."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--arrivals: {path}: cannot be read: {error}") from None
    times: list[int] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        value = _number(line)
        if not 0 <= value < 1e12 or (times and value * 1e6 < times[-1]):
            raise ConfigError(f"{path} line {number}: {line.strip()!r}: expected a time in microseconds, not below the one before")
        times.append(int(value * 1e6))
    if not times:
        raise ConfigError(f"{path}: has no arrival times (one time in microseconds a line)")
    return times
