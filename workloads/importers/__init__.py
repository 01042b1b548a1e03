"""Bring your own model: a PyTorch module (`FILE.py:build`) or an ONNX file as a workload.

The zoo's provider calls `claims` and `load` for `pimsim`; importing this package loads neither torch nor onnx.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path

from pimsim.graph import Workload
from workloads.importers.lowering import Imported

_FUNCTION = re.compile(r"\.py(:\w*)?$")


def claims(name: str | Path) -> bool:
    """Whether a name is a model file of a kind that is imported: `FILE.py:FUNCTION`, `FILE.py` (function `build`) or `FILE.onnx`."""
    return str(name).endswith(".onnx") or _FUNCTION.search(str(name)) is not None


def import_model(name: str | Path, allow_unsupported: bool = False) -> Imported:
    """A user's model file as a workload, with a report of what became of its operators.

    Args:
        name: `FILE.py:FUNCTION` or `FILE.onnx`.
        allow_unsupported: leave unsupported operators out instead of refusing the model.

    Raises:
        ConfigError: missing or malformed file, or operators that cannot be lowered; one line.
    """
    if str(name).endswith(".onnx"):
        from workloads.importers.onnx import import_onnx

        return import_onnx(Path(name), allow_unsupported=allow_unsupported)
    from workloads.importers.python_file import import_python

    return import_python(str(name), allow_unsupported)


def load(name: str | Path, allow_unsupported: bool = False) -> Workload:
    """The workload alone; what was assumed, and what was left out of it, goes to the log `workloads.importers` (standard error).

    Raises:
        ConfigError: see `import_model`.
    """
    imported = import_model(name, allow_unsupported)
    log = logging.getLogger(__name__)
    if imported.report.unsupported:
        log.warning("warning: %s: left out, their cost is missing: %s", name, imported.report.unsupported_line())
    for note in imported.report.notes:
        log.warning("note: %s: %s", name, note)
    return imported.workload
