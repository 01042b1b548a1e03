"""Builds binary caches from raw files: the body of `cosearch data`."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pimsim.errors import DataError
from workloads.data.adapters.base import Adapter, adapter, missing_files
from workloads.data.cache import read_meta, source_digest
from workloads.data.location import cache_root


def prepare(dataset: str, source: Path, progress: Callable[[str], None] | None = None) -> Path:
    """The cache folder of a data set, built from raw files unless it is there already.

    Args:
        dataset: an adapter's name, with its settings if wanted: `criteo`, `criteo:min_count=5`.
        source: folder with the adapter's raw files, or one raw file where the adapter reads such.
        progress: gets lines of text; standard error by default.

    Raises:
        DataError: unknown name, missing or malformed raw files, or a cache folder that cannot be written.
        ConfigError: an unknown or invalid setting.
    """
    chosen = adapter(dataset)
    source = Path(source)
    say = progress or _say
    absent = missing_files(chosen, source)
    if absent:
        others = f" (or {', '.join(chosen.also_called)})" if chosen.also_called else ""
        raise DataError(f"data set {dataset!r}: no {', '.join(str(path) for path in absent)}{others}")
    digests = {path.name: {"sha256": source_digest(path), "bytes": path.stat().st_size} for path in chosen.source_files(source)}
    folder = cache_root() / f"{chosen.name}-{_key(chosen, digests)}"
    if (folder / "meta.json").is_file():
        return folder
    started = time.perf_counter()
    say(f"building the cache of {dataset} in {folder}")
    settings = chosen.model_dump(mode="json")
    description = {"name": dataset, "adapter": chosen.name, "settings": settings, "source": digests}
    chosen.build(folder, source, description, say)
    rows = sum(split["rows"] for split in read_meta(folder)["splits"].values())
    say(f"built the cache of {dataset}: {rows:,} rows in {time.perf_counter() - started:.1f} s")
    return folder


def _key(chosen: Adapter, digests: dict[str, Any]) -> str:
    """Sixteen hex digits of an adapter's version and settings and the content of its raw files."""
    content = {name: entry["sha256"] for name, entry in digests.items()}
    text = json.dumps([chosen.name, chosen.version, chosen.model_dump(mode="json"), content], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
