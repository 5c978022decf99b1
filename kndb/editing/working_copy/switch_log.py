"""The log of a working copy's switches: each is on disk, with what is needed to do or undo it, before a byte changes.

Records are appended to `.kndb-log`. A record is a line with the sha256 and the length of its head, the head as JSON,
and the old and new bytes of each slot. When it is flushed, the switch has happened: whoever opens the copy writes what
is not written yet. A line `applied SWITCH` after it says that its bytes were written; it is not flushed, as it matters
only while the machine runs: after that, the page cache is gone, and every record is written again. So it is after a
line `again`, which says that flushing the weight files failed.

A record at the end that is not complete was never flushed, so no byte had changed. One that is not complete although
others, or such a line, come after it, was damaged later: then the log can't be followed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ...files import boot_id as boot_id
from ...files import sync
from ..objects.slot_bytes import Strides
from .state import CopiedSlot, FileStamp, slot_entry, slot_of

NAME = ".kndb-log"
FORMAT = "kndb-log 1"

_RECORD, _APPLIED, _AGAIN = b"record", b"applied", b"again\n"
_LINE_LIMIT = 200
_LATER = re.compile(rb"applied [0-9a-f]{16}\n|record [0-9a-f]{64} \d+\n")


@dataclass(frozen=True)
class Write:
    """One slot to write: its place in a file, the bytes there now, and those that are to be there."""

    strides: Strides
    old: bytes
    new: bytes


@dataclass(frozen=True)
class Record:
    """A switch of a working copy.

    Attributes:
        switch: names the switch; `previous`: the one before it.
        boot: when it was made; see `boot_id`.
        before: the version that the copy had; `after`: the one that the switch leads to.
        stamps_before: the files that are written to, as they were; `stamps`: as they are to be.
        slots: what it writes, by hashes.
    """

    switch: str
    previous: str
    boot: str | None
    before: str
    after: str
    stamps_before: Mapping[str, FileStamp]
    stamps: Mapping[str, FileStamp]
    slots: Sequence[CopiedSlot]


@dataclass(frozen=True)
class Entry:
    """A record in the log.

    Attributes:
        record: the switch.
        start: offset in the log of its first byte; `end`: of the first byte after it.
        places: where it writes.
        payload: offset in the log of the bytes; `payload_sha256`: their hash.
    """

    record: Record
    start: int
    end: int
    places: Sequence[Strides]
    payload: int
    payload_sha256: str


@dataclass(frozen=True)
class Log:
    """What a log holds.

    Attributes:
        entries: its records, in order.
        applied: whether the last one's bytes were all written, while the machine ran on.
        again: whether its bytes may have been lost since.
        length: bytes up to the end of the last complete record or line.
        torn: whether there is something else after that.
    """

    entries: Sequence[Entry]
    applied: bool
    again: bool
    length: int
    torn: bool


# --- writing --------------------------------------------------------------------------------------


def append(folder: Path, record: Record, writes: Sequence[Write]) -> None:
    """Puts a record at the log's end; when this returns, it is on disk for good."""
    payload = b"".join(part.old + part.new for part in writes)
    head = json.dumps(
        {
            "format": FORMAT,
            **{name: value for name, value in vars(record).items() if name != "slots"},
            "slots": [slot_entry(copied) for copied in record.slots],
            "writes": [asdict(part.strides) for part in writes],
            "payload_sha256": hashlib.sha256(payload).hexdigest(),
        }
    ).encode("ascii")
    line = b"%s %s %d\n" % (_RECORD, hashlib.sha256(head).hexdigest().encode("ascii"), len(head))
    made = not (folder / NAME).exists()
    descriptor = os.open(folder / NAME, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o666)
    try:
        _write_whole(descriptor, line + head + payload)
        if hasattr(os, "fdatasync"):
            os.fdatasync(descriptor)
        else:  # macOS
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if made:
        sync(folder)


def mark_applied(folder: Path, switch: str) -> None:
    """Notes that the last record's bytes were written. Not flushed: the next record's flush takes it along."""
    _append_line(folder, b"%s %s\n" % (_APPLIED, switch.encode("ascii")))


def mark_lost(folder: Path) -> None:
    """Notes that the weight files could not be flushed: the system may have dropped what was written to them."""
    _append_line(folder, _AGAIN)


