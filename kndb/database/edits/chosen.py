"""Whose knowledge neurons an edit changes."""

from __future__ import annotations

from typing import Any

from ...advice import call
from ...errors import EditError
from ...records.attribution import Refinement
from ...store import refinements
from ...store import runs as store_runs


def chosen_refinement(connection: Any, model: str, number: int | None) -> Refinement:
    """The refinement of a number, or a model's newest.

    Raises:
        NotFoundError: if there is none.
        EditError: if it is of another model.
    """
    if number is None:
        return refinements.latest_refinement(connection, model)
    chosen = refinements.refinement(connection, number)
    owner = store_runs.run(connection, chosen.run_id).model
    if owner != model:
        raise EditError(
            f"refinement {number} is of model {owner!r}, not of {model!r}; list that model's with: "
            f"{call('query.refinements', model=model)}"
        )
    return chosen
