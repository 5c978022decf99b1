"""Use cases of edits: plan, list, apply, revert. `evaluation` has their measures.

Imports no torch: what only compares and moves bytes starts at once, and the rest imports its engines when it is called.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ...editing.objects.captured import CapturedTensor, captured_tensors
from ...editing.objects.slot_bytes import numbers
from ...errors import UsageError
from ...records.display import Rows
from ...records.edits import Edit, SlotChange
from ...records.models import Neuron
from ...records.versions import HistoryEntry
from ...store import models as store_models
from ...store.edits import edit as store_edits
from ...store.edits import steps
from ...store.versions import applied_edits
from .evaluations import EditEvaluationCommands
from .history import EditHistoryCommands
from .steps import try_steps

if TYPE_CHECKING:
    from ...editing.planning.optimize import OptimizeSettings, Progress
    from ..models import ModelVersion
    from .batch import Batch, PreviewedEdit, Target
    from .batch import Progress as BatchProgress
    from .capture import Captured
    from .drafts import Draft, EditDrafts
    from .optimize import Neighbours
    from .preview import EditPreview
    from .share import Pulled, Pushed


class EditCommands(EditHistoryCommands, EditEvaluationCommands):
    """Plan, apply and revert edits; with `EditHistoryCommands` and `EditEvaluationCommands`, all of `db.edits`."""

    # --- planning ------------------------------------------------------------------------------------------

    @property
    def drafts(self) -> EditDrafts:
        """Edits that are computed but not stored; each of its methods has a `plan_…` here that stores the edit."""
        from .drafts import EditDrafts

        return EditDrafts(self._store, self._models)

    def plan_update(
        self,
        model: str,
        fact: int,
        to: str,
        *,
        rule: str = "gradient",
        lambda_old: float | None = None,
        lambda_new: float | Literal["auto"] | None = None,
        max_share: float | None = None,
        neurons: int | None = None,
        refinement: int | None = None,
    ) -> Edit:
        """Plans that the model answers `to` for a fact, by the paper's rule, or one like it; see `EditDrafts.update`.

        Computes and stores the edit, applies nothing.
        """
        return self.add(
            self.drafts.update(
                model,
                fact,
                to,
                rule=rule,
                lambda_old=lambda_old,
                lambda_new=lambda_new,
                max_share=max_share,
                neurons=neurons,
                refinement=refinement,
            )
        )

    def plan_erase(self, model: str, relation: str, *, top: int = 20, refinement: int | None = None) -> Edit:
        """Plans that the model forgets a relation; see `EditDrafts.erase`. Applies nothing."""
        return self.add(self.drafts.erase(model, relation, top=top, refinement=refinement))

    def plan_optimize(
        self,
        model: str,
        fact: int,
        to: str,
        *,
        settings: OptimizeSettings | None = None,
        neighbours: Neighbours | None = None,
        max_share: float = 1.0,
        neurons: int | None = None,
        refinement: int | None = None,
        progress: Progress | None = None,
    ) -> Edit:
        """Plans that the model answers `to` for a fact, by gradient steps; see `EditDrafts.optimize`.

        Computes and stores the edit, applies nothing.
        """
        return self.add(
            self.drafts.optimize(
                model,
                fact,
                to,
                settings=settings,
                neighbours=neighbours,
                max_share=max_share,
                neurons=neurons,
                refinement=refinement,
                progress=progress,
            )
        )

    def preview(self, draft: Draft, *, top: int = 3, others: int = 0) -> EditPreview:
        """What an edit would do to the model's answers, and who holds its value slots; stores nothing.

        Args:
            draft: from `drafts`.
            top: answers to show for each prompt, at least 1.
            others: facts that the edit is not for, to ask whether their answers flip.
        """
        from .preview import preview

        return preview(self._store, draft, top, others)

    def add(self, draft: Draft) -> Edit:
        """Stores a draft as an edit; applies nothing.

        Raises:
            VersionMovedError: if another process moved the model's version since the draft was computed.
        """
        from .batch import store_batch

        return store_batch(self._store, draft.version, [draft])[0]

    # --- planning many -------------------------------------------------------------------------------------

    def targets(self, path: Path) -> list[Target]:
        """Facts and their new answers from a file; see `kndb.exchange.targets`.

        Args:
            path: JSON lines or CSV, with `to`, and `fact` or `relation` and `subject`.

        Raises:
            InputError: if the file is not such a list.
            NotFoundError: if facts are not in the store, or a name stands for several.
        """
        from .batch import read_targets

        return read_targets(self._store, path)

    def draft_batch(
        self,
        model: str,
        targets: Sequence[Target],
        plan: Callable[[Target, ModelVersion], Draft],
        *,
        skip_unusable: bool = False,
        progress: BatchProgress | None = None,
    ) -> Batch:
        """Plans many edits, each on the weights with those before it; stores nothing.

        Args:
            model: a registered model.
            targets: facts and their new answers.
            plan: computes the edit of one target on the weights in memory: a method of `drafts` with `on`.
            skip_unusable: pass over facts for which no edit can be planned.
            progress: told the facts tried, of how many.

        Raises:
            UsageError: if there is no target, or a fact is named twice.
            EditError: if an edit can't be planned and is not to be skipped.
        """
        from .batch import draft_batch

        return draft_batch(self._models.load(model), targets, plan, skip_unusable=skip_unusable, progress=progress)

    def add_batch(self, batch: Batch) -> list[Edit]:
        """Stores the edits of a batch, all or none; applies nothing.

        Raises:
            VersionMovedError: if another process moved the model's version since the batch was computed.
        """
        from .batch import store_batch

        return store_batch(self._store, batch.version, batch.drafts)

    def preview_batch(self, batch: Batch) -> list[PreviewedEdit]:
        """What all edits of a batch together would do to each of its facts; stores nothing."""
        from .batch import preview_batch

        return preview_batch(self._store, batch)

    # --- capturing -----------------------------------------------------------------------------------------

    def draft_capture(self, model: str, source: str) -> Captured:
        """What leads from a model's current version to a checkpoint that another tool edited; stores nothing.

        Both are held in memory. `add(captured.draft)` stores the edit.

        Args:
            model: a registered model.
            source: the edited checkpoint: a folder, or a hub name.

        Raises:
            UsageError: if it is the model's own checkpoint.
            ModelError: if it can't be loaded.
            EditError: if it has other parameters, dtypes that can't be cast without loss, or the same weights.
        """
        from .capture import capture_checkpoint

        return capture_checkpoint(self._models, model, source)

    # --- sharing -------------------------------------------------------------------------------------------

    def push(self, edits: Sequence[int], path: str | Path, *, force: bool = False) -> Pushed:
        """Writes edits of one model to a file that a colleague with the same checkpoint can pull.

        The file holds the edits' objects, those of the edits that they build on, who planned them and when, the facts
        of their recipes by name, and the evaluations. The same edits give the same bytes.

        Args:
            edits: the edits' numbers.
            path: the file to make.
            force: replace a file that is there.

        Raises:
            UsageError: if there is no edit, they are of several models, or the file can't be written.
            NotFoundError: if there is no such edit.
            DiffFileError: if an object is damaged.
        """
        from .share import push

        return push(self._store, edits, Path(path), recipe_title, force=force)

    def pull(self, path: str | Path, *, model: str | None = None, preview: bool = False) -> list[Pulled]:
        """Takes the edits of such a file into the store, all or none; applies nothing.

        Every edit is tried in memory first, on the checkpoint's own bytes.

        Args:
            path: the file.
            model: the model here; None takes the one with the file's fingerprint.
            preview: check the file, try its edits in memory, and say what is in it; store nothing.

        Returns:
            The edits of the file, in order.

        Raises:
            InputError: if the file is damaged, or an edit does not fit.
            FingerprintError: if it is for another checkpoint.
            DiffFileError: if an object in it is not sound.
        """
        from .share import pull

        return pull(self._store, self._models, Path(path), model, preview=preview)

    # --- looking -------------------------------------------------------------------------------------------

    def get(self, edit: int) -> Edit:
        """One edit.

        Raises:
            NotFoundError: if there is none of that number.
        """
        with self._store.reading() as connection:
            return store_edits.edit(connection, edit)

    def all(self, model: str | None = None) -> Rows[Edit]:
        """All edits, or those of one model."""
        with self._store.reading() as connection:
            number = None if model is None else store_models.model(connection, model).id
            return Rows(store_edits.edits(connection, number), Edit)

    def slots(self, edit: int) -> Rows[SlotChange]:
        """The value slots that an edit changes."""
        with self._store.reading() as connection:
            return Rows(store_edits.edit_slots(connection, edit), SlotChange)

    def log(self, model: str | None = None) -> Rows[HistoryEntry]:
        """Every apply, revert and restore, the oldest first."""
        with self._store.reading() as connection:
            number = None if model is None else store_models.model(connection, model).id
            return Rows(store_edits.history(connection, number), HistoryEntry)

    def slot_lengths(self, edit: int) -> dict[Neuron, tuple[float, float]]:
        """The length ‖v‖ of each value slot before and after an edit.

        Raises:
            DiffFileError: if the edit's object is damaged.
        """
        return {
            Neuron(slots.layer, one.place.neuron): (
                math.hypot(*numbers(slots.dtype, one.old)),
                math.hypot(*numbers(slots.dtype, one.new)),
            )
            for slots in self._stored(self.get(edit)).parameters
            for one in slots.edits()
        }

    def tensors(self, edit: int) -> list[CapturedTensor]:
        """How an edit's object keeps the change of each parameter.

        Raises:
            DiffFileError: if the edit's object is damaged.
        """
        return list(captured_tensors(self._stored(self.get(edit))))

    # --- moving the current version ------------------------------------------------------------------------

    def apply(self, edit: int) -> HistoryEntry:
        """Applies an edit to its model's current version, once every slot was compared bit for bit.

        Raises:
            ConflictError: if other edits changed its slots.
            VersionMovedError: if another process moved the version meanwhile.
            DiffFileError: if the edit's object is damaged.
        """
        return self.apply_all([edit])[0]

    def apply_all(self, edits: Sequence[int]) -> list[HistoryEntry]:
        """Applies edits of one model to its current version, in this order; all or none.

        Raises:
            UsageError: if there is no edit.
            EditError: if they are of several models, or one is applied already.
            ConflictError: if other edits changed the slots of one.
            VersionMovedError: if another process moved the version meanwhile.
            DiffFileError: if the object of one is damaged.
        """
        return self._steps(edits, "apply")

    def revert(self, edit: int) -> HistoryEntry:
        """Takes an applied edit out of its model's current version; the slots get their old bytes back.

        Raises:
            ConflictError: if later edits changed the same slots; see `revert_cascade` and `rebase`.
            VersionMovedError: if another process moved the version meanwhile.
            DiffFileError: if the edit's object is damaged.
        """
        return self.revert_all([edit])[0]

    def revert_all(self, edits: Sequence[int]) -> list[HistoryEntry]:
        """Takes edits out of their model's current version, the last applied first; all or none.

        Raises:
            UsageError: if there is no edit.
            EditError: if they are of several models, or one is not applied.
            ConflictError: if later edits that stay changed the slots of one.
            VersionMovedError: if another process moved the version meanwhile.
            DiffFileError: if the object of one is damaged.
        """
        return self._steps(edits, "revert")

    def _steps(self, edits: Sequence[int], action: steps.Action) -> list[HistoryEntry]:
        if not edits:
            raise UsageError("found no edit; expected at least one number")
        with self._store.reading() as connection:
            # The store knows every slot's hash: a conflict is named there, with the edits that are in the way.
            model, order = steps.plan_steps(connection, edits, action)
            record = store_models.model(connection, model.name)
            applied = applied_edits(connection, model.id)
        try_steps(self._store, self._models, record, applied, [(edit, action) for edit in order])
        with self._store.writing() as connection:
            taken: list[HistoryEntry] = []
            for edit in order:
                expected = taken[-1].version_after if taken else model.version
                taken.append(steps.take_step(connection, edit, action, expected))
            return taken


def recipe_title(edit: Edit) -> str:
    """What an edit is for, in one line."""
    return title_of(edit.kind, edit.recipe)


def title_of(kind: str, recipe: Mapping[str, Any]) -> str:
    """What an edit of a kind, with a recipe, is for, in one line."""
    fact = recipe.get("fact")
    if isinstance(fact, Mapping):
        return f"{fact['subject'] or '(not named)'} · {fact['relation']} · {recipe['old_answer']} → {recipe['to']}"
    if kind == "erase":
        return f"{recipe.get('relation', '')}: {len(recipe.get('neurons', ()))} most common neurons to zero"
    if kind == "capture":
        count = len(recipe.get("tensors", ()))
        return f"{recipe.get('from', '')}: {count} parameter{'' if count == 1 else 's'}"
    return str(recipe.get("relation", ""))
