"""Finds and reads the YAML files under `configs/`, from a checkout and from a wheel alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from pimsim.errors import ConfigError, unknown_name

_PACKAGED = Path(__file__).parent / "_configs"
_CHECKOUT = Path(__file__).parent.parent / "configs"


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader that refuses duplicate keys and reads only true/false (not on/off/yes/no) as booleans."""


def _no_duplicates(loader: _StrictLoader, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key, line = loader.construct_object(key_node, deep=True), key_node.start_mark.line + 1
        if isinstance(key, list | dict | set):
            raise ConfigError(f"line {line}: key {key!r}: a key is a plain word")
        if key in seen:
            raise ConfigError(f"line {line}: key {key!r} stands twice")
        seen.add(key)
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


_StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _no_duplicates)
_StrictLoader.yaml_implicit_resolvers = {
    first: [(tag, rx) for tag, rx in pairs if tag != "tag:yaml.org,2002:bool" or first in "tTfF"]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def config_root() -> Path:
    """The folder that holds `devices/`, `spaces/`, `searches/`: inside the wheel, else beside the checkout's packages."""
    for root in (_PACKAGED, _CHECKOUT):
        if root.is_dir():
            return root
    raise ConfigError(f"no configuration folder (looked for {_PACKAGED} and {_CHECKOUT})")


def names(kind: str) -> list[str]:
    """Names of the shipped files of one kind (`devices`, `spaces`, `searches`, `workloads`)."""
    return sorted(p.stem for p in (config_root() / kind).glob("*.yaml"))


def resolve(kind: str, name_or_path: str | Path) -> Path:
    """Path of a shipped file by name, or of the user's own file by path.

    Raises:
        ConfigError: neither a shipped name nor an existing file.
    """
    path = Path(name_or_path)
    if path.is_file():
        return path
    shipped = config_root() / kind / f"{name_or_path}.yaml"
    if shipped.is_file():
        return shipped
    if path.suffix in {".yaml", ".yml"} or len(path.parts) > 1:
        if len(path.parts) > 1 and path.parts[0] == "configs":  # `configs/searches/x.yaml` also works from a wheel
            packaged = config_root().joinpath(*path.parts[1:])
            if packaged.is_file():
                return packaged
        raise ConfigError(f"{path}: no such file")
    singular = "search" if kind == "searches" else kind.removesuffix("s")
    raise ConfigError(unknown_name(singular, str(name_or_path), names(kind)))


def read_yaml(path: Path) -> dict[str, Any]:
    """One YAML mapping from a file; errors name the file and line."""
    try:
        with path.open(encoding="utf-8") as handle:
            value = yaml.load(handle, Loader=_StrictLoader)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{path}{where}: not valid YAML: {getattr(error, 'problem', error)}") from None
    except (OSError, ValueError) as error:  # also a date that is none, and bytes that are no text
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: expected a mapping of keys, found {type(value).__name__}")
    return value


def parse_override(text: str) -> tuple[str, Any]:
    """`a.b.c=VALUE` from the command line as (dotted key, YAML value)."""
    key, separator, value = text.partition("=")
    if not separator or not key:
        raise ConfigError(f"--set {text!r}: expected KEY=VALUE, for example dram.channels=4")
    try:
        return key, yaml.load(value, Loader=_StrictLoader)
    except (yaml.YAMLError, ValueError):
        return key, value


def set_dotted(tree: dict[str, Any], key: str, value: Any) -> None:
    """Sets one dotted key in a nested mapping, in place."""
    *parents, last = key.split(".")
    for parent in parents:
        child = tree.setdefault(parent, {})
        if child is None:
            child = tree[parent] = {}
        if not isinstance(child, dict):
            raise ConfigError(f"{key}: {parent!r} is a value, not a section")
        tree = child
    tree[last] = value
