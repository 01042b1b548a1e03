"""A run folder: the resolved configuration, where it came from, and one writer at a time."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml

from cosearch.problem import Problem
from pimsim import configs
from pimsim.errors import ConfigError, RunError
from pimsim.spec.base import validate

_FINAL = ("final.pick", "final.seeds", "final.baselines", "final.preset")
EXTENDABLE = ("algorithm.candidates", "algorithm.polish", *_FINAL, "supernet.device")
"""Settings that may change when a run is taken up again: how far the search goes, which point is retrained, beside what, and where."""


class RunFolder:
    """A folder that one search writes.

    Attributes:
        path: The folder.
        problem: The search it belongs to.
        resolved: What names were resolved to when the run began: data set, and digests of data, space and device.
    """

    def __init__(self, path: Path, problem: Problem, resolved: dict[str, Any]) -> None:
        self.path, self.problem, self.resolved = path, problem, resolved

    @contextmanager
    def claimed(self, argv: list[str]) -> Iterator[None]:
        """Holds the folder: makes it, or checks that it belongs to the same search; writes `run.yaml` and `provenance.json`.

        Raises:
            RunError: another configuration, another running search, or a folder that cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = (self.path / ".lock").open("w")
        except OSError as error:
            raise RunError(f"{self.path}: cannot be written: {error.strerror}") from None
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RunError(f"{self.path}: another cosearch run is using this folder") from None
            self._describe(argv)
            yield

    def _describe(self, argv: list[str]) -> None:
        """Checks or writes what the folder is about."""
        tree = _resolved_tree(self.problem, self.resolved)
        if (self.path / "run.yaml").exists():
            self._same(_read_run_yaml(self.path), tree)
        elif any(p.name not in {".lock", "run.yaml.part"} for p in self.path.iterdir()):
            raise RunError(f"{self.path}: holds files but no run.yaml; give an empty or a new folder")
        write_atomic(self.path / "run.yaml", yaml.safe_dump(tree, sort_keys=False, allow_unicode=True))
        self._write_provenance(argv)

    def _same(self, before: dict[str, Any], now: dict[str, Any]) -> None:
        old, new = dict(_flatten(before)), dict(_flatten(now))
        fixed = ("algorithm.candidates",) if old.get("algorithm.polish") else ()  # polishing began where the candidates end
        for key in [*new, *old]:
            if (key not in EXTENDABLE or key in fixed) and old.get(key) != new.get(key):
                told = f"{key} is {_shown(new, key)}, but this run began with {_shown(old, key)}"
                raise RunError(f"{self.path / 'run.yaml'}: {told}; use another --out or the same settings")

    def config_digest(self) -> str:
        """Sixteen hex digits of everything that may not change when the run is taken up again."""
        tree = _resolved_tree(self.problem, self.resolved)
        fixed = {key: value for key, value in _flatten(tree) if key not in EXTENDABLE}
        return hashlib.sha256(json.dumps(fixed, sort_keys=True, default=str).encode()).hexdigest()[:16]

    def _write_provenance(self, argv: list[str]) -> None:
        path = self.path / "provenance.json"
        sessions: list[Any] = []
        if path.exists():
            try:
                sessions = json.loads(path.read_text(encoding="utf-8"))["sessions"]
            except (OSError, ValueError, KeyError, TypeError):
                sessions = []  # it only describes; the run itself is whole without it
        sessions.append({"started": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "argv": argv})
        facts = {"seed": self.problem.seed, "config_digest": self.config_digest(), **software(), "sessions": sessions}
        write_atomic(path, json.dumps(facts, indent=1) + "\n")


def open_run(path: Path) -> RunFolder:
    """An existing run folder, to be read.

    Raises:
        RunError: no such folder, or no readable run in it.
    """
    tree = _read_run_yaml(path)
    resolved = tree.pop("resolved", None)
    if not isinstance(resolved, dict):
        raise RunError(f"{path / 'run.yaml'}: resolved: missing")
    try:
        return RunFolder(path, validate(Problem, tree, str(path / "run.yaml")), resolved)
    except ConfigError as error:
        raise RunError(str(error)) from None


def is_running(path: Path) -> bool:
    """True while a search writes the folder."""
    try:
        with (path / ".lock").open("r") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
    except BlockingIOError:
        return True
    except OSError:
        return False


def _read_run_yaml(path: Path) -> dict[str, Any]:
    if not path.is_dir():
        raise RunError(f"{path}: no such run folder")
    if not (path / "run.yaml").exists():
        raise RunError(f"{path}: not a run folder (it has no run.yaml)")
    try:
        return configs.read_yaml(path / "run.yaml")
    except ConfigError as error:
        raise RunError(str(error)) from None


def _resolved_tree(problem: Problem, resolved: dict[str, Any]) -> dict[str, Any]:
    return {**problem.model_dump(mode="json"), "resolved": resolved}


def _flatten(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and plain values of a nested mapping."""
    if isinstance(tree, dict) and tree:
        for key, value in tree.items():
            yield from _flatten(value, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, tree


def _shown(flat: dict[str, Any], key: str) -> str:
    return repr(flat[key]) if key in flat else "not set"


def write_atomic(path: Path, text: str) -> None:
    """Replaces a text file in one step."""
    draft = path.with_name(path.name + ".part")
    draft.write_text(text, encoding="utf-8")
    os.replace(draft, path)


def software() -> dict[str, Any]:
    """What computed the results: package versions, git commit of a checkout, Python and processor."""
    names = ("pim-cosearch", "numpy", "numba", "torch", "pydantic", "simpy", "networkx", "optuna", "moocore", "pymoo", "pyarrow")
    versions = {}
    for name in names:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = None
    cpu = {"model": _cpu_model(), "cores": os.cpu_count()}
    return {"git": _git(), "versions": versions, "python": platform.python_version(), "platform": platform.platform(), "cpu": cpu}


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _git() -> dict[str, Any] | None:
    """Commit of the checkout that this package runs from, or None for an installed package."""
    home = Path(__file__).parent

    def ask(*arguments: str) -> str:
        run = subprocess.run(["git", "-C", str(home), *arguments], capture_output=True, text=True, timeout=20, check=True)
        return run.stdout.strip()

    try:
        if not ask("ls-files", str(Path(__file__).name)):
            return None
        return {"commit": ask("rev-parse", "HEAD"), "dirty": bool(ask("status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.SubprocessError):
        return None
