"""What a file must be to be a database, and what is said of one that is none."""

from __future__ import annotations

from pathlib import Path

from ..advice import call
from ..errors import StoreMissingError

MAGIC = b"SQLite format 3\x00"


def is_database(path: Path) -> bool:
    """Whether a file is an SQLite database, by its first bytes."""
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def missing(location: str | Path) -> str:
    """Says that there is no database, and how to make one."""
    return f"no database at {location}; make one with: {call('kndb.open', location=str(location))}"


def empty(location: str) -> StoreMissingError:
    """The error that there is no table in what could be a database."""
    return StoreMissingError(
        f"{location} is empty, not yet a database; make it one with: {call('kndb.open', location=location)}"
    )
