"""Hot-set and reuse-distance indices against published locality figures; histories; hit rates against a plain reference cache."""

from __future__ import annotations

import re
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from pimsim.errors import ConfigError
from pimsim.graph import IndexSource, Table
from workloads.indices import drawn, hit_rates, load_npz, reuse, user_histories, write_hit_rate_plot

PUBLISHED = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "meta_locality" / "locality_stats_2021.txt"


def one(rows: int, samples: int, pooling: int = 1, **source) -> np.ndarray:
    table = Table(name="t", rows=rows, dim=4, pooling=pooling)
    return drawn([table], samples, IndexSource(**source))["t"]


def test_reuse_indices_follow_the_published_histogram():
    """As many look-ups as a table of the published set has in its batch; shares of rows and of look-ups by reuse of the row."""
    if not PUBLISHED.is_file():
        pytest.skip("no ../shared/data/meta_locality beside the checkout")
    first = PUBLISHED.read_text().split("\n\n")[0]
    bins = [float(value) for value in re.findall(r"^\(\d+(?:, \d+\]|\+): ([\d.]+)$", first, re.M)]
    rows, look_ups = np.array(bins[:17]), np.array(bins[17:])
    indices = one(10_000_000, 887_017_990 // 856, kind="reuse")
    counts = np.unique(indices, return_counts=True)[1]
    assert counts.mean() == pytest.approx(887_017_990 / 128_435_723, rel=0.01)
    edges = np.r_[0, 2.0 ** np.arange(16), 1e12] + 0.5
    found = np.histogram(counts, edges)[0] / len(counts)
    np.testing.assert_allclose(found[:9], rows[:9], atol=0.02)
    cumulative = np.cumsum(np.histogram(counts, edges, weights=counts)[0] / counts.sum())
    np.testing.assert_allclose(cumulative[:10], np.cumsum(look_ups)[:10], atol=0.05)


def test_recent_repetitions_are_near():
    near = one(10**6, 60_000, kind="reuse", recent_share=1.0, recent_distance=20)
    far = one(10**6, 60_000, kind="reuse", recent_share=0.0)
    small = [16 * 64 * 16]
    assert hit_rates({"t": near}, sizes=small)[0]["hit_rate"] > hit_rates({"t": far}, sizes=small)[0]["hit_rate"] + 0.3
    assert len(np.unique(near)) == pytest.approx(0.1448 * 60_000, rel=0.03)


def test_hot_rows_take_their_share():
    indices = one(1000, 50_000, pooling=2, kind="hot", hot_rows=0.1, hot_lookups=0.7)
    counts = np.sort(np.bincount(indices.ravel(), minlength=1000))[::-1]
    assert counts[:100].sum() / 100_000 == pytest.approx(0.7, abs=0.01)
    assert counts[:100].min() > 500 and counts[100:].max() < 100  # 700 and 33 look-ups expected
    assert one(1, 5, kind="hot").max() == 0


@pytest.mark.parametrize("kind", ["hot", "reuse"])
def test_draws_are_seeded_and_a_shorter_one_is_the_longer_ones_start(kind):
    long = one(500, 400, pooling=3, kind=kind)
    assert long.shape == (400, 3) and long.dtype == np.int64 and 0 <= long.min() and long.max() < 500
    np.testing.assert_array_equal(one(500, 150, pooling=3, kind=kind), long[:150])
    assert not np.array_equal(one(500, 400, pooling=3, kind=kind, seed=1), long)
    assert one(5, 400, kind=kind).max() < 5  # new rows go round


def test_hit_rates_are_those_of_a_plain_lru_cache():
    rng = np.random.default_rng(0)
    trace = {"a": rng.integers(0, 60, (800, 2)), "b": rng.geometric(0.05, (800, 1))}
    cache: OrderedDict[tuple[str, int], None] = OrderedDict()
    hits = 0
    for i in range(800):
        for name in trace:
            for row in trace[name][i]:
                hits += (name, row) in cache
                cache[name, row] = None
                cache.move_to_end((name, row))
                if len(cache) > 32:
                    cache.popitem(last=False)
    found = hit_rates(trace, row_bytes=16, ways=32, sizes=[32 * 16])
    assert found == [{"size_bytes": 512, "hit_rate": hits / 2400}]
    curve = hit_rates(trace, row_bytes=16, ways=4)
    facts = reuse(trace)
    touched = sum(fact["rows"] for fact in facts.values())
    assert curve[-1]["size_bytes"] >= touched * 16 > curve[-2]["size_bytes"]
    assert curve[0]["hit_rate"] < curve[-1]["hit_rate"] <= 1 - touched / 2400
    with pytest.raises(ConfigError, match="cache size 100: expected a multiple of"):
        hit_rates(trace, row_bytes=16, ways=4, sizes=[100])


def test_reuse_counts_by_hand():
    assert reuse({"t": np.array([[1, 1], [2, 3]])})["t"] == {
        "lookups": 4, "rows": 3, "mean_reuse": pytest.approx(4 / 3), "touched_once": pytest.approx(2 / 3), "hottest_percent_lookups": 0.5,
    }  # fmt: skip


def test_histories_are_the_users_last_items():
    rng = np.random.default_rng(1)
    user, item, time = rng.integers(0, 9, 300), rng.integers(0, 50, 300), rng.integers(0, 100, 300)
    past: dict[int, list[int]] = {}
    want, earlier = [], []
    for i in np.lexsort((np.arange(300), time)):
        before = past.setdefault(int(user[i]), [])
        earlier.append(before[-6:])
        if len(before) >= 6:
            want.append(before[-6:])
        before.append(int(item[i]))
    shorter = [[-1] * (6 - len(before)) + before for before in earlier if 2 <= len(before)]
    np.testing.assert_array_equal(user_histories(user, item, time, 6, shortest=2), shorter)
    with pytest.raises(ConfigError, match="history of 6: shortest 7, allowed 1 to 6"):
        user_histories(user, item, time, 6, shortest=7)
    found = user_histories(user, item, time, 6)
    np.testing.assert_array_equal(found, want)
    some = user_histories(user, item, time, 6, samples=40, seed=3)
    assert any(np.array_equal(some, found[i : i + 40]) for i in range(len(found) - 39))
    with pytest.raises(ConfigError, match="history of 99: 0 events"):
        user_histories(user, item, time, 99)


def test_the_command_writes_trace_and_plot(tmp_path, monkeypatch):
    from cosearch.cli import app

    monkeypatch.setenv("COSEARCH_CACHE", str(tmp_path / "cache"))
    npz, svg = tmp_path / "t.npz", tmp_path / "t.svg"
    name = "synthetic:rows=2000,fields=4,dense=2,largest=50"
    done = CliRunner().invoke(app, ["data", name, "--trace", str(npz), "--samples", "500", "--plot", str(svg)])
    assert done.exit_code == 0, done.output
    trace = load_npz(npz)
    assert list(trace) == ["s0", "s1", "s2", "s3"] and trace["s3"].shape == (500, 1)
    assert svg.read_text().startswith("<svg") and "hit rate" in svg.read_text()
    with pytest.raises(ConfigError, match=r"allowed: \.svg"):
        write_hit_rate_plot(tmp_path / "t.gif", {"t": hit_rates(trace)})
