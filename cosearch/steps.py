"""Shows a training's progress."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from cosearch.progress import Progress

if TYPE_CHECKING:
    from supernet.runs import Progress as Step


class Steps:
    """The progress callback of training: opens a bar at the first call, since only then the number of steps is known."""

    def __init__(self, progress: Progress, name: str) -> None:
        self.progress, self.name = progress, name
        self._phase: Any = None
        self._update: Callable[[int, str], None] | None = None

    def __enter__(self) -> Steps:
        return self

    def __call__(self, step: Step) -> None:
        if self._update is None:
            self._phase = self.progress.phase(self.name, step.total, step.done)
            self._update = self._phase.__enter__()
        self._update(step.done, f"log loss {step.loss:.4f}")

    def __exit__(self, *error: Any) -> None:
        if self._phase is not None:
            with suppress(Exception):
                self._phase.__exit__(*error)
