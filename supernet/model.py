"""The weight-sharing supernet: one set of shared weights, of which every network of a space is a slice.

A network is always addressed by its canonical form, whose n blocks use the *last* n shared blocks: the block that feeds the head is
always the same one, and genotypes that compute the same function share the same weights, so a score is a function of the
genotype's digest. The head's weights belong to the last block's dense operator.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.nn import functional

from pimsim.discovery import implementations
from pimsim.errors import DataError
from supernet import gram, kernels
from supernet.blocks.base import BlockOperator, Limits, Ranges, places, source_fields
from supernet.genotype import MERGER_FIELDS, Genotype
from supernet.paths import NetworkPath
from supernet.space import Space
from supernet.standalone import FUSED, Model, initialise, outputs, parameter_shapes

FUSED |= {"attention": kernels.attention, "norm": kernels.norm, "pairs": gram.pairs}

Schema = dict[str, Any]
"""{"dense": names, "sparse": names, "cardinalities": rows of each table}; see `schema_dict`."""


def schema_dict(schema: Any) -> Schema:
    """A data set's schema as the plain mapping that exports carry.

    Raises:
        DataError: multi-valued fields.
    """
    if schema.multi_valued:
        raise DataError(f"field {schema.multi_valued[0]!r} is multi-valued: a search space reads one value a field (pooling: none)")
    return {"dense": list(schema.dense), "sparse": list(schema.sparse), "cardinalities": [int(n) for n in schema.cardinalities]}


def block_operators() -> dict[str, BlockOperator]:
    """Every operator of a block by name."""
    return implementations("supernet.blocks", "BLOCK")


@dataclass(frozen=True)
class Slice:
    """A parameter of one network inside the shared weights."""

    shared: str
    rows: int
    columns: Ranges
    """Column ranges; empty for a vector."""

    def views(self, tensor: torch.Tensor) -> list[torch.Tensor]:
        """Views of a tensor of the shared shape, one for each column range."""
        if not self.columns:
            return [tensor[: self.rows]]
        return [tensor[: self.rows, start:stop] for start, stop in self.columns]

    def read(self, tensor: torch.Tensor) -> torch.Tensor:
        """The parameter: a view where it is one range, else a copy."""
        views = self.views(tensor)
        return views[0] if len(views) == 1 else torch.cat(views, dim=1)


class Supernet:
    """Shared weights of a space on a data set.

    Args:
        space: the search space.
        schema: see `schema_dict`.
        weights: the shared weights by name (a finished supernet's); None for new ones.
        generator: source of new weights.
    """

    def __init__(
        self,
        space: Space,
        schema: Schema,
        weights: dict[str, torch.Tensor] | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        self.space, self.schema = space, schema
        self.limits = Limits.of(space, len(schema["dense"]), len(schema["sparse"]))
        self.weights = weights if weights is not None else _new_weights(space, schema, self.limits, generator)

    def slices(self, genotype: Genotype) -> dict[str, Slice]:
        """Where each parameter of a canonical genotype lies (tables: see `tables`)."""
        return self.path_slices(NetworkPath.of(genotype, self.space.blocks))

    def path_slices(self, path: NetworkPath) -> dict[str, Slice]:
        """Where each parameter of a path lies; `head.*` are those of `NetworkPath.heads`."""
        genotype = path.genotype
        counts = (len(self.schema["dense"]), len(self.schema["sparse"]))
        shapes = parameter_shapes(genotype.model_dump(mode="json"), *counts)
        found, limits, operators = {}, self.limits, block_operators()
        for place in places(genotype, *counts, path.shared):
            number = place.shared[place.number]
            alone, shared = f"blocks.{place.number - 1}.", f"blocks.{number - 1}."
            for key in [key for key in shapes if key.startswith(alone)]:
                found[key] = Slice(key.replace(alone, shared, 1), shapes[key][0], ())
            for name in place.block.operators:
                for part in operators[name].shared(limits, number):
                    key = f"{alone}{name}{part}.weight"
                    if key in found:
                        ranges = operators[name].ranges(part, limits, place) or ((0, shapes[key][1]),)
                        found[key] = replace(found[key], columns=ranges)
        found |= self._heads(path)
        return found

    def _heads(self, path: NetworkPath) -> dict[str, Slice]:
        found: dict[str, Slice] = {}
        fields: Ranges = ()
        for number in path.outputs:
            block = path.genotype.blocks[number - 1]
            counts = (block.sparse_dim, MERGER_FIELDS if block.interact else 0)
            fields += source_fields(self.limits, self.limits.dense_dim, counts, each=self.limits.dim)
        for number, name in path.heads.items():
            block = path.genotype.blocks[number - 1]
            found[f"{name}.weight"] = Slice(f"head.{block.dense_op}.weight", 1, ((0, block.dense_dim), *fields))
            found[f"{name}.bias"] = Slice(f"head.{block.dense_op}.bias", 1, ())
        return found

    def logits(self, path: NetworkPath, weights: dict[str, torch.Tensor], dense: torch.Tensor, embedded: torch.Tensor) -> torch.Tensor:
        """Logits (rows,) of a path with the weights of `path_slices`, from dense (rows, count) and embedded (rows, fields, dim).

        With several dense operators in the last block the logit is the sum of their heads'.
        """
        vectors, sets = outputs(path.genotype.model_dump(mode="json"), weights, dense, embedded)
        fields = [sets[number].transpose(0, 1).flatten(1) for number in path.outputs if number in sets]
        made = [
            functional.linear(torch.cat([vectors[number], *fields], dim=1), weights[f"{name}.weight"], weights[f"{name}.bias"])
            for number, name in path.heads.items()
        ]
        return sum(made[1:], made[0]).squeeze(1)

    def parameters(self, genotype: Genotype) -> dict[str, torch.Tensor]:
        """The weights of a canonical genotype by their stand-alone names, table excluded; they may be views."""
        return {name: piece.read(self.weights[piece.shared]) for name, piece in self.slices(genotype).items()}

    def tables(self, genotype: Genotype) -> dict[str, torch.Tensor]:
        """The tables of a canonical genotype by their stand-alone names, as views: a narrower table has the first columns."""
        table, rows = self.weights["embedding.weight"], self.schema["cardinalities"]
        if genotype.embedding_dims is None and genotype.table_bits is None:
            return {"embedding.weight": table}
        pieces = zip(table.split(rows), genotype.for_tables(len(rows)), strict=True)
        return {f"embedding.{number}.weight": piece[:, :dim] for number, (piece, (dim, _)) in enumerate(pieces)}

    def extract(self, genotype: Genotype) -> Model:
        """The network on its own, with copies of its weights and the same outputs."""
        canonical = genotype.canonical()
        model = Model(canonical.model_dump(mode="json"), self.schema)
        model.load_state_dict({**self.tables(canonical), **self.parameters(canonical)})
        return model.eval()


def _new_weights(space: Space, schema: Schema, limits: Limits, generator: torch.Generator | None) -> dict[str, torch.Tensor]:
    shapes: dict[str, tuple[int, ...]] = {"embedding.weight": (sum(schema["cardinalities"]), space.embedding_dim)}
    names = [*space.dense_operators, *space.sparse_operators]
    names += ["fm"] * (True in space.fm) + ["interact"] * (True in space.interact)
    for number in range(1, space.blocks + 1):
        for name in names:
            operator, base = block_operators()[name], f"blocks.{number - 1}.{name}"
            for part, shape in operator.shared(limits, number).items():
                shapes[f"{base}{part}.weight"] = shape
                if not space.layer_norm:
                    shapes[f"{base}{part}.bias"] = (shape[0],)
            shapes |= {f"{base}{part}": shape for part, shape in operator.whole(limits.dim).items()}
            if space.layer_norm:
                shapes[f"{base}.norm.weight"] = shapes[f"{base}.norm.bias"] = (operator.width(limits),)
    for name in space.dense_operators:
        width = limits.dense_dim + (limits.sparse_dim + MERGER_FIELDS) * limits.dim
        shapes |= {f"head.{name}.weight": (1, width), f"head.{name}.bias": (1,)}
    weights = {name: torch.empty(shape) for name, shape in shapes.items()}
    for name, tensor in weights.items():
        initialise(name, tensor, generator)
    return weights
