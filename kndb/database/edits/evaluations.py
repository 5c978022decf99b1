"""Use cases of measuring edits: an evaluation, and the table over all of them.

`EditCommands` inherits them, so all are methods of `db.edits`. `evaluation` has what is measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...errors import UsageError
from ...records.display import Rows
from ...records.edits import Edit, Evaluation
from ...store import facts as store_facts
from ...store import models as store_models
from ...store import versions as store_versions
from ...store.edits import edit as store_edits
from ...store.edits import evaluation_table
from ...store.edits import evaluations as store_evaluations
from ...store.edits.evaluation_table import EvaluatedEdit as EvaluatedEdit
from ...store.engine import Store
from ..models import ModelCommands


class EditEvaluationCommands:
    """Measure edits, and compare what was measured."""

    def __init__(self, store: Store, models: ModelCommands) -> None:
        self._store = store
        self._models = models

    def evaluate(
        self,
        edit: int,
        *,
        fact: int | None = None,
        to: str | None = None,
        sample: int = 300,
        seed: int = 0,
        device: str = "auto",
        generate: int = 0,
    ) -> Evaluation:
        """Measures an edit against the version that it was planned on, beside a random-neuron control; stored.

        Args:
            edit: the edit's number; it need not be applied.
            fact: of a capture, which does not say so itself, the number of the fact that it is for.
            to: and the answer that it is to give.
            sample: facts of other relations to measure, drawn at random; at least 1.
            seed: of the draw and of the control's neurons.
            device: where to compute.
            generate: also continue the fact's prompts by so many tokens at most, before and after; 0 does not.

        Raises:
            UsageError: if a capture has no fact and answer, or another edit has; if prompts are to be continued, and
                the model is not causal, or the edit is of a relation.
            EditError: if the fact can't be asked, the answer is not one token, or a fact of the recipe is not here.
        """
        from ...editing.objects import diff_file
        from .evaluation import EditEvaluator, aimed_at, facts_to_measure
        from .optimize import prompts_in_recipe

        if sample < 1:
            raise UsageError(f"found sample {sample}; expected at least 1")
        if generate < 0:
            raise UsageError(f"found generate {generate}; expected at least 1, or 0 for nothing")
        if not 0 <= seed < 2**63:
            raise UsageError(f"found seed {seed}; expected a number from 0 to 2^63 - 1")
        with self._store.reading() as connection:
            record = store_edits.edit(connection, edit)
        _require_aim(record, fact, to)
        planned = diff_file.read(self._store.objects, record.object_path, record.object_hash)
        version = self._models.load(record.model, record.base_version)
        settings: dict[str, Any] = {"sample": sample, "seed": seed} | ({"generate": generate} if generate else {})
        if fact is not None and to is not None:
            with self._store.reading() as connection:
                aim, own = store_facts.fact(connection, fact), store_facts.prompts(connection, [fact], held_out=False)
            record = aimed_at(record, version, aim, own, to)
            settings |= {"fact": fact, "to": to}
        with self._store.reading() as connection:
            facts = {one.id: one for one in store_facts.find_facts(connection)}
            measured = facts_to_measure(record, facts, sample=sample, seed=seed)
            prompts = store_facts.prompts(connection, fact_ids=measured)
            after = store_versions.version_with_edit(connection, version.record.id, record.base_version, edit)
            optimized_on = prompts_in_recipe(connection, record)
            base = store_versions.current_model(connection, version.record.id).base
        unedited = None if record.base_version == base else self._models.load(record.model, "base")
        evaluator = EditEvaluator(version, device, unedited)
        measures = evaluator.measure(
            record, planned, prompts, facts, seed=seed, optimized_on=optimized_on, tokens=generate
        )
        with self._store.writing() as connection:
            number = store_evaluations.add_evaluation(
                connection,
                edit_id=edit,
                version_before=record.base_version,
                version_after=after,
                settings=settings,
                measures=measures,
            )
            return store_evaluations.evaluation(connection, number)

    def evaluations(self, edit: int | None = None) -> Rows[Evaluation]:
        """All stored evaluations, or those of one edit."""
        with self._store.reading() as connection:
            return Rows(store_evaluations.evaluations(connection, edit), Evaluation)

    def evaluated(
        self, edits: Sequence[int] = (), *, model: str | None = None, every: bool = False
    ) -> Rows[EvaluatedEdit]:
        """A table over edits, with what each and its control did.

        Args:
            edits: only these; none means all.
            model: only this model's.
            every: every evaluation of an edit, not only the newest.

        Raises:
            NotFoundError: if there is no such edit or model.
        """
        with self._store.reading() as connection:
            for edit in edits:
                store_edits.edit_model(connection, edit)
            number = None if model is None else store_models.model(connection, model).id
            return Rows(evaluation_table.evaluated_edits(connection, number, edits, every=every), EvaluatedEdit)

    @property
    def evaluated_measures(self) -> tuple[str, ...]:
        """The measures in the table over edits."""
        return evaluation_table.COLUMNS


def _require_aim(record: Edit, fact: int | None, to: str | None) -> None:
    """Checks that a capture is told what it is for, and no other edit is.

    Raises:
        UsageError: if not.
    """
    named = fact is not None and to is not None
    if (record.kind == "capture") != named:
        raise UsageError(
            f"edit {record.id} is a capture, which does not say what it is for; say so with --fact ID --to ANSWER"
            if record.kind == "capture"
            else f"edit {record.id} says itself what it is for; expected neither --fact nor --to"
        )
