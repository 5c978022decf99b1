"""A rebase in its two halves: computing edits anew in memory, then every step in one transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...editing.objects import diff_file
from ...editing.objects.slots import apply_object
from ...editing.planning.replay import (
    Difference,
    Values,
    difference,
    recipe_neurons,
    recipe_slots,
    replay,
    replayed_recipe,
)
from ...errors import EditError, VersionMovedError
from ...models.network import Network
from ...records.edits import Edit
from ...records.facts import Prompt
from ...records.versions import HistoryEntry
from ...store.edits import edit as store_edits
from ...store.edits import steps
from ...store.engine import Store
from ..models import ModelVersion
from .objects import add_object, step_in_memory
from .optimize import encode_open, optimized_anew, own_prompts


@dataclass(frozen=True)
class Replayed:
    """An edit that was computed anew from an older one's recipe.

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
    """What a rebase did: every step in order, and the edits that were computed anew."""

    steps: tuple[HistoryEntry, ...]
    replayed: tuple[Replayed, ...]


@dataclass(frozen=True, eq=False)
class Replay:
    """An edit that is computed anew but not stored yet."""

    rebased_from: int
    content: diff_file.EditObject
    difference: Difference


def compute_replays(
    version: ModelVersion,
    edits: Sequence[tuple[Edit, diff_file.EditObject]],
    prompts: Mapping[int, Sequence[Prompt]],
) -> list[Replay]:
    """Takes edits back in memory, and computes all but the last anew on the weights that are left.

    Args:
        version: the model at its current version; its weights change.
        edits: what to take back, in this order: the last applied first, the edit to leave out at the end.
        prompts: for each edit that was computed on prompts, by its number, those of `prompts_in_recipe`.

    Returns:
        The edits computed anew, in the order in which to apply them.

    Raises:
        EditError: if one can't be computed anew, or the weights are not those that the edits left.
    """
    network, fingerprint = version.network, version.record.fingerprint
    parameters = dict(version.model.named_parameters())
    later: list[tuple[Edit, diff_file.EditObject, Values]] = []
    for place, (record, content) in enumerate(edits, 1):
        if place < len(edits):
            later.append((record, content, recipe_slots(network, content)))
        step_in_memory(parameters, fingerprint, content, reverse=True)
    replays = []
    for record, content, before in reversed(later):
        planned = _computed_anew(version, network, record, content, prompts.get(record.id, ()))
        apply_object(parameters, planned)
        replays.append(Replay(record.id, planned, difference(before, recipe_slots(network, content))))
    return replays


def _computed_anew(
    version: ModelVersion,
    network: Network,
    record: Edit,
    content: diff_file.EditObject,
    prompts: Sequence[Prompt],
) -> diff_file.EditObject:
    if record.kind != "optimize":
        return replay(network, content, record.id, encode_open(version, own_prompts(record, prompts)))
    neurons = recipe_neurons(content.recipe)
    recipe = replayed_recipe(content.recipe, record.id)
    try:
        return optimized_anew(record, version, network, neurons, prompts, recipe=recipe, kind=record.kind)
    except EditError as error:
        raise EditError(f"edit {record.id} can't be replayed: {error}") from error


def store_rebase(store: Store, edit: int, expected_version: str, replays: Sequence[Replay]) -> Rebase:
    """Takes all steps of a rebase in one transaction.

    Args:
        store: the store.
        edit: the edit to take out.
        expected_version: the version that the replays were computed from.
        replays: the later edits that overlap it, computed anew, in order.

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
                f"edits {reverted} would be taken out of model {taken[0].model}; expected {expected}: others were "
                "applied in the meantime. See `kndb edit log`, then run the command again"
            )
        for one in replays:
            version = taken[-1].version_after
            subject = store_edits.edit_subject(connection, one.rebased_from)
            number = add_object(connection, store, model_id, one.content, version, *subject)
            taken.append(steps.apply_edit(connection, number, version))
            found = one.difference
            replayed.append(Replayed(number, one.rebased_from, found.slots, found.different, found.largest_change))
    return Rebase(tuple(taken), tuple(replayed))
