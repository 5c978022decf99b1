"""Working copies: folders with a checkpoint's files in which only the value slots of a version are written, in place.

A switch to another version costs what its edits cost, not what the model does. Invariants: the copy holds exactly the
version that its state file and its log name, once it has been opened; the base checkpoint is only read, and shares no
file with a copy. The order of a switch:

1. The bytes in the slots are compared with what the copy's version says.
2. A record with the old and new bytes is appended to the log and flushed. At this moment the switch has happened.
3. The slots are written, and their files get the time that the record says. They are not flushed: should the machine
   stop, the log has what they were to hold.
4. A line in the log says that this was done.

Whoever opens a copy finishes what the log says. Now and then, and where the system can't tell whether the machine was
started again, the weight files are flushed, the state file is written anew, and the log begins anew.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ...errors import ConflictError, ModelError
from ...files import sync
from ...models.weights import TensorPlace, tensor_places
from ..objects.slot_bytes import SlotPlace, SlotSwitch, Strides, locate
from . import state as copy_state
from . import switch_log
from .bytes import gather, opened_weights, set_times, stamp, stamp_at, write_slots
from .state import CopiedSlot, CopyState
from .switch_log import Entry, Log, Record, Write

LOCK = ".kndb-checkout.lock"

_LOG_RECORDS, _LOG_BYTES = 64, 16 * 1024 * 1024
"""A longer log is ended: it would take time to read."""
_LATE = 60 * 10**9
"""Nanoseconds within which a switch certainly gives its files their time."""


def is_working_copy(folder: Path) -> bool:
    """Whether there is a working copy's state file in a folder."""
    return (folder / copy_state.NAME).is_file()


