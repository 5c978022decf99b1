"""`db.edits`: plan, look at, apply, revert, share and measure edits. Each method is one call of the module of its noun.

Imports no torch: what only compares and moves bytes starts at once, and the rest imports its engines when it is called.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ...advice import option
from ...content import MOST_BYTES
from ...editing.objects.captured import CapturedTensor
from ...errors import UsageError
from ...records.attribution import RefinementChoice
from ...records.cases import CaseSet, CaseSettings
from ...records.conditions import CheckedConditions, Condition, parse_conditions
from ...records.display import Rows
from ...records.edit_settings import EvaluationSettings, OptimizeSettings, UpdateSettings
from ...records.edits import DeletedEdit, Edit, EditChange, Evaluation, SlotChange
from ...records.many_recipes import TriedSettings
from ...records.many_settings import LayerChoice, ManySettings
from ...records.models import Neuron
from ...records.progress import Progress
from ...records.statistics import LayerStatistics, StatisticsSettings
from ...records.together import KeptFacts, TogetherSettings
from ...records.versions import Blame, HistoryEntry
from ...store.engine import Store
from ..models import ModelCommands
from . import apply, evaluations, listing, revert
from .blame import blame
from .delete import delete
from .diff import VersionDiff, diff
from .evaluations import EvaluatedEdit
from .verify import Verified, verify

if TYPE_CHECKING:
    from ..models import ModelVersion
    from .adapter_folder import ExportedAdapter
    from .batch import Batch, PreviewedEdit, Target
    from .batches import GroupBatch
    from .capture import Captured
    from .conditions import Held
    from .draft import Draft
    from .drafts import EditDrafts
    from .easyedit import ExportedCases
    from .import_adapter import ImportedAdapter
    from .merge import Merge, MergeDraft, MergeSettings
    from .preview import EditPreview
    from .preview_together import PreviewedFact
    from .pull import Pulled
    from .push import Pushed
    from .rebase import Rebase
    from .targets import Targets


Conditions = str | Sequence[str | Condition]
"""One condition as text, or several."""


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
        progress: Progress | None = None,
    ) -> Merge:
        """Plans one edit of several that overlap, and stores it; applies nothing. See `draft_merge`.

        Raises:
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
        from .merge import merge

        return merge(self._store, planned, None if steps_file is None else Path(steps_file))

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

    def export_adapter(self, edits: Sequence[int], out: str | Path, *, rank: int | None = None) -> ExportedAdapter:
        """Writes edits of one model as one LoRA adapter, in the files that peft loads.

        What a few value slots change is kept exactly; edits that are kept as low-rank factors are written as these. An
        adapter is added in floating point, so it comes close to the edits; how close is measured, and written into it.

        Args:
            edits: the edits' numbers, in the order in which they were planned: the adapter is what leads from the
                version of the first to that with all.
            out: the folder to make.
            rank: the highest rank of a module, at least 1; what is beyond is left out, and told. None leaves out
                nothing.

        Raises:
            UsageError: if there is no edit, one is named twice, they are of several models, the rank is under 1, or the
                folder is something else.
            EditError: if an edit changes what an adapter can't hold (other parameters, experts), builds on edits that
                are not named, or they change nothing together.
            OutputError: if the folder can't be written.
            DiffFileError: if an object is damaged.
        """
        from .export_adapter import export_adapter

        return export_adapter(self._store, self._models, edits, Path(out), rank=rank)

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

    # --- statistics ----------------------------------------------------------------------------------------

    def statistics(
        self,
        model: str,
        settings: StatisticsSettings | None = None,
        *,
        version: str = "current",
        replace: bool = False,
        progress: Progress | None = None,
    ) -> Rows[LayerStatistics]:
        """Counts the covariances of keys that edits of many facts need, and keeps them beside the database.

        A layer's keys are the inputs of its down projection, over the tokens of some texts. Each layer's covariance is
        a file of its own, bound to the checkpoint, the version and the texts. Safe to interrupt: the same call resumes.

        Args:
            model: a registered model.
            settings: of which layers and texts; None takes the prompts of the store's facts.
            version: as for `ModelCommands.load`.
            replace: replace what is kept of other texts; it stays until the new count is whole.
            progress: told how many texts were counted.

        Returns:
            What is kept of these layers.

        Raises:
            UsageError: if the model has no such layer, the sums would take too much memory, or those of other texts are
                kept.
            NotFoundError: if there is no such model or version.
            InputError: if the file of texts can't be used.
            EditError: if the model or the source can't be counted, or what is kept is damaged.
        """
        from .statistics import count_statistics

        chosen = settings or StatisticsSettings()
        return count_statistics(
            self._store, self._models, model, chosen, version=version, replaced=replace, progress=progress
        )

    def kept_statistics(self, model: str | None = None) -> Rows[LayerStatistics]:
        """What is kept of the keys of all models, or of one; damaged files with their problem.

        Raises:
            NotFoundError: if there is no such model.
        """
        from .kept_statistics import kept_statistics

        return kept_statistics(self._store, model)

    def delete_statistics(self, model: str, layers: Sequence[int] = ()) -> Rows[LayerStatistics]:
        """Deletes what is kept of a model's keys, of every version: of some layers, or of all.

        Raises:
            NotFoundError: if there is no such model.
            UsageError: if nothing is kept of one of the layers.
            StoreError: if a file can't be deleted.
        """
        from .kept_statistics import delete_statistics

        return delete_statistics(self._store, model, layers)

    # --- moving the current version ------------------------------------------------------------------------

    def apply(
        self, edit: int, *, require: Conditions = (), confident: bool = False, no_require: bool = False
    ) -> HistoryEntry:
        """Applies an edit to its model's current version, once every slot was compared bit for bit.

        Args:
            edit: the edit's number.
            require: conditions that it must meet; see `apply_all`.
            confident: compare the worse end of each measure's 95 % confidence interval, not its value.
            no_require: leave out the conditions that it was planned with; the history says so.

        Raises:
            ConditionError: if a condition fails, or can't be measured; nothing is applied.
            ConflictError: if other edits changed its slots.
            VersionMovedError: if another process moved the version meanwhile.
            DiffFileError: if the edit's object is damaged.
        """
        return self.apply_all([edit], require=require, confident=confident, no_require=no_require)[0]

    def apply_all(
        self,
        edits: Sequence[int],
        *,
        require: Conditions = (),
        confident: bool = False,
        no_require: bool = False,
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

        Raises:
            UsageError: if there is no edit, or a condition is none.
            ConditionError: if a condition fails, or can't be measured; nothing is applied.
            EditError: if they are of several models, or one is applied already.
            ConflictError: if other edits changed the slots of one.
            VersionMovedError: if another process moved the version meanwhile.
            DiffFileError: if the object of one is damaged.
        """
        conditions = parse_conditions([require] if isinstance(require, str) else require, confident=confident)
        return apply.apply_all(self._store, self._models, edits, conditions, no_require=no_require)

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

    def log_to_mlflow(self, evaluation: Evaluation, experiment: str = "kndb") -> str:
        """Logs an evaluation as a run of MLflow: parameters, each measure with the ends of its interval, and tags.

        Args:
            evaluation: from `evaluate` or `evaluations`.
            experiment: the experiment's name; it is made if there is none.

        Returns:
            The run's id, at the tracking URI of the environment (`MLFLOW_TRACKING_URI`).

        Raises:
            UsageError: if MLflow's client is not installed.
            OutputError: if the tracking server does not take it.
        """
        from ...exchange.mlflow_log import log_evaluation

        return log_evaluation(self.get(evaluation.edit), evaluation, experiment)

    def export_easyedit(
        self,
        edit: int,
        path: str | Path,
        settings: EvaluationSettings | None = None,
        *,
        fact: int | None = None,
        to: str | None = None,
        device: str = "auto",
    ) -> ExportedCases:
        """Measures each fact of an edit as EasyEdit does, and writes its result fields; nothing is stored.

        Args:
            edit: the edit's number; it need not be applied.
            path: the JSON file to make.
            settings: as for `evaluate`; `generate` adds the fluency.
            fact: of a capture, the number of the fact that it is for.
            to: and the answer that it is to give.
            device: where to compute.

        Raises:
            UsageError: as `evaluate`; or if the file is there.
            EditError: if the edit gives no fact a new answer, or the model can't be asked for one.
            OutputError: if the file can't be written.
        """
        from .easyedit import export_easyedit

        chosen = settings or EvaluationSettings()
        return export_easyedit(self._store, self._models, edit, Path(path), chosen, fact=fact, to=to, device=device)

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
