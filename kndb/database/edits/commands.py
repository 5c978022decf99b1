"""`db.edits`: plan, look at, apply, revert, share and measure edits. Each method is one call of the module of its noun.

Imports no torch: what only compares and moves bytes starts at once, and the rest imports its engines when it is called.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from ...editing.objects.captured import CapturedTensor
from ...errors import UsageError
from ...records.conditions import parse_conditions
from ...records.display import Rows
from ...records.edits import DeletedEdit, Edit, EditChange, SlotChange
from ...records.models import Neuron
from ...records.versions import Blame, HistoryEntry
from . import apply, listing, revert
from .blame import blame
from .delete import delete
from .diff import VersionDiff, diff
from .many_commands import ManyCommands
from .measuring_commands import MeasuringCommands
from .planning_commands import Conditions
from .sharing_commands import SharingCommands
from .verify import Verified, verify

if TYPE_CHECKING:
    from .ahead import StepsAhead
    from .rebase import Rebase


class EditCommands(ManyCommands, SharingCommands, MeasuringCommands):
    """Plan, apply, revert, share and measure edits."""

    # --- looking ---------------------------------------------------------------------------------------------

    def get(self, edit: int) -> Edit:
        """One edit.

        Raises:
            NotFoundError: if there is none of that number.
        """
        return listing.get(self._store, edit)

    def all(self, model: str | None = None) -> Rows[Edit]:
        """All edits, or those of one model."""
        return listing.every(self._store, model)

    def slots(self, edit: int) -> Rows[SlotChange]:
        """The value slots that an edit changes."""
        return listing.slots(self._store, edit)

    def log(self, model: str | None = None) -> Rows[HistoryEntry]:
        """Every apply, revert and restore, the oldest first."""
        return listing.log(self._store, model)

    def slot_lengths(self, edit: int) -> dict[Neuron, tuple[float, float]]:
        """The length ‖v‖ of each value slot before and after an edit.

        Raises:
            DiffFileError: if the edit's object is damaged.
        """
        return listing.slot_lengths(self._store, edit)

    def change(self, edit: int) -> EditChange:
        """What an edit changes: its value slots with their lengths, and other parameters; read from its object.

        Raises:
            NotFoundError: if there is no such edit.
            DiffFileError: if the edit's object is damaged.
        """
        return listing.change(self._store, edit)

    def tensors(self, edit: int) -> list[CapturedTensor]:
        """How an edit's object keeps the change of each parameter.

        Raises:
            DiffFileError: if the edit's object is damaged.
        """
        return listing.tensors(self._store, edit)

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
        return diff(self._store, self._models, model, a, b)

    def blame(self, model: str, slots: Sequence[str] = (), *, edit: int | None = None) -> Blame:
        """Which edits wrote value slots, when, and what became of it; from hashes, log and objects, without a model.

        Args:
            model: a registered model.
            slots: each a neuron such as `L2.N418`, a range `L2.N400-420`, or the name of a parameter that edits change
                as a whole. Where layers share a parameter, the lowest of them has its slots; of a layer of experts,
                neuron i of expert e is e·m + i.
            edit: also all that this edit changes.

        Raises:
            UsageError: if nothing is named, or the model has no such neuron.
            NotFoundError: if there is no such model or edit, or no edit changes such a parameter.
            EditError: if the edit is of another model.
            DiffFileError: if the object of an edit that wrote a slot is damaged.
        """
        return blame(self._store, self._models, model, slots, edit)

    def verify(self, edits: Sequence[int] = (), *, model: str | None = None, weights: bool = False) -> list[Verified]:
        """Checks edit objects against their hashes and the database; of all edits, also versions and history.

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
        return verify(self._store, self._models, edits, model, weights)

    # --- moving the current version --------------------------------------------------------------------------

    def steps_ahead(self, edits: Sequence[int], action: Literal["apply", "revert"]) -> StepsAhead:
        """Where applying edits, or reverting them, would lead; changes nothing, and reads no checkpoint.

        Args:
            edits: numbers of edits of one model, at least one.
            action: what to do with them: `apply`, in this order, or `revert`, the last applied first.

        Raises:
            UsageError: if there is no edit.
            EditError, ConflictError: where the step itself would be refused by what the store knows: see `apply_all`
                and `revert_all`.
        """
        from .ahead import steps_ahead

        if not edits:
            raise UsageError("there is no edit; give at least one number")
        return steps_ahead(self._store, edits, action)

    def apply(
        self,
        edit: int,
        *,
        require: Conditions = (),
        confident: bool = False,
        no_require: bool = False,
        expected: str | None = None,
    ) -> HistoryEntry:
        """Applies an edit to its model's current version, once every slot was compared bit for bit.

        Args:
            edit: the edit's number.
            require: conditions that it must meet; see `apply_all`.
            confident: compare the worse end of each measure's 95 % confidence interval, not its value.
            no_require: leave out the conditions that it was planned with; the history says so.
            expected: the id of the version that the caller has looked at; None applies it to whichever is the current
                one.

        Raises:
            ConditionError: if a condition fails, or can't be measured; nothing is applied.
            ConflictError: if other edits changed its slots.
            VersionMovedError: if the model is at another version than expected, or another process moved it meanwhile.
            DiffFileError: if the edit's object is damaged.
        """
        steps = self.apply_all([edit], require=require, confident=confident, no_require=no_require, expected=expected)
        return steps[0]

    def apply_all(
        self,
        edits: Sequence[int],
        *,
        require: Conditions = (),
        confident: bool = False,
        no_require: bool = False,
        expected: str | None = None,
    ) -> list[HistoryEntry]:
        """Applies edits of one model to its current version, in this order; all or none.

        Conditions are checked in memory, on the current version, after the last of the edits: those that are given,
        and those that the edits were planned with. The history keeps them with their figures. Without any, no model
        is loaded.

        Args:
            edits: the edits' numbers.
            require: conditions such as `success>=0.95`; see `kndb.records.conditions`.
            confident: compare the worse end of each measure's 95 % confidence interval, not its value.
            no_require: leave out the conditions that the edits were planned with; the history says so.
            expected: as for `apply`.

        Raises:
            UsageError: if there is no edit, or a condition is none.
            ConditionError: if a condition fails, or can't be measured; nothing is applied.
            EditError: if they are of several models, or one is applied already.
            ConflictError: if other edits changed the slots of one.
            VersionMovedError: if another process moved the version meanwhile.
            DiffFileError: if the object of one is damaged.
        """
        conditions = parse_conditions([require] if isinstance(require, str) else require, confident=confident)
        return apply.apply_all(self._store, self._models, edits, conditions, no_require=no_require, expected=expected)

    def revert(self, edit: int, *, expected: str | None = None) -> HistoryEntry:
        """Takes an applied edit out of its model's current version; the slots get their old bytes back.

        Args:
            edit: the edit's number.
            expected: the id of the version that the caller has looked at; None takes it out of whichever is the current
                one.

        Raises:
            ConflictError: if later edits changed the same slots; see `revert_cascade` and `rebase`.
            VersionMovedError: if another process moved the version meanwhile.
            DiffFileError: if the edit's object is damaged.
        """
        return self.revert_all([edit], expected=expected)[0]

    def revert_all(self, edits: Sequence[int], *, expected: str | None = None) -> list[HistoryEntry]:
        """Takes edits out of their model's current version, the last applied first; all or none.

        Args:
            edits: the edits' numbers.
            expected: as for `revert`.

        Raises:
            UsageError: if there is no edit.
            EditError: if they are of several models, or one is not applied.
            ConflictError: if later edits that stay changed the slots of one.
            VersionMovedError: if another process moved the version meanwhile.
            DiffFileError: if the object of one is damaged.
        """
        return revert.revert_all(self._store, self._models, edits, expected)

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
        return revert.revert_cascade(self._store, self._models, edit)

    def rebase(self, edit: int) -> Rebase:
        """Takes an edit out and computes the later ones that overlap it again, on the weights without it; all or none.

        The edit and the later ones are reverted. Each later one is then planned from its recipe (the same neurons,
        tokens and factors) on the weights that are left, as a new edit, and applied, in the order in which they were
        applied. An optimised edit takes its gradient steps again, with the settings and the prompts of its recipe.

        Args:
            edit: the edit's number; it must be applied.

        Raises:
            EditError: if the edit is not applied, or one of the later ones can't be recomputed.
            VersionMovedError: if another process moved the version meanwhile.
            DiffFileError: if the object of one of the edits is damaged.
        """
        from .rebase import rebase

        return rebase(self._store, self._models, edit)

    # --- deleting --------------------------------------------------------------------------------------------

    def delete(self, edits: Sequence[int], *, preview: bool = False) -> Rows[DeletedEdit]:
        """Deletes edits that are part of no version, with their evaluations; all or none.

        An edit that is applied, or ever was, stays: the log's versions are built with it. So does one that another
        edit, a snapshot, a run, a probe or a trial builds on, unless that is deleted too. A deleted edit can't be
        brought back, and its number may be given to the next edit; push it to a file first to keep it.

        Args:
            edits: the edits' numbers.
            preview: say what would be deleted, and delete nothing.

        Returns:
            The edits, with how many evaluations go with each.

        Raises:
            UsageError: if there is no edit.
            NotFoundError: if there is no such edit.
            EditError: if something needs one of them.
            StoreError: if an object can't be removed; the edits are deleted then.
        """
        return delete(self._store, edits, preview=preview)
