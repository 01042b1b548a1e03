"""A search space: which genes a genotype may have. Read from `configs/spaces/<name>.yaml`; no torch here.

Sampling distribution (the same for training, search and mutation; NASRec trains on one and searches on another):
every categorical gene is uniform over its values; a set of inputs first draws its size uniformly from
1..min(sources, max_fan_in), then a uniform subset of that size. Genes are independent.

A space may have genes of single tables (`table_dims`, `table_bits`). How many tables there are, the data set says; such a space is
bound to it by `for_tables` before anything is drawn from it.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from math import comb, prod
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from pydantic import Field, PositiveInt, SerializerFunctionWrapHandler, model_serializer, model_validator

from pimsim.configs import read_yaml, resolve, set_dotted
from pimsim.errors import ConfigError, unknown_name
from pimsim.spec.base import Spec, validate
from supernet.genotype import ACTIVATION_GENES, DENSE_READS, SPARSE_OPERATORS, TABLE_GENES, WEIGHT_GENES, Block, Genotype, Precision

_BLOCK_GENES = (
    "dense_op", "sparse_op", "dense_dim", "sparse_dim",
    "dense_inputs", "sparse_inputs", "dense_left", "dense_right", "interact", "fm", *WEIGHT_GENES, *ACTIVATION_GENES,
)  # fmt: skip
_GLOBAL_GENES = ("weight_bits", "embedding_bits")
_OPERATOR_PRECISIONS = {"operator_weight_bits": WEIGHT_GENES, "activation_bits": ACTIVATION_GENES}
"""Block genes that only some spaces have, by the key that gives their values."""
_OPTIONAL = ("table_dims", "table_bits", *_OPERATOR_PRECISIONS)
"""Keys that give values of genes which only some spaces have."""


def _name(block: int | None, gene: str) -> str:
    return gene if block is None else f"blocks.{block}.{gene}"


def _read(genotype: Genotype, block: int | None, gene: str) -> Any:
    """The value of a gene; that of table 3's dim is called `embedding_dims.3`."""
    if block is not None:
        return getattr(genotype.blocks[block], gene)
    whole, _, table = gene.partition(".")
    value = getattr(genotype, whole)
    if not table:
        return value
    return value[int(table)] if value else {"embedding_dims": genotype.embedding_dim, "table_bits": genotype.embedding_bits}[whole]


