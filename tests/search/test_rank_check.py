"""Rank statistics against hand-made orders, and the rank check of a real small run."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from scipy.stats import kendalltau, spearmanr
from typer.testing import CliRunner

from cosearch.cli import app
from pimsim.errors import ConfigError
from supernet.calibration import Calibration
from supernet.proxies import PROXIES
from supernet.rank import draw_networks, rank_statistics, tau_difference
from supernet.sampling import STRATEGIES
from supernet.space import load_space

TRUTH = [0.10, 0.11, 0.12, 0.13, 0.14, 0.15, 0.16, 0.17]


def statistics(scores, top_k=2):
    return rank_statistics(scores, TRUTH, top_k, draws=300, seed=0)


def test_the_true_order_has_tau_one_and_no_regret():
    found = statistics([x * 2 for x in TRUTH])
    assert all(found[name].value == pytest.approx(1) for name in ("kendall", "spearman", "pearson"))
    assert found["kendall"].low == pytest.approx(1)
    assert found["top_k_regret"].value == 0


def test_the_reverse_order_has_tau_minus_one_and_the_regret_of_the_worst_two():
    found = statistics([-x for x in TRUTH])
    assert found["kendall"].value == pytest.approx(-1)
    assert found["top_k_regret"].value == pytest.approx(0.06)  # 0.16 is the better of the two picked


def test_a_swapped_pair_counts_as_kendall_says():
    scores = [2, 1, 3, 4, 5, 6, 7, 8]
    found = statistics(scores)
    assert found["kendall"].value == pytest.approx(1 - 2 / 28)  # one of 28 pairs stands the wrong way round
    assert found["spearman"].value == pytest.approx(spearmanr(scores, TRUTH).statistic)


def test_the_interval_is_that_of_networks_drawn_with_replacement():
    rng = np.random.default_rng(3)
    truth = rng.normal(size=60)
    scores = truth + rng.normal(size=60)
    found = rank_statistics(scores, truth, 5, draws=800, seed=1)["kendall"]
    draws = [rng.integers(60, size=60) for _ in range(800)]
    low, high = np.percentile([kendalltau(scores[d], truth[d]).statistic for d in draws], [2.5, 97.5])
    assert found.low == pytest.approx(low, abs=0.03) and found.high == pytest.approx(high, abs=0.03)
    assert found.low < found.value < found.high


def test_a_difference_of_taus_is_taken_on_the_same_networks():
    same = tau_difference(TRUTH, TRUTH, TRUTH, draws=100, seed=0)
    assert (same.value, same.low, same.high) == (0, 0, 0)
    better = tau_difference(TRUTH, [-x for x in TRUTH], TRUTH, draws=100, seed=0)
    assert better.value == pytest.approx(2) and better.low == pytest.approx(2)


def test_fewer_than_five_networks_are_refused():
    with pytest.raises(ConfigError, match="4 networks, at least 5"):
        rank_statistics([1, 2, 3, 4], [1, 2, 3, 4], 1, 10, 0)


def test_drawn_networks_differ_and_more_begin_with_the_same():
    space = load_space("tiny")
    few, many = draw_networks(space, 6, 4), draw_networks(space, 12, 4)
    assert many[:6] == few
    assert len({network.digest() for network in many}) == 12


def test_a_single_path_reads_one_source_and_the_widest_all():
    space, rng = load_space("nasrec_full"), np.random.default_rng(0)
    for _ in range(20):
        single = STRATEGIES["single_path"](space, rng).genotype
        assert all(len(block.dense_inputs) <= 1 and len(block.sparse_inputs) <= 1 for block in single.blocks)
        wide = STRATEGIES["widest"](space, rng).genotype.blocks
        assert len(wide) == space.blocks and {block.dense_dim for block in wide if block.dense_op} == {1024}
        assert any(set(block.dense_inputs) == set(range(i + 1)) for i, block in enumerate(wide))
    drawn, same = np.random.default_rng(1), np.random.default_rng(1)
    assert STRATEGIES["any_connection"](space, drawn).genotype == space.sample(same).canonical()


def test_the_help_names_every_strategy():
    text = CliRunner().invoke(app, ["rank-check", "--help"], env={"COLUMNS": "300"}).output
    assert all(name in text for name in STRATEGIES)


def check(run, *more):
    return CliRunner().invoke(app, ["rank-check", str(run), "--models", "5", *more])


def test_a_run_is_checked_and_a_second_call_reads_what_is_there(small_run, tmp_path):
    first = check(small_run, "--strategy", "single_path", "--json", str(tmp_path / "a.json"))
    assert first.exit_code == 0, first.output
    facts = json.loads((tmp_path / "a.json").read_text())
    names = [way["name"] for way in facts["ways"]]
    assert names == [f"{s}, {how}" for s in ("any_connection", "single_path") for how in ("last layer refitted", "as trained")]
    assert facts["ways"][0]["tau_below_shipped"] is None
    for way in facts["ways"]:
        assert -1 <= way["kendall"]["low"] <= way["kendall"]["high"] <= 1
        assert way["top_k_regret"]["value"] >= 0
    assert [way["name"] for way in facts["proxies"]] == list(PROXIES)
    rows = list(csv.DictReader((small_run / "rank" / "networks.csv").open()))
    alone = [float(row["logloss_alone"]) for row in rows]
    for way in facts["proxies"]:  # a proxy speaks for a network by being large
        assert way["kendall"]["value"] == pytest.approx(kendalltau([-float(row[way["name"]]) for row in rows], alone).statistic)
    errors = np.array([float(row["calibrated"]) for row in rows]) - alone
    assert facts["calibrated"]["loo_rmse"] == pytest.approx(np.sqrt(np.mean(errors**2)))
    assert len(rows) == 5 and min(float(row["logloss_alone"]) for row in rows) == facts["truth"]["best"]
    stamps = {path: path.stat().st_mtime_ns for path in (small_run / "rank" / "alone").glob("*/result.json")}
    assert len(stamps) == 5
    again = check(small_run, "--strategy", "single_path", "--json", str(tmp_path / "b.json"))
    assert again.exit_code == 0
    assert (tmp_path / "b.json").read_text() == (tmp_path / "a.json").read_text()
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    assert not list((small_run / "rank").rglob("test_opened.log"))  # the test rows stay closed


def test_report_and_explain_say_what_to_expect_of_a_network_alone(small_run, tmp_path):
    plain = CliRunner().invoke(app, ["explain", str(small_run), "logloss", "--json", "-"]).stdout
    if not (small_run / "rank" / "calibration.json").exists():
        assert json.loads(plain)["expected_alone"] is None
        assert check(small_run).exit_code == 0
    explained = CliRunner().invoke(app, ["explain", str(small_run), "logloss", "--json", str(tmp_path / "e.json")])
    found = json.loads((tmp_path / "e.json").read_text())
    told, calibration = found["expected_alone"], Calibration.load(small_run / "rank" / "calibration.json")
    assert told["error"] == calibration.loo_rmse
    text = f"{told['logloss']:.4f} +- {told['error']:.4f}"
    assert f"expected log loss alone: {text}" in explained.stdout
    assert CliRunner().invoke(app, ["report", str(small_run)]).exit_code == 0
    assert text.replace("+-", "±") in (small_run / "report.html").read_text()


def test_an_unknown_strategy_and_a_folder_without_a_run_are_one_line(small_run, tmp_path):
    wrong = check(small_run, "--strategy", "singlepath")
    assert wrong.exit_code == 2 or isinstance(wrong.exception, ConfigError)
    with pytest.raises(Exception, match="no such run folder"):
        raise check(tmp_path / "nothing").exception