def _append_line(folder: Path, line: bytes) -> None:
    descriptor = os.open(folder / NAME, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW)
    try:
        _write_whole(descriptor, line)
    finally:
        os.close(descriptor)


def cut(folder: Path, length: int) -> None:
    """Takes away what is in the log after some length, for good."""
    descriptor = os.open(folder / NAME, os.O_WRONLY | os.O_NOFOLLOW)
    try:
        os.ftruncate(descriptor, length)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(folder: Path) -> None:
    """Takes the log away. Should a power cut bring it back, its records are known to be in the state file."""
    (folder / NAME).unlink(missing_ok=True)


def _write_whole(descriptor: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


# --- reading --------------------------------------------------------------------------------------


def read(folder: Path) -> Log:
    """The log of a working copy, an empty one if there is none.

    Raises:
        ValueError: if a record can't be understood although its hash is right, or one that was complete was damaged.
    """
    entries: list[Entry] = []
    applied, again, length = True, False, 0
    try:
        file = (folder / NAME).open("rb")
    except FileNotFoundError:
        return Log((), True, False, 0, False)
    with file:
        size = os.fstat(file.fileno()).st_size
        while length < size:
            file.seek(length)
            line = file.readline(_LINE_LIMIT)
            if entries and line == b"%s %s\n" % (_APPLIED, entries[-1].record.switch.encode("ascii")):
                applied, length = True, length + len(line)
                continue
            if line == _AGAIN:
                again, length = True, length + len(line)
                continue
            entry = _entry(file, length, line, size)
            if entry is None:
                break
            entries.append(entry)
            applied, length = False, entry.end
        if entries and not applied and not _sound(file, entries[-1]):
            # Whole by its length alone: blocks of it may never have reached the disk.
            length = entries.pop().start
            applied = True
        if length < size:
            _require_last(file, length)
    return Log(entries, applied, again, length, torn=length < size)


def _require_last(file: BinaryIO, start: int) -> None:
    """Checks that nothing was written after what is not complete.

    Raises:
        ValueError: if something was.
    """
    file.seek(start)
    # The broken part may itself begin with a record's line.
    match = _LATER.search(file.read(), 1)
    if match is not None:
        raise ValueError(f"damage at byte {start} of it, which comes before other records")


def writes_of(folder: Path, entry: Entry) -> list[Write]:
    """The bytes of a record.

    Raises:
        ValueError: if they are not those that were written.
    """
    with (folder / NAME).open("rb") as file:
        if not _sound(file, entry):
            raise ValueError(f"the record of switch {entry.record.switch} was damaged")
        file.seek(entry.payload)
        return [
            Write(strides, old, file.read(strides.size))
            for strides in entry.places
            for old in (file.read(strides.size),)
        ]


def _entry(file: BinaryIO, start: int, line: bytes, size: int) -> Entry | None:
    """The record that begins with a line, if it is all there."""
    words = line.split()
    if len(words) != 3 or words[0] != _RECORD or not words[2].isdigit() or not line.endswith(b"\n"):
        return None
    head = file.read(int(words[2]))
    if hashlib.sha256(head).hexdigest().encode("ascii") != words[1]:
        return None
    try:
        values: dict[str, Any] = json.loads(head)
        if values.pop("format") != FORMAT:
            raise ValueError(f"a format other than {FORMAT!r}; another release of kndb may have written it")
        places = [Strides(**entry) for entry in values.pop("writes")]
        payload_sha256 = str(values.pop("payload_sha256"))
        slots = [slot_of(entry) for entry in values.pop("slots")]
        for name in ("stamps_before", "stamps"):
            values[name] = {file: (int(size), int(time)) for file, (size, time) in values[name].items()}
        record = Record(**values, slots=slots)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"a record without its parts ({error!r})") from error
    payload = start + len(line) + len(head)
    end = payload + 2 * sum(place.size for place in places)
    return Entry(record, start, end, places, payload, payload_sha256) if end <= size else None


def _sound(file: BinaryIO, entry: Entry) -> bool:
    file.seek(entry.payload)
    return hashlib.sha256(file.read(entry.end - entry.payload)).hexdigest() == entry.payload_sha256


def files_of(entries: Iterable[Entry]) -> list[str]:
    """The weight files that records write to."""
    return sorted({name for entry in entries for name in entry.record.stamps})
