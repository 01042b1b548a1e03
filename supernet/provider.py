"""Published genotypes as workloads, for the entry-point group `pimsim.workloads`. Loads torch only when one is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pimsim import configs
from pimsim.errors import ConfigError, unknown_name
from pimsim.graph import Workload

if TYPE_CHECKING:
    from workloads.zoo.datasets import DatasetFields

BATCH = 256
"""Samples per batch unless the command says otherwise."""


class Provider:
    """Loads a shipped genotype (`configs/genotypes/<network>_<data set>_<variant>.json`) with its data set's tables."""

    def names(self) -> list[str]:
        """Names of the shipped genotypes."""
        return sorted(path.stem for path in (configs.config_root() / "genotypes").glob("*.json"))

    def load(self, name: str | Path, dataset: str | None = None) -> Workload:
        """A genotype's live network by shipped name or from a file.

        Args:
            name: shipped name, or path of a genotype file (a model's YAML file goes to the zoo: `pimsim` asks any provider for it).
            dataset: gives the fields and table sizes; None for the one in a shipped name, else Criteo.

        Raises:
            ConfigError: unknown name, unreadable file or unknown data set.
        """
        from supernet.genotype import Genotype
        from supernet.lowering import to_workload
        from workloads.zoo import provider as zoo
        from workloads.zoo.datasets import dataset_fields

        path = Path(name)
        if path.suffix in {".yaml", ".yml"}:
            return zoo.load(name)
        if not path.is_file():
            path = configs.config_root() / "genotypes" / f"{name}.json"
            if not path.is_file():
                raise ConfigError(unknown_name("genotype", str(name), self.names()))
            dataset = dataset or path.stem.split("_")[1]
        fields = dataset_fields(dataset or "criteo")
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