class Space(Spec):
    """A search space of recommender networks."""

    name: str
    summary: str = ""
    blocks: PositiveInt = Field(le=16)
    """Blocks of a genotype; its canonical form may have fewer."""
    dense_operators: tuple[str, ...] = Field(min_length=1)
    sparse_operators: tuple[str, ...] = Field(min_length=1)
    dense_dims: tuple[PositiveInt, ...] = Field(min_length=1)
    """Elements of a block's dense output."""
    sparse_dims: tuple[PositiveInt, ...] = Field(min_length=1)
    """Fields that a block's sparse operator makes."""
    max_fan_in: PositiveInt = 4
    """Most sources that an operator reads."""
    interact: tuple[bool, ...] = Field((False, True), min_length=1)
    """Values of the dense-to-sparse merger gene."""
    fm: tuple[bool, ...] = Field((False, True), min_length=1)
    """Values of the sparse-to-dense merger gene."""
    embedding_dim: PositiveInt = 16
    weight_bits: tuple[Precision, ...] = Field((32,), min_length=1)
    embedding_bits: tuple[Precision, ...] = Field((32,), min_length=1)
    table_dims: tuple[PositiveInt, ...] | None = Field(None, min_length=1)
    """Elements of a row of each table, `embedding_dim` at most, a gene for each table; None: `embedding_dim` for all."""
    table_bits: tuple[Precision, ...] | None = Field(None, min_length=1)
    """Precisions of each table, a gene for each table in place of `embedding_bits`; None: `embedding_bits` for all."""
    tables: PositiveInt | None = None
    """Tables of the data set; filled in by `for_tables` where a gene needs it."""
    operator_weight_bits: tuple[Precision, ...] | None = Field(None, min_length=1)
    """Precisions of the weights of each block's dense and sparse operator; None: all have the network's `weight_bits`."""
    activation_bits: tuple[Precision, ...] | None = Field(None, min_length=1)
    """Precisions of the activations that each block's dense and sparse operator reads; None: 32 bits."""
    layer_norm: bool = True
    dense_columns: Literal["operator", "source"] = "operator"
    """Columns that an earlier dense output takes in the shared weights of what reads it: its own for each operator that may have made
    it, or (`source`, as in NASRec's supernet) one set for all of them, which makes the weights of four operators a third as large."""

    @model_validator(mode="after")
    def _known(self) -> Self:
        for kind, given, allowed in (
            ("dense operator", self.dense_operators, DENSE_READS),
            ("sparse operator", self.sparse_operators, SPARSE_OPERATORS),
        ):
            for name in given:
                if name not in allowed:
                    raise ValueError(unknown_name(kind, name, allowed))
        sizes = ("dense_operators", "sparse_operators", "dense_dims", "sparse_dims", "interact", "fm")
        for key in (*_GLOBAL_GENES, *sizes, *_OPTIONAL):
            values = getattr(self, key) or ()
            if len(set(values)) != len(values):
                raise ValueError(f"{key}: a value stands twice")
        if max(self.table_dims or (1,)) > self.embedding_dim:
            raise ValueError(f"table_dims: {max(self.table_dims or ())}: allowed are 1 to embedding_dim = {self.embedding_dim}")
        if self.table_bits and len(self.embedding_bits) > 1:
            raise ValueError(f"embedding_bits: {list(self.embedding_bits)}: table_bits takes its place; leave one value")
        return self

    @model_serializer(mode="wrap")
    def _without_unused(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Keys of single tables and operators are left out where there are none: records of spaces without them stay as they were."""
        tree: dict[str, Any] = plain(self)
        return {key: value for key, value in tree.items() if value is not None or key not in (*_OPTIONAL, "tables")}

    def for_tables(self, count: int) -> Space:
        """The space on a data set with this many tables; itself where no gene asks for the number.

        Raises:
            ConfigError: it is bound to another number.
        """
        if not self._table_genes():
            return self
        if self.tables not in (None, count):
            raise ConfigError(f"space {self.name}: tables: {self.tables}: the data set has {count}")
        return self.model_copy(update={"tables": count})

    def _table_genes(self) -> dict[str, tuple[int, ...]]:
        """Values of the genes that every table has one of, under their names in a genotype."""
        named = {"embedding_dims": self.table_dims, "table_bits": self.table_bits}
        return {gene: values for gene, values in named.items() if values}

    def _gene(self, gene: str, sources: int) -> tuple[Any, ...] | None:
        """Values of a categorical gene; None for a set of inputs."""
        pairs = any("pair" in DENSE_READS[name] for name in self.dense_operators)
        return {
            "dense_op": self.dense_operators,
            "sparse_op": self.sparse_operators,
            "dense_dim": self.dense_dims,
            "sparse_dim": self.sparse_dims,
            "dense_left": tuple(range(sources)) if pairs else (None,),
            "dense_right": tuple(range(sources)) if pairs else (None,),
            "interact": self.interact,
            "fm": self.fm,
            "weight_bits": self.weight_bits,
            "embedding_bits": self.embedding_bits,
            **{name: getattr(self, key) or (None,) for key, names in _OPERATOR_PRECISIONS.items() for name in names},
            **self._table_genes(),
        }.get(gene.partition(".")[0])

    def _input_sets(self, sources: int) -> int:
        return sum(comb(sources, k) for k in range(1, min(sources, self.max_fan_in) + 1))

    @property
    def _block_genes(self) -> tuple[str, ...]:
        """The genes that a block of this space has."""
        absent = {name for key, names in _OPERATOR_PRECISIONS.items() if not getattr(self, key) for name in names}
        return tuple(gene for gene in _BLOCK_GENES if gene not in absent)

    def _genes(self) -> Iterator[tuple[int | None, str]]:
        """Every gene as (block index, name); block index None for the genes of the whole network and of its tables."""
        yield from ((i, gene) for i in range(self.blocks) for gene in _BLOCK_GENES)
        yield from ((None, gene) for gene in self._network_genes())

    def _network_genes(self) -> list[str]:
        """Names of the genes of the whole network and of its tables."""
        wanted = self._table_genes()
        if wanted and self.tables is None:
            key = "table_dims" if self.table_dims else "table_bits"
            raise ConfigError(f"space {self.name}: {key}: how many tables there are is not known; name a data set, or set `tables`")
        return [*_GLOBAL_GENES, *(f"{gene}.{table}" for gene in wanted for table in range(self.tables or 0))]

    def _choices(self, block: int | None, gene: str) -> int:
        sources = 1 if block is None else block + 1
        values = self._gene(gene, sources)
        return self._input_sets(sources) if values is None else len(values)

    def size(self) -> int:
        """Exact number of genotypes (different genotypes may compute the same function; see `Genotype.canonical`)."""
        return prod(self._choices(block, gene) for block, gene in self._genes())

    def _draw(self, gene: str, sources: int, rng: np.random.Generator) -> Any:
        values = self._gene(gene, sources)
        if values is not None:
            return values[int(rng.integers(len(values)))]
        fan_in = int(rng.integers(1, min(sources, self.max_fan_in) + 1))
        return tuple(sorted(int(i) for i in rng.choice(sources, fan_in, replace=False)))

    def sample(self, rng: np.random.Generator) -> Genotype:
        """A random genotype (distribution: see the module)."""
        blocks = tuple(Block(**{gene: self._draw(gene, i + 1, rng) for gene in _BLOCK_GENES}) for i in range(self.blocks))
        return self._genotype(blocks, {gene: self._draw(gene, 1, rng) for gene in self._network_genes()})

    def widest(self, rng: np.random.Generator) -> Genotype:
        """A path for warm-up training: full widths, every source, both mergers if the space has them; operators are drawn.

        NASRec's full path sums all operators of a block instead; what reads such a sum has learnt nothing about a single one.
        """
        blocks = tuple(
            Block(
                dense_op=self._draw("dense_op", i + 1, rng),
                sparse_op=self._draw("sparse_op", i + 1, rng),
                dense_dim=max(self.dense_dims),
                sparse_dim=max(self.sparse_dims),
                dense_inputs=tuple(range(i + 1)),
                sparse_inputs=tuple(range(i + 1)),
                dense_left=self._draw("dense_left", i + 1, rng),
                dense_right=self._draw("dense_right", i + 1, rng),
                interact=True in self.interact,
                fm=True in self.fm,
                **{gene: max(getattr(self, key) or (), default=None) for key, genes in _OPERATOR_PRECISIONS.items() for gene in genes},
            )
            for i in range(self.blocks)
        )
        return self._genotype(blocks, {gene: max(self._gene(gene, 1) or ()) for gene in self._network_genes()})

    def _genotype(self, blocks: tuple[Block, ...], genes: dict[str, Any]) -> Genotype:
        """A genotype of blocks and the values of the network's genes."""
        held = {gene: genes[gene] for gene in _GLOBAL_GENES}
        held |= {gene: tuple(genes[f"{gene}.{table}"] for table in range(self.tables or 0)) for gene in self._table_genes()}
        return Genotype(space=self.name, blocks=blocks, embedding_dim=self.embedding_dim, layer_norm=self.layer_norm, **held)

    def mutate(self, genotype: Genotype, rng: np.random.Generator) -> Genotype:
        """A genotype that differs in exactly one gene, chosen uniformly among those with a choice, re-drawn until it differs.

        Raises:
            ConfigError: the genotype is not of this space, or the space has only one genotype.
        """
        self._require(genotype)
        genes = [(block, gene) for block, gene in self._genes() if self._choices(block, gene) > 1]
        if not genes:
            raise ConfigError(f"space {self.name}: has one genotype only, there is nothing to mutate")
        block, gene = genes[int(rng.integers(len(genes)))]
        old = _read(genotype, block, gene)
        while (new := self._draw(gene, 1 if block is None else block + 1, rng)) == old:
            pass
        if block is None:
            return self._genotype(genotype.blocks, {name: _read(genotype, None, name) for name in self._network_genes()} | {gene: new})
        changed = genotype.blocks[block].model_copy(update={gene: new})
        return genotype.model_copy(update={"blocks": (*genotype.blocks[:block], changed, *genotype.blocks[block + 1 :])})

    def crossover(self, a: Genotype, b: Genotype, rng: np.random.Generator) -> Genotype:
        """Uniform crossover: every gene from one parent or the other with equal chance (always valid: genes are independent)."""
        self._require(a)
        self._require(b)
        blocks = []
        for one, two in zip(a.blocks, b.blocks, strict=True):
            picks = rng.integers(2, size=len(self._block_genes))
            genes = zip(self._block_genes, picks, strict=True)
            blocks.append(Block(**{gene: getattr(two if pick else one, gene) for gene, pick in genes}))
        names = self._network_genes()
        picks = rng.integers(2, size=len(names))
        return self._genotype(tuple(blocks), {gene: _read(b if pick else a, None, gene) for gene, pick in zip(names, picks, strict=True)})

    def genes(self) -> dict[str, tuple[Any, ...]]:
        """Values of every gene that has a choice, by dotted name (`blocks.2.dense_op`); a set of inputs is one value."""
        named = {_name(block, gene): self._values(block, gene) for block, gene in self._genes()}
        return {name: values for name, values in named.items() if len(values) > 1}

    def to_flat(self, genotype: Genotype) -> dict[str, Any]:
        """The value of every gene of `genes()`.

        Raises:
            ConfigError: the genotype is not of this space.
        """
        self._require(genotype)
        return {_name(b, g): _read(genotype, b, g) for b, g in self._genes() if len(self._values(b, g)) > 1}

    def from_flat(self, flat: dict[str, Any]) -> Genotype:
        """The genotype with these values, as `to_flat` gives them."""
        held = {(b, g): flat.get(_name(b, g), self._values(b, g)[0]) for b, g in self._genes()}
        blocks = tuple(Block(**{gene: held[i, gene] for gene in _BLOCK_GENES}) for i in range(self.blocks))
        return self._genotype(blocks, {gene: held[None, gene] for gene in self._network_genes()})

    def _values(self, block: int | None, gene: str) -> tuple[Any, ...]:
        values = self._gene(gene, 1 if block is None else block + 1)
        return tuple(self.input_sets(block or 0)) if values is None else values

    def contains(self, genotype: Genotype) -> bool:
        """True when every gene of the genotype is one of this space."""
        return self.why_not(genotype) is None

    def why_not(self, genotype: Genotype) -> str | None:
        """The first gene that is not of this space, or None."""
        if len(genotype.blocks) != self.blocks:
            return f"blocks: {len(genotype.blocks)}, allowed: {self.blocks}"
        for key in ("embedding_dim", "layer_norm"):
            if getattr(genotype, key) != getattr(self, key):
                return f"{key}: {getattr(genotype, key)}, allowed: {getattr(self, key)}"
        for gene in TABLE_GENES:
            given, wanted = len(getattr(genotype, gene) or ()), self.tables if gene in self._table_genes() else 0
            if given and given != wanted:
                return f"{gene}: {given} values, allowed: {wanted or 'none'}"
        for index, gene in self._genes():
            place, sources = (gene, 1) if index is None else (f"blocks.{index}.{gene}", index + 1)
            value, values = _read(genotype, index, gene), self._gene(gene, sources)
            if values is not None and value not in values:
                return f"{place}: {value}, allowed: {', '.join(str(v) for v in values)}"
            if values is None and not 1 <= len(value) <= self.max_fan_in:
                return f"{place}: {len(value)} sources, allowed: 1 to {self.max_fan_in}"
        return None

    def input_sets(self, block: int) -> list[tuple[int, ...]]:
        """Every allowed set of sources of a block (0-based), smallest first."""
        sources = range(block + 1)
        return [s for k in range(1, min(block + 1, self.max_fan_in) + 1) for s in combinations(sources, k)]

    def _require(self, genotype: Genotype) -> None:
        problem = self.why_not(genotype)
        if problem:
            raise ConfigError(f"genotype is not of space {self.name}: {problem}")


def load_space(name_or_path: str | Path, overrides: dict[str, Any] | None = None) -> Space:
    """A space by shipped name or by path; `overrides` are dotted keys, as `--set` gives them.

    Raises:
        ConfigError: no such space, unknown key or value out of range; one line.
    """
    path = resolve("spaces", name_or_path)
    tree = read_yaml(path)
    for key, value in (overrides or {}).items():
        set_dotted(tree, key, value)
    tree.setdefault("name", path.stem)
    return validate(Space, tree, str(path))
