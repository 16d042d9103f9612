"""What is kept under the user's cache folder: how much of which kind, and how to be rid of it."""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from costmodels.errors import InputError
from costmodels.files import cache_folder

__all__ = ["CLEARED", "KINDS", "CacheKind", "clear_cache", "describe_cache"]

KINDS = {
    "features": "of data sets' programs; extracting them takes minutes",
    "networks": "imported, fused and described; seconds",
    "schedules": "the best that tuning runs measured; those runs",
    "overheads": "what `costmodels calibrate` measured here; seconds or minutes",
    "bandwidth.json": "of this machine's memory; a second",
}
"""File or folder -> what it holds, and what it takes to make it again."""
LEARNED = frozenset({"schedules"})
"""What only goes when it is named: months of tuning may be in it."""
CLEARED = tuple(name for name in KINDS if name not in LEARNED)


@dataclass(frozen=True)
class CacheKind:
    """One kind of what is kept.

    Attributes
    ----------
    name : str
        Of its file or folder.
    what : str
        What it holds, and what it takes to make it again.
    entries : int
        Files and folders in it.
    size_bytes : int
        Of all files.
    """

    name: str
    what: str
    entries: int
    size_bytes: int


def describe_cache() -> tuple[CacheKind, ...]:
    """Tell what is kept, of every kind, those without an entry too."""
    root = cache_folder("")
    return tuple(_describe(root / name, what) for name, what in KINDS.items())


def _describe(path: Path, what: str) -> CacheKind:
    entries = list(path.iterdir()) if path.is_dir() else [path] if path.is_file() else []
    return CacheKind(path.name, what, len(entries), sum(map(_size_of, _files(entries))))


def _files(entries: Sequence[Path]) -> Iterator[Path]:
    for entry in entries:
        yield from (each for each in entry.rglob("*") if each.is_file())
        if entry.is_file():
            yield entry


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # another process has just removed it
        return 0


def clear_cache(names: Sequence[str] = CLEARED) -> None:
    """Remove what is kept.

    Parameters
    ----------
    names : sequence of str
        Of `KINDS`; by default all but `LEARNED`.

    Raises
    ------
    InputError
        When there is no such kind, or something cannot be removed.
    """
    for name in names:
        if name not in KINDS:
            raise InputError(f"a kind of cache must be one of {', '.join(KINDS)}, got {name!r}")
    for name in names:
        path = cache_folder(name)
        try:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        except OSError as error:
            raise InputError(
                f"{error.filename or path} must be one that can be removed, got: {error.strerror}"
            ) from None
