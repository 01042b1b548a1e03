"""What supernet training and final training share: fixed arithmetic, atomic files, and folders that know their settings."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pimsim.errors import RunError


@dataclass(frozen=True)
class Progress:
    """How far a training is."""

    done: int
    """Steps (supernet) or epochs (final training)."""
    total: int
    seconds: float
    """Since this call began; a resumed run counts anew."""
    loss: float
    """Training loss of the last step, or validation log loss of the last epoch."""


@contextmanager
def fixed_arithmetic(threads: int) -> Iterator[None]:
    """A fixed thread count and deterministic kernels, so that a run's bits do not depend on where or beside what it runs."""
    before, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    fill = torch.utils.deterministic.fill_uninitialized_memory
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # everything here is written before it is read
    try:
        yield
    finally:
        torch.set_num_threads(before)
        torch.use_deterministic_algorithms(deterministic)
        torch.utils.deterministic.fill_uninitialized_memory = fill


def by_chunks(rows: int, chunk: int, threads: int, made: Callable[[slice], torch.Tensor]) -> torch.Tensor:
    """Joins what is made, without gradients, of each chunk of rows.

    Chunks are dealt to threads of one arithmetic thread each: nothing waits within a chunk, its tensors stay in the caches, and no bit
    depends on the number of threads.
    """

    def one(start: int) -> torch.Tensor:
        with torch.inference_mode():  # holds for its own thread only
            return made(slice(start, start + chunk))

    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        return torch.cat(list(pool.map(one, range(0, rows, chunk))))


def save_atomically(value: Any, path: Path) -> None:
    """Writes a JSON file or, for any other suffix, a torch file, so that the path always holds a whole one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("wb") as handle:
        if path.suffix == ".json":
            handle.write((json.dumps(value, indent=1) + "\n").encode())
        else:
            torch.save(value, handle)
        handle.flush()
        os.fsync(handle.fileno())
    temporary.replace(path)


def read_torch(path: Path, mmap: bool = False) -> Any:
    """A torch file of tensors and plain values; with `mmap` processes that read it share its pages.

    Raises:
        RunError: missing or damaged.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except FileNotFoundError:
        raise RunError(f"{path}: no such file") from None
    except Exception as error:
        raise RunError(f"{path}: not a readable torch file: {str(error).splitlines()[0]}") from None


def read_json(path: Path) -> Any:
    """A JSON file.

    Raises:
        RunError: missing or damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: cannot be read: {error}") from None


def claim(folder: Path, settings: dict[str, Any]) -> None:
    """Makes a run folder these settings' own, or checks that it is.

    Raises:
        RunError: the folder belongs to other settings; names the first that differs.
    """
    path = folder / "settings.json"
    folder.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        save_atomically(settings, path)
        return
    different = _first_difference(read_json(path), json.loads(json.dumps(settings)))
    if different:
        raise RunError(f"{path}: belongs to another run: {different}; choose another folder")


def _first_difference(old: Any, new: Any, key: str = "") -> str | None:
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted({*old, *new}):
            found = _first_difference(old.get(name), new.get(name), f"{key}.{name}" if key else name)
            if found:
                return found
        return None
    return None if old == new else f"{key} is {old} there, {new} here"
