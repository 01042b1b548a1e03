"""The look-up kernels: equal to a plain sum of decoded rows in every format, and to torch's embedding bags on torch's own tables."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pimsim.errors import ConfigError
from pimsim.numerics.embedding import FORMATS, StoredTable, embedding_bag

STEP = {"float32": 0, "float16": 2**-11, "bfloat16": 2**-8, "int8": 1 / 255, "int4": 1 / 15}


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.sampled_from(FORMATS),
    st.integers(1, 30),
    st.integers(1, 70),
    st.lists(st.integers(0, 50), min_size=1, max_size=9),
    st.booleans(),
    st.integers(0, 99),
)
def test_sums_equal_plain_sums(format: str, rows: int, dim: int, pooling: list[int], weighted: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    dim += dim % 2 if format == "int4" else 0
    values = rng.normal(size=(rows, dim)).astype(np.float32)
    table = StoredTable.encode(values, format)
    assert np.abs(table.decode() - values).max() <= STEP[format] * (np.ptp(values) + 4)
    offsets = np.concatenate([[0], np.cumsum(pooling)])
    indices = rng.integers(0, rows, offsets[-1])
    weights = rng.normal(size=len(indices)) if weighted else None
    decoded = table.decode().astype(np.float64)
    factors = np.ones(len(indices)) if weights is None else weights.astype(np.float32).astype(np.float64)
    expected = np.array([(decoded[indices[a:b]] * factors[a:b, None]).sum(axis=0) for a, b in pairwise(offsets)])
    ours = embedding_bag(table, indices, offsets, weights=weights)
    assert ours == pytest.approx(expected, abs=2e-5 * (1 + max(pooling)))
    assert np.array_equal(ours, embedding_bag(table, indices, offsets, weights=weights, threads=2))
    if weights is None:
        mean = embedding_bag(table, indices, offsets, mode="mean")
        assert mean == pytest.approx(expected / np.maximum(pooling, 1)[:, None], abs=4e-5)


def test_torch_reads_the_same_tables() -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(5)
    values = rng.normal(size=(500, 48)).astype(np.float32)
    indices, offsets = rng.integers(0, 500, 400), np.arange(0, 401, 20)
    into = torch.from_numpy(indices), torch.from_numpy(offsets[:-1].copy())
    for format, kind in (("float32", torch.float32), ("float16", torch.float16), ("bfloat16", torch.bfloat16)):
        table = StoredTable.encode(values, format)
        theirs = torch.frombuffer(bytearray(table.data.tobytes()), dtype=kind).reshape(500, 48)
        expected = torch.nn.functional.embedding_bag(into[0], theirs, into[1], mode="sum").float().numpy()
        room = {"float32": 1e-5, "float16": 2e-2, "bfloat16": 0.2}[format]  # torch rounds the sums to the table's format
        assert embedding_bag(table, indices, offsets) == pytest.approx(expected, abs=room)
    bags = {"int8": "embedding_bag_byte", "int4": "embedding_bag_4bit"}
    for format, name in bags.items():
        packed = getattr(torch.ops.quantized, f"{name}_prepack")(torch.from_numpy(values))
        look_up = getattr(torch.ops.quantized, f"{name}_rowwise_offsets")
        expected = look_up(packed, *into, False, 0, False, None, None, False).numpy()
        theirs = StoredTable(format, 48, packed.numpy())
        assert embedding_bag(theirs, indices, offsets) == pytest.approx(expected, abs=2e-3 if format == "int4" else 1e-4)
        own = getattr(torch.ops.quantized, f"{name}_unpack")(torch.from_numpy(StoredTable.encode(values, format).data)).numpy()
        assert StoredTable.encode(values, format).decode() == pytest.approx(own, abs=1e-3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0, 9], [0, 2]), "look-up 1: row 9 is not in 0..3"),
        (([0, 1], [0, 3]), "must rise from 0 to the 2 look-ups"),
        (([0, 1], [0, 2], "max"), "unknown mode 'max'"),
        (([0, 1], [0, 2], "mean", [1, 2]), "mode sum"),
        (([0, 1], [0, 2], "sum", [1]), "one for each of the 2 look-ups"),
    ],
)
def test_bad_look_ups(arguments: tuple, message: str) -> None:
    table = StoredTable.encode(np.zeros((4, 8)), "float16")
    with pytest.raises(ConfigError, match=message):
        embedding_bag(table, *arguments)
    with pytest.raises(ConfigError, match="unknown row format 'fp8'"):
        StoredTable.encode(np.zeros((4, 8)), "fp8")
