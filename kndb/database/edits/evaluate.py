"""Measuring an edit: what it needs from the store, and storing what was found. `evaluation` has what is measured."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...advice import Placeholder, call, option
from ...editing.objects import diff_file
from ...errors import UsageError
from ...records.edit_settings import EvaluationSettings
from ...records.edits import Edit, Evaluation
from ...records.facts import EvaluationPrompt, Fact, Prompt
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
    aim = None if told is None else _told_aim(store, version, *told)
    measures = measure(store, models, version, record, planned, settings, aim=aim, device=device)
    with store.writing() as connection:
        number = store_evaluations.add_evaluation(
            connection,
            edit_id=edit,
            version_before=record.base_version,
            version_after=store_versions.version_with_edit(connection, version.record.id, record.base_version, edit),
            settings=settings.as_json() | ({} if told is None else {"fact": told[0], "to": told[1]}),
            measures=measures,
        )
        return store_evaluations.evaluation(connection, number)


def measure(
    store: Store,
    models: ModelCommands,
    version: ModelVersion,
    record: Edit,
    planned: diff_file.EditObject,
    settings: EvaluationSettings,
    *,
    aim: MeasuredAim | None = None,
    device: str = "auto",
    control: bool = True,
) -> dict[str, object]:
    """The measures of one edit, which need not be stored, on a version in memory; nothing is stored.

    Args:
        store: the store.
        models: loads the unedited model, if the version has edits.
        version: the model without the edit; it is as it was when this returns.
        record: the edit; its base version is the one that is measured on.
        planned: its object.
        settings: what it is measured on.
        aim: of a capture, what it is for.
        device: where to compute.
        control: whether to measure random neurons too.

    Returns:
        As `EditEvaluator.measure`, with `asked`, the digest of what was asked.

    Raises:
        UsageError, EditError: as `EditCommands.evaluate`.
    """
    require_fit(record.id, record.recipe, version.network)
    recipe = record.recipe
    group = isinstance(recipe, GroupRecipe)
    known = None if group else aim or aim_of(record)
    own = _own_facts(record) if known is None else [] if known.fact is None else [known.fact]
    with store.reading() as connection:
        asked = what_is_asked(connection, own, set() if known is None else {known.relation}, settings)
        there = edits_there(connection, record, version.record.id) if any(asked.evaluation.values()) else set()
        common: dict[str, Any] = {
            "seed": settings.seed,
            "computed_on": prompts_in_recipe(connection, record) if control else (),
            "tokens": settings.generate,
            "there": there,
            "control": control,
        }
    unedited = unedited_model(store, models, version)
    if known is None:
        assert isinstance(recipe, GroupRecipe)
        several = GroupEvaluator(version, device, unedited)
        measures = several.measure_group(
            record, recipe, planned, asked.prompts, asked.facts, evaluation=asked.evaluation, **common
        )
    else:
        of_fact = asked.evaluation[own[0]] if own else []
        one = EditEvaluator(version, device, unedited)
        measures = one.measure(record, known, planned, asked.prompts, asked.facts, evaluation=of_fact, **common)
    return {**measures, "asked": asked.digest}


@dataclass(frozen=True)
class Asked:
    """What is asked to measure edits.

    Attributes:
        facts: all facts of the store, by number.
        prompts: those of the facts that are measured.
        evaluation: evaluation prompts by edited fact.
    """

    facts: Mapping[int, Fact]
    prompts: Sequence[Prompt]
    evaluation: Mapping[int, Sequence[EvaluationPrompt]]

    @property
    def digest(self) -> str:
        """Sha256, in hex, over the prompts: two evaluations of one digest and settings asked the same."""
        prompts = [(one.fact_id, one.text, one.answer, one.held_out) for one in self.prompts]
        further = [(number, *map(repr, found)) for number, found in sorted(self.evaluation.items())]
        return hashlib.sha256(json.dumps([prompts, further]).encode("utf-8")).hexdigest()


def what_is_asked(
    connection: Any, own: Sequence[int], relations: Collection[str], settings: EvaluationSettings
) -> Asked:
    """The prompts on which edits are measured, and the facts that they are of.

    Args:
        connection: an open transaction.
        own: the edited facts.
        relations: what the edits are for, beside these facts' relations.
        settings: how many facts of other relations, and the seed of their draw.
    """
    facts = {one.id: one for one in store_facts.find_facts(connection)}
    edited = {*relations, *(facts[number].relation for number in own)}
    measured = facts_to_measure(edited, facts, sample=settings.sample, seed=settings.seed)
    return Asked(
        facts,
        store_facts.prompts(connection, fact_ids=measured),
        {number: evaluation_prompts.of_fact(connection, number) for number in own},
    )


def unedited_model(store: Store, models: ModelCommands, version: ModelVersion) -> ModelVersion | None:
    """The model without any edit; None if a version has none."""
    with store.reading() as connection:
        base = store_versions.current_model(connection, version.record.id).base
    return None if version.version == base else models.load(version.record.name, "base")


def asked_of_edit(connection: Any, record: Edit, settings: EvaluationSettings) -> Asked:
    """What is asked to measure an edit that says what it is for.

    Raises:
        EditError: if it does not, or a fact of it is not here.
    """
    if isinstance(record.recipe, GroupRecipe):
        return what_is_asked(connection, _own_facts(record), (), settings)
    aim = aim_of(record)
    return what_is_asked(connection, [] if aim.fact is None else [aim.fact], {aim.relation}, settings)


def _own_facts(record: Edit) -> list[int]:
    """The facts here that an edit of many facts is for."""
    return [local_fact(record, fact.id) for fact in facts_of(record.recipe)]


def _told_aim(store: Store, version: ModelVersion, number: int, to: str) -> MeasuredAim:
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
