"""A kernel as users name it: `gemv`, `dot`, `reduce`, `add`, `mul`, `relu`, `embedding` with its sizes, and the primitive it stands for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt, model_validator

from pimsim.spec.base import Spec

if TYPE_CHECKING:
    from pimsim.graph import AnyPrimitive, Bits, IndexSource

_NEEDS = {
    "gemv": ("out_features", "in_features"),
    "dot": ("vectors", "dim"),
    "reduce": ("elements",),
    "add": ("elements",),
    "mul": ("elements",),
    "relu": ("elements",),
    "embedding": ("rows", "dim"),
}
_MAY = {"dot": ("full",), "reduce": ("outputs",)}


class KernelSpec(Spec):
    """One kernel and its sizes; sizes of other kernels are refused."""

    name: Literal["gemv", "dot", "reduce", "add", "mul", "relu", "embedding"]
    out_features: PositiveInt | None = None
    """gemv: rows of the matrix."""
    in_features: PositiveInt | None = None
    """gemv: columns of the matrix."""
    vectors: PositiveInt | None = None
    """dot: feature vectors of a sample."""
    full: bool | None = None
    """dot: the whole Gram matrix instead of its strict lower triangle."""
    outputs: PositiveInt | None = None
    """reduce: sums; 1 (one scalar) without."""
    elements: PositiveInt | None = None
    """add, mul, relu: elements of the result; reduce: elements that are added."""
    tables: PositiveInt = 1
    """embedding: tables."""
    rows: PositiveInt | None = None
    """embedding: rows of each table."""
    dim: PositiveInt | None = None
    """embedding: elements of a row; dot: elements of a vector."""
    pooling: PositiveInt = 1
    """embedding: look-ups per table and sample (pooling factor)."""
    bits: Literal[4, 8, 16, 32] | None = None
    """Bits of an element; 16, for embedding rows 32."""
    zipf: NonNegativeFloat | None = None
    """embedding: rows are drawn with this Zipf exponent; uniform without."""
    indices: str | None = None
    """embedding: `.npz` file with one int array (samples, pooling) for each of `table0`, `table1` ..."""
    seed: NonNegativeInt = 0
    """embedding: seed of the draw."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        needed, allowed = _NEEDS[self.name], _MAY.get(self.name, ())
        for key in needed:
            if getattr(self, key) is None:
                raise ValueError(f"{key} is missing (kernel {self.name} needs it)")
        for key in sorted({key for keys in (*_NEEDS.values(), *_MAY.values()) for key in keys} - {*needed, *allowed}):
            if getattr(self, key) is not None:
                raise ValueError(f"{key} does not belong to kernel {self.name} (needed: {', '.join(needed)})")
        if self.name == "dot" and not self.full and self.vectors == 1:
            raise ValueError("vectors: 1: a strict lower triangle needs at least 2 (or give full)")
        if self.name == "reduce" and (self.elements or 1) % (self.outputs or 1):
            raise ValueError(f"elements: {self.elements}: must be a multiple of outputs, {self.outputs}")
        if self.zipf is not None and self.indices is not None:
            raise ValueError("give zipf or indices, not both")
        return self

    def primitive(self) -> AnyPrimitive:
        """The operator, sizes per sample."""
        from pimsim.graph import Elementwise, Gather, MatMul, Product, Reduce, Table

        bits: Bits = self.bits or (32 if self.name == "embedding" else 16)
        if self.name == "gemv":
            out, into = self.out_features or 1, self.in_features or 1
            return MatMul(name="gemv", out_features=out, in_features=into, weight_bits=bits, activation_bits=bits)
        if self.name == "dot":
            many, long = self.vectors or 1, self.dim or 1
            return Product(name="dot", m=many, k=long, n=many, triangle=not self.full, activation_bits=bits)
        if self.name == "reduce":
            return Reduce(name="reduce", elements_in=self.elements or 1, elements_out=self.outputs or 1, activation_bits=bits)
        if self.name == "embedding":
            rows, dim = self.rows or 1, self.dim or 1
            names = [f"table{number}" for number in range(self.tables)]
            each = tuple(Table(name=name, rows=rows, dim=dim, bits=bits, pooling=self.pooling) for name in names)
            return Gather(name="embedding", tables=each)
        operands = 1 if self.name == "relu" else 2
        return Elementwise(name=self.name, function=self.name, elements=self.elements or 1, operands=operands, activation_bits=bits)

    def source(self) -> IndexSource:
        """Where the rows of an embedding kernel come from."""
        from pimsim.graph import IndexSource

        if self.indices is not None:
            return IndexSource(kind="file", path=self.indices)
        if self.zipf is None:
            return IndexSource(kind="uniform", seed=self.seed)
        return IndexSource(kind="zipf", exponent=self.zipf, seed=self.seed)
