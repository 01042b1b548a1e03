"""`pimsim validate`: every published row has its case, verdicts and exit status are honest."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from pimsim.commands.validate import validate
from pimsim.errors import ConfigError
from validation import run
from validation.run import Case, judged, references, run_cases

TARGETS = Path(__file__).parents[3] / "shared" / "golden" / "pim" / "published_targets.csv"


def test_every_published_row_has_a_case() -> None:
    if not TARGETS.exists():
        pytest.skip(f"no reference data at {TARGETS}")
    with TARGETS.open() as handle:
        rows = {row["id"]: row["status"] for row in csv.DictReader(handle)}
    cases = [case for reference in references() for case in reference.cases]
    for id, status in rows.items():
        own = [case for case in cases if case.id == id or case.id.startswith(f"{id}-")]
        assert own, id
        known = status.split()[0].lower()
        assert all(case.status == known or (known == "recalled" and case.status in ("verified", "secondary")) for case in own), (id, known)


def test_every_case_names_a_function_that_exists() -> None:
    import importlib

    for reference in references():
        for case in reference.cases:
            if case.run is not None:
                module, _, name = case.run.partition(":")
                assert callable(getattr(importlib.import_module(f"validation.cases.{module}"), name))


def test_verdicts(monkeypatch: pytest.MonkeyPatch) -> None:
    claim = {"id": "X", "metric": "bytes", "published": 80000, "source": "-", "status": "verified", "tolerance": 0.01}
    case = Case.model_validate(claim | {"run": "workload:gathered_bytes", "arguments": {"name": "rm1"}})
    wrong = judged("s", case)
    assert wrong.simulated == 81920 and wrong.relative_error == pytest.approx(0.024) and wrong.ok is False and wrong.failed
    assert not judged("s", case.model_copy(update={"known_gap": "measured"})).failed
    assert judged("s", case.model_copy(update={"published": 81920.0})).ok is True
    absent = Case.model_validate(claim | {"run": "dram:worst_cycles", "arguments": {"simulator": "dramsim3"}})
    monkeypatch.setattr(run, "GOLDEN", Path("nowhere"))
    from validation.cases import dram

    dram._runs.cache_clear()
    skipped = judged("s", absent)
    assert skipped.ok is None and not skipped.failed and "nowhere" in (skipped.skipped or "")


def test_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    validate(only=["DLRM"], json=str(tmp_path / "v.json"))
    printed = capsys.readouterr().out
    assert "DLRM-2" in printed and "not modelled" in printed and "AIM-1" not in printed
    cases = json.loads((tmp_path / "v.json").read_text())["cases"]
    assert {"id", "system", "metric", "source", "status", "published", "simulated", "relative_error", "tolerance", "ok"} <= set(cases[0])
    assert [case["ok"] for case in cases] == [None, True, True, True]
    with pytest.raises(ConfigError, match="unknown case 'DRLM'; did you mean 'DLRM"):
        list(run_cases(["DRLM"]))
    wrong = {"id": "BAD", "metric": "bytes", "published": 1, "source": "-", "status": "verified", "tolerance": 0.1}
    bad = Case.model_validate(wrong | {"run": "workload:gathered_bytes", "arguments": {"name": "rm1"}})
    monkeypatch.setattr(run, "references", lambda: [run.Reference(system="s", cases=[bad])])
    with pytest.raises(SystemExit) as stopped:
        validate(only=None, json=None)
    assert stopped.value.code == 1 and "FAILED" in capsys.readouterr().out
