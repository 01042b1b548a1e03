"""The kernels' disk cache: an edited callee in another file is never served stale."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from pimsim.kernels import cache

CALLEE = "from numba import njit\n\n@njit(cache=True)\ndef callee(x):\n    return x + {value}\n"
CALLER = """
from numba import njit
from kernelpack.callee import callee

@njit(cache=True)
def caller(x):
    return callee(x) * 10
"""
INIT = """
import numba
from pathlib import Path
from pimsim.kernels.cache import cache_folder
numba.config.CACHE_DIR = str(cache_folder(Path(__file__).parent, numba.__version__))
"""


def _run(folder: Path) -> int:
    environment = os.environ | {"XDG_CACHE_HOME": str(folder / "cache"), "PYTHONPATH": str(folder), "NUMBA_CACHE_DIR": ""}
    code = "from kernelpack.caller import caller; print(caller(1), sum(caller.stats.cache_hits.values()))"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    value, hits = done.stdout.split()
    return int(value) * 1000 + int(hits)


def test_edited_callee_is_compiled_again(tmp_path):
    pack = tmp_path / "kernelpack"
    pack.mkdir()
    (pack / "__init__.py").write_text(INIT)
    (pack / "caller.py").write_text(CALLER)
    (pack / "callee.py").write_text(CALLEE.format(value=1))
    assert _run(tmp_path) == 20_000  # compiled
    assert _run(tmp_path) == 20_001  # from the cache
    (pack / "callee.py").write_text(CALLEE.format(value=4))
    assert _run(tmp_path) == 50_000  # compiled again, not the stale 20


def test_digest_covers_every_file_and_the_version(tmp_path):
    (tmp_path / "a.py").write_text("1")
    (tmp_path / "b.py").write_text("2")
    first = cache.source_digest(tmp_path, "1.0")
    assert first == cache.source_digest(tmp_path, "1.0")
    assert first != cache.source_digest(tmp_path, "1.1")
    (tmp_path / "b.py").write_text("3")
    second = cache.source_digest(tmp_path, "1.0")
    (tmp_path / "b.py").rename(tmp_path / "c.py")
    assert len({first, second, cache.source_digest(tmp_path, "1.0")}) == 3


def test_unwritable_folders_fall_back(tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    monkeypatch.setenv("HOME", str(blocked))
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setattr(cache.tempfile, "gettempdir", lambda: str(tmp_path / "tmp"))
    assert cache.cache_folder(tmp_path, "1").is_relative_to(tmp_path / "tmp")


def test_kernels_use_it():
    import numba

    import pimsim.kernels

    folder = Path(pimsim.kernels.__file__).parent
    assert Path(numba.config.CACHE_DIR).name == f"kernels-{cache.source_digest(folder, numba.__version__)}"
