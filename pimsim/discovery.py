"""One concept, one folder; one implementation, one file: finds the implementations in a package's folder.

A module counts when it defines the attribute that the concept asks for (`STANDARD`, `UNIT`, `COMMAND` ...). Third parties add theirs
through an entry-point group of the package's name (for example `pimsim.units`), each entry naming such a module.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from importlib.metadata import entry_points
from typing import Any

from pimsim.errors import ConfigError, unknown_name


@cache
def implementations(package: str, attribute: str) -> dict[str, Any]:
    """Every implementation of a concept as {file name: attribute}, built-ins first, then entry points."""
    found: dict[str, Any] = {}
    home = importlib.import_module(package)
    for info in pkgutil.iter_modules(home.__path__):
        module = importlib.import_module(f"{package}.{info.name}")
        if hasattr(module, attribute):
            found[info.name] = getattr(module, attribute)
    for entry in entry_points(group=package):
        module = entry.load()
        if hasattr(module, attribute):
            found[entry.name] = getattr(module, attribute)
    return found


def implementation(package: str, attribute: str, kind: str, name: str) -> Any:
    """One implementation by name.

    Raises:
        ConfigError: unknown name, with the nearest match and the allowed names.
    """
    found = implementations(package, attribute)
    if name not in found:
        raise ConfigError(unknown_name(kind, name, found))
    return found[name]
