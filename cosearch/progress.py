"""Progress of a run on standard error: a live bar with the time left for a person, an occasional line otherwise."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Update = Callable[[int, str], None]
"""Called with the steps done so far and a short remark."""


class Progress:
    """Says what a run does and how long it will still take.

    Args:
        quiet: Say nothing.
        every_s: Seconds between lines when nobody watches.
    """

    def __init__(self, quiet: bool = False, every_s: float = 10.0) -> None:
        self.quiet, self.every_s = quiet, every_s
        self.live = not quiet and sys.stderr.isatty()

    def say(self, text: str) -> None:
        """One line, above the bar if there is one."""
        if not self.quiet:
            print(text, file=sys.stderr, flush=True)

    @contextmanager
    def phase(self, name: str, total: int, done: int = 0) -> Iterator[Update]:
        """A stretch of work of `total` steps, `done` of which were done before."""
        if self.quiet:
            yield lambda step, remark="": None
        elif self.live:
            with self._bar(name, total, done) as update:
                yield update
        else:
            yield self._lines(name, total, done)

    @contextmanager
    def _bar(self, name: str, total: int, done: int) -> Iterator[Update]:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        columns = ("[bold]{task.description}", "{task.fields[remark]}")
        left, right = (TextColumn(text) for text in columns)
        parts = (left, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), right)
        with Bar(*parts, console=Console(stderr=True), redirect_stdout=False) as bar:
            task = bar.add_task(name, total=total, completed=done, remark="")
            yield lambda step, remark="": bar.update(task, completed=step, remark=remark)

    def _lines(self, name: str, total: int, done: int) -> Update:
        start = said = time.monotonic()

        def update(step: int, remark: str = "") -> None:
            nonlocal said
            now = time.monotonic()
            if now - said < self.every_s and step < total:
                return
            said = now
            left = (now - start) / max(step - done, 1) * (total - step)
            ending = f"about {_clock(left)} left" if step < total else f"done in {_clock(now - start)}"
            self.say(f"{name}: {step}/{total}, {ending}" + (f", {remark}" if remark else ""))

        return update


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes}:{seconds:02d}"
