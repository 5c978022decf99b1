"""Measuring an edit: what it needs from the store, and storing what was found. `evaluation` has what is measured."""

from __future__ import annotations

from typing import Any

from ...advice import Placeholder, call, option
from ...editing.objects import diff_file
from ...errors import UsageError
from ...records.edit_settings import EvaluationSettings
from ...records.edits import Edit, Evaluation
from ...records.group_recipes import GroupRecipe
from ...records.recipes import facts_of
from ...store import evaluation_prompts
from ...store import facts as store_facts
from ...store import versions as store_versions
from ...store.edits import edit as store_edits
from ...store.edits import evaluations as store_evaluations
from ...store.engine import Store
from ..models import ModelCommands, ModelVersion
from .asked_prompts import edits_there
from .evaluation import EditEvaluator, MeasuredAim, aim_of, aim_of_capture, facts_to_measure
from .group_evaluation import GroupEvaluator
from .kept_prompts import local_fact, prompts_in_recipe
from .recipe_fits import require_fit


def evaluate(
    store: Store,
    models: ModelCommands,
    edit: int,
    settings: EvaluationSettings,
    *,
    fact: int | None,
    to: str | None,
    device: str,
) -> Evaluation:
    """Measures an edit and stores what was found; see `EditCommands.evaluate`."""
    with store.reading() as connection:
        record = store_edits.edit(connection, edit)
    told = None if fact is None or to is None else (fact, to)
    require_aim(record, told)
    planned = diff_file.read(store.objects, record.object_path, record.object_hash)
    version = models.load(record.model, record.base_version)
    require_fit(edit, record.recipe, version.network)
    recipe = record.recipe
    aim = None if isinstance(recipe, GroupRecipe) else _aim(store, record, version, told)
    own = _own_facts(record) if aim is None else [] if aim.fact is None else [aim.fact]
    with store.reading() as connection:
        facts = {one.id: one for one in store_facts.find_facts(connection)}
        relations = {facts[number].relation for number in own} if aim is None else {aim.relation}
        measured = facts_to_measure(relations, facts, sample=settings.sample, seed=settings.seed)
        prompts = store_facts.prompts(connection, fact_ids=measured)
        after = store_versions.version_with_edit(connection, version.record.id, record.base_version, edit)
        computed_on = prompts_in_recipe(connection, record)
        base = store_versions.current_model(connection, version.record.id).base
        evaluation = {number: evaluation_prompts.of_fact(connection, number) for number in own}
        there = edits_there(connection, record, version.record.id) if any(evaluation.values()) else set()
    unedited = None if record.base_version == base else models.load(record.model, "base")
    common: dict[str, Any] = {
        "seed": settings.seed,
        "computed_on": computed_on,
        "tokens": settings.generate,
        "there": there,
    }
    if aim is None:
        assert isinstance(recipe, GroupRecipe)
        group = GroupEvaluator(version, device, unedited)
        measures = group.measure_group(record, recipe, planned, prompts, facts, evaluation=evaluation, **common)
    else:
        of_fact = evaluation[own[0]] if own else []
        one = EditEvaluator(version, device, unedited)
        measures = one.measure(record, aim, planned, prompts, facts, evaluation=of_fact, **common)
    with store.writing() as connection:
        number = store_evaluations.add_evaluation(
            connection,
            edit_id=edit,
            version_before=record.base_version,
            version_after=after,
            settings=settings.as_json() | ({} if told is None else {"fact": told[0], "to": told[1]}),
            measures=measures,
        )
        return store_evaluations.evaluation(connection, number)


def _own_facts(record: Edit) -> list[int]:
    """The facts here that an edit of many facts is for."""
    return [local_fact(record, fact.id) for fact in facts_of(record.recipe)]


def _aim(store: Store, record: Edit, version: ModelVersion, told: tuple[int, str] | None) -> MeasuredAim:
    if told is None:
        return aim_of(record)
    number, to = told
    with store.reading() as connection:
        fact, own = store_facts.fact(connection, number), store_facts.prompts(connection, [number], held_out=False)
    return aim_of_capture(version, fact, own, to)


def require_aim(record: Edit, told: tuple[int, str] | None) -> None:
    """Checks that a capture is told what it is for, and no other edit is.

    Raises:
        UsageError: if not.
    """
    if record.kind == "capture" and told is None:
        again = call("edits.evaluate", record.id, fact=Placeholder("ID"), to=Placeholder("ANSWER"))
        raise UsageError(f"edit {record.id} is a capture, which does not say what it is for; say so with: {again}")
    if record.kind != "capture" and told is not None:
        raise UsageError(f"edit {record.id} says itself what it is for; leave out {option('fact')} and {option('to')}")
