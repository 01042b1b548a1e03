"""The one error family: what went wrong, where, with which value, and what is allowed.

Every error a user can cause is a `PimsimError`; the commands print its message as one line on standard error and exit with 2.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class PimsimError(Exception):
    """Bad input: the message is one line that names the place, the value and what is allowed."""


class ConfigError(PimsimError):
    """A configuration value is unknown, missing, of the wrong type or out of range."""


class TraceError(PimsimError):
    """A trace file cannot be read; the message names the file and the line or record number."""


class DataError(PimsimError):
    """A data set is missing or malformed."""


class RunError(PimsimError):
    """A run folder is missing, unreadable or belongs to another configuration."""


def unknown_name(kind: str, value: object, allowed: Iterable[str]) -> str:
    """One line for an unknown name: the value, its nearest match, and everything that is allowed."""
    names = sorted(allowed)
    near = difflib.get_close_matches(str(value), names, n=1, cutoff=0.4)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"unknown {kind} {value!r}{hint} (allowed: {', '.join(names)})"
