"""Conditions on edits that are to be stored or applied: measured in memory, as they would be, and all of them held.

A stored evaluation of the same edit, version, settings and prompts is used as it is. No control is measured: no
condition is about it, and that of an edit by gradient steps takes as long as the edit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from ...advice import call
from ...editing.objects import diff_file
from ...editing.objects.diff_file import EditObject
from ...editing.objects.slots import apply_object
from ...errors import ConditionError, ConflictError, EditError
from ...models.adapter import Blank
from ...records.condition_figures import Unmeasurable, checked
from ...records.condition_measures import MEASURES
from ...records.conditions import CheckedCondition, CheckedConditions, Condition
from ...records.edit_settings import EvaluationSettings
from ...records.edits import Edit
from ...records.recipes import new_answers
from ...store import versions as store_versions
from ...store.edits import edit as store_edits
from ...store.edits import evaluations as store_evaluations
from ...store.engine import Store
from ...store.versions import CurrentModel
from ..models import ModelCommands, ModelVersion
from .draft import Draft
from .evaluate import asked_of_edit, measure
from .series_evaluation import measure_series

TOKENS = 50
"""By so many tokens prompts are continued for a condition on fluency, as by `kndb edit eval --generate`."""


@dataclass(frozen=True)
class Held:
    """Conditions that hold.

    Attributes:
        checked: the conditions with their figures.
        measures: of one edit, its evaluation, which is not stored yet; None if it is, and of several edits.
    """

    checked: CheckedConditions
    measures: Mapping[str, object] | None = None

    def kept(self, connection: Any, edit: int, model_id: int, skipped: tuple[Condition, ...] = ()) -> CheckedConditions:
        """Stores the evaluation, if there is one to store, and gives the conditions with its number.

        Args:
            connection: the write transaction in which the edit is stored or applied.
            edit: the edit's number.
            model_id: its model's.
            skipped: conditions that were not checked.
        """
        checked = replace(self.checked, skipped=skipped)
        if self.measures is None:
            return checked
        before = checked.version or ""
        number = store_evaluations.add_evaluation(
            connection,
            edit_id=edit,
            version_before=before,
            version_after=store_versions.version_with_edit(connection, model_id, before, edit),
            settings=self.checked.settings,
            measures=self.measures,
        )
        return replace(checked, evaluation=number)


def hold_for_drafts(
    store: Store,
    models: ModelCommands,
    version: ModelVersion,
    drafts: Sequence[Draft],
    conditions: Sequence[Condition],
) -> Held:
    """Checks conditions on edits that are not stored; several are measured together, after the last one.

    Args:
        store: the store.
        models: loads the unedited model, if the version has edits.
        version: the model in memory that the first was planned on, with or without the drafts, as batches leave it; it
            is as it was when this returns.
        drafts: at least one, each planned on those before it.
        conditions: at least one.

    Raises:
        ConditionError: if one fails, or can't be measured.
    """
    edits = [(_record(draft, version), draft.content) for draft in drafts]
    what = "the edit was not stored" if len(drafts) == 1 else f"the {len(drafts)} edits were not stored"
    parameters = dict(version.model.named_parameters())
    taken_back = _taken_back(parameters, drafts)
    try:
        return _held(store, models, version, edits, conditions, what)
    finally:
        for draft in reversed(taken_back):
            apply_object(parameters, draft.content)


def _taken_back(parameters: Mapping[str, torch.Tensor], drafts: Sequence[Draft]) -> list[Draft]:
    """Takes drafts back, the last first, if the weights have them; gives those taken back."""
    found: list[Draft] = []
    for draft in reversed(drafts):
        try:
            apply_object(parameters, draft.content, reverse=True)
        except ConflictError:
            if found:
                raise
            break
        found.append(draft)
    return found


def hold_for_steps(
    store: Store,
    models: ModelCommands,
    model: CurrentModel,
    order: Sequence[int],
    conditions: Sequence[Condition],
) -> Held:
    """Checks conditions on stored edits as they would be applied; several are measured together, after the last one.

    Args:
        store: the store.
        models: loads the model.
        model: the model, at its current version.
        order: the edits, in the order in which they are to be applied.
        conditions: at least one.

    Raises:
        ConditionError: if one fails, or can't be measured.
    """
    with store.reading() as connection:
        records = [replace(store_edits.edit(connection, number), base_version=model.version) for number in order]
    named = ", ".join(map(str, order[:5])) + (", …" if len(order) > 5 else "")
    what = f"edit {named} was not applied" if len(order) == 1 else f"edits {named} were not applied"
    stored = _stored(store, model, records, conditions)
    if stored is not None:
        return _checked(conditions, stored[1], what, records, model.version, stored[0])
    edits = [(one, diff_file.read(store.objects, one.object_path, one.object_hash)) for one in records]
    return _held(store, models, models.load(model.name, model.version), edits, conditions, what)


def _record(draft: Draft, version: ModelVersion) -> Edit:
    """A draft as the edit that it would be."""
    recipe = draft.content.recipe
    return Edit(
        id=0,
        model=version.record.name,
        kind=recipe.kind,
        recipe=recipe,
        object_hash="",
        object_path="",
        base_version=version.version,
        created_at="",
    )


def _settings(conditions: Sequence[Condition], *, continues: bool) -> EvaluationSettings:
    """What is measured: as `kndb edit eval` by itself, with continuations where a condition is about them."""
    asked = any(one.measure == "fluency" for one in conditions)
    return EvaluationSettings(generate=TOKENS if asked and continues else 0)


def _as_stored(settings: EvaluationSettings) -> dict[str, Any]:
    return settings.as_json() | {"control": False}


def _held(
    store: Store,
    models: ModelCommands,
    version: ModelVersion,
    edits: Sequence[tuple[Edit, EditObject]],
    conditions: Sequence[Condition],
    what: str,
) -> Held:
    records = [record for record, _ in edits]
    reads_on = version.network.adapter.blank is Blank.CUT
    settings = _settings(conditions, continues=reads_on and any(new_answers(one.recipe) for one in records))
    try:
        if _alone(records):
            record, content = edits[0]
            measures = measure(store, models, version, record, content, settings, control=False)
        else:
            # Nothing of it is stored, so that nothing else is measured.
            others = not all(MEASURES[one.measure].of_own for one in conditions)
            measures = measure_series(store, models, version, edits, settings, others=others)
    except EditError as error:
        raise ConditionError(f"{what}, as its conditions can't be measured: {error.text}.{_hint(records)}") from error
    found = _checked(conditions, measures, what, records, version.version, None, settings=settings)
    return replace(found, measures=measures if _alone(records) else None)


def _alone(records: Sequence[Edit]) -> bool:
    """Whether there is one edit, which says what it is for: then its evaluation is that of `kndb edit eval`."""
    return len(records) == 1 and records[0].kind != "capture"


def _stored(
    store: Store, model: CurrentModel, records: Sequence[Edit], conditions: Sequence[Condition]
) -> tuple[int, Mapping[str, Any]] | None:
    """An evaluation of the edit on this version that asked what would be asked now, and its number."""
    if not _alone(records):
        return None
    wanted = _settings(conditions, continues=True)
    with store.reading() as connection:
        found = [
            one
            for one in store_evaluations.evaluations(connection, records[0].id)
            if one.version_before == model.version and _covers(one.settings, wanted)
        ]
        digest = asked_of_edit(connection, records[0], EvaluationSettings()).digest if found else ""
    return next(((one.id, one.measures) for one in reversed(found) if one.measures.get("asked") == digest), None)


def _covers(settings: Mapping[str, Any], wanted: EvaluationSettings) -> bool:
    """Whether an evaluation of these settings has all that is wanted: it may have more, such as continuations."""
    needed = {name: value for name, value in settings.items() if name not in ("control", "generate")}
    of_prompts = EvaluationSettings(wanted.sample, wanted.seed).as_json()
    return needed == of_prompts and wanted.generate in (0, settings.get("generate"))


def _checked(
    conditions: Sequence[Condition],
    measures: Mapping[str, Any],
    what: str,
    records: Sequence[Edit],
    version: str,
    evaluation: int | None,
    *,
    settings: EvaluationSettings | None = None,
) -> Held:
    found = [checked(one, measures) for one in conditions]
    if not all(isinstance(one, CheckedCondition) and one.holds for one in found):
        raise ConditionError(
            _failure(found, what, records), [one for one in found if isinstance(one, CheckedCondition)]
        )
    asked = settings or _settings(conditions, continues=True)
    held = tuple(one for one in found if isinstance(one, CheckedCondition))
    return Held(CheckedConditions(held, (), len(records), version, evaluation, _as_stored(asked)))


def _failure(found: Sequence[CheckedCondition | Unmeasurable], what: str, records: Sequence[Edit]) -> str:
    wrong = [one for one in found if isinstance(one, Unmeasurable) or not one.holds]
    figures = "; ".join(one.words for one in [*wrong, *(one for one in found if one not in wrong)])
    together = f", measured after the last of {len(records)} edits" if len(records) > 1 else ""
    count = f"{len(wrong)} of {len(found)} conditions" if len(found) > 1 else "its condition"
    does = "does" if len(wrong) == 1 else "do"
    return f"{what}, as {count} {does} not hold{together}: {figures}.{_hint(records)}"


def _hint(records: Sequence[Edit]) -> str:
    """How to apply edits that were planned with conditions all the same."""
    if all(one.conditions is None for one in records):
        return ""
    again = call("edits.apply_all", [one.id for one in records], no_require=True)
    return f" To leave out the conditions that they were planned with: {again}"
