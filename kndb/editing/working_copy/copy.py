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
started again, the weight files are flushed, the state file is rewritten, and a new log is begun.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ...advice import call, option
from ...errors import ConflictError, ModelError
from ...files import sync
from ...models.weights import TensorPlace, tensor_places
from ..objects.slot_bytes import SlotPlace, SlotSwitch, Strides, locate
from . import state as copy_state
from . import switch_log
from .bytes import gather, opened_weights, set_times, stamp, stamp_at, write_slots
from .state import CopiedSlot, CopyState
from .switch_log import Entry, Record, Write

_LOG_RECORDS, _LOG_BYTES = 64, 16 * 1024 * 1024
"""A longer log is ended: it would take time to read."""


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
        """Flushes the weight files, puts what the log says into the state file, and begins a new log.

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
                f"the edits' slots make version {wanted.computed_version}, not {version}; look for damage with: "
                f"{call('maintenance.check')}"
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
                take_back(self.folder, record, writes, length)
        except (OSError, ModelError):
            return "Opening it next ends that switch or takes it back, before anything else"
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
            f"state says {known.sha256[:12]}; look for damage with: {call('maintenance.check')}"
        )
    return CopiedSlot(place, known.base_sha256, place.sha256(change.after))


def _require_disjoint(changes: Iterable[tuple[SlotSwitch, Strides]]) -> None:
    """Layers that share a parameter share its slots."""
    seen: dict[Strides, SlotPlace] = {}
    for change, strides in changes:
        other = seen.setdefault(strides, change.place)
        if other != change.place:
            raise ModelError(
                f"{other.name} and {change.place.name} are the same bytes of {strides.file}; each slot may "
                "stand there once"
            )


def _check_present(folder: Path, changes: Sequence[SlotSwitch], present: Sequence[bytes]) -> None:
    pairs = zip(changes, present, strict=True)
    wrong = [(change, content) for change, content in pairs if content != change.before]
    if wrong:
        (change, content), place = wrong[0], wrong[0][0].place
        raise ConflictError(
            f"{len(wrong)} of {len(changes)} value slots in {folder} hold other bytes than the working copy's version "
            f"says, the first being {place.name}: sha256 {place.sha256(content)[:12]} in place of "
            f"{place.sha256(change.before)[:12]}. Look at them with: "
            f"{call('checkouts.status', folder=str(folder), verify=True)}; overwrite them with {option('force', True)}"
        )


def take_back(folder: Path, record: Record, writes: Sequence[Write], length: int) -> None:
    """Puts the old bytes and times back, and forgets the switch."""
    write_slots(folder, writes, new=False, mapped=False)
    set_times(folder, record.stamps_before)
    for name in record.stamps_before:
        sync(folder / name)
    switch_log.cut(folder, length)
