"""Published genotypes as workloads, for the entry-point group `pimsim.workloads`. Loads torch only when one is asked for."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from pimsim import configs
from pimsim.errors import ConfigError, unknown_name
from pimsim.graph import Workload

if TYPE_CHECKING:
    from workloads.zoo.datasets import DatasetFields

_WITH_DATASET = re.compile(r"(.+\.json):(\w+)$")
BATCH = 256
"""Samples per batch unless the command says otherwise."""


class Provider:
    """Loads a shipped genotype (`configs/genotypes/<network>_<data set>_<variant>.json`) with its data set's tables."""

    def names(self) -> list[str]:
        """Names of the shipped genotypes."""
        return sorted(path.stem for path in (configs.config_root() / "genotypes").glob("*.json"))

    def claims(self, name: str) -> bool:
        """Whether a name is a genotype file: `FILE.json:DATASET`, or a JSON file that holds genes instead of a graph."""
        path = Path(name)
        if _WITH_DATASET.match(name):
            return True
        if path.suffix != ".json" or not path.is_file():
            return False
        text = path.read_text(encoding="utf-8", errors="replace")
        return all(gene in text for gene in ('"micro"', '"macro"')) or all(gene in text for gene in ('"blocks"', '"dense_op"'))

    def load(self, name: str | Path, dataset: str | None = None) -> Workload:
        """A genotype's live network by shipped name or from a file.

        Args:
            name: shipped name, `FILE.json:DATASET`, or path of a genotype file (a model's YAML file goes to the zoo: `pimsim` asks any
                provider for it).
            dataset: gives the fields and table sizes; None for the one in the name.

        Raises:
            ConfigError: unknown name, unreadable file or unknown data set.
        """
        from supernet.genotype import Genotype
        from supernet.lowering import to_workload
        from workloads.zoo import provider as zoo
        from workloads.zoo.datasets import dataset_fields, dataset_names

        if named := _WITH_DATASET.match(str(name)):
            name, dataset = named.groups()
        path = Path(name)
        if path.suffix in {".yaml", ".yml"}:
            return zoo.load(name)
        if not path.is_file():
            path = configs.config_root() / "genotypes" / f"{name}.json"
            if not path.is_file():
                raise ConfigError(unknown_name("genotype", str(name), self.names()))
            dataset = dataset or path.stem.split("_")[1]
        if dataset is None:
            raise ConfigError(f"{path}: a genotype has no fields of its own: {path}:DATASET ({', '.join(dataset_names())})")
        fields = dataset_fields(dataset)
        return to_workload(Genotype.load(path), schema_of(fields), path.stem, batch=BATCH)


def schema_of(fields: DatasetFields) -> dict:
    """A data set's fields as the schema that genotypes are lowered with."""
    tables = [table for group in fields.tables for table in group.tables(1, 32)]
    return {
        "dense": [f"dense{i}" for i in range(fields.dense_features)],
        "sparse": [table.name for table in tables],
        "cardinalities": [table.rows for table in tables],
    }


provider = Provider()
