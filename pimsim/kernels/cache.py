"""The disk cache of the compiled kernels, keyed by the digest of all kernel sources and the Numba version.

Numba's own cache looks only at the file of the cached function: an edited function in *another* file that it calls would be
served stale. Here any edit in this folder changes the folder name of the cache.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from pathlib import Path


def source_digest(folder: Path, version: str) -> str:
    """Digest of every Python source in a folder and of a version string."""
    digest = hashlib.sha256(version.encode())
    for path in sorted(folder.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def cache_folder(folder: Path, version: str) -> Path:
    """A writable cache folder: `$NUMBA_CACHE_DIR`, `$XDG_CACHE_HOME` or `~/.cache`, else the temporary folder."""
    name = f"kernels-{source_digest(folder, version)}"
    roots = [os.environ.get("NUMBA_CACHE_DIR"), os.environ.get("XDG_CACHE_HOME"), os.path.expanduser("~/.cache")]
    for root in [*filter(None, roots), os.path.join(tempfile.gettempdir(), f"pimsim-cache-{os.getuid()}")]:
        path = Path(root) / "pimsim" / name
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(path, os.W_OK):
            return path
    return Path(tempfile.mkdtemp(prefix="pimsim-kernels-"))


def skip_scipy() -> None:
    """Spares the third of a second in which Numba imports SciPy only to see that BLAS is there; code that needs BLAS still asks for it."""
    import numba.np.linalg as linalg

    if "numba.np.arraymath" in sys.modules:
        return
    ensure_blas = linalg.ensure_blas
    linalg.ensure_blas = lambda: None
    try:
        import numba.np.arraymath as arraymath

        arraymath.ensure_blas = ensure_blas  # type: ignore[attr-defined]
    finally:
        linalg.ensure_blas = ensure_blas


def use_cache() -> None:
    """Points Numba at the cache folder; call before the first `@njit`."""
    import numba

    skip_scipy()
    folder = cache_folder(Path(__file__).parent, numba.__version__)
    numba.config.CACHE_DIR = str(folder)  # type: ignore[attr-defined]
