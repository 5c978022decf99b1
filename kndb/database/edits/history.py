"""Use cases of edits as version control: revert with what builds on an edit, compare and verify versions.

`EditCommands` inherits them, so all are methods of `db.edits`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...editing.objects import object_format
from ...editing.objects.object_format import StoredEdit
from ...records.edits import Edit
from ...records.versions import HistoryEntry
from ...store import models as store_models
from ...store.edits import edit as store_edits
from ...store.edits import steps
from ...store.engine import Store
from ...store.versions import CurrentModel, applied_edits
from ..models import ModelCommands
from .diff import VersionDiff, compare_versions
from .steps import try_steps
from .verify import Verified, verify_edits

if TYPE_CHECKING:
    from .rebase import Rebase


class EditHistoryCommands:
    """Take edits out with those that build on them; compare versions; verify what is stored."""

    def __init__(self, store: Store, models: ModelCommands) -> None:
        self._store = store
        self._models = models

    # --- taking out what others build on -------------------------------------------------------------------

    def revert_cascade(self, edit: int) -> list[HistoryEntry]:
        """Reverts an edit, and before it each later one that overlaps it, the last applied first; all or none.

        An edit overlaps another where both change the same value slot. Those that overlap one that is reverted, and
        were applied after it, are reverted too.

        Args:
            edit: the edit's number; it must be applied.

        Returns:
            The steps, in order; the last is that of `edit`.

        Raises:
            EditError: if the edit is not applied.
            VersionMovedError: if another process moved the version meanwhile.
            DiffFileError: if the object of one of the edits is damaged.
        """
        with self._store.reading() as connection:
            model, order = steps.plan_cascade(connection, edit)
            record = store_models.model(connection, model.name)
            applied = applied_edits(connection, model.id)
        try_steps(self._store, self._models, record, applied, [(number, "revert") for number in order])
        with self._store.writing() as connection:
            return steps.revert_cascade(connection, edit, model.version)

    def rebase(self, edit: int) -> Rebase:
        """Takes an edit out and computes the later ones that overlap it anew, on the weights without it; all or none.

        The edit and the later ones are reverted. Each later one is then planned from its recipe (the same neurons,
        tokens and factors) on the weights that are left, as a new edit, and applied, in the order in which they were
        applied. An optimised edit takes its gradient steps anew, with the settings and the prompts of its recipe.

        Args:
            edit: the edit's number; it must be applied.

        Raises:
            EditError: if the edit is not applied, or one of the later ones can't be computed anew.
            VersionMovedError: if another process moved the version meanwhile.
            DiffFileError: if the object of one of the edits is damaged.
        """
        from ...editing.objects import diff_file
        from ...editing.planning.replay import require_replayable
        from .optimize import needs_prompts, prompts_in_recipe
        from .rebase import compute_replays, store_rebase

        model, records = self._cascade(edit)
        for record in records[:-1]:
            require_replayable(record.id, record.kind, record.recipe)
        contents = [
            (record, diff_file.read(self._store.objects, record.object_path, record.object_hash)) for record in records
        ]
        with self._store.reading() as connection:
            prompts = {
                record.id: prompts_in_recipe(connection, record) for record in records[:-1] if needs_prompts(record)
            }
        replays = compute_replays(self._models.load(model.name, model.version), contents, prompts)
        return store_rebase(self._store, edit, model.version, replays)

    def _cascade(self, edit: int) -> tuple[CurrentModel, list[Edit]]:
        """The model, and the edits to revert in this order; the last of them is `edit`."""
        with self._store.reading() as connection:
            model, edit_ids = steps.plan_cascade(connection, edit)
            return model, [store_edits.edit(connection, edit_id) for edit_id in edit_ids]

    def _stored(self, record: Edit) -> StoredEdit:
        return object_format.read(self._store.objects, record.object_path, record.object_hash)

    # --- looking -------------------------------------------------------------------------------------------

    def diff(self, model: str, a: str, b: str) -> VersionDiff:
        """What differs between two versions of a model; read from edit objects alone, no model is loaded.

        Args:
            model: a registered model.
            a: a version: `base`, `current`, an id or an unambiguous start of one, or a snapshot's name.
            b: another one.

        Raises:
            NotFoundError: if there is no such model or version.
            DiffFileError: if an edit's object is damaged.
        """
        record = self._models.get(model)
        with self._store.reading() as connection:
            return compare_versions(connection, self._store.objects, record, a, b)

    def verify(self, edits: Sequence[int] = (), *, model: str | None = None, weights: bool = False) -> list[Verified]:
        """Checks edit objects against their hashes and the database, and that versions and history fit together.

        Args:
            edits: edits' numbers; none stands for all, of the model if one is named.
            model: only this model's.
            weights: also compare the checkpoints of the models concerned with their fingerprints.

        Returns:
            What was checked, one by one, sound or not.

        Raises:
            NotFoundError: if there is no such edit or model.
            UsageError: if a named edit is of another model.
        """
        return verify_edits(self._store, self._models, edits, model, weights)
