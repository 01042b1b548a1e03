"""Calibration on made-up networks: the closed form, what is chosen, an honest error, files."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pimsim.errors import RunError
from supernet.calibration import SCORE, Calibration, _loo_error, feature_values, fit_calibration


def networks(rng, count=40, noise=0.3, useful=True):
    """Quality that the score shows with noise, a size that explains part of the noise, and two features of nothing."""
    quality, size = rng.normal(size=count), rng.normal(size=count)
    score = 0.15 + 0.01 * (quality + (size if useful else 0) + noise * rng.normal(size=count))
    columns = {SCORE: score, "size": size, "coin": rng.normal(size=count), "dice": rng.normal(size=count)}
    return [{name: float(values[i]) for name, values in columns.items()} for i in range(count)], (0.14 + 0.01 * quality).tolist()


def test_leave_one_out_in_closed_form_is_that_of_refitting():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(12, 2)), rng.normal(size=12)
    z, errors = (x - x.mean(0)) / x.std(0), []
    for left in range(12):
        rest = np.arange(12) != left
        design = np.hstack([np.ones((11, 1)), z[rest]])
        weights = np.linalg.solve(design.T @ design + 0.5 * 12 * np.diag([0, 1, 1]), design.T @ y[rest])
        errors.append(y[left] - weights @ [1, *z[left]])
    assert _loo_error(x, y, 0.5) == pytest.approx(np.sqrt(np.mean(np.square(errors))))


def test_a_feature_that_explains_the_scores_error_joins_and_noise_does_not():
    rows, alone = networks(np.random.default_rng(1))
    found, _ = fit_calibration(rows, alone, 0)
    assert [feature.name for feature in found.features][:2] == [SCORE, "size"]
    assert found.features[0].coefficient > 0 > found.features[1].coefficient
    assert found.loo_rmse < 0.5 * found.spread


def test_the_error_is_that_of_networks_not_fitted_on():
    rng = np.random.default_rng(2)
    rows, alone = networks(rng, noise=1.0)
    found, held_out = fit_calibration(rows, alone, 0)
    assert found.loo_rmse == pytest.approx(float(np.sqrt(np.mean((np.array(held_out) - alone) ** 2))))
    fresh, truth = networks(rng, count=2000, noise=1.0)
    errors = [found.expect(row).logloss - y for row, y in zip(fresh, truth, strict=True)]
    assert found.loo_rmse == pytest.approx(float(np.sqrt(np.mean(np.square(errors)))), rel=0.35)


def test_pure_noise_promises_nothing():
    rng = np.random.default_rng(3)
    rows, _ = networks(rng)
    alone = rng.normal(0.14, 0.01, 40).tolist()
    found, _ = fit_calibration(rows, alone, 0)
    assert found.loo_rmse > 0.9 * found.spread


def test_networks_outside_the_range_are_marked():
    rows, alone = networks(np.random.default_rng(4))
    found, _ = fit_calibration(rows, alone, 0)
    assert found.expect(rows[0]).inside
    assert not found.expect(rows[0] | {SCORE: 0.5}).inside


def test_a_file_gives_the_calibration_back_and_a_damaged_one_is_one_line(tmp_path):
    rows, alone = networks(np.random.default_rng(5))
    found, _ = fit_calibration(rows, alone, 7)
    found.save(tmp_path / "calibration.json")
    assert Calibration.load(tmp_path / "calibration.json") == found
    assert json.loads((tmp_path / "calibration.json").read_text())["version"] == 1
    (tmp_path / "calibration.json").write_text('{"version": 2}')
    with pytest.raises(RunError, match=r"calibration\.json: not a readable calibration: another version"):
        Calibration.load(tmp_path / "calibration.json")


def test_proxies_of_many_decades_are_brought_together():
    found = feature_values(0.2, {"macs": 1e6, "jacob_cov": -1e5, "zico": 0.0})
    assert found == {SCORE: 0.2, "macs": pytest.approx(np.log1p(1e6)), "jacob_cov": pytest.approx(-np.log1p(1e5)), "zico": 0.0}
