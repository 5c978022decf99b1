"""Use cases of working copies: a checkpoint's files with a version's value slots written in place.

Imports no torch: a switch of versions moves a few kilobytes, and is to be as quick as that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...advice import Placeholder, call, option
from ...editing.objects.object_bytes import read_content
from ...editing.objects.slot_bytes import NeedsWeightsError, SlotEdit, SlotSwitch, locate, read_edit, switches
from ...editing.working_copy import first_copy
from ...editing.working_copy import opening as working_copy
from ...editing.working_copy.comparison import differing_files
from ...editing.working_copy.copy import WorkingCopy
from ...errors import ConflictError, FingerprintError, ModelError, UsageError
from ...models.sources import locate as locate_checkpoint
from ...records.edits import Edit
from ...records.models import Model
from ...store import models as store_models
from ...store import versions as store_versions
from ...store.edits import edit as store_edits
from ...versions import version_id
from ..models import require_checkpoint, require_fingerprint

if TYPE_CHECKING:
    from ..database import Database

_NAMED = 5


@dataclass(frozen=True)
class Checkout:
    """What a checkout did.

    Attributes:
        version: the version that the working copy now holds; `version_before`: None for a new copy.
        slots_written: value slots that were written; `bytes_written`: their bytes.
        recovered: what was done about an interrupted switch first; None if there was none.
    """

    model: str
    version: str
    version_before: str | None
    folder: str
    slots_written: int
    bytes_written: int
    recovered: str | None = None


@dataclass(frozen=True)
class CheckoutStatus:
    """What a working copy holds.

    Attributes:
        version: the version that its state file names.
        slots: value slots that differ from the base checkpoint.
        compared: `files` (sizes and times), `slots` (and the bytes of all slots that were ever patched), or `all`
            (and all other bytes with the base checkpoint).
        recovered: what was done about an interrupted switch; None if there was none.
        problems: what is not as it should be; empty if all is well.
    """

    model: str
    version: str
    fingerprint: str
    folder: str
    slots: int
    compared: str
    recovered: str | None
    problems: tuple[str, ...]


class CheckoutCommands:
    """Make working copies of a checkpoint, and switch them between versions in place."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._store = database.store

    def checkout(
        self,
        version: str,
        folder: str | Path,
        *,
        model: str | None = None,
        verify: bool = False,
        force: bool = False,
    ) -> Checkout:
        """Makes a working copy of a version, or switches the one that is there to it, all or nothing.

        Args:
            version: `current`, `base`, a version id or an unambiguous start of one, or a snapshot's name.
            folder: the working copy, or a folder that does not exist yet or is empty.
            model: the model; None takes that of the working copy.
            verify: compare all slots that were ever patched first; then files whose time changed are accepted.
            force: overwrite slots of the two versions whatever they hold, and accept files whose time changed.

        Raises:
            UsageError: if the folder is neither, or lies in the checkpoint's own, or a new copy has no model.
            NotFoundError: if there is no such model or version.
            ModelError: if the copy is of another model, in use, changed, or can't be written.
            FingerprintError: if the checkpoint changed since it was registered.
            ConflictError: if a slot holds other bytes than the copy's version says.
            DiffFileError: if an edit's object is damaged or missing.
        """
        if verify and force:
            raise UsageError(f"{option('verify')} and {option('force')} exclude each other; give one of them")
        target = Path(folder)
        if working_copy.is_working_copy(target):
            with working_copy.opened(target) as copy:
                return self._switched(copy, version, model, verify, force)
        if model is None:
            raise UsageError(
                f"{target} is no working copy yet, so {option('model')} has to name the model of a new one: "
                f"{call('checkouts.checkout', version, model=Placeholder('NAME'), folder=target)}"
            )
        return self._made(version, target, model)

    def status(self, folder: str | Path, *, verify: bool = False, full: bool = False) -> CheckoutStatus:
        """Compares a working copy with what it says of itself; what an interrupted switch left to do is done first.

        Args:
            folder: the working copy.
            verify: read every slot that was ever patched.
            full: compare all other bytes with the base checkpoint too, and that with its fingerprint. This reads both
                whole.

        Raises:
            ModelError: if it is no working copy, or another process has it open.
            FingerprintError: if `full`, and the base checkpoint changed since it was registered.
        """
        with working_copy.opened(Path(folder)) as copy:
            state = copy.state
            problems = list(_file_problems(copy, timely=not (verify or full)))
            if verify or full:
                problems += _slot_problems(copy)
            if full:
                problems += self._other_problems(copy)
            if (verify or full) and not problems:
                copy.consolidate()
            return CheckoutStatus(
                model=state.model,
                version=state.version,
                fingerprint=state.fingerprint,
                folder=str(folder),
                slots=sum(slot.sha256 != slot.base_sha256 for slot in state.slots.values()),
                compared="all" if full else "slots" if verify else "files",
                recovered=copy.recovered,
                problems=tuple(problems),
            )

    def _made(self, version: str, target: Path, model: str) -> Checkout:
        record = self._database.models.get(model)
        require_checkpoint(record)
        source = locate_checkpoint(record.source)
        base, wanted = version_id(record.fingerprint, {}), self._resolved(record, version)
        done = first_copy.create(
            source,
            target,
            model=record.name,
            fingerprint=record.fingerprint,
            base=base,
            version=wanted,
            changes=self._changes(record, base, wanted),
            check=lambda copied: require_fingerprint(record, copied, source),
        )
        return Checkout(record.name, wanted, None, str(target), done.slots, done.bytes_written)

    def _switched(self, copy: WorkingCopy, version: str, model: str | None, verify: bool, force: bool) -> Checkout:
        record = self._record(copy, model)
        present = copy.state.version
        wanted = self._resolved(record, version)
        # With force, slots of edits that both versions have may need to be written too.
        changes = self._changes(record, present, wanted, skip_common=not force)
        _require_untouched(copy, changes, verify, force)
        done = copy.switch(wanted, changes, force=force)
        if copy.changed_files():
            copy.accept_files()
        elif verify:
            copy.consolidate()
        return Checkout(
            record.name, wanted, present, str(copy.folder), done.slots, done.bytes_written, recovered=copy.recovered
        )

    def _record(self, copy: WorkingCopy, model: str | None) -> Model:
        state = copy.state
        if model not in (None, state.model):
            raise ModelError(
                f"{copy.folder} is a working copy of model {state.model!r}, not of {model!r}; name another folder"
            )
        with self._store.reading() as connection:
            record = store_models.model(connection, state.model)
        if record.fingerprint != state.fingerprint:
            raise FingerprintError(
                f"{copy.folder} is a working copy of a checkpoint with fingerprint {state.fingerprint[:12]}; model "
                f"{record.name!r} is registered here with {record.fingerprint[:12]}. Name another folder"
            )
        return record

    def _resolved(self, record: Model, version: str) -> str:
        with self._store.reading() as connection:
            return store_versions.resolve_version(connection, record.id, version)

    def _changes(self, record: Model, before: str, after: str, *, skip_common: bool = True) -> list[SlotSwitch]:
        """What slots hold in two versions, by the edits from the base, or from where their lists part."""
        with self._store.reading() as connection:
            lists = [store_versions.version_edits(connection, record.id, version) for version in (before, after)]
            common = 0
            while skip_common and common < min(map(len, lists)) and lists[0][common] == lists[1][common]:
                common += 1
        try:
            return switches(*([self._slots(edit) for edit in self._edits(numbers[common:])] for numbers in lists))
        except NeedsWeightsError:
            from .materialised import materialised_edits

            folder = locate_checkpoint(record.source)
            every = [self._edits(numbers) for numbers in lists]
            return switches(*(materialised_edits(folder, self._store.objects, record, edits) for edits in every))

    def _edits(self, numbers: Sequence[int]) -> list[Edit]:
        with self._store.reading() as connection:
            return [store_edits.edit(connection, number) for number in numbers]

    def _slots(self, edit: Edit) -> list[SlotEdit]:
        content = read_content(self._store.objects, edit.object_path, edit.object_hash)
        return read_edit(content, str(self._store.objects / edit.object_path))

    def _other_problems(self, copy: WorkingCopy) -> Iterator[str]:
        record = self._record(copy, None)
        base = locate_checkpoint(record.source)
        require_fingerprint(record, base, base)
        patched = [locate(slot.place, copy.tensors) for slot in copy.state.slots.values()]
        for name in differing_files(copy.folder, base, list(copy.state.stamps), patched):
            yield f"{name} differs from the base checkpoint outside of patched slots"


