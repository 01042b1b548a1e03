"""`my_model.py:build`: a function of the user's that returns a module with example inputs, or a workload."""

from __future__ import annotations

import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import Any

from pimsim.errors import ConfigError, unknown_name
from pimsim.graph import IndexSource, Workload
from pimsim.spec.base import validate
from workloads.importers.lowering import Imported, ImportReport

BATCH = 16
"""Samples that `build(batch)` is asked for if it names no default."""
SETTINGS = ("indices", "pooling")
EXPECTED = "expected (module, example_inputs), (module, example_inputs, settings) or a pimsim.graph.Workload"


def import_python(name: str, allow_unsupported: bool = False) -> Imported:
    """What the function `build` of `FILE.py:build` returns, as a workload.

    `build()` returns `(module, example_inputs)`, or a third element with settings: `indices` (as in a workload file) and `pooling`
    (look-ups per bag by table name); or it returns a `Workload`. With a parameter `batch` it is called twice, with b and 2b; else the
    example of twice the batch is made from the given one.

    Raises:
        ConfigError: missing file or function, an error inside the user's code, another result, or a model that cannot be lowered.
    """
    file, _, function = name.rpartition(":") if not name.endswith(".py") else (name, "", "")
    path = Path(file)
    build = _function(path, function or "build")
    first, batch = _call(build, name, path)
    if isinstance(first, Workload):
        return Imported(first.model_copy(update={"folder": first.folder or str(path.resolve().parent)}), ImportReport())
    module, inputs, settings = _parts(first, name)
    doubled = None if batch is None else _parts(_run(name, path, lambda: build(batch=2 * batch)), name)[1]
    from workloads.importers.torch_export import import_module

    indices = validate(IndexSource, settings.get("indices", {}), f"{name}: indices")
    imported = import_module(
        module, inputs, path.stem, doubled, settings.get("pooling"), indices, allow_unsupported=allow_unsupported, where=name
    )
    return Imported(imported.workload.model_copy(update={"folder": str(path.resolve().parent)}), imported.report)


def _function(path: Path, function: str) -> Callable[..., Any]:
    if not path.is_file():
        raise ConfigError(f"{path}: no such file")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.resolve().parent))  # so that the file's own neighbours can be imported
    sys.modules.setdefault(path.stem, module)  # dataclasses look their module up
    try:
        _run(str(path), path, lambda: spec.loader.exec_module(module))  # type: ignore[union-attr]
    finally:
        sys.path.remove(str(path.resolve().parent))
    found = getattr(module, function, None)
    if not callable(found):
        raise ConfigError(f"{path}: {unknown_name('function', function, _functions(module))}")
    return found


def _functions(module: ModuleType) -> list[str]:
    """The functions that a file defines."""
    return [name for name, value in vars(module).items() if inspect.isfunction(value) and value.__module__ == module.__name__]


def _call(build: Callable[..., Any], name: str, path: Path) -> tuple[Any, int | None]:
    """What `build` returns, and the batch that it was asked for."""
    parameters = inspect.signature(build).parameters
    needed = [
        p.name for p in parameters.values() if p.default is p.empty and p.kind is not p.VAR_KEYWORD and p.kind is not p.VAR_POSITIONAL
    ]
    if set(needed) - {"batch"}:
        raise ConfigError(f"{name}: needs {', '.join(needed)} (allowed: no parameters, or batch)")
    if "batch" not in parameters:
        return _run(name, path, build), None
    default = parameters["batch"].default
    batch = default if isinstance(default, int) and default > 0 else BATCH
    return _run(name, path, lambda: build(batch=batch)), batch


def _run(name: str, path: Path, action: Callable[[], Any]) -> Any:
    """Runs the user's code; what goes wrong in it is one line with the place in their file, what it prints goes to standard error."""
    try:
        with redirect_stdout(sys.stderr):
            return action()
    except (Exception, SystemExit) as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).resolve() == path.resolve()]
        line = getattr(error, "lineno", None) if isinstance(error, SyntaxError) else (lines[-1] if lines else None)
        said = (str(error).strip() or "no message").splitlines()[0]
        raise ConfigError(f"{name}: {f'line {line}: ' if line else ''}{type(error).__name__}: {said}") from None


def _parts(found: Any, name: str) -> tuple[Any, Any, dict[str, Any]]:
    """Module, example inputs and settings of what `build` returned."""
    try:
        from torch.nn import Module
    except ImportError:
        raise ConfigError(f"{name}: needs PyTorch (pip install 'pim-cosearch[search]')") from None
    if not isinstance(found, tuple) or len(found) not in (2, 3) or not isinstance(found[0], Module):
        kind = f"({', '.join(type(part).__name__ for part in found)})" if isinstance(found, tuple) else type(found).__name__
        raise ConfigError(f"{name}: returned {kind}: {EXPECTED}")
    settings = found[2] if len(found) == 3 else {}
    if not isinstance(settings, dict) or not isinstance(settings.get("pooling", {}), dict):
        raise ConfigError(f"{name}: settings: {settings!r}: expected a dict with {' and '.join(SETTINGS)}")
    for key in settings:
        if key not in SETTINGS:
            raise ConfigError(f"{name}: settings: {unknown_name('key', key, SETTINGS)}")
    return found[0], found[1], settings
