"""Use cases of snapshots: names for versions."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from ...advice import option
from ...errors import UsageError
from ...models.cards import CARD, NewCard, base_card, require_hub_name
from ...records.display import Rows
from ...records.edits import Edit
from ...records.versions import HistoryEntry, Snapshot
from ...store import models as store_models
from ...store import snapshots as store_snapshots
from ...store import versions as store_versions
from ...store.edits import edit as store_edits
from ...store.edits.allowed_steps import way
from ...store.edits.steps import check_version
from ...store.engine import Store
from ...store.versions import applied_edits
from ..edits.ahead import StepsAhead, restore_ahead
from ..edits.diff import SlotDiff, compare_versions
from ..edits.steps import try_steps
from ..models import ModelCommands, ModelVersion
from .model_card import base_on_hub, card_facts, model_card


@dataclass(frozen=True)
class Export:
    """A checkpoint folder that was written.

    Attributes:
        parameters_changed: parameters that edits of the version touch.
        files_written: weight files with other bytes than the checkpoint's; `bytes_written`: bytes put in them.
        files_copied, files_linked: weight files that are copies, or hard links to the checkpoint's.
        dtype: the dtype that all weights were converted to; None if each kept its own.
        values_rounded: values that it could not hold.
        card: the model card that was written; None where none was.
    """

    model: str
    version: str
    folder: str
    parameters_changed: int
    files_written: int
    bytes_written: int
    files_copied: int
    files_linked: int
    dtype: str | None
    values_rounded: int
    card: str | None = None


@dataclass(frozen=True)
class ShownSnapshot:
    """A snapshot in full.

    Attributes:
        snapshot: its name, model and version.
        current: whether the model is at that version now.
        edits: the edits that build the version from the checkpoint, in order.
        slots: the value slots that differ from the checkpoint, which is version A.
    """

    snapshot: Snapshot
    current: bool
    edits: tuple[Edit, ...]
    slots: tuple[SlotDiff, ...]


class SnapshotCommands:
    """Name versions, look at them, go back to them, export them."""

    def __init__(self, store: Store, models: ModelCommands) -> None:
        self._store = store
        self._models = models

    def create(self, name: str, model: str, version: str = "current") -> Snapshot:
        """Names a version of a model.

        Raises:
            EditError: if the name is taken.
            NotFoundError: if there is no such model or version.
        """
        record = self._models.get(model)
        with self._store.writing() as connection:
            return store_snapshots.create(connection, record.id, name, version)

    def all(self, model: str | None = None) -> Rows[Snapshot]:
        """All snapshots, or those of one model."""
        with self._store.reading() as connection:
            number = None if model is None else store_models.model(connection, model).id
            return Rows(store_snapshots.snapshots(connection, number), Snapshot)

    def get(self, name: str, model: str) -> Snapshot:
        """One snapshot of a model.

        Raises:
            NotFoundError: if there is no such model or snapshot.
        """
        record = self._models.get(model)
        with self._store.reading() as connection:
            return store_snapshots.snapshot(connection, record.id, name)

    def show(self, name: str, model: str) -> ShownSnapshot:
        """A snapshot with the edits that build its version, and the value slots that differ from the checkpoint.

        Raises:
            NotFoundError: if there is no such model or snapshot.
            DiffFileError: if an edit's object is damaged.
        """
        record = self._models.get(model)
        with self._store.reading() as connection:
            snapshot = store_snapshots.snapshot(connection, record.id, name)
            found = compare_versions(connection, self._store.objects, record, "base", snapshot.version)
        return ShownSnapshot(snapshot, found.version_b == record.version, found.only_b, found.slots)

    def delete(self, name: str, model: str) -> Snapshot:
        """Forgets a snapshot's name; its version stays, and can be asked for by its id.

        Returns:
            The snapshot that was.

        Raises:
            NotFoundError: if there is no such model or snapshot.
        """
        record = self._models.get(model)
        with self._store.writing() as connection:
            return store_snapshots.delete(connection, record.id, name)

    def restore_ahead(self, name: str, model: str) -> StepsAhead:
        """The steps by which `restore` would move a model's current version to a snapshot's; changes nothing.

        Raises:
            NotFoundError: if there is no such model, snapshot or version.
        """
        return restore_ahead(self._store, self._models.get(model), name)

    def restore(self, name: str, model: str, *, expected: str | None = None) -> list[HistoryEntry]:
        """Moves a model's current version to a snapshot's, by reverts and applies, all or none.

        Args:
            name: a snapshot's name, or what else names a version.
            model: the model.
            expected: the id of the version that the caller has looked at; None starts from whichever is the current
                one.

        Returns:
            The steps taken; none if the model is there already.

        Raises:
            NotFoundError: if there is no such model, snapshot or version.
            VersionMovedError: if the model is at another version than expected, or another process moved it meanwhile.
            EditError: if a slot holds other bytes than an edit on the way expects.
            DiffFileError: if an edit's object is damaged.
        """
        record = self._models.get(model)
        with self._store.reading() as connection:
            if expected is not None:
                check_version(store_versions.current_model(connection, record.id), expected)
            present = applied_edits(connection, record.id)
            wanted = store_versions.version_edits(connection, record.id, name)
        # Every byte on the way is compared before the version moves.
        try_steps(self._store, self._models, record, present, way(present, wanted))
        with self._store.writing() as connection:
            return store_snapshots.restore(connection, record.id, name, record.version)

    def export(
        self,
        name: str,
        model: str,
        out: str | Path,
        *,
        link: bool = False,
        dtype: str | None = None,
        rounding: bool = False,
        card: bool = True,
        base_model: str | None = None,
    ) -> Export:
        """Writes a version as a checkpoint folder that transformers loads.

        Beside the weights lies a model card that the Hugging Face hub reads, with the version's edits, their facts and
        measures; of a version without edits, the checkpoint's own card.

        Args:
            name: a snapshot's name, or what else names a version.
            model: the model.
            out: a folder that does not exist yet.
            link: hard-link weight files that stay as they are; they share their bytes with the checkpoint.
            dtype: float32, float16 or bfloat16 for all floating weights; None keeps what each has.
            rounding: with `dtype`, allow that values change.
            card: whether to write a model card; else the checkpoint's own one stays.
            base_model: the base checkpoint's name on the hub, for the card. None takes the name by which it was
                registered, if that is one.

        Raises:
            UsageError: if the folder is something else, or lies in the checkpoint's own, or the name can't be one.
            ModelError: if the dtype would change values.
            OutputError: if the folder can't be written.
        """
        from ...models.export import export_checkpoint

        if base_model is not None:
            if not card:
                raise UsageError(f"{option('base_model')} is for the card; leave it out, or have one written")
            require_hub_name(base_model)
        version = self._models.load(model, name)
        with self._store.reading() as connection:
            edit_ids = store_versions.version_edits(connection, version.record.id, version.version)
            names = {slot.parameter for number in edit_ids for slot in store_edits.edit_changes(connection, number)}
        parameters = dict(version.model.named_parameters())
        changed = {parameter: parameters[parameter] for parameter in sorted(names)}
        written = self._card(version, base_model, dtype) if card and edit_ids else None
        done = export_checkpoint(
            version.folder, Path(out), changed, link=link, dtype=dtype, rounding=rounding, card=written
        )
        told = None if written is None else CARD
        return Export(model, version.version, str(out), len(changed), dtype=dtype, **asdict(done), card=told)

    def _card(self, version: ModelVersion, base_model: str | None, dtype: str | None) -> NewCard:
        """The card of a version with edits."""
        from ...models.adapter import Blank

        tasks = {Blank.CUT: "text-generation", Blank.MASK: "fill-mask", Blank.SENTINEL: "text2text-generation"}
        with self._store.reading() as connection:
            facts = card_facts(connection, version.record, version.version)
        base, hub = base_card(version.folder), base_on_hub(version.record.source)
        text = model_card(
            facts,
            base,
            tasks[version.adapter.blank],
            base_model=base_model or (None if hub is None else hub[0]),
            dtype=dtype,
        )
        return NewCard(text, base.kept_as)
