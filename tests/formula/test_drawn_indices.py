"""Drawn indices against their distributions; index files and their errors."""

from __future__ import annotations

import numpy as np
import pytest

from pimsim.errors import ConfigError
from pimsim.graph import Gather, IndexSource, Table, Workload
from pimsim.mapping.indices import draw_indices, scatter, zipf_ranks
from workloads.data.tables import Schema, Split
from workloads.indices import drawn, load_npz, save_npz, trace_from_split


def _workload(source: IndexSource, folder=None, **tables) -> Workload:
    made = tuple(Table(name=name, rows=rows, dim=4, pooling=pooling) for name, (rows, pooling) in tables.items())
    return Workload(name="w", operators=(Gather(name="g", tables=made),), indices=source, folder=folder and str(folder))


@pytest.mark.parametrize("exponent", [0.0, 0.8, 1.0, 1.05, 2.0])
@pytest.mark.parametrize("rows", [1, 7, 1000, 200_000])
def test_zipf_frequencies_follow_the_law(rows, exponent):
    """Chi-square of the observed counts of rank bins against the exact probabilities; 200,000 rows reach the integrated tail."""
    draws = 200_000
    ranks = zipf_ranks(np.random.default_rng(7).random(draws), rows, exponent)
    assert ranks.min() >= 0 and ranks.max() < rows
    mass = np.arange(1, rows + 1, dtype=float) ** -exponent
    cumulative = np.concatenate([[0.0], np.cumsum(mass / mass.sum())])
    edges = np.unique(np.geomspace(1, rows + 1, 25).astype(int)) - 1  # bins 0..rows
    edges[-1] = rows
    observed = np.histogram(ranks, bins=[*edges[:-1], edges[-1]])[0] if len(edges) > 1 else np.array([draws])
    expected = draws * np.diff(cumulative[edges]) if len(edges) > 1 else np.array([float(draws)])
    chi_square = ((observed - expected) ** 2 / np.maximum(expected, 1e-12)).sum()
    freedom = max(len(expected) - 1, 1)
    assert chi_square < freedom + 6 * np.sqrt(2 * freedom)


def test_zipf_tail_joins_the_head():
    """The rank at given quantiles equals that of the exact distribution function of 300,000 rows."""
    rows, exponent = 300_000, 1.05
    cumulative = np.cumsum(np.arange(1, rows + 1, dtype=float) ** -exponent)
    uniform = np.linspace(0, 1, 20_001)[:-1] + 1e-6
    exact = np.searchsorted(cumulative, uniform * cumulative[-1], side="right")
    assert np.abs(zipf_ranks(uniform, rows, exponent) - exact).max() <= 1


def test_zipf_of_a_huge_table_needs_no_huge_array():
    ranks = zipf_ranks(np.random.default_rng(0).random(100_000), 10**12, 0.9)
    assert ranks.max() < 10**12 and ranks.max() > 10**11


@pytest.mark.parametrize("rows", [1, 2, 3, 10, 64, 97, 4000, 6561])
def test_scatter_is_one_to_one(rows):
    scattered = scatter(np.arange(rows), rows)
    assert sorted(scattered) == list(range(rows))
    if rows >= 64:
        assert np.abs(np.diff(scattered[:8])).min() > 8  # popular rows do not lie side by side


