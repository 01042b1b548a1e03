"""Intervals of test figures: DeLong's against pair counting and resampling, paired differences, files."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from pimsim.errors import RunError
from supernet.predictions import Predictions, figures, paired_difference


def predicted(rng, rows=400, strength=1.0, label=None):
    label = (rng.random(rows) < 0.3).astype(np.uint8) if label is None else label
    return Predictions(label, (rng.normal(size=len(label)) + strength * label).astype(np.float32))


def test_values_are_those_of_scikit_learn():
    one = predicted(np.random.default_rng(0))
    found = figures([one])
    assert found["auc"].value == pytest.approx(roc_auc_score(one.label, one.logit), abs=1e-12)
    assert found["logloss"].value == pytest.approx(log_loss(one.label, 1 / (1 + np.exp(-one.logit.astype(float)))), abs=1e-9)


def test_delong_variance_is_that_of_counted_pairs_with_ties():
    rng = np.random.default_rng(1)
    one = predicted(rng, rows=60)
    one = Predictions(one.label, np.round(one.logit, 1))  # ties
    above, below = one.logit[one.label == 1], one.logit[one.label == 0]
    wins = (above[:, None] > below) + 0.5 * (above[:, None] == below)
    variance = wins.mean(1).var(ddof=1) / len(above) + wins.mean(0).var(ddof=1) / len(below)
    auc = figures([one])["auc"]
    assert auc.value == pytest.approx(wins.mean())
    assert auc.high - auc.low == pytest.approx(2 * 1.959963984540054 * variance**0.5)


def test_intervals_hold_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(2)
    from scipy.stats import norm

    truth, held, draws = norm.cdf(1 / 2**0.5), 0, 600
    for _ in range(draws):
        auc = figures([predicted(rng)])["auc"]
        held += auc.low <= truth <= auc.high
    assert 0.92 < held / draws < 0.98


def test_a_paired_difference_is_tighter_than_two_intervals():
    rng = np.random.default_rng(3)
    ours = predicted(rng, rows=2000)
    near = Predictions(ours.label, ours.logit + rng.normal(0, 0.1, 2000).astype(np.float32))
    difference, alone = paired_difference([ours], [near]), figures([ours])
    for name in ("auc", "logloss"):
        assert difference[name].value == pytest.approx(alone[name].value - figures([near])[name].value)
        assert difference[name].high - difference[name].low < 0.3 * (alone[name].high - alone[name].low)
    same = paired_difference([ours], [ours])["auc"]
    assert (same.value, same.low, same.high) == (0, 0, 0)


def test_several_seeds_are_averaged_on_the_same_rows():
    rng = np.random.default_rng(4)
    first = predicted(rng)
    second = predicted(rng, label=first.label)
    both = figures([first, second])
    for name in ("auc", "logloss"):
        assert both[name].value == pytest.approx((figures([first])[name].value + figures([second])[name].value) / 2)
    auc = [figures(seeds)["auc"] for seeds in ([first], [second], [first, second])]
    assert auc[2].high - auc[2].low < min(auc[0].high - auc[0].low, auc[1].high - auc[1].low)  # their noise is independent here


def test_other_rows_and_a_damaged_file_are_refused(tmp_path):
    rng = np.random.default_rng(5)
    one, other = predicted(rng), predicted(rng)
    with pytest.raises(RunError, match="different rows"):
        paired_difference([one], [other])
    one.save(tmp_path)
    again = Predictions.load(tmp_path)
    assert np.array_equal(again.label, one.label) and np.array_equal(again.logit, one.logit)
    (tmp_path / "test_predictions.npz").write_bytes(b"PK")
    with pytest.raises(RunError, match=r"test_predictions\.npz: cannot be read"):
        Predictions.load(tmp_path)
