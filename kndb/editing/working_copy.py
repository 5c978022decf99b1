"""Working copies: folders with a checkpoint's files in which only the value slots of a version are written, in place.

A switch to another version costs what its edits cost, not what the model does. Invariants: the copy holds exactly the
version that its state file names, or a journal says how to get back there; the base checkpoint is only read, and
shares no file with a copy. The order of a switch:

1. The bytes in the slots are compared with what the copy's version says.
2. The journal, with old and new bytes, is written and flushed.
3. The slots are written, and their files flushed.
4. The state file, which names the switch, is replaced. This is the moment at which the switch has happened.
5. The journal is removed.

Whoever opens a copy with a journal whose switch the state file does not name puts the old bytes back.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ..errors import ConflictError, ModelError
from ..files import sync
from ..models.weights import TensorPlace, tensor_places
from ..records import Neuron
from . import copy_state, journal
from .copy_state import CopiedSlot, CopyState
from .journal import FileStamp, Journal, Write
from .slot_bytes import SlotPlace, SlotSwitch, Strides, locate

LOCK = ".kndb-checkout.lock"


def is_working_copy(folder: Path) -> bool:
    """Whether there is a working copy's state file in a folder."""
    return (folder / copy_state.NAME).is_file()


# --- opening --------------------------------------------------------------------------------------


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[WorkingCopy]:
    """Opens a working copy for this process alone; a switch that was interrupted is undone first.

    Raises:
        ModelError: if it is no working copy, another process has it open, or it can't be read or written.
    """
    if not is_working_copy(folder):
        copy_state.read(folder)  # says what is wrong
    with translated(folder), _locked(folder):
        for left_over in folder.glob(f".{Path(copy_state.NAME).stem}.*.tmp"):
            left_over.unlink()
        recovered = recover(folder)
        yield WorkingCopy(folder, copy_state.read(folder), recovered)


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


def recover(folder: Path) -> str | None:
    """Ends a switch that was interrupted; the copy is at the version that its state file names, whole.

    Returns:
        What was done, in words; None if no journal was there.

    Raises:
        ModelError: if the journal can't be followed.
    """
    try:
        found = journal.read(folder)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{folder / journal.NAME} can't be followed: {error}") from error
    if found is None:
        journal.remove(folder)
        return "removed a torn journal: no byte had changed"
    if copy_state.read(folder).switch == found.switch:
        sync(folder)  # Else a power cut could take the state file back, and the journal be gone.
        journal.remove(folder)
        return f"the switch to {found.after} was complete: removed its journal"
    _put_back(folder, found)
    sync(folder)
    journal.remove(folder)
    sync(folder)
    return f"undid an interrupted switch from {found.before} to {found.after}"


