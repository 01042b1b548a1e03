"""A genotype: one recommender network as typed genes, its canonical form and its digest. No torch here.

A network is a chain of blocks. Source 0 is the raw input (dense features, embedded sparse features), source i block i's output.
Every block makes one dense vector and one set of sparse vectors ("fields" of `embedding_dim` elements each; the rows of a table may be
shorter, zeros follow them):

    dense_i  = dense_op(sources) [+ fm(sparse_op output)]
    sparse_i = concat(sparse_op(sources) [, merger(dense_op output): 8 more fields])

The head is one linear layer over the last block's dense vector and its flattened fields, as in NASRec (its published
multiply-accumulate counts come out only this way). Source: Zhang et al., NASRec, WWW 2023; facebookresearch/NasRec.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Set
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt, SerializerFunctionWrapHandler, ValidationError, model_serializer, model_validator

from pimsim.errors import ConfigError, unknown_name
from pimsim.spec.base import Spec, first_problem

MERGER_FIELDS = 8
"""Fields that the dense-to-sparse merger appends (NASRec's DS_INTERACT_NUM_SPLITS)."""

DENSE_READS: dict[str, frozenset[str]] = {
    "fc": frozenset({"dense"}),
    "dot_product": frozenset({"dense", "sparse"}),
    "gating": frozenset({"pair"}),
    "cross": frozenset({"pair"}),
    "sum": frozenset({"pair"}),
}
"""Which input genes a dense operator reads: `dense_inputs`, `sparse_inputs`, or the pair `dense_left` and `dense_right`."""

SPARSE_OPERATORS = ("efc", "transformer", "attention")
"""Operators that make fields out of fields; they read `sparse_inputs`."""

Precision = Literal[4, 8, 16, 32]

TABLE_GENES = ("embedding_dims", "table_bits")
"""Genes of the network that hold a value for each table."""

WEIGHT_GENES, ACTIVATION_GENES = ("dense_bits", "sparse_bits"), ("dense_activation_bits", "sparse_activation_bits")
"""A block's precision genes: of its dense and of its sparse operator. A merger has those of the operator whose output it reads."""


class Block(Spec):
    """One block's genes. In a canonical genotype a dead operator is None and its genes are empty."""

    dense_op: str | None
    """`fc`, `dot_product`, `gating`, `cross` or `sum`."""
    sparse_op: str | None
    """`efc`, `transformer` or `attention`."""
    dense_dim: NonNegativeInt = 0
    """Elements of the dense output."""
    sparse_dim: NonNegativeInt = 0
    """Fields that the sparse operator makes."""
    dense_inputs: tuple[NonNegativeInt, ...] = ()
    sparse_inputs: tuple[NonNegativeInt, ...] = ()
    dense_left: NonNegativeInt | None = None
    dense_right: NonNegativeInt | None = None
    interact: bool = False
    """Dense-to-sparse merger: the dense operator's output, projected to 8 more fields."""
    fm: bool = False
    """Sparse-to-dense merger: a factorisation machine over the sparse operator's output, added to the dense output."""
    dense_bits: Precision | None = None
    """Precision of the dense operator's weights, and of `interact`'s; None: the genotype's `weight_bits`."""
    sparse_bits: Precision | None = None
    """Precision of the sparse operator's weights, and of `fm`'s; None: the genotype's `weight_bits`."""
    dense_activation_bits: Precision | None = None
    """Precision of the activations that the matrix products of the dense operator and of `interact` read; None: 32."""
    sparse_activation_bits: Precision | None = None
    """Precision of the activations that the matrix products of the sparse operator and of `fm` read; None: 32."""

    @model_serializer(mode="wrap")
    def _without_unused(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Precision genes are left out where there are none, so that JSON and digests are those of version 1 before it had them."""
        tree: dict[str, Any] = plain(self)
        return {key: value for key, value in tree.items() if value is not None or key not in WEIGHT_GENES + ACTIVATION_GENES}

    def bits(self, operator: str, weight_bits: int) -> tuple[int, int]:
        """(weight, activation) precision of one of the `operators`; `weight_bits` are the genotype's."""
        if operator in DENSE_READS or operator == "interact":
            return self.dense_bits or weight_bits, self.dense_activation_bits or 32
        return self.sparse_bits or weight_bits, self.sparse_activation_bits or 32

    def reads(self, kind: str) -> bool:
        """True when the dense operator reads this kind of input gene (`dense`, `sparse`, `pair`)."""
        return self.dense_op is not None and kind in DENSE_READS[self.dense_op]

    @property
    def operators(self) -> tuple[str, ...]:
        """Everything the block computes: dense operator, sparse operator, `fm`, `interact`, where they are there."""
        mergers = ("fm",) * self.fm + ("interact",) * self.interact
        return tuple(name for name in (self.dense_op, self.sparse_op) if name) + mergers

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.dense_op is not None and self.dense_op not in DENSE_READS:
            raise ValueError(f"dense_op: {unknown_name('dense operator', self.dense_op, DENSE_READS)}")
        if self.sparse_op is not None and self.sparse_op not in SPARSE_OPERATORS:
            raise ValueError(f"sparse_op: {unknown_name('sparse operator', self.sparse_op, SPARSE_OPERATORS)}")
        if self.dense_op is not None and self.dense_dim < 1:
            raise ValueError("dense_dim: must be at least 1 when there is a dense operator")
        if self.sparse_op is not None and (self.sparse_dim < 1 or not self.sparse_inputs):
            raise ValueError("a sparse operator needs sparse_dim >= 1 and at least one of sparse_inputs")
        if self.reads("dense") and not self.dense_inputs:
            raise ValueError(f"dense_op {self.dense_op} needs at least one of dense_inputs")
        if self.reads("sparse") and not self.sparse_inputs:
            raise ValueError(f"dense_op {self.dense_op} needs at least one of sparse_inputs")
        if self.reads("pair") and (self.dense_left is None or self.dense_right is None):
            raise ValueError(f"dense_op {self.dense_op} needs dense_left and dense_right")
        for gene in ("dense_inputs", "sparse_inputs"):
            if len(set(getattr(self, gene))) != len(getattr(self, gene)):
                raise ValueError(f"{gene}: {list(getattr(self, gene))}: a source stands twice")
        return self

    @property
    def sources(self) -> set[int]:
        """Every source that an input gene names."""
        pair = {i for i in (self.dense_left, self.dense_right) if i is not None}
        return {*self.dense_inputs, *self.sparse_inputs, *pair}


class Genotype(Spec):
    """One network of a space, with its numeric precisions."""

    version: Literal[1] = 1
    space: str
    """Name of the space it was drawn from (not part of the digest)."""
    blocks: tuple[Block, ...] = Field(min_length=1)
    embedding_dim: PositiveInt = 16
    layer_norm: bool = True
    """LayerNorm over the true width after every operator and merger: in the supernet, stand-alone and lowered alike."""
    weight_bits: Precision = 32
    """Of the head, and of every operator whose block says nothing else."""
    embedding_bits: Precision = 32
    embedding_dims: tuple[PositiveInt, ...] | None = None
    """Elements of a row of each table, `embedding_dim` at most; None: all of `embedding_dim`."""
    table_bits: tuple[Precision, ...] | None = None
    """Precision of each table; None: all of `embedding_bits`, which plays no part otherwise."""

    @model_serializer(mode="wrap")
    def _without_unused(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Genes of single tables are left out where there are none, so that JSON and digests are those of version 1 before it had them."""
        tree: dict[str, Any] = plain(self)
        return {key: value for key, value in tree.items() if value is not None or key not in TABLE_GENES}

    @model_validator(mode="after")
    def _tables_fit(self) -> Self:
        wide = [dim for dim in self.embedding_dims or () if dim > self.embedding_dim]
        if wide:
            raise ValueError(f"embedding_dims: {wide[0]}: allowed are 1 to embedding_dim = {self.embedding_dim}")
        counts = {gene: len(getattr(self, gene)) for gene in TABLE_GENES if getattr(self, gene) is not None}
        if 0 in counts.values() or len(set(counts.values())) > 1:
            raise ValueError(f"{' and '.join(f'{gene}: {count} values' for gene, count in counts.items())}: allowed is one for each table")
        return self

    @model_validator(mode="after")
    def _sources_exist(self) -> Self:
        for i, block in enumerate(self.blocks):
            bad = sorted(s for s in block.sources if s > i)
            if bad:
                raise ValueError(f"blocks.{i}: reads source {bad[0]}, allowed are 0 to {i}")
            if (block.interact and not block.dense_op) or (block.fm and not block.sparse_op):
                raise ValueError(f"blocks.{i}: a merger needs the operator whose output it reads")
        return self

    def for_tables(self, count: int) -> tuple[tuple[int, int], ...]:
        """(dim, bits) of every table of a data set with this many.

        Raises:
            ConfigError: the genotype has genes of another number of tables.
        """
        for gene in TABLE_GENES:
            if len(getattr(self, gene) or range(count)) != count:
                raise ConfigError(f"genotype: {gene}: {len(getattr(self, gene))} values, allowed: {count}, one for each table")
        dims = self.embedding_dims or (self.embedding_dim,) * count
        return tuple(zip(dims, self.table_bits or (self.embedding_bits,) * count, strict=True))

    def weight_bits_of(self, parameter: str) -> int:
        """Precision of a matrix of weights (`blocks.0.fc.weight`, `head.weight`)."""
        first, *rest = parameter.split(".")
        return self.blocks[int(rest[0])].bits(rest[1], self.weight_bits)[0] if first == "blocks" else self.weight_bits

    def full_precision(self) -> Genotype:
        """The same network with every value at 32 bits."""
        plain = dict.fromkeys(WEIGHT_GENES + ACTIVATION_GENES)
        blocks = tuple(block.model_copy(update=plain) for block in self.blocks)
        tables = None if self.table_bits is None else (32,) * len(self.table_bits)
        return self.model_copy(update={"blocks": blocks, "weight_bits": 32, "embedding_bits": 32, "table_bits": tables})

    def dead_blocks(self) -> tuple[int, ...]:
        """Numbers (1 for the first) of the blocks whose outputs nothing live reads."""
        return tuple(sorted(set(range(1, len(self.blocks) + 1)) - set(self._live_blocks({len(self.blocks)}))))

    def canonical(self) -> Genotype:
        """The same function without dead blocks, dead operators and unused genes; inputs sorted and renumbered.

        A block's dense and sparse outputs live separately: an output lives when the head or a live operator reads it. Tables that are all
        alike are not told one by one.
        """
        return self.live({len(self.blocks)})[0]

    def live(self, outputs: Set[int]) -> tuple[Genotype, tuple[int, ...]]:
        """The live part when the head reads these blocks (1 for the first), and the numbers of the blocks that are left."""
        kept = self._live_blocks(outputs)
        renumbered = {0: 0} | {old: new for new, old in enumerate(sorted(kept), start=1)}
        blocks = tuple(_renumber(kept[old], renumbered) for old in sorted(kept))
        canonical = self.model_copy(update={"blocks": blocks, **self._canonical_tables()})
        return canonical, tuple(sorted(kept))

    def _canonical_tables(self) -> dict[str, Any]:
        """The genes of tables in the one form that means the same."""
        found: dict[str, Any] = {}
        if self.embedding_dims is not None and set(self.embedding_dims) == {self.embedding_dim}:
            found["embedding_dims"] = None
        if self.table_bits is not None:
            found["embedding_bits"] = max(self.table_bits)  # read by nobody unless all tables have it
            found |= {"table_bits": None} if len(set(self.table_bits)) == 1 else {}
        return found

    def _live_blocks(self, outputs: Set[int]) -> dict[int, Block]:
        """The live part of every live block by its number."""
        live_dense, live_sparse = set(outputs), set(outputs)
        kept: dict[int, Block] = {}
        for number in range(len(self.blocks), 0, -1):
            if number not in live_dense and number not in live_sparse:
                continue
            block = self._with_bits(_live_part(self.blocks[number - 1], number in live_dense, number in live_sparse))
            kept[number] = block
            live_dense |= set(block.dense_inputs) | ({block.dense_left, block.dense_right} - {None})
            live_sparse |= set(block.sparse_inputs)
        return kept

    def _with_bits(self, block: Block) -> Block:
        """The block with only those precision genes that say something."""
        dead = {"dense": block.dense_op is None, "sparse": block.sparse_op is None}
        unsaid = {gene: self.weight_bits for gene in WEIGHT_GENES} | dict.fromkeys(ACTIVATION_GENES, 32)
        update = {gene: None for gene, bits in unsaid.items() if dead[gene.partition("_")[0]] or getattr(block, gene) == bits}
        return block.model_copy(update=update)

    def digest(self) -> str:
        """Sixteen hex digits of the canonical form: equal for genotypes that compute the same function at the same precisions."""
        tree = self.canonical().model_dump(mode="json", exclude={"space", "version"})
        return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()[:16]

    def to_json(self) -> str:
        """JSON text that `from_json` reads back to an equal genotype."""
        return json.dumps(self.model_dump(mode="json"), indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str = "genotype") -> Genotype:
        """Reads our own JSON or a published NASRecNet.

        Raises:
            ConfigError: not JSON, or not a valid genotype; one line that starts with `where`.
        """
        try:
            tree = json.loads(text)
        except ValueError as error:
            raise ConfigError(f"{where}: not valid JSON: {error}") from None
        if not isinstance(tree, dict):
            raise ConfigError(f"{where}: expected a JSON object, found {type(tree).__name__}")
        if "micro" in tree and "macro" in tree:
            return from_nasrec(tree, where)
        try:
            return cls.model_validate(tree)
        except ValidationError as error:
            raise ConfigError(f"{where}: {first_problem(cls, tree, error)}") from None

    @classmethod
    def load(cls, path: Path) -> Genotype:
        """Reads a genotype file (see `from_json`)."""
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
        except UnicodeDecodeError as error:
            raise ConfigError(f"{path}: cannot be read: {error}") from None
        return cls.from_json(text, str(path))


def _live_part(block: Block, dense_live: bool, sparse_live: bool) -> Block:
    """The block with only those genes that matter when these outputs are read."""
    interact, fm = block.interact and sparse_live, block.fm and dense_live
    dense_op = block.dense_op if dense_live or interact else None
    sparse_op = block.sparse_op if sparse_live or fm else None
    bare = block.model_copy(update={"dense_op": dense_op, "sparse_op": sparse_op})
    left, right = block.dense_left, block.dense_right
    if bare.dense_op == "sum" and left is not None and right is not None:
        left, right = sorted((left, right))  # a sum does not know left from right
    return bare.model_copy(
        update={
            "dense_dim": block.dense_dim if dense_op else 0,
            "sparse_dim": block.sparse_dim if sparse_op else 0,
            "dense_inputs": tuple(sorted(block.dense_inputs)) if bare.reads("dense") else (),
            "sparse_inputs": tuple(sorted(block.sparse_inputs)) if sparse_op or bare.reads("sparse") else (),
            "dense_left": left if bare.reads("pair") else None,
            "dense_right": right if bare.reads("pair") else None,
            "interact": interact,
            "fm": fm,
        }
    )


def _renumber(block: Block, new: dict[int, int]) -> Block:
    return block.model_copy(
        update={
            "dense_inputs": tuple(new[i] for i in block.dense_inputs),
            "sparse_inputs": tuple(new[i] for i in block.sparse_inputs),
            "dense_left": None if block.dense_left is None else new[block.dense_left],
            "dense_right": None if block.dense_right is None else new[block.dense_right],
        }
    )


_NASREC_OPERATORS = {
    "xlarge": ("fc", "dot_product", "gating", "sum", "transformer", "efc"),
    "autoctr": ("fc", "dot_product", "efc"),
}
"""Order of `active_nodes` in the published files (NASRec-Full and NASRec-Small). The published multiply-accumulates of the Full
networks come out in this order only."""


def from_nasrec(tree: dict[str, Any], where: str = "genotype") -> Genotype:
    """A published NASRecNet (facebookresearch/NasRec, `nasrec/configs/`) as a genotype. Its MAC counts exclude LayerNorm.

    Raises:
        ConfigError: an unknown configuration, a missing key, or an operator this package does not have.
    """
    names = _NASREC_OPERATORS.get(str(tree.get("config")))
    if names is None:
        raise ConfigError(f"{where}: config: {unknown_name('NASRec configuration', tree.get('config'), _NASREC_OPERATORS)}")
    blocks = []
    try:
        for micro, macro in zip(tree["micro"], tree["macro"], strict=True):
            active = [names[i] for i in micro["active_nodes"]]
            dense = [name for name in active if name in DENSE_READS]
            sparse = [name for name in active if name in SPARSE_OPERATORS]
            blocks.append(
                {
                    "dense_op": dense[0],
                    "sparse_op": sparse[0],
                    "dense_dim": micro["dense_in_dims"],
                    "sparse_dim": micro["sparse_in_dims"],
                    "dense_inputs": sorted(macro["dense_idx"]),
                    "sparse_inputs": sorted(macro["sparse_idx"]),
                    "dense_left": macro["dense_left_idx"][0],
                    "dense_right": macro["dense_right_idx"][0],
                    "interact": bool(micro["dense_sparse_interact"]),
                    "fm": bool(micro["deep_fm"]),
                }
            )
        name = {"xlarge": "nasrec_full", "autoctr": "nasrec_small"}[tree["config"]]
        genotype = {"space": name, "blocks": blocks, "layer_norm": bool(tree.get("use_layernorm", 1))}
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ConfigError(f"{where}: not a NASRecNet: {type(error).__name__}: {error}") from None
    try:
        return Genotype.model_validate(genotype)
    except ValidationError as error:
        raise ConfigError(f"{where}: {first_problem(Genotype, genotype, error)}") from None
