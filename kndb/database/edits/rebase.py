"""Rebases: later edits are recomputed in memory, without an edit; then every step is taken in one transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...advice import call
from ...editing.objects import diff_file
from ...editing.objects.slots import apply_object
from ...editing.planning.replay import (
    Difference,
    Replayable,
    Values,
    difference,
    present_slots,
    replay,
    require_replayable,
)
from ...errors import EditError, VersionMovedError
from ...records.conditions import CheckedConditions
from ...records.edits import Edit
from ...records.facts import Prompt
from ...records.many_recipes import ManyRecipe
from ...records.recipes import OptimizeRecipe, replayed
from ...records.together import TogetherRecipe
from ...records.versions import HistoryEntry
from ...store import versions as store_versions
from ...store.edits import edit as store_edits
from ...store.edits import steps
from ...store.engine import Store
from ..models import ModelCommands, ModelVersion
from .kept_prompts import encode_open, needs_prompts, own_prompts, prompts_in_recipe
from .many import many_anew
from .many_prompts import answers_there
from .objects import add_object, step_in_memory
from .optimize import optimized_anew
from .recipe_fits import changed_neurons, require_fit
from .together import planned_anew


@dataclass(frozen=True)
class Replayed:
    """An edit that was recomputed from an older one's recipe.

    Attributes:
        edit: the new edit's number.
        rebased_from: the older one's.
        slots: value slots of the recipe's neurons.
        different: how many of them hold other bytes than after the older edit.
        largest_change: the largest ‖Δv‖ / ‖v‖ among them, v the value after the older edit.
    """

    edit: int
    rebased_from: int
    slots: int
    different: int
    largest_change: float


@dataclass(frozen=True)
class Rebase:
    """What a rebase did: every step in order, and the edits that were recomputed."""

    steps: tuple[HistoryEntry, ...]
    replayed: tuple[Replayed, ...]


@dataclass(frozen=True, eq=False)
class Replay:
    """An edit that is recomputed but not stored yet."""

    rebased_from: int
    content: diff_file.EditObject
    difference: Difference


def rebase(store: Store, models: ModelCommands, edit: int) -> Rebase:
    """Takes an edit out and recomputes the later ones that overlap it; see `EditCommands.rebase`."""
    with store.reading() as connection:
        model, numbers = steps.plan_cascade(connection, edit)
        records = [store_edits.edit(connection, number) for number in numbers]
    for record in records[:-1]:
        require_replayable(record.id, record.recipe)
    contents = [(record, diff_file.read(store.objects, record.object_path, record.object_hash)) for record in records]
    with store.reading() as connection:
        prompts = {
            record.id: prompts_in_recipe(connection, record) for record in records[:-1] if needs_prompts(record.recipe)
        }
    replays = compute_replays(store, models.load(model.name, model.version), contents, prompts)
    return store_rebase(store, edit, model.version, replays)


def compute_replays(
    store: Store,
    version: ModelVersion,
    edits: Sequence[tuple[Edit, diff_file.EditObject]],
    prompts: Mapping[int, Sequence[Prompt]],
) -> list[Replay]:
    """Takes edits back in memory, and computes all but the last again on the weights that are left.

    Args:
        store: the store.
        version: the model at its current version; its weights change.
        edits: what to take back, in this order: the last applied first, the edit to leave out at the end.
        prompts: for each edit that was computed on prompts, by its number, those of `prompts_in_recipe`.

    Returns:
        The recomputed edits, in the order in which to apply them.

    Raises:
        EditError: if one can't be recomputed, or the weights are not those that the edits left.
    """
    parameters = dict(version.model.named_parameters())
    later: list[tuple[Edit, Replayable, Values]] = []
    for place, (record, content) in enumerate(edits, 1):
        if place < len(edits):
            recipe = require_replayable(record.id, content.recipe)
            require_fit(record.id, recipe, version.network)
            neurons = changed_neurons(recipe, version.network)
            later.append((record, recipe, present_slots(version.network, neurons)))
        step_in_memory(parameters, version.record.fingerprint, content, reverse=True)
    replays: list[Replay] = []
    with store.reading() as connection:
        present = store_versions.version_edits(connection, version.record.id, version.version)
    stack = [number for number in present if number not in {record.id for record, _ in edits}]
    for record, recipe, before in reversed(later):
        # The replays so far gave the answers that the edits gave that they take the place of.
        there = [*stack, *(one.rebased_from for one in replays)]
        planned = _computed_anew(store, version, record, recipe, prompts.get(record.id, ()), there)
        apply_object(parameters, planned)
        after = present_slots(version.network, changed_neurons(recipe, version.network))
        replays.append(Replay(record.id, planned, difference(before, after)))
    return replays


def _computed_anew(
    store: Store,
    version: ModelVersion,
    record: Edit,
    recipe: Replayable,
    prompts: Sequence[Prompt],
    there: Sequence[int],
) -> diff_file.EditObject:
    try:
        if isinstance(recipe, OptimizeRecipe):
            return optimized_anew(record, replayed(recipe, record.id), version, prompts)
        if isinstance(recipe, TogetherRecipe):
            return planned_anew(record, replayed(recipe, record.id), version, prompts)
        if isinstance(recipe, ManyRecipe):
            with store.reading() as connection:
                history = answers_there(connection, version, there)
            return many_anew(store, record, replayed(recipe, record.id), version, prompts, history)
        own = encode_open(version, own_prompts(record, prompts))
        return replay(version.network, recipe, record.id, own, fingerprint=version.record.fingerprint)
    except EditError as error:
        raise EditError(f"edit {record.id} can't be replayed: {error}") from error


def store_rebase(store: Store, edit: int, expected_version: str, replays: Sequence[Replay]) -> Rebase:
    """Takes all steps of a rebase in one transaction.

    Args:
        store: the store.
        edit: the edit to take out.
        expected_version: the version that the replays were computed from.
        replays: the later edits that overlap it, recomputed, in order.

    Raises:
        VersionMovedError: if the model is at another version.
        StoreError: if an object can't be written.
    """
    replayed: list[Replayed] = []
    with store.writing() as connection:
        model_id = store_edits.edit_model(connection, edit)
        taken = steps.revert_cascade(connection, edit, expected_version)
        # One version can be reached by several lists of edits: the id alone doesn't say that they are still the same.
        expected = [*(one.rebased_from for one in reversed(replays)), edit]
        reverted = [step.edit for step in taken]
        if reverted != expected:
            raise VersionMovedError(
                f"other edits of model {taken[0].model} were applied in the meantime: {reverted} would be taken out "
                f"in place of {expected}. Look at {call('edits.log', model=taken[0].model)}, then do it again"
            )
        for one in replays:
            version = taken[-1].version_after
            subject = store_edits.edit_subject(connection, one.rebased_from)
            number = add_object(connection, store, model_id, one.content, version, *subject)
            planned = store_edits.edit(connection, one.rebased_from).conditions
            unchecked = None
            if planned is not None:
                store_edits.note_conditions(connection, number, planned)
                unchecked = CheckedConditions((), planned.conditions, 1, version)
            taken.append(steps.take_step(connection, number, "apply", version, conditions=unchecked))
            found = one.difference
            replayed.append(Replayed(number, one.rebased_from, found.slots, found.different, found.largest_change))
    return Rebase(tuple(taken), tuple(replayed))
