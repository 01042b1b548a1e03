"""Field counts and table sizes of public data sets, for models that are built without the data (`configs/datasets/`)."""

from __future__ import annotations

from typing import Any

from pydantic import Field, NonNegativeInt

from pimsim import configs
from pimsim.spec.base import Spec, validate
from workloads.zoo.tables import TableGroup


class DatasetFields(Spec):
    """What a data set's rows hold."""

    summary: str
    source: str
    dense_features: NonNegativeInt
    tables: tuple[TableGroup, ...] = Field(min_length=1)
    """One table a sparse field, with as many rows as the field has values."""


def fields_of(schema: Any) -> DatasetFields:
    """The fields of an open data set's schema (`dense`, `sparse`, `cardinalities`, `lookups`)."""
    tables = tuple(
        TableGroup(name=name, rows=int(rows), pooling=pooling)
        for name, rows, pooling in zip(schema.sparse, schema.cardinalities, schema.lookups, strict=True)
    )
    return DatasetFields(summary="", source="the data set's own schema", dense_features=len(schema.dense), tables=tables)


def dataset_names() -> list[str]:
    """Names of the data sets whose fields are known."""
    return configs.names("datasets")


def dataset_fields(name: str) -> DatasetFields:
    """A data set's fields by shipped name, or from the user's own file.

    Raises:
        ConfigError: unknown name or invalid file, in one line.
    """
    path = configs.resolve("datasets", name)
    return validate(DatasetFields, configs.read_yaml(path), str(path))
