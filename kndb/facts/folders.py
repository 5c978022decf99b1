"""Looking for files in folders."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from ..errors import InputError

JSON_LINES = (".jsonl", ".ndjson")
TABLES = (".csv", ".tsv")


def stem(path: Path) -> str:
    """Returns a file's name without `.gz` and without the format's suffix."""
    return Path(path.name.removesuffix(".gz")).stem


def suffix(path: Path) -> str:
    """Returns the format's suffix in small letters, `.gz` left aside."""
    return Path(path.name.removesuffix(".gz")).suffix.lower()


def key_of(path: Path) -> str:
    """Returns the relation that a file's name names: its stem.

    Raises:
        InputError: if it can't be a relation's key.
    """
    key = stem(path)
    if not key.strip() or not key.isprintable():
        raise InputError(f"{str(path)!r}: the file's name can't be a relation's key; give the file another name")
    return key


def list_files(folder: Path, suffixes: Collection[str]) -> list[Path]:
    """Returns the visible files directly in a folder that have one of the suffixes, sorted by name."""
    return [path for path in _entries(folder) if suffix(path) in suffixes and path.is_file()]


def the_one(folder: Path, found: Sequence[Path], *, none: str, several: str) -> Path:
    """Returns the only place that was found in a folder.

    Args:
        folder: the folder.
        found: the places.
        none: what is wrong if there is none.
        several: what is wrong if there are several, with `{}` for their names.

    Raises:
        InputError: if there is not one.
    """
    if not found:
        raise InputError(f"{folder}: {none}")
    if len(found) > 1:
        raise InputError(f"{folder}: {several.replace('{}', ', '.join(map(str, found)))}")
    return found[0]


def subfolders(folder: Path, depth: int) -> Iterator[Path]:
    """Yields the visible folders below a folder, down to a depth, in sorted order."""
    if depth == 0:
        return
    for path in _entries(folder):
        if path.is_dir():
            yield path
            yield from subfolders(path, depth - 1)


def names(folder: Path) -> list[str]:
    """Returns the names of everything visible directly in a folder, sorted."""
    return [path.name for path in _entries(folder)]


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise InputError(f"{folder}: this folder can't be listed ({error.strerror})") from error
