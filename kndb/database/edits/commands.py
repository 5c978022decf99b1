"""`db.edits`: plan, look at, apply, revert, share and measure edits. Each method is one call of the module of its noun.

Imports no torch: what only compares and moves bytes starts at once, and the rest imports its engines when it is called.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ...content import MOST_BYTES
from ...editing.objects.captured import CapturedTensor
from ...records.attribution import RefinementChoice
from ...records.cases import CaseSet, CaseSettings
from ...records.display import Rows
from ...records.edit_settings import EvaluationSettings, OptimizeSettings, UpdateSettings
from ...records.edits import DeletedEdit, Edit, EditChange, Evaluation, SlotChange
from ...records.many_recipes import TriedSettings
from ...records.many_settings import LayerChoice, ManySettings
from ...records.models import Neuron
from ...records.progress import Progress
from ...records.together import KeptFacts, TogetherSettings
from ...records.versions import HistoryEntry
from ...store.engine import Store
from ..models import ModelCommands
from . import apply, evaluations, listing, revert
from .delete import delete
from .diff import VersionDiff, diff
from .evaluations import EvaluatedEdit
from .verify import Verified, verify

if TYPE_CHECKING:
    from ..models import ModelVersion
    from .batch import Batch, PreviewedEdit, Target
    from .batches import GroupBatch
    from .capture import Captured
    from .draft import Draft
    from .drafts import EditDrafts
    from .preview import EditPreview
    from .preview_together import PreviewedFact
    from .pull import Pulled
    from .push import Pushed
    from .rebase import Rebase
    from .targets import Targets


class EditCommands:
    """Plan, apply, revert, share and measure edits."""

    def __init__(self, store: Store, models: ModelCommands) -> None:
        self._store = store
        self._models = models

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

    def add(self, draft: Draft) -> Edit:
        """Stores a draft as an edit; applies nothing.

        Raises:
            VersionMovedError: if another process moved the model's version since the draft was computed.
        """
        from .batch import store_batch

        return store_batch(self._store, draft.version, [draft])[0]

    # --- cases to try edits on -----------------------------------------------------------------------------

    def cases(
        self,
        model: str,
        *,
        relations: Sequence[str] = (),
        settings: CaseSettings | None = None,
        progress: Progress | None = None,
    ) -> CaseSet:
        """Draws a set of cases like CounterFact's: known facts with another object of the relation as new answer.

        Each has its held-out paraphrases, and prompts of other subjects with the same object that the model answers,
        none of which is a case itself.

        Args:
            model: a registered model; its current version is asked.
            relations: keys; none means all.
            settings: how many, and which facts count as known; None takes the defaults.
            progress: told how many cases were found, and how many are wanted.

        Raises:
            NotFoundError: if there is no such model or relation.
            EditError: if no fact can be a case.
        """
        from .cases import draw_cases

        return draw_cases(self._store, self._models, model, relations, settings or CaseSettings(), progress)

    def write_cases(self, cases: CaseSet, path: str | Path, *, form: str = "lines", force: bool = False) -> CaseSet:
        """Writes cases to a file that `targets` reads.

        Args:
            cases: the cases.
            path: the file.
            form: `lines`, JSON lines with the prompts beside; or `counterfact`, CounterFact's own JSON, whose prompts
                end where the answer begins: cases without such a prompt are left out.
            force: replace a file that is there.

        Returns:
            The cases that were written.

        Raises:
            UsageError: for another form, or a file that is there.
            EditError: if no case can be written in that form.
            OutputError: if the file can't be written.
        """
        from .cases import write_cases

        return write_cases(cases, Path(path), form, force=force)

    # --- planning many -------------------------------------------------------------------------------------

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

    def add_batch(self, batch: Batch | GroupBatch) -> list[Edit]:
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
            UsageError: if there is no edit, or they are of several models.
            OutputError: if the file can't be written.
            NotFoundError: if there is no such edit.
            DiffFileError: if an object is damaged.
        """
        from .push import push

        return push(self._store, edits, Path(path), force=force)

    def pull(
        self,
        path: str | Path,
        *,
        model: str | None = None,
        preview: bool = False,
        most_bytes: int | None = None,
    ) -> list[Pulled]:
        """Takes the edits of such a file into the store, all or none; applies nothing.

        Every edit is tried in memory first, on the checkpoint's own bytes, and what the file says of it is compared
        with what it does. What can't be told from bytes stays the sender's words; see `Pulled`.

        Args:
            path: the file.
            model: the model here; None takes the one with the file's fingerprint.
            preview: check the file, try its edits in memory, and say what is in it; store nothing.
            most_bytes: a larger file is refused; None allows four times the model's weight files, and 64 MiB.

        Returns:
            The edits of the file, in order.

        Raises:
            InputError: if the file is damaged or too large, an edit does not fit, or is not what the file says.
            FingerprintError: if it is for another checkpoint.
            DiffFileError: if an object in it is not sound.
        """
        from .pull import pull

        return pull(self._store, self._models, Path(path), model, preview=preview, most_bytes=most_bytes)

    # --- looking -------------------------------------------------------------------------------------------

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
        return verify(self._store, self._models, edits, model, weights)

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
        return apply.apply_all(self._store, self._models, edits)

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
        return revert.revert_all(self._store, self._models, edits)

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

    # --- deleting ------------------------------------------------------------------------------------------

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

    # --- measuring -----------------------------------------------------------------------------------------

    def evaluate(
        self,
        edit: int,
        settings: EvaluationSettings | None = None,
        *,
        fact: int | None = None,
        to: str | None = None,
        device: str = "auto",
    ) -> Evaluation:
        """Measures an edit against the version that it was planned on, beside a random-neuron control; stored.

        Args:
            edit: the edit's number; it need not be applied.
            settings: what it is measured on; None takes the defaults.
            fact: of a capture, which does not say so itself, the number of the fact that it is for.
            to: and the answer that it is to give.
            device: where to compute.

        Raises:
            UsageError: if a capture has no fact and answer, or another edit has; if prompts are to be continued, and
                the model is not causal, or the edit is of a relation.
            EditError: if the fact can't be asked, the answer is not one token, or a fact of the recipe is not here.
        """
        from .evaluate import evaluate

        chosen = settings or EvaluationSettings()
        return evaluate(self._store, self._models, edit, chosen, fact=fact, to=to, device=device)

    def evaluations(self, edit: int | None = None) -> list[Evaluation]:
        """All stored evaluations, or those of one edit."""
        return evaluations.evaluations(self._store, edit)

    def evaluated(
        self, edits: Sequence[int] = (), *, model: str | None = None, every: bool = False
    ) -> list[EvaluatedEdit]:
        """A table over edits, with what each and its control did.

        Args:
            edits: only these; none means all.
            model: only this model's.
            every: every evaluation of an edit, not only the newest.

        Raises:
            NotFoundError: if there is no such edit or model.
        """
        return evaluations.evaluated(self._store, edits, model, every=every)

    @property
    def evaluated_measures(self) -> tuple[str, ...]:
        """The measures in the table over edits."""
        return evaluations.COLUMNS
