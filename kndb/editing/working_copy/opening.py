"""Opening a working copy: this process alone has it, and what an interrupted switch left to do is done first.

`copy` says how a switch goes, and what its log is for.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ...errors import ModelError
from . import state as copy_state
from . import switch_log
from .bytes import set_times, write_slots
from .copy import WorkingCopy, take_back
from .state import NEW_COPY, CopyState
from .switch_log import Entry, Log, Record

LOCK = ".kndb-checkout.lock"
_LATE = 60 * 10**9
"""Nanoseconds within which a switch certainly gives its files their time."""


def is_working_copy(folder: Path) -> bool:
    """Whether there is a working copy's state file in a folder."""
    return (folder / copy_state.NAME).is_file()


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[WorkingCopy]:
    """Opens a working copy for this process alone; what an interrupted switch left to do is done first.

    Raises:
        ModelError: if it is no working copy, another process has it open, or it can't be read or written.
    """
    if not is_working_copy(folder):
        copy_state.read(folder)  # says what is wrong
    with translated(folder), _locked(folder):
        for left_over in folder.glob(f".{Path(copy_state.NAME).stem}.*.tmp"):
            left_over.unlink()
        yield _recovered(folder)


@contextlib.contextmanager
def translated(folder: Path) -> Iterator[None]:
    """Turns what the system refuses in the block into a ModelError that names the working copy."""
    try:
        yield
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        raise ModelError(f"the working copy {folder} can't be used: {name}{error.strerror or error}") from error


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ModelError(f"another process is working on {folder}; do it again when that one is done") from error
        yield
    finally:
        os.close(descriptor)


def _recovered(folder: Path) -> WorkingCopy:
    """The copy, at the version that its state file and its log name, whole.

    Raises:
        ModelError: if the log can't be followed.
    """
    state = copy_state.read(folder)
    done: list[str] = []
    try:
        log = switch_log.read(folder)
        if log.torn:
            switch_log.cut(folder, log.length)
            done.append("removed a torn record of the log: no byte had changed")
        pending = _pending(state, log)
        lost = log.again or _machine_stopped(pending)
        if pending and lost:
            _write_again(folder, pending)
            done.append(f"wrote {len(pending)} switches again, whose bytes may not have reached the disk")
        elif pending and not log.applied:
            pending, words = _finish(folder, pending)
            done.append(words)
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{folder / switch_log.NAME} can't be followed: {error}. {NEW_COPY}") from error
    copy = WorkingCopy(folder, _after(state, pending), "; ".join(done) or None, pending)
    if copy.state.computed_version != copy.state.version:
        raise ModelError(
            f"{folder / switch_log.NAME} leads to version {copy.state.computed_version}, not to {copy.state.version}, "
            f"which it names: the file was changed. {NEW_COPY}"
        )
    if lost or (log.entries and not pending):
        copy.consolidate()
    return copy


def _machine_stopped(pending: Sequence[Entry]) -> bool:
    """Whether what was written to the weight files may be gone: true also where the system can't tell."""
    present = switch_log.boot_id()
    return any(present is None or entry.record.boot != present for entry in pending)


def _pending(state: CopyState, log: Log) -> list[Entry]:
    """The log's records that are not in the state file."""
    names = [entry.record.switch for entry in log.entries]
    if state.switch in names:
        return list(log.entries[names.index(state.switch) + 1 :])
    expected = state.switch
    for entry in log.entries:
        if entry.record.previous != expected:
            raise ValueError(f"a switch on top of {entry.record.previous!r} in place of one on top of {expected!r}")
        expected = entry.record.switch
    return list(log.entries)


def _after(state: CopyState, pending: Iterable[Entry]) -> CopyState:
    for entry in pending:
        record = entry.record
        state = state.moved(record.after, record.switch, record.stamps, record.slots)
    return state


def _write_again(folder: Path, pending: Sequence[Entry]) -> None:
    """Writes all that a log says, whatever part of it reached the disk before the machine stopped."""
    for entry in pending:
        _require_sizes(folder, entry.record)
    stamps = {name: at for entry in pending for name, at in entry.record.stamps.items()}
    found = {name: (size, (folder / name).stat().st_mtime_ns) for name, (size, _) in stamps.items()}
    # All are read, and so compared with their hashes, before the first is written.
    for writes in [switch_log.writes_of(folder, entry) for entry in pending]:
        write_slots(folder, writes, new=True, mapped=False)
    # A file that was written to long after the last switch was written to by someone else: its time has to show that.
    late = {name: at for name, at in found.items() if at[1] > stamps[name][1] + _LATE}
    set_times(folder, stamps | late)


def _finish(folder: Path, pending: list[Entry]) -> tuple[list[Entry], str]:
    """Ends the last switch, whose process was stopped; where the disk does not take it, takes it back."""
    last = pending[-1]
    record = last.record
    _require_sizes(folder, record)
    writes = switch_log.writes_of(folder, last)
    try:
        write_slots(folder, writes, new=True, mapped=False)
        set_times(folder, record.stamps)
        switch_log.mark_applied(folder, record.switch)
    except OSError:
        take_back(folder, record, writes, last.start)
        return pending[:-1], f"took back an interrupted switch from {record.before} to {record.after}"
    return pending, f"ended an interrupted switch from {record.before} to {record.after}"


def _require_sizes(folder: Path, record: Record) -> None:
    for name, (size, _) in record.stamps.items():
        found = (folder / name).stat().st_size
        if found != size:
            raise ModelError(
                f"{folder / name} is {found} bytes long, and was {size} when versions were switched last. {NEW_COPY}"
            )
