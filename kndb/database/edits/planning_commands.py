"""What `db.edits` has to plan an edit of one fact, one relation or one checkpoint, and to store what was planned."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ...advice import option
from ...errors import UsageError
from ...records.attribution import RefinementChoice
from ...records.conditions import CheckedConditions, Condition, parse_conditions
from ...records.edit_settings import OptimizeSettings, UpdateSettings
from ...records.edits import Edit
from ...records.progress import Progress
from .command_group import CommandGroup

if TYPE_CHECKING:
    from ..models import ModelVersion
    from .capture import Captured
    from .conditions import Held
    from .draft import Draft
    from .drafts import EditDrafts
    from .import_adapter import ImportedAdapter
    from .preview import EditPreview
    from .preview_stored import StoredPreview


Conditions = str | Sequence[str | Condition]
"""One condition as text, or several."""


class PlanningCommands(CommandGroup):
    """Plan edits, one at a time; part of `EditCommands`."""

    # --- planning --------------------------------------------------------------------------------------------

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
        settings: UpdateSettings | None = None,
        *,
        refinement: RefinementChoice = None,
    ) -> Edit:
        """Plans that the model answers `to` for a fact, by the paper's rule, or one like it; see `EditDrafts.update`.

        Computes and stores the edit, applies nothing.
        """
        return self.add(self.drafts.update(model, fact, to, settings, refinement=refinement))

    def plan_optimize(
        self,
        model: str,
        fact: int,
        to: str,
        settings: OptimizeSettings | None = None,
        *,
        refinement: RefinementChoice = None,
        progress: Progress | None = None,
    ) -> Edit:
        """Plans that the model answers `to` for a fact, by gradient steps; see `EditDrafts.optimize`.

        Computes and stores the edit, applies nothing.
        """
        return self.add(self.drafts.optimize(model, fact, to, settings, refinement=refinement, progress=progress))

    def plan_erase(self, model: str, relation: str, *, top: int = 20, refinement: int | None = None) -> Edit:
        """Plans that the model forgets a relation; see `EditDrafts.erase`. Applies nothing."""
        return self.add(self.drafts.erase(model, relation, top=top, refinement=refinement))

    def preview(self, draft: Draft, *, top: int = 3, others: int = 0) -> EditPreview:
        """What an edit would do to the model's answers, and who holds its value slots; stores nothing.

        Args:
            draft: from `drafts`.
            top: answers to show for each prompt, at least 1.
            others: facts that the edit is not for, to ask whether their answers flip.
        """
        from .preview import preview

        return preview(self._store, draft, top, others)

    def preview_stored(
        self, edit: int, *, top: int = 3, others: int = 0, on: ModelVersion | None = None
    ) -> StoredPreview:
        """What a stored edit does to the model's answers, on the version that it was planned on; stores nothing.

        Args:
            edit: the edit's number; it need not be applied.
            top: answers to show for each prompt, at least 1; of an edit of many facts, shares are given instead.
            others: facts that the edit is not for, to ask whether their answers flip.
            on: the version that it was planned on, in memory, as `models.load` gave it; None loads it.

        Raises:
            NotFoundError: if there is no such edit, or no refinement of its model, which says who holds its slots.
            UsageError: if a number is out of range, the edit does not say which facts here it is for, or `on` is
                another version.
            ModelError: if the model's checkpoint is not there.
            DiffFileError: if the edit's object is damaged.
        """
        from .preview_stored import preview_stored

        return preview_stored(self._store, self._models, edit, top, others, on)

    def add(self, draft: Draft, *, require: Conditions = (), confident: bool = False) -> Edit:
        """Stores a draft as an edit, if conditions hold; applies nothing.

        Args:
            draft: from `drafts`.
            require: conditions such as `success>=0.95`, measured on the weights that it was planned on; they are stored
                with the edit, and applying it checks them again. See `kndb.records.conditions`.
            confident: compare the worse end of each measure's 95 % confidence interval, not its value.

        Raises:
            UsageError: if a condition is none.
            ConditionError: if one fails, or can't be measured; nothing is stored.
            VersionMovedError: if another process moved the model's version since the draft was computed.
        """
        from .batch import store_batch

        held = self._held(draft.version, [draft], require, confident)
        return store_batch(self._store, draft.version, [draft], held)[0]

    def check(self, draft: Draft, require: Conditions, *, confident: bool = False) -> CheckedConditions:
        """Checks conditions on a draft, as `add` does; stores nothing.

        Raises:
            UsageError: if a condition is none, or there is none.
            ConditionError: if one fails, or can't be measured.
        """
        held = self._held(draft.version, [draft], require, confident)
        if held is None:
            raise UsageError(f"{option('require')} must have at least one condition")
        return held.checked

    def _held(
        self, version: ModelVersion, drafts: Sequence[Draft], require: Conditions, confident: bool
    ) -> Held | None:
        conditions = parse_conditions([require] if isinstance(require, str) else require, confident=confident)
        if not conditions:
            return None
        from .conditions import hold_for_drafts

        return hold_for_drafts(self._store, self._models, version, drafts, conditions)

    # --- capturing -------------------------------------------------------------------------------------------

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

    def draft_adapter(self, model: str, source: str | Path, *, most_bytes: int | None = None) -> ImportedAdapter:
        """What a LoRA adapter of peft's form adds to a model's current version; stores nothing.

        The value slots become W + scale·B·A: the product is rounded to float32, added in float32 (float64 where the
        weights are), and the sum rounded to the weights' dtype. `add(adapter.draft)` stores the edit, a capture, which
        is bit-exact to apply and to revert.

        Args:
            model: a registered model.
            source: the adapter's folder, with `adapter_config.json` and `adapter_model.safetensors`.
            most_bytes: larger tensors are refused; None allows as many as the model's weight files, and 64 MiB.

        Raises:
            UsageError: if `most_bytes` is under 1.
            InputError: if it is no plain LoRA adapter, is pickled or too large, or changes modules other than the
            model's
                down projections.
            EditError: if it changes nothing.
        """
        from .import_adapter import draft_adapter

        return draft_adapter(self._models, model, Path(source), most_bytes=most_bytes)