def _require_untouched(copy: WorkingCopy, changes: Sequence[SlotSwitch], verify: bool, force: bool) -> None:
    """Refuses a copy that someone else wrote to, as far as that was not asked to be overlooked."""
    changed = copy.changed_files()
    if changed and not (verify or force):
        raise ModelError(
            f"{', '.join(changed[:_NAMED])} in {copy.folder} changed since kndb last wrote there. If only the time "
            f"changed, as when files are copied, give {option('verify', True)}: it compares every slot that was ever "
            f"patched. To overwrite whatever the slots hold, give {option('force', True)}. To compare all bytes: "
            f"{call('checkouts.status', folder=copy.folder, full=True)}"
        )
    overwritten = {change.place.slot for change in changes} if force else set()
    if verify or force:
        wrong = copy.wrong_slots(slot for name, slot in copy.state.slots.items() if name not in overwritten)
        if wrong:
            named = ", ".join(place.name for place in wrong[:_NAMED])
            advice = (
                "Make a new working copy" if force else f"To overwrite what they hold, give {option('force', True)}"
            )
            raise ConflictError(
                f"{len(wrong)} value slots in {copy.folder} hold other bytes than version {copy.state.version} says: "
                f"{named}. {advice}"
            )


def _file_problems(copy: WorkingCopy, *, timely: bool) -> Iterator[str]:
    for name in copy.changed_files():
        path = copy.folder / name
        if not path.is_file():
            yield f"{name} is gone"
        elif path.stat().st_size != copy.state.stamps[name][0]:
            yield f"{name} is {path.stat().st_size} bytes long, and was {copy.state.stamps[name][0]}"
        elif timely:
            yield (
                f"{name} has another time than when kndb last wrote to it; {option('verify', True)} and "
                f"{option('full', True)} look at its bytes"
            )


def _slot_problems(copy: WorkingCopy) -> Iterator[str]:
    try:
        wrong = copy.wrong_slots(copy.state.slots.values())
    except ModelError as error:
        yield str(error)
        return
    for place in wrong:
        yield f"slot {place.name} holds other bytes than version {copy.state.version} says"