def _put_back(folder: Path, undone: Journal) -> None:
    for name, (size, time) in undone.stamps.items():
        with _weights(folder, name, os.O_RDWR) as descriptor:
            if os.fstat(descriptor).st_size != size:
                raise ModelError(
                    f"{folder / name} is {os.fstat(descriptor).st_size} bytes long; expected {size}, as when a switch "
                    "of versions was interrupted. Make a new working copy"
                )
            for part in undone.writes:
                if part.strides.file == name:
                    _write(descriptor, part.strides, part.old)
            os.fsync(descriptor)
            # With the old bytes goes the old time: the copy is as the state file says.
            os.utime(descriptor, ns=(os.fstat(descriptor).st_atime_ns, time))
            os.fsync(descriptor)


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
        state: what its state file says.
        recovered: what was done about an interrupted switch when the copy was opened; None if there was none.
    """

    def __init__(self, folder: Path, state: CopyState, recovered: str | None) -> None:
        self.folder = folder
        self.state = state
        self.recovered = recovered

    @cached_property
    def tensors(self) -> Mapping[str, TensorPlace]:
        """Where the tensors of its weight files lie."""
        return tensor_places(self.folder)

    def changed_files(self) -> list[str]:
        """The copied files that are gone, or have another size or time than when kndb wrote to them last."""
        return [name for name, noted in self.state.stamps.items() if _stamp_at(self.folder / name) != noted]

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
        copy_state.write(self.folder, self.state)

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
        self._commit(wanted, writes)
        return Switched(len(writes), sum(part.strides.size for part in writes))

    def _commit(self, wanted: CopyState, writes: Sequence[Write]) -> None:
        names = sorted({part.strides.file for part in writes})
        stamps = {name: stamp(self.folder / name) for name in names}
        try:
            if writes:
                journal.write(self.folder, Journal(wanted.switch, self.state.version, wanted.version, stamps, writes))
                _patch(self.folder, names, writes)
            after = wanted.moved(wanted.version, wanted.switch, {name: stamp(self.folder / name) for name in names}, ())
            copy_state.write(self.folder, after)
            if writes:
                # Not flushed: should a power cut bring it back, the state file says that its switch is complete.
                journal.remove(self.folder)
        except BaseException as error:
            left = self._undo()
            if isinstance(error, OSError):
                reason = error.strerror or str(error)
                raise ModelError(f"{self.folder} can't be written: {reason}. {left}") from error
            raise
        self.state = after

    def _undo(self) -> str:
        try:
            recover(self.folder)
            self.state = copy_state.read(self.folder)
        except (OSError, ModelError):
            return "It could not be put back now: the next `kndb checkout` in it does that, before anything else"
        return f"The working copy is at {self.state.version}"

    def _read(self, places: Sequence[Strides]) -> list[bytes]:
        found: dict[int, bytes] = {}
        for name in {strides.file for strides in places}:
            with _weights(self.folder, name, os.O_RDONLY) as descriptor:
                for number, strides in enumerate(places):
                    if strides.file == name:
                        found[number] = _gather(descriptor, strides)
        return [found[number] for number in range(len(places))]


def _moved(state: CopyState, change: SlotSwitch) -> CopiedSlot:
    place = change.place
    before = place.sha256(change.before)
    known = state.slots.get(place.slot)
    if known is None:  # Never patched, so that it holds the base checkpoint's bytes.
        return CopiedSlot(place, before, place.sha256(change.after))
    if known.sha256 != before:
        raise ModelError(
            f"{Neuron(place.layer, place.neuron)} holds sha256 {before[:12]} by the store's edits; the working copy's "
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
                f"{Neuron(*other.slot[1:])} and {Neuron(*change.place.slot[1:])} are the same bytes of {strides.file}; "
                "expected each slot once"
            )


def _check_present(folder: Path, changes: Sequence[SlotSwitch], present: Sequence[bytes]) -> None:
    pairs = zip(changes, present, strict=True)
    wrong = [(change, content) for change, content in pairs if content != change.before]
    if wrong:
        (change, content), place = wrong[0], wrong[0][0].place
        raise ConflictError(
            f"{len(wrong)} of {len(changes)} value slots in {folder} hold other bytes than the working copy's version "
            f"says, the first being {Neuron(place.layer, place.neuron)}: found sha256 {place.sha256(content)[:12]}, "
            f"expected {place.sha256(change.before)[:12]}. Look at them with: kndb checkout --status --verify --dir "
            f"{folder}; overwrite them with --force"
        )


# --- bytes ----------------------------------------------------------------------------------------


def stamp(path: Path) -> FileStamp:
    """A file's size and time.

    Raises:
        ModelError: if it is a link, or has a second name.
    """
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        raise ModelError(
            f"{path} is a link, or has a second name; expected a file of the working copy's own, so that no other "
            "changes with it. Make a new working copy"
        )
    return status.st_size, status.st_mtime_ns


def _stamp_at(path: Path) -> FileStamp | None:
    try:
        return stamp(path)
    except FileNotFoundError:
        return None


@contextlib.contextmanager
def _weights(folder: Path, name: str, flags: int) -> Iterator[int]:
    stamp(folder / name)
    descriptor = os.open(folder / name, flags | os.O_NOFOLLOW)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _gather(descriptor: int, strides: Strides) -> bytes:
    """Reads a slot's bytes."""
    # Not through a map: a file that became shorter would then be a signal, where here it is an error.
    content = b"".join([os.pread(descriptor, strides.width, offset) for offset in strides.offsets])
    if len(content) != strides.size:
        raise ModelError(f"{strides.file} became shorter while it was read. Make a new working copy")
    return content


def _patch(folder: Path, names: Iterable[str], writes: Sequence[Write]) -> None:
    for name in names:
        with _weights(folder, name, os.O_RDWR) as descriptor:
            for part in writes:
                if part.strides.file == name:
                    _write(descriptor, part.strides, part.new)
            os.fsync(descriptor)


def _write(descriptor: int, strides: Strides, content: bytes) -> None:
    # Not through a map: a full disk would then be a signal, where here it is an error.
    width, start = strides.width, 0
    for offset in strides.offsets:
        end = start + width
        written = os.pwrite(descriptor, content[start:end], offset)
        while written < width:
            written += os.pwrite(descriptor, content[start + written : end], offset + written)
        start = end
