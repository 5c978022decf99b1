"""What `db.edits` has to plan edits of many facts: lists of facts, joint plans, merges, batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ...advice import option
from ...content import MOST_BYTES
from ...errors import UsageError
from ...records.attribution import RefinementChoice
from ...records.conditions import CheckedConditions
from ...records.edits import Edit
from ...records.many_recipes import TriedSettings
from ...records.many_settings import LayerChoice, ManySettings
from ...records.progress import Progress
from ...records.together import KeptFacts, TogetherSettings
from .planning_commands import Conditions, PlanningCommands

if TYPE_CHECKING:
    from ..models import ModelVersion
    from .batch import Batch, PreviewedEdit, Target
    from .batches import GroupBatch
    from .draft import Draft
    from .merge import Merge, MergeDraft, MergeSettings
    from .preview import PreviewedFlips
    from .preview_together import PreviewedFact
    from .targets import Targets


class ManyCommands(PlanningCommands):
    """Plan edits of many facts; part of `EditCommands`."""

    def targets(
        self,
        path: str | Path,
        *,
        new_answers: str | None = None,
        skip_unusable: bool = False,
        most_bytes: int = MOST_BYTES,
    ) -> Targets:
        """Facts and their new answers from a file; see `kndb.exchange.targets`.

        Args:
            path: JSON lines or CSV, with `to`, and `fact` or `relation` and `subject`; or a list of edits as it was
                published (CounterFact, zsRE, MQuAKE, KnowEdit, EasyEdit, RippleEdits), whose facts were ingested.
            new_answers: of a list of edits with several answers, the field of the new one: for zsRE `alt` or `answers`.
            skip_unusable: pass over records of a list of edits that can't be used, whose facts are not in the store, or
                that give a fact another answer than a record before them.
            most_bytes: a file with more of unpacked text is refused.

        Returns:
            A list; its `left_out` says what was passed over.

        Raises:
            InputError: if the file is not such a list.
            NotFoundError: if facts are not in the store, or a name stands for several.
            UsageError: if the new answers are in another field, or it must be said which one; or a list of edits gives
                one fact several; or `most_bytes` is under 1.
        """
        from .targets import read_targets

        return read_targets(self._store, Path(path), new_answers, skip_unusable=skip_unusable, most_bytes=most_bytes)

    def targets_in(self, text: str, *, new_answers: str | None = None, skip_unusable: bool = False) -> Targets:
        """Facts and their new answers from a text: of a form, or pasted.

        Args:
            text: lines of a fact's number and its new answer, such as `588 Toyota`; or what a file for `targets` holds.
            new_answers: as for `targets`.
            skip_unusable: as for `targets`.

        Returns:
            A list; its `left_out` says what was passed over.

        Raises:
            InputError: if the text is no such list.
            NotFoundError, UsageError: as `targets`.
        """
        from .target_texts import read_target_text

        return read_target_text(self._store, text, new_answers, skip_unusable=skip_unusable)

    def plan_together(
        self,
        model: str,
        targets: Sequence[Target],
        settings: TogetherSettings | None = None,
        keep: KeptFacts | None = None,
        *,
        layers: Sequence[int] = (),
        refinement: RefinementChoice = None,
        steps_file: str | Path | None = None,
        skip_unusable: bool = False,
        progress: Progress | None = None,
    ) -> Edit:
        """Plans one edit that gives many facts their new answers, by gradient steps; see `EditDrafts.together`.

        Computes and stores the edit, applies nothing. The file of steps is removed once the edit is stored.
        """
        draft = self.drafts.together(
            model,
            targets,
            settings,
            keep,
            layers=layers,
            refinement=refinement,
            steps_file=steps_file,
            skip_unusable=skip_unusable,
            progress=progress,
        )
        edit = self.add(draft)
        if steps_file is not None:
            Path(steps_file).unlink(missing_ok=True)
        return edit

    def draft_merge(
        self,
        edits: Sequence[int],
        *,
        prefer: Sequence[int] = (),
        settings: MergeSettings | None = None,
        keep: KeptFacts | None = None,
        layers: Sequence[int] = (),
        refinement: RefinementChoice = None,
        anyway: bool = False,
        steps_file: str | Path | None = None,
        progress: Progress | None = None,
    ) -> MergeDraft:
        """Plans one edit that gives the facts of several edits of a model their new answers; stores nothing.

        The facts are planned together (`EditDrafts.together`), on the current version without those of the edits that
        are applied. So the merge takes their place, and does not build on them.

        Args:
            edits: at least two; each gives facts new answers.
            prefer: edits whose answers stand where edits give one question different answers, the first one first.
            settings: a `TogetherSettings`, or a mapping with some of its values by name. What is left out is as in the
                merged joint plans, where they agree, else the default.
            keep: how many other facts' answers should stay; None takes the defaults.
            layers: with scope `layers`, those whose value slots change. None takes those of the facts' knowledge
                neurons; if an edit names no refinement of this store, the layers that the edits change.
            refinement: whose knowledge neurons; None takes that of the edits, if they have the same one.
            anyway: merge edits that change no value slot in common, too.
            steps_file: keeps the steps taken, so that a plan that was stopped resumes.
            progress: told how many steps were taken, and how many there are at most.

        Raises:
            UsageError: if fewer than two edits are named, one is named twice, they are of several models, or a setting
                can't be.
            NotFoundError: if there is no such edit.
            EditError: if an edit gives no fact a new answer, edits give one question different answers and none of them
                is preferred, nothing overlaps, or the facts can't be planned; ConflictError if an edit that is not
                merged builds on one that is.
        """
        from .merge import draft_merge

        return draft_merge(
            self._store,
            self._models,
            edits,
            prefer=prefer,
            settings=settings,
            keep=keep,
            layers=layers,
            refinement=refinement,
            anyway=anyway,
            steps_file=None if steps_file is None else Path(steps_file),
            progress=progress,
        )

    def merge(
        self,
        edits: Sequence[int],
        *,
        prefer: Sequence[int] = (),
        settings: MergeSettings | None = None,
        keep: KeptFacts | None = None,
        layers: Sequence[int] = (),
        refinement: RefinementChoice = None,
        anyway: bool = False,
        steps_file: str | Path | None = None,
        require: Conditions = (),
        confident: bool = False,
        progress: Progress | None = None,
    ) -> Merge:
        """Plans one edit of several that overlap, and stores it; applies nothing. See `draft_merge`, and `add`.

        Raises:
            UsageError: if a condition is none.
            ConditionError: if one fails, or can't be measured; nothing is stored.
            VersionMovedError: if another process moved the model's version meanwhile.
        """
        planned = self.draft_merge(
            edits,
            prefer=prefer,
            settings=settings,
            keep=keep,
            layers=layers,
            refinement=refinement,
            anyway=anyway,
            steps_file=steps_file,
            progress=progress,
        )
        edit = self.add(planned.draft, require=require, confident=confident)
        if steps_file is not None:
            Path(steps_file).unlink(missing_ok=True)
        from .merge import Merge

        return Merge(edit, planned.facts, planned.revert_first, tuple(planned.remarks))

    def plan_many(
        self,
        model: str,
        targets: Sequence[Target],
        settings: ManySettings,
        *,
        choose: LayerChoice | TriedSettings | None = None,
        seed: int = 0,
        targets_file: str | Path | None = None,
        skip_unusable: bool = False,
        progress: Progress | None = None,
    ) -> Edit:
        """Plans one edit that gives many facts their new answers, by the method of the settings; see `EditDrafts.many`.

        Computes and stores the edit, applies nothing. The file of targets is removed once the edit is stored.
        """
        draft = self.drafts.many(
            model,
            targets,
            settings,
            choose=choose,
            seed=seed,
            targets_file=targets_file,
            skip_unusable=skip_unusable,
            progress=progress,
        )
        edit = self.add(draft)
        if targets_file is not None:
            Path(targets_file).unlink(missing_ok=True)
        return edit

    def draft_batches(
        self,
        model: str,
        targets: Sequence[Target],
        size: int,
        plan: Callable[[Sequence[Target], ModelVersion, Sequence[Draft]], Draft],
        *,
        skip_unusable: bool = False,
        progress: Progress | None = None,
    ) -> GroupBatch:
        """Plans edits of so many facts each, every one on the weights with those before it; stores nothing.

        Args:
            model: a registered model.
            targets: facts and their new answers, each question once.
            size: facts of an edit, at least 1; the last one has what is left.
            plan: computes an edit of some targets on the weights in memory, which have the drafts before it: a method
                of `drafts` with `on`, and with `before` where it has that.
            skip_unusable: pass over facts for which no edit can be planned.
            progress: told how many facts were planned, and how many there are.

        Raises:
            UsageError: if there is no target, a question gets two answers, or the size is under 1.
            EditError: if an edit can't be planned, and is not to be skipped.
        """
        from .batches import draft_batches

        version = self._models.load(model)
        return draft_batches(self._store, version, targets, size, plan, skip_unusable=skip_unusable, progress=progress)

    def preview_together(self, draft: Draft | GroupBatch) -> list[PreviewedFact]:
        """What an edit of many facts, or all edits of a batch, would do to each of the facts; stores nothing.

        Args:
            draft: from `drafts.together`, `drafts.many` or `draft_batches`.
        """
        from .batches import GroupBatch
        from .preview_together import preview_together

        return preview_together(self._store, draft.drafts if isinstance(draft, GroupBatch) else [draft])

    def preview_flips(self, draft: Draft, *, others: int = 40) -> PreviewedFlips:
        """Which answers to other facts an edit of many facts would flip; stores nothing.

        Args:
            draft: from `drafts.together` or `drafts.many`.
            others: facts that the edit is not for, to ask whether their answers flip.

        Raises:
            UsageError: if `others` is under 0.
        """
        from .preview import preview_flips

        return preview_flips(self._store, draft, others)

    def draft_batch(
        self,
        model: str,
        targets: Sequence[Target],
        plan: Callable[[Target, ModelVersion], Draft],
        *,
        skip_unusable: bool = False,
        progress: Progress | None = None,
    ) -> Batch:
        """Plans many edits, each on the weights with those before it; stores nothing.

        Args:
            model: a registered model.
            targets: facts and their new answers.
            plan: computes the edit of one target on the weights in memory: a method of `drafts` with `on`.
            skip_unusable: pass over facts for which no edit can be planned.
            progress: told how many facts were tried, and how many there are.

        Raises:
            UsageError: if there is no target, or a fact is named twice.
            EditError: if an edit can't be planned and is not to be skipped.
        """
        from .batch import draft_batch

        return draft_batch(self._models.load(model), targets, plan, skip_unusable=skip_unusable, progress=progress)

    def add_batch(self, batch: Batch | GroupBatch, *, require: Conditions = (), confident: bool = False) -> list[Edit]:
        """Stores the edits of a batch, all or none; applies nothing.

        Args:
            batch: from `draft_batch`.
            require: conditions that they must meet, measured together after the last one; each edit keeps them. See
                `add`.
            confident: compare the worse end of each measure's confidence interval.

        Raises:
            ConditionError: if one fails, or can't be measured; nothing is stored.
            VersionMovedError: if another process moved the model's version since the batch was computed.
        """
        from .batch import store_batch

        held = self._held(batch.version, batch.drafts, require, confident)
        return store_batch(self._store, batch.version, batch.drafts, held)

    def check_batch(
        self, batch: Batch | GroupBatch, require: Conditions, *, confident: bool = False
    ) -> CheckedConditions:
        """Checks conditions on the edits of a batch together, as `add_batch` does; stores nothing.

        Raises:
            UsageError: if a condition is none, or there is none.
            ConditionError: if one fails, or can't be measured.
        """
        held = self._held(batch.version, batch.drafts, require, confident)
        if held is None:
            raise UsageError(f"{option('require')} must have at least one condition")
        return held.checked

    def preview_batch(self, batch: Batch) -> list[PreviewedEdit]:
        """What all edits of a batch together would do to each of its facts; stores nothing."""
        from .batch import preview_batch

        return preview_batch(self._store, batch)
