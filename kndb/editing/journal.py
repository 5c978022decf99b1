"""The journal of a switch of a working copy: all that is needed to undo it, on disk before the first byte changes.

The file is a sha256 in hex, a line break, and the JSON that it is of. A journal whose hash is wrong was never
complete, so no byte had changed when its writer died.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ..files import sync
from .slot_bytes import Strides

NAME = ".kndb-journal"
FORMAT = "kndb-journal 1"

FileStamp = tuple[int, int]
"""A file's size in bytes and its time of modification in nanoseconds."""


@dataclass(frozen=True)
class Write:
    """One slot to write: its place in a file, the bytes there now, and those that are to be there."""

    strides: Strides
    old: bytes
    new: bytes


@dataclass(frozen=True)
class Journal:
    """A switch of a working copy.

    Attributes:
        switch: names the switch; the state file names the last one that was completed.
        before: the version that the copy has.
        after: the one that it is to have.
        stamps: the files that are written to, as they were before.
        writes: what is written.
    """

    switch: str
    before: str
    after: str
    stamps: Mapping[str, FileStamp]
    writes: Sequence[Write]


def write(folder: Path, journal: Journal) -> None:
    """Puts a journal into a working copy; when this returns, it is on disk for good."""
    text = json.dumps(
        {
            "format": FORMAT,
            "switch": journal.switch,
            "before": journal.before,
            "after": journal.after,
            "stamps": journal.stamps,
            "writes": [
                {**asdict(part.strides), "old": part.old.hex(), "new": part.new.hex()} for part in journal.writes
            ],
        }
    ).encode("ascii")
    rest = memoryview(hashlib.sha256(text).hexdigest().encode("ascii") + b"\n" + text)
    descriptor = os.open(folder / NAME, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    sync(folder)


def read(folder: Path) -> Journal | None:
    """The journal in a working copy; None if there is a torn one.

    Raises:
        FileNotFoundError: if there is none.
    """
    digest, _, text = (folder / NAME).read_bytes().partition(b"\n")
    if hashlib.sha256(text).hexdigest().encode("ascii") != digest:
        return None
    values = json.loads(text)
    if values["format"] != FORMAT:
        raise ValueError(f"found {values['format']!r}; expected {FORMAT!r}; a later kndb may have written it")
    return Journal(
        switch=values["switch"],
        before=values["before"],
        after=values["after"],
        stamps={name: (size, time) for name, (size, time) in values["stamps"].items()},
        writes=[_write_of(entry) for entry in values["writes"]],
    )


def _write_of(entry: dict[str, str]) -> Write:
    old, new = bytes.fromhex(entry.pop("old")), bytes.fromhex(entry.pop("new"))
    return Write(Strides(**entry), old, new)  # type: ignore[arg-type]


def remove(folder: Path) -> None:
    """Takes the journal away, now or, after a power cut, when the copy is opened the next time."""
    (folder / NAME).unlink()
