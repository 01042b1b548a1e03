"""A genotype as the simulator's workload: only what is live, at the genotype's precisions."""

from __future__ import annotations

import math
from typing import Any

from pimsim.graph import Elementwise, IndexSource, Input, Product, Table, Workload, WorkloadBuilder
from supernet.blocks.base import BlockOperator, Place, places
from supernet.genotype import MERGER_FIELDS, Genotype
from supernet.model import block_operators
from workloads.operators.concat import Concat
from workloads.operators.embedding import Embedding
from workloads.operators.fc import FullyConnected
from workloads.operators.layer_norm import LayerNorm


def to_workload(genotype: Genotype, schema: Any, name: str, indices: IndexSource | None = None, batch: int = 1) -> Workload:
    """The operators of a genotype's canonical form in topological order.

    Args:
        genotype: the network.
        schema: field names (`dense`, `sparse`) and `cardinalities`, as a data set's `schema` has them. Every table
            is looked up once a sample.
        name: of the workload.
        indices: where the row numbers come from.
        batch: usual samples per batch.
    """
    return _Lowering(genotype.canonical(), schema).build().build(name, indices, batch)


def count(genotype: Genotype, dense_count: int, sparse_count: int) -> tuple[int, int]:
    """Multiply-accumulates per sample and trained values of the live network, embedding tables excluded from both.

    A dot-product counts its whole Gram matrix, as figures published for NASRec do; what a device multiplies of it is the strict
    lower triangle, `to_workload(...).macs`.
    """
    return _count(genotype.canonical(), dense_count, sparse_count)


def count_executed(genotype: Genotype, dense_count: int, sparse_count: int) -> tuple[int, int]:
    """The same for all blocks with both their operators, dead or not: what the published code executes and holds."""
    return _count(genotype, dense_count, sparse_count)


def weight_bytes(genotype: Genotype, dense_count: int, sparse_count: int) -> float:
    """Bytes of the trained values that `count` counts, biases and LayerNorm at the precision of their operator's weights."""
    from supernet.standalone import parameter_shapes

    canonical = genotype.canonical()
    shapes = parameter_shapes(canonical.model_dump(mode="json"), dense_count, sparse_count)
    return sum(math.prod(shape) * canonical.weight_bits_of(name) for name, shape in shapes.items()) / 8


def _count(genotype: Genotype, dense_count: int, sparse_count: int) -> tuple[int, int]:
    from supernet.standalone import parameter_shapes

    shapes = parameter_shapes(genotype.model_dump(mode="json"), dense_count, sparse_count)
    fields = {"dense": [f"d{i}" for i in range(dense_count)], "sparse": [f"s{i}" for i in range(sparse_count)]}
    workload = _Lowering(genotype, {**fields, "cardinalities": [1] * sparse_count}).build().build("count")
    triangles = [item for item in workload.operators if isinstance(item, Product) and item.triangle]
    unused = sum(item.groups * item.m**2 * item.k - item.macs for item in triangles)
    return workload.macs + unused, sum(math.prod(shape) for shape in shapes.values())


