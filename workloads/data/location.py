"""Where raw data and binary caches lie."""

from __future__ import annotations

import os
from pathlib import Path


def data_root() -> Path:
    """Folder of the raw data sets: `$COSEARCH_DATA`, else `../shared/data` beside the checkout, else `~/.cache/cosearch/data`."""
    chosen = os.environ.get("COSEARCH_DATA")
    if chosen:
        return Path(chosen).expanduser()
    beside = Path(__file__).resolve().parents[2].parent / "shared" / "data"
    return beside if beside.is_dir() else Path.home() / ".cache" / "cosearch" / "data"


def cache_root() -> Path:
    """Folder of the binary caches: `$COSEARCH_CACHE`, else `~/.cache/cosearch/cache`."""
    chosen = os.environ.get("COSEARCH_CACHE")
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "cosearch" / "cache"