def test_scatter_stays_within_64_bits():
    rows = 10**12 + 39
    ranks = np.array([0, 1, rows // 2, rows - 1])
    scattered = scatter(ranks, rows)
    multiplier = int(scattered[1])
    assert [int(r) * multiplier % rows for r in ranks] == list(scattered)


@pytest.mark.parametrize("kind", ["uniform", "zipf"])
def test_draws_are_seeded_and_nested(kind):
    source = IndexSource(kind=kind, seed=3)
    both = draw_indices(_workload(source, a=(1000, 4), b=(50, 1)), 200)
    assert both["a"].shape == (200, 4) and both["a"].dtype == np.int64
    assert both["b"].shape == (200, 1) and both["b"].max() < 50 and both["b"].min() >= 0
    alone = draw_indices(_workload(source, a=(1000, 4)), 50)["a"]
    np.testing.assert_array_equal(alone, both["a"][:50])  # neither other tables nor the length matter
    other = draw_indices(_workload(source.model_copy(update={"seed": 4}), a=(1000, 4)), 50)["a"]
    assert (alone != other).mean() > 0.5
    tables = [Table(name="a", rows=1000, dim=4, pooling=4)]
    np.testing.assert_array_equal(drawn(tables, 50, source)["a"], alone)
    assert draw_indices(_workload(source.model_copy(update={"seed": -1}), a=(10, 1)), 3)["a"].shape == (3, 1)


def test_uniform_draws_fill_the_table_evenly():
    counts = np.bincount(draw_indices(_workload(IndexSource(kind="uniform"), a=(20, 5)), 20_000)["a"].ravel(), minlength=20)
    assert ((counts - 5000) ** 2 / 5000).sum() < 19 + 6 * np.sqrt(38)


def test_file_round_trip_and_repetition(tmp_path):
    trace = {"a": np.array([[1, 2], [3, 4], [9, 0]]), "b": np.array([[0], [1], [2]])}
    save_npz(tmp_path / "trace.npz", trace)
    for name, array in load_npz(tmp_path / "trace.npz").items():
        np.testing.assert_array_equal(array, trace[name])
    workload = _workload(IndexSource(kind="file", path="trace.npz"), folder=tmp_path, a=(10, 2), b=(3, 1))
    indices = draw_indices(workload, 5)
    np.testing.assert_array_equal(indices["a"], trace["a"][[0, 1, 2, 0, 1]])
    assert indices["b"].dtype == np.int64 and indices["b"].ravel().tolist() == [0, 1, 2, 0, 1]


def test_bad_index_files_are_named(tmp_path):
    save_npz(tmp_path / "trace.npz", {"a": np.array([[1, 2], [3, 40]])})
    source = IndexSource(kind="file", path="trace.npz")
    with pytest.raises(ConfigError, match=r"trace\.npz: a: sample 1 looks up row 40, allowed 0 to 9"):
        draw_indices(_workload(source, tmp_path, a=(10, 2)), 1)
    with pytest.raises(ConfigError, match=r"a: shape \(2, 2\), expected \(samples, 3\)"):
        draw_indices(_workload(source, tmp_path, a=(100, 3)), 1)
    with pytest.raises(ConfigError, match="unknown table 'aa'; did you mean 'a'"):
        draw_indices(_workload(source, tmp_path, aa=(100, 2)), 1)
    with pytest.raises(ConfigError, match="no such file"):
        draw_indices(_workload(IndexSource(kind="file", path="none.npz"), tmp_path, a=(10, 2)), 1)
    with pytest.raises(ConfigError, match=r"indices\.path: missing"):
        draw_indices(_workload(IndexSource(kind="file"), tmp_path, a=(10, 2)), 1)
    (tmp_path / "text.npz").write_text("not an archive")
    with pytest.raises(ConfigError, match=r"text\.npz: not a readable \.npz"):
        draw_indices(_workload(IndexSource(kind="file", path="text.npz"), tmp_path, a=(10, 2)), 1)
    np.savez(tmp_path / "float.npz", a=np.array([[0.5, 1.0]]))
    with pytest.raises(ConfigError, match="float64 array"):
        load_npz(tmp_path / "float.npz")
    with pytest.raises(ConfigError, match="'file'"):
        drawn([], 1, source)


def test_a_table_name_stands_once():
    twice = Workload(
        name="w",
        operators=tuple(Gather(name=n, tables=(Table(name="a", rows=5, dim=4),)) for n in ("g", "h")),
    )
    with pytest.raises(ConfigError, match="'a' stands twice"):
        draw_indices(twice, 1)


def test_trace_keeps_the_order_of_a_split():
    ids = np.stack([np.arange(100), np.arange(100) % 7], axis=1).astype(np.int32)
    split = Split(np.zeros((100, 0), np.float32), ids, np.zeros(100, np.uint8))
    trace = trace_from_split(split, Schema(sparse=("x", "y"), cardinalities=(100, 7)), 150, seed=5)
    assert trace["x"].shape == (150, 1) and trace["x"].dtype == np.int64
    assert set(np.unique(np.diff(trace["x"].ravel()) % 100)) == {1}  # consecutive rows, then from the start again
    np.testing.assert_array_equal(trace["y"].ravel(), trace["x"].ravel() % 7)
