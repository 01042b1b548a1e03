"""Ctrl-C and SIGTERM: finish what is running and keep it, or stop at once at the second request."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType


class Interrupt:
    """Turns the first SIGINT or SIGTERM into `requested` while `gentle`, else into KeyboardInterrupt. A context manager."""

    def __init__(self) -> None:
        self.requested = False
        self.gentle = False

    def __enter__(self) -> Interrupt:
        self._before = {number: signal.signal(number, self._receive) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.requested or not self.gentle:
            raise KeyboardInterrupt
        self.requested = True
