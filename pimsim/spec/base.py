"""The frozen pydantic base of every spec, and how a validation failure becomes one readable line."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterator
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pimsim.errors import ConfigError

M = TypeVar("M", bound=BaseModel)


class Spec(BaseModel):
    """Frozen, closed, with its units in the field names."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    def digest(self) -> str:
        """Sixteen hex digits that change with any value, and only with a value."""
        text = json.dumps(_values(self.model_dump(mode="json")), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _values(tree: Any) -> Any:
    """A dumped spec without its prose."""
    if isinstance(tree, dict):
        return {key: _values(value) for key, value in tree.items() if key not in {"source", "summary"}}
    return [_values(value) for value in tree] if isinstance(tree, list) else tree


class Sourced(Spec):
    """A section whose numbers each say where they come from."""

    source: dict[str, str] = Field(default_factory=dict)
    """For each numeric field of this section that a file sets: paper, section, table, data sheet or `estimate: why`."""


def missing_sources(spec: BaseModel, prefix: str = "") -> Iterator[str]:
    """Dotted paths of the numbers that were set without a source."""
    for name in sorted(spec.model_fields_set - {"source"}):
        value = getattr(spec, name)
        path = f"{prefix}{name}"
        if isinstance(value, BaseModel):
            yield from missing_sources(value, f"{path}.")
        elif isinstance(spec, Sourced):
            numeric = isinstance(value, int | float) and not isinstance(value, bool)
            if (numeric or isinstance(value, dict)) and name not in spec.source:
                yield path


def validate(model: type[M], tree: dict[str, Any], where: str) -> M:
    """A validated spec from a nested mapping.

    Raises:
        ConfigError: one line with file, dotted key, value and what is allowed.
    """
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(f"{where}: {first_problem(model, tree, error)}") from None


def first_problem(model: type[BaseModel], tree: dict[str, Any], error: ValidationError) -> str:
    """The first validation failure as `dotted.key: value ...: what is allowed`."""
    problems = error.errors()  # a misspelt key also leaves the right one missing: the misspelling says more
    problem = next((p for p in problems if p["type"] == "extra_forbidden"), problems[0])
    location = [part for part in problem["loc"] if not (isinstance(part, str) and part.startswith("function-"))]
    key = ".".join(str(part) for part in location) or "(top level)"
    if problem["type"] == "extra_forbidden":
        fields = sorted(_fields_at(model, location[:-1], tree))
        near = difflib.get_close_matches(str(location[-1]), fields, n=1, cutoff=0.4)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        allowed = f" (allowed: {', '.join(fields)})" if fields else ""
        return f"{key}: unknown key{hint}{allowed}"
    if problem["type"] == "missing":
        return f"{key}: missing"
    message = problem["msg"].removeprefix("Value error, ")
    value = problem["input"]
    shown = "" if isinstance(value, dict | list) else f"{value!r}: "
    return f"{key}: {shown}{message}" if location else f"{shown}{message}"


def _fields_at(model: Any, location: list[Any], tree: Any) -> set[str]:
    """Field names of the model that sits at a location inside another model."""
    for part in location:
        tree = tree.get(part) if isinstance(tree, dict) else None
        field = getattr(model, "model_fields", {}).get(part)
        if field is None:
            return set()
        chooser = getattr(model, "model_for", None)
        model = (chooser(part, tree) if chooser else None) or _model_in(field.annotation)
    return set(getattr(model, "model_fields", {}))


def _model_in(annotation: Any) -> Any:
    """The pydantic model inside an annotation such as `Model | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = _model_in(argument)
        if found is not None:
            return found
    return None
