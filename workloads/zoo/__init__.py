"""The model zoo: recommenders as operators, one architecture a file, shipped sizes in `configs/workloads/`.

`provider` is what the `pimsim` command finds through the entry-point group `pimsim.workloads`; a third party's provider offers
`names` and `load`. The same models as PyTorch modules: `supernet.zoo`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pimsim import configs
from pimsim.discovery import implementations
from pimsim.errors import ConfigError, unknown_name
from pimsim.graph import IndexSource, Workload
from pimsim.spec.base import validate

if TYPE_CHECKING:
    from workloads.zoo.base import CtrModel
    from workloads.zoo.datasets import DatasetFields


class Provider:
    """Loads models and their workloads by shipped name or from a user's own file.

    A model file gives its tables itself or names a data set (`dataset: criteo`) for its fields. A shipped one of the second kind
    also goes by `<model>_<data set>`: `deepfm` and `deepfm_criteo` are the same, `deepfm_avazu` has Avazu's fields.
    """

    def names(self) -> list[str]:
        """Names of the shipped workloads."""
        from workloads.zoo.datasets import dataset_names

        found = []
        for name in configs.names("workloads"):
            found.append(name)
            if _takes_a_dataset(name):
                found += [f"{name}_{dataset}" for dataset in dataset_names()]
        return sorted(found)

    def claims(self, name: str) -> bool:
        """Whether a name is a model file of the user's own in PyTorch or ONNX (`workloads.importers`)."""
        from workloads import importers

        return importers.claims(name)

    def load(self, name: str | Path, allow_unsupported: bool = False) -> Workload:
        """A workload by shipped name, or from a path: a model's YAML file, a graph saved as JSON, or a model in PyTorch or ONNX.

        Args:
            name: the name or the path.
            allow_unsupported: leave operators of an imported model that cannot be lowered out.

        Raises:
            ConfigError: unknown name, unreadable file or invalid value; one line with file, dotted key, value and what is
            allowed.
        """
        if self.claims(str(name)):
            from workloads import importers

            return importers.load(name, allow_unsupported)
        if Path(name).suffix == ".json" and Path(name).is_file():
            return Workload.load(Path(name))
        path, tree, called = self._read(name, None)
        indices = validate(IndexSource, _section(tree, "indices", path), f"{path}: indices")
        batch = tree.pop("batch", 1)
        graph = _model(tree, path).workload(called, indices).model_dump(mode="json")
        return validate(Workload, graph | {"batch": batch, "folder": str(path.resolve().parent)}, str(path))

    def model(self, name: str | Path, fields: DatasetFields | None = None, changes: Mapping[str, Any] | None = None) -> CtrModel:
        """A model by shipped name or from its YAML file.

        Args:
            name: as for `load`.
            fields: replace the file's own tables and dense features (see `workloads.zoo.datasets.fields_of`).
            changes: values of other keys than the file's, by key.

        Raises:
            ConfigError: as `load`.
        """
        path, tree, _ = self._read(name, fields)
        for key in ("indices", "batch"):
            tree.pop(key, None)
        return _model(tree | dict(changes or {}), path)

    def _read(self, name: str | Path, fields: DatasetFields | None) -> tuple[Path, dict[str, Any], str]:
        """File, keys and workload name; the data set's fields in the place of its name."""
        from workloads.zoo.datasets import dataset_fields

        stem, dataset = self._split(name)
        path = configs.resolve("workloads", stem)
        tree = configs.read_yaml(path)
        own = tree.pop("dataset", None)
        if own is not None:
            called = dataset or own
            for key in ("tables", "dense_features"):
                if key in tree:
                    raise ConfigError(f"{path}: {key}: stands beside dataset {called!r}, which gives it (allowed: one of them)")
            try:
                fields = fields or dataset_fields(str(called))
            except ConfigError as error:
                raise ConfigError(f"{path}: dataset: {error}") from None
        if fields is not None:
            tree |= {"dense_features": fields.dense_features, "tables": [group.model_dump() for group in fields.tables]}
        return path, tree, path.stem if dataset is None else f"{path.stem}_{dataset}"

    def _split(self, name: str | Path) -> tuple[str, str | None]:
        """`deepfm_avazu` as (`deepfm`, `avazu`); any other name or path as it is, and None."""
        from workloads.zoo.datasets import dataset_names

        text, shipped = str(name), configs.names("workloads")
        for dataset in dataset_names():
            stem = text.removesuffix(f"_{dataset}")
            if stem != text and text not in shipped and stem in shipped and _takes_a_dataset(stem):
                return stem, dataset
        return text, None


def _takes_a_dataset(name: str) -> bool:
    """Whether a shipped model file leaves its fields to a data set."""
    return "dataset" in configs.read_yaml(configs.resolve("workloads", name))


def _model(tree: dict[str, Any], path: Path) -> CtrModel:
    """The model that a file's remaining keys describe."""
    kind = tree.pop("model", None)
    found = implementations("workloads.zoo", "MODEL")
    if not isinstance(kind, str) or kind not in found:
        raise ConfigError(f"{path}: model: {unknown_name('model', kind, found)}")
    tree.pop("summary", None)
    tree.pop("source", None)
    return validate(found[kind], tree, str(path))


def _section(tree: dict, key: str, path: Path) -> dict:
    section = tree.pop(key, None)
    if section is None:
        return {}
    if not isinstance(section, dict):
        raise ConfigError(f"{path}: {key}: {section!r}: expected a section of keys")
    return section


provider = Provider()
