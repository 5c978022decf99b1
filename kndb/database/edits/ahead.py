"""Where steps of a model's version would lead, before they are taken: from hashes in the store alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...records.models import Model
from ...store import versions as store_versions
from ...store.edits import steps as store_steps
from ...store.edits.allowed_steps import Action, way
from ...store.engine import Store
from ...versions import NO_LAYER


@dataclass(frozen=True)
class StepAhead:
    """A step: an edit, and whether it is applied (`apply`) or reverted (`revert`)."""

    edit: int
    action: Action


@dataclass(frozen=True)
class StepsAhead:
    """Where steps lead; nothing is changed, and no byte of the checkpoint was compared yet.

    Attributes:
        model: the model's name.
        version_before: its current version.
        version_after: the version that the steps lead to.
        steps: in the order in which they are taken; none if the model is at that version already.
        slots: how many value slots hold other bytes after than before.
        parameters: how many other parameters do, as a whole.
    """

    model: str
    version_before: str
    version_after: str
    steps: tuple[StepAhead, ...]
    slots: int
    parameters: int


def steps_ahead(store: Store, edits: Sequence[int], action: Action) -> StepsAhead:
    """See `EditCommands.steps_ahead`."""
    with store.reading() as connection:
        model, order = store_steps.plan_steps(connection, edits, action)
        before = store_versions.applied_edits(connection, model.id)
        after = [*before, *order] if action == "apply" else [one for one in before if one not in order]
        steps = tuple(StepAhead(edit, action) for edit in order)
        return _ahead(connection, model, before, after, steps)


def restore_ahead(store: Store, record: Model, name: str) -> StepsAhead:
    """See `SnapshotCommands.restore_ahead`."""
    with store.reading() as connection:
        model = store_versions.current_model(connection, record.id)
        before = store_versions.applied_edits(connection, model.id)
        target = store_versions.resolve_version(connection, model.id, name)
        # Several lists of edits may lead to the same weights: then there is no step to take.
        after = before if target == model.version else store_versions.version_edits(connection, model.id, target)
        steps = tuple(StepAhead(*step) for step in way(before, after))
        return _ahead(connection, model, before, after, steps)


def _ahead(
    connection: Any,
    model: store_versions.CurrentModel,
    before: Sequence[int],
    after: Sequence[int],
    steps: tuple[StepAhead, ...],
) -> StepsAhead:
    then, now = (store_versions.slot_state(connection, model.id, edits) for edits in (after, before))
    differing = []
    for slot, (base, _) in {**now, **then}.items():
        if then.get(slot, (base, base))[1] != now.get(slot, (base, base))[1]:
            differing.append(slot)
    return StepsAhead(
        model=model.name,
        version_before=model.version,
        version_after=store_versions.state_version(model.fingerprint, then),
        steps=steps,
        slots=sum(layer != NO_LAYER for _, layer, _ in differing),
        parameters=sum(layer == NO_LAYER for _, layer, _ in differing),
    )
