"""One-way imports, no torch in the simulator, Numba only in the kernels, light start-up."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ORDER = ["pimsim", "workloads", "supernet", "cosearch"]
FORBIDDEN_IN_PIMSIM = {"torch", "workloads", "supernet", "cosearch", "validation", "sklearn", "optuna"}
VALIDATE = ROOT / "pimsim" / "commands" / "validate.py"
"""The one file that may import the references: the command that runs them."""
HEAVY = {"torch", "matplotlib", "altair", "sklearn", "pandas", "pyarrow", "optuna", "simpy", "jinja2"}


def imports(path: Path) -> list[tuple[str, bool]]:
    """Every (module, at module level outside TYPE_CHECKING) of a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    top = {id(node) for node in tree.body}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, id(node) in top) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.append((node.module, id(node) in top))
    return found


def files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("package", ORDER)
def test_imports_run_one_way(package: str) -> None:
    above = set(ORDER[ORDER.index(package) + 1 :]) | {"validation", "tests", "benchmarks"}
    wrong = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in files(package)
        for name, _ in imports(path)
        if name.split(".")[0] in above and not (name == "validation.run" and path == VALIDATE)
    ]
    assert not wrong


def test_the_simulator_never_imports_torch() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in files("pimsim")
        for name, _ in imports(path)
        if name.split(".")[0] in FORBIDDEN_IN_PIMSIM and path != VALIDATE
    ]
    assert not wrong


def test_numba_stays_in_the_kernels_and_pydantic_above_them() -> None:
    wrong = []
    for path in files("pimsim"):
        in_kernels = "kernels" in path.parts
        for name, _ in imports(path):
            head = name.split(".")[0]
            if head == "numba" and not in_kernels:
                wrong.append(f"{path.relative_to(ROOT)}: numba above the kernels")
            if in_kernels and (head == "pydantic" or name.startswith("pimsim.spec")):
                wrong.append(f"{path.relative_to(ROOT)}: {name} below the lowering")
    assert not wrong


@pytest.mark.parametrize("package", ["pimsim", "workloads", "cosearch"])
def test_heavy_imports_stand_inside_functions(package: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)}: {name}" for path in files(package) for name, top in imports(path) if top and name.split(".")[0] in HEAVY
    ]
    assert not wrong


def test_no_file_explains_nothing() -> None:
    names = [path for package in ORDER for path in files(package) if path.stem in {"utils", "helpers", "common", "misc"}]
    assert not names


@pytest.mark.parametrize("module", ["pimsim", "pimsim.api", "pimsim.cli"])
def test_start_up_loads_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print(' '.join(sorted(set(sys.modules) & {HEAVY!r})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_cosearch_help_loads_no_torch() -> None:
    code = "import sys, cosearch.cli; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
