"""Operators placed by name in the simulator, and the placement of a model on a device by the command."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from cosearch.cli import app
from cosearch.placement.device import on_sides, place
from pimsim.api import load_device, load_workload, simulate
from pimsim.errors import ConfigError


@pytest.fixture(scope="module")
def model():
    return load_workload("dlrm_frappe")


def latencies(report):
    return {row.name: (row.unit, row.latency_us) for row in report.operators}


@pytest.mark.parametrize("fidelity", ["event", "analytic"])
def test_an_operator_placed_by_name_costs_what_its_kind_costs_there(model, fidelity):
    """Placing every operator by name is placing the kinds; placing one changes one."""
    host = {"mapping.embedding": "host", "mapping.matmul": "host"}
    at_units = {"mapping.embedding": "pim", "mapping.matmul": "pim"}
    one = simulate(load_device("hbm_pim", host | {"mapping.operators": {"bottom.1": "pim"}}), model, fidelity=fidelity)
    none, all_ = (simulate(load_device("hbm_pim", sides), model, fidelity=fidelity) for sides in (host, at_units))
    changed = [name for name, row in latencies(one).items() if row[0] != latencies(none)[name][0]]
    assert changed == ["bottom.1"]
    assert latencies(one)["bottom.1"] == latencies(all_)["bottom.1"]
    named = {row.name: "pim" for row in all_.operators if row.unit == "pim"}
    assert len(named) > 5
    same = simulate(load_device("hbm_pim", host | {"mapping.operators": named}), model, fidelity=fidelity)
    assert latencies(same) == latencies(all_)


@pytest.mark.parametrize(
    ("operators", "message"),
    [({"botom.1": "pim"}, "botom.1.*bottom.1"), ({"bottom.1.relu": "pim"}, "run on the host only"), ({"bottom.1": "gpu"}, "pim|host")],
)
def test_a_wrong_name_or_side_is_one_line(model, operators, message):
    with pytest.raises(ConfigError, match=message):
        simulate(load_device("hbm_pim", {"mapping.operators": operators}), model)


@pytest.mark.parametrize("goal", ["latency", "energy", "edp"])
def test_the_answer_is_the_simulators_and_never_worse_than_the_plain_placements(model, goal):
    device = load_device("hbm_pim")
    found = place(model, device, goal)

    def value(report):
        latency, energy = report.latency_us["mean"], report.energy_uj_per_sample["total"]
        return {"latency": latency, "energy": energy, "edp": latency * energy}[goal]

    again = simulate(on_sides(device, found.operators), model)
    assert value(again) == value(found.reports[found.chosen])
    assert all(value(again) <= value(report) for report in found.reports.values())


def test_on_a_dlrm_a_mixture_is_faster_than_either_side(model):
    found = place(model, load_device("hbm_pim"))
    assert set(found.operators.values()) == {"host", "pim"}
    assert found.reports[found.chosen].latency_us["mean"] < min(found.reports[side].latency_us["mean"] for side in ("host", "pim"))


def test_behind_a_narrow_link_work_stays_together(model):
    """A result costs a transfer either way; what is small stays on the host, and the answer still holds up in simulation."""
    device = load_device("hbm_pim", {"link": "pcie3_x16"})
    found = place(model, device)
    assert found.reports[found.chosen].latency_us["mean"] <= min(found.reports[side].latency_us["mean"] for side in ("host", "pim"))


def test_the_command_writes_a_device_that_runs_as_it_says(tmp_path):
    runner, device, facts = CliRunner(), tmp_path / "placed.yaml", tmp_path / "facts.json"
    done = runner.invoke(app, ["place", "dlrm_frappe", "hbm_pim", "--out", str(device), "--json", str(facts)])
    assert done.exit_code == 0, done.output
    found = json.loads(facts.read_text())
    report = simulate(load_device(str(device)), load_workload("dlrm_frappe"))
    assert report.latency_us["mean"] == found["totals"][found["chosen"]]["latency_us"]
    assert set(found["options"]["bottom.1"]) == {"host", "pim"}
    assert "search for latency" in done.output


def test_bad_input_is_one_line():
    for arguments, message in [(["dlrm_frappe", "ddr4_3200"], "no units"), (["dlrm_frappe", "hbm_pim", "--goal", "speed"], "speed")]:
        done = CliRunner().invoke(app, ["place", *arguments])
        assert isinstance(done.exception, ConfigError) or done.exit_code == 2
        assert message in f"{done.exception} {done.output}"
