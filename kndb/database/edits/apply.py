"""Applying edits to their model's current version, if the conditions on them hold."""

from __future__ import annotations

from collections.abc import Sequence

from ...records.conditions import CheckedConditions, Condition, parse_conditions
from ...records.versions import HistoryEntry
from ...store.edits import edit as store_edits
from ...store.engine import Store
from ...store.versions import CurrentModel
from ..models import ModelCommands
from .steps import Required, take_steps


def apply_all(
    store: Store,
    models: ModelCommands,
    edits: Sequence[int],
    conditions: Sequence[Condition] = (),
    *,
    no_require: bool = False,
    expected: str | None = None,
) -> list[HistoryEntry]:
    """Applies edits in this order; see `EditCommands.apply_all`.

    Args:
        store: the store.
        models: loads the model, where something has to be measured.
        edits: at least one.
        conditions: what the edits must meet, beside what they were planned with.
        no_require: leave out what they were planned with.
        expected: the version that the caller has looked at; None takes the current one.
    """

    def require(model: CurrentModel, order: Sequence[int]) -> Required | None:
        with store.reading() as connection:
            records = [store_edits.edit(connection, number) for number in order]
        planned = [one for record in records if record.conditions for one in record.conditions.conditions]
        skipped = parse_conditions(planned if no_require else ())
        wanted = parse_conditions([*conditions, *([] if no_require else planned)])
        if wanted:
            from .conditions import hold_for_steps

            held = hold_for_steps(store, models, model, order, wanted)
            return lambda connection: held.kept(connection, order[-1], model.id, skipped)
        if skipped:
            return lambda _: CheckedConditions((), skipped, len(order), model.version)
        return None

    return take_steps(store, models, edits, "apply", require, expected)
