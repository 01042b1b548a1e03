"""What the two commands share: the exit status of an error, JSON output, and progress that knows whether a person is watching."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from pimsim.errors import ConfigError, PimsimError


def run_app(app: Callable[..., Any]) -> NoReturn:
    """Runs a typer application: 0 = done, 1 = a check failed, 2 = bad input with one line on standard error."""
    status: Any = 0
    try:
        status = app(standalone_mode=False)
        sys.stdout.flush()
    except PimsimError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None  # as typer does
    except Exception as error:
        if not hasattr(error, "format_message"):  # a usage error of typer's, whichever click it brings
            raise
        _explain_usage(error)
        raise SystemExit(2) from None
    raise SystemExit(status if isinstance(status, int) else 0)


def _explain_usage(error: Any) -> None:
    """One line for a usage error; the whole help where no command was named."""
    message, context = error.format_message(), getattr(error, "ctx", None)
    if "\n" in message or not message:
        error.show()
        return
    hint = f" (see {context.command_path} --help)" if context is not None else ""
    print(f"error: {message}{hint}", file=sys.stderr)


def write_json(value: dict[str, Any], target: str | None) -> None:
    """Writes one JSON object to a file, or to standard output for `-`; nothing for None."""
    if target is None:
        return
    text = json.dumps(value, indent=1, allow_nan=False) + "\n"
    if target == "-":
        sys.stdout.write(text)
        return
    try:
        Path(target).write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--json {target}: cannot be written: {error.strerror}") from None


def quiet(json_target: str | None) -> bool:
    """True when standard output belongs to a JSON object alone."""
    return json_target == "-"