class _Lowering:
    """Builds the graph block by block."""

    def __init__(self, genotype: Genotype, schema: Any) -> None:
        self.genotype, self.schema = genotype, schema if isinstance(schema, dict) else schema.model_dump()
        self.builder = WorkloadBuilder()
        self.vectors: dict[int, str] = {}
        self.sets: dict[int, str] = {}

    def build(self) -> WorkloadBuilder:
        genotype, dense_count = self.genotype, len(self.schema["dense"])
        dim, count = genotype.embedding_dim, len(self.schema["sparse"])
        used = {i for block in genotype.blocks for i in (*block.dense_inputs, block.dense_left, block.dense_right)}
        if 0 in used:
            self.vectors[0] = self.builder.add(Input(name="dense", elements=max(dense_count, 1)))
        tables = tuple(
            Table(name=field, rows=rows, dim=own, bits=bits)
            for field, rows, (own, bits) in zip(
                self.schema["sparse"], self.schema["cardinalities"], genotype.for_tables(count), strict=True
            )
        )
        self.sets[0] = Embedding(tables=tables, width=dim).lower(self.builder, "embedding", ())
        for place in places(genotype, dense_count, count):
            self._block(place)
        last = genotype.blocks[-1]
        fields = last.sparse_dim + (MERGER_FIELDS if last.interact else 0)
        depth = len(genotype.blocks)
        join = Concat(shapes=((last.dense_dim,), (fields, dim)), flatten=True)
        joined = join.lower(self.builder, "head.concat", (self.vectors[depth], self.sets[depth]))
        head = FullyConnected(
            in_features=last.dense_dim + fields * dim, out_features=1, activation="none", weight_bits=genotype.weight_bits
        )
        head.lower(self.builder, "head", (joined,))
        return self.builder

    def _block(self, place: Place) -> None:
        block, base, operators = place.block, f"block{place.number}", block_operators()
        readers = (block.dense_op if block.reads("sparse") else None, block.sparse_op)
        bits = {name: block.bits(name, 32)[1] for name in block.operators}
        widest = max((bits[name] for name in readers if name), default=32)  # a join is stored for the widest that reads it
        features = [(i, (place.dense[i],)) for i in block.dense_inputs]
        fields = [(i, (sum(place.fields[i]), place.dim)) for i in block.sparse_inputs]
        read = {
            "dense": self._joined(f"{base}.dense", features, self.vectors, bits.get(block.dense_op or "", 32)),
            "fields": self._joined(f"{base}.fields", fields, self.sets, widest),
        }
        if block.reads("pair"):
            read |= {"left": self.vectors[block.dense_left], "right": self.vectors[block.dense_right]}
        own_dense = self._operator(operators[block.dense_op], place, base, read) if block.dense_op else None
        own_fields = self._operator(operators[block.sparse_op], place, base, read) if block.sparse_op else None
        read |= {"own dense": own_dense, "own fields": own_fields}
        if block.fm:
            crossed = self._operator(operators["fm"], place, base, read)
            sizes = {"elements": block.dense_dim, "operands": 2, "activation_bits": bits[block.dense_op]}
            add = Elementwise(name=f"{base}.fm.add", inputs=(own_dense, crossed), function="add", **sizes)
            self.vectors[place.number] = self.builder.add(add)
        elif own_dense:
            self.vectors[place.number] = own_dense
        if block.interact:
            more = self._operator(operators["interact"], place, base, read)
            parts = [(own_fields, (block.sparse_dim, place.dim)), (more, (MERGER_FIELDS, place.dim))]
            self.sets[place.number] = self._concat(f"{base}.interact.concat", parts, max(bits.values()))
        elif own_fields:
            self.sets[place.number] = own_fields

    def _operator(self, kind: BlockOperator, place: Place, base: str, read: dict[str, str]) -> str:
        """The operator, its LayerNorm and its activation."""
        norm, name = self.genotype.layer_norm, f"{base}.{kind.name}"
        weight_bits, bits = place.block.bits(kind.name, self.genotype.weight_bits)
        operator = kind.operator(place, bias=not norm).model_copy(update={"weight_bits": weight_bits, "activation_bits": bits})
        out = operator.lower(self.builder, name, [read[source] for source in kind.sources(place)])
        if norm and not kind.norm_inside:
            shape, axis = operator.out_shape, "fields" if kind.name == "efc" else "features"
            if kind.name == "interact":
                shape = (math.prod(shape),)  # normalised before it is cut into fields
            out = LayerNorm(shape=shape, axis=axis, activation_bits=bits).lower(self.builder, f"{name}.norm", (out,))
        if kind.activation != "none":
            elements = math.prod(operator.out_shape)
            activation = {"name": f"{name}.{kind.activation}", "function": kind.activation, "activation_bits": bits}
            out = self.builder.add(Elementwise(inputs=(out,), elements=elements, **activation))
        return out

    def _joined(self, name: str, sources: list[tuple[int, tuple[int, ...]]], outputs: dict[int, str], bits: int) -> str | None:
        return self._concat(name, [(outputs[i], shape) for i, shape in sources], bits) if sources else None

    def _concat(self, name: str, parts: list[tuple[str, tuple[int, ...]]], bits: int) -> str:
        join = Concat(shapes=tuple(shape for _, shape in parts)).model_copy(update={"activation_bits": bits})
        return join.lower(self.builder, name, [source for source, _ in parts])