# --- opening --------------------------------------------------------------------------------------


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
            raise ModelError(
                f"another process is working on {folder}; expected none. Run the command again when it is done"
            ) from error
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
        raise ModelError(f"{folder / switch_log.NAME} can't be followed: {error}. Make a new working copy") from error
    copy = WorkingCopy(folder, _after(state, pending), "; ".join(done) or None, pending)
    if copy.state.computed_version != copy.state.version:
        raise ModelError(
            f"{folder / switch_log.NAME} leads to version {copy.state.computed_version}; expected "
            f"{copy.state.version}, which it names. The file was changed: make a new working copy"
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
            raise ValueError(f"a switch on top of {entry.record.previous!r}; expected one on top of {expected!r}")
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
        _take_back(folder, record, writes, last.start)
        return pending[:-1], f"took back an interrupted switch from {record.before} to {record.after}"
    return pending, f"ended an interrupted switch from {record.before} to {record.after}"


def _take_back(folder: Path, record: Record, writes: Sequence[Write], length: int) -> None:
    """Puts the old bytes and times back, and forgets the switch."""
    write_slots(folder, writes, new=False, mapped=False)
    set_times(folder, record.stamps_before)
    for name in record.stamps_before:
        sync(folder / name)
    switch_log.cut(folder, length)


def _require_sizes(folder: Path, record: Record) -> None:
    for name, (size, _) in record.stamps.items():
        found = (folder / name).stat().st_size
        if found != size:
            raise ModelError(
                f"{folder / name} is {found} bytes long; expected {size}, as when versions were switched last. "
                "Make a new working copy"
            )


# --- the copy -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Switched:
    """What a switch did: slots and bytes that were written."""

    slots: int
    bytes_written: int


class WorkingCopy:
    """A working copy that this process has locked; see `opened`.

    Attributes:
        folder: where it is.
        state: what its state file and its log say.
        recovered: what was done about an interrupted switch when the copy was opened; None if there was none.
    """

    def __init__(self, folder: Path, state: CopyState, recovered: str | None, pending: Sequence[Entry] = ()) -> None:
        self.folder = folder
        self.state = state
        self.recovered = recovered
        self._unflushed = set(switch_log.files_of(pending))
        self._records = len(pending)

    @cached_property
    def tensors(self) -> Mapping[str, TensorPlace]:
        """Where the tensors of its weight files lie."""
        return tensor_places(self.folder)

    def changed_files(self) -> list[str]:
        """The copied files that are gone, or have another size or time than when kndb wrote to them last."""
        return [name for name, noted in self.state.stamps.items() if stamp_at(self.folder / name) != noted]

    def wrong_slots(self, slots: Iterable[CopiedSlot]) -> list[SlotPlace]:
        """Those of the slots whose bytes on disk are not what the copy's version says."""
        chosen = list(slots)
        contents = self._read([locate(copied.place, self.tensors) for copied in chosen])
        return [
            copied.place
            for copied, content in zip(chosen, contents, strict=True)
            if copied.place.sha256(content) != copied.sha256
        ]

    def accept_files(self) -> None:
        """Notes the files' present times as its own; the caller has checked what is in them."""
        stamps = {name: stamp(self.folder / name) for name in self.state.stamps}
        self.state = self.state.moved(self.state.version, self.state.switch, stamps, ())
        self.consolidate()

    def consolidate(self) -> None:
        """Flushes the weight files, puts what the log says into the state file, and begins the log anew.

        Raises:
            OSError: if that fails; the log then stays as it was.
        """
        try:
            for name in sorted(self._unflushed):
                sync(self.folder / name)
        except OSError:
            # After a flush that failed, the next one may succeed although bytes were dropped.
            switch_log.mark_lost(self.folder)
            raise
        copy_state.write(self.folder, self.state)
        switch_log.remove(self.folder)
        self._unflushed.clear()
        self._records = 0

    def switch(self, version: str, changes: Sequence[SlotSwitch], *, force: bool = False) -> Switched:
        """Writes another version's slots, all or none.

        Args:
            version: the other version.
            changes: what slots hold in the copy's version and in the other; slots that are not listed are the same.
            force: overwrite slots whatever they hold.

        Raises:
            ConflictError: if a slot holds other bytes than the copy's version says.
            ModelError: if the slots don't make that version, or a file can't be written: nothing is changed then.
        """
        places = [locate(change.place, self.tensors) for change in changes]
        _require_disjoint(zip(changes, places, strict=True))
        moved = [_moved(self.state, change) for change in changes]
        wanted = self.state.moved(version, secrets.token_hex(8), {}, moved)
        if wanted.computed_version != version:
            raise ModelError(
                f"the edits' slots make version {wanted.computed_version}; expected {version}. Run `kndb db check`"
            )
        present = self._read(places)
        if not force:
            _check_present(self.folder, changes, present)
        writes = [
            Write(strides, old, change.after)
            for strides, old, change in zip(places, present, changes, strict=True)
            if old != change.after
        ]
        if writes or version != self.state.version:
            self._commit(wanted, moved, writes)
        return Switched(len(writes), sum(part.strides.size for part in writes))

    def _commit(self, wanted: CopyState, moved: Sequence[CopiedSlot], writes: Sequence[Write]) -> None:
        names = sorted({part.strides.file for part in writes})
        before = {name: stamp(self.folder / name) for name in names}
        # Never the time that a file has: it shows that the file was written to.
        now = max([time.time_ns(), *(modified + 1 for _, modified in before.values())])
        record = Record(
            switch=wanted.switch,
            previous=self.state.switch,
            boot=switch_log.boot_id(),
            before=self.state.version,
            after=wanted.version,
            stamps_before=before,
            stamps={name: (size, now) for name, (size, _) in before.items()},
            slots=moved,
        )
        log = self.folder / switch_log.NAME
        length = log.stat().st_size if log.exists() else 0
        try:
            switch_log.append(self.folder, record, writes)
            write_slots(self.folder, writes, new=True, mapped=True)
            set_times(self.folder, record.stamps)
            switch_log.mark_applied(self.folder, record.switch)
        except OSError as error:
            left = self._undone(record, writes, length)
            reason = error.strerror or str(error)
            raise ModelError(f"{self.folder} can't be written: {reason}. {left}") from error
        self.state = wanted.moved(wanted.version, wanted.switch, record.stamps, ())
        self._unflushed |= set(names)
        self._records += 1
        if record.boot is None or self._records > _LOG_RECORDS or log.stat().st_size > _LOG_BYTES:
            self.consolidate()

    def _undone(self, record: Record, writes: Sequence[Write], length: int) -> str:
        try:
            if (self.folder / switch_log.NAME).exists():
                _take_back(self.folder, record, writes, length)
        except (OSError, ModelError):
            return "The next `kndb checkout` in it ends that switch or takes it back, before anything else"
        return f"The working copy is at {self.state.version}"

    def _read(self, places: Sequence[Strides]) -> list[bytes]:
        found: dict[int, bytes] = {}
        for name in {strides.file for strides in places}:
            with opened_weights(self.folder, name, os.O_RDONLY) as descriptor:
                for number, strides in enumerate(places):
                    if strides.file == name:
                        found[number] = gather(descriptor, strides)
        return [found[number] for number in range(len(places))]


def _moved(state: CopyState, change: SlotSwitch) -> CopiedSlot:
    place = change.place
    before = place.sha256(change.before)
    known = state.slots.get(place.slot)
    if known is None:  # Never patched, so that it holds the base checkpoint's bytes.
        return CopiedSlot(place, before, place.sha256(change.after))
    if known.sha256 != before:
        raise ModelError(
            f"{place.name} holds sha256 {before[:12]} by the store's edits; the working copy's "
            f"state says {known.sha256[:12]}. Run `kndb db check`"
        )
    return CopiedSlot(place, known.base_sha256, place.sha256(change.after))


def _require_disjoint(changes: Iterable[tuple[SlotSwitch, Strides]]) -> None:
    """Layers that share a parameter share its slots."""
    seen: dict[Strides, SlotPlace] = {}
    for change, strides in changes:
        other = seen.setdefault(strides, change.place)
        if other != change.place:
            raise ModelError(
                f"{other.name} and {change.place.name} are the same bytes of {strides.file}; expected each slot once"
            )


def _check_present(folder: Path, changes: Sequence[SlotSwitch], present: Sequence[bytes]) -> None:
    pairs = zip(changes, present, strict=True)
    wrong = [(change, content) for change, content in pairs if content != change.before]
    if wrong:
        (change, content), place = wrong[0], wrong[0][0].place
        raise ConflictError(
            f"{len(wrong)} of {len(changes)} value slots in {folder} hold other bytes than the working copy's version "
            f"says, the first being {place.name}: found sha256 {place.sha256(content)[:12]}, "
            f"expected {place.sha256(change.before)[:12]}. Look at them with: kndb checkout --status --verify --dir "
            f"{folder}; overwrite them with --force"
        )
