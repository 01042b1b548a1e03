"""The model zoo: recommenders as operator graphs, one architecture a file, shipped sizes in `configs/workloads/`.

`provider` is what the `pimsim` command finds through the entry-point group `pimsim.workloads`; a third party's provider offers
the same two methods.
"""

from __future__ import annotations

from pathlib import Path

from pimsim import configs
from pimsim.discovery import implementations
from pimsim.errors import ConfigError, unknown_name
from pimsim.graph import IndexSource, Workload
from pimsim.spec.base import validate


class Provider:
    """Loads workloads by shipped name or from a user's own file."""

    def names(self) -> list[str]:
        """Names of the shipped workloads."""
        return configs.names("workloads")

    def load(self, name: str | Path) -> Workload:
        """A workload by shipped name, or from a path: a model's YAML file, or a graph saved as JSON.

        Raises:
            ConfigError: unknown name, unreadable file or invalid value; one line with file, dotted key, value and what is
            allowed.
        """
        path = configs.resolve("workloads", name)
        if path.suffix == ".json":
            return Workload.load(path)
        tree = configs.read_yaml(path)
        kind = tree.pop("model", None)
        found = implementations("workloads.zoo", "MODEL")
        if not isinstance(kind, str) or kind not in found:
            raise ConfigError(f"{path}: model: {unknown_name('model', kind, found)}")
        indices = validate(IndexSource, _section(tree, "indices", path), f"{path}: indices")
        batch = tree.pop("batch", 1)
        tree.pop("summary", None)
        tree.pop("source", None)
        spec = validate(found[kind], tree, str(path))
        graph = spec.workload(path.stem, indices).model_dump(mode="json")
        return validate(Workload, graph | {"batch": batch, "folder": str(path.resolve().parent)}, str(path))


def _section(tree: dict, key: str, path: Path) -> dict:
    section = tree.pop(key, None)
    if section is None:
        return {}
    if not isinstance(section, dict):
        raise ConfigError(f"{path}: {key}: {section!r}: expected a section of keys")
    return section


provider = Provider()
