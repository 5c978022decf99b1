"""A table over edits: the newest evaluation of each, in one query over its measures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

from ...records.display import Record
from ...records.edits import EDIT_MEASURES, Interval
from ...records.recipes import Recipe
from .edit import stored_recipe

_SUMMED = ("ES", "PS", "NS", "S", "rewrite_acc", "rephrase_acc", "locality", "perplexity_relation", "perplexity_others")
_SHOWN = {
    **EDIT_MEASURES,
    "own_perplexity": ("own", "perplexity_after"),
    "neighbour_prompts": ("neighbourhood", "neighbourhood_score_after"),
    "locality_prompts": ("locality", "accuracy_after"),
    "portability": ("portability", "accuracy_after"),
    **{name: ("summary", name) for name in (*_SUMMED, "flips_relation", "flips_others", "fluency_ratio")},
}
"""Columns of the table, each with the group and the name of its measure."""

COLUMNS = tuple(_SHOWN)


@dataclass(frozen=True)
class EvaluatedEdit(Record):
    """An evaluation in a table over edits.

    Attributes:
        evaluation: its number.
        edit: the edit's number; `kind`, `model`, `recipe`: of that edit.
        version_before, version_after: the versions compared.
        edited: for each of `COLUMNS`: value and ends of its interval; None where there is none.
        control: the same for random neurons.
        created_at: when it was measured.
        pulled: whether the edit came from a file, so that its recipe is the sender's words.
    """

    evaluation: int
    edit: int
    kind: str
    model: str
    recipe: Recipe
    version_before: str
    version_after: str
    edited: dict[str, Interval]
    control: dict[str, Interval]
    created_at: str
    pulled: bool = False

    def _line(self) -> str:
        return f"evaluation {self.evaluation} of edit {self.edit}, {self.model}, {self.kind}"


def evaluated_edits(
    connection: Connection, model_id: int | None = None, edits: Sequence[int] = (), *, every: bool = False
) -> list[EvaluatedEdit]:
    """The evaluations of edits, by edit.

    Args:
        connection: an open transaction.
        model_id: only this model's.
        edits: only these edits; none means all.
        every: all evaluations of an edit, not only the newest.
    """
    wanted = [
        (weights, name, part)
        for weights in ("edited", "control")
        for name in _SHOWN
        for part in ("value", "low", "high")
    ]
    columns = ", ".join(
        f"max(CASE WHEN measure.weights = '{weights}' AND measure.prompts_of = '{_SHOWN[name][0]}' "
        f"AND measure.measure = '{_SHOWN[name][1]}' THEN measure.{part} END)"
        for weights, name, part in wanted
    )
    query = f"""
        SELECT evaluation.id, evaluation.edit_id, edit.kind, model.name, edit.recipe, evaluation.version_before,
            evaluation.version_after, evaluation.created_at, edit.fact_numbers IS NOT NULL, {columns}
        FROM evaluation
        JOIN edit ON edit.id = evaluation.edit_id
        JOIN model ON model.id = edit.model_id
        LEFT JOIN evaluation_measure AS measure ON measure.evaluation_id = evaluation.id
        WHERE (:every OR evaluation.id = (SELECT max(id) FROM evaluation AS newer WHERE newer.edit_id = edit.id))
            AND (CAST(:model AS BIGINT) IS NULL OR edit.model_id = CAST(:model AS BIGINT))
            AND (CAST(:edits AS TEXT) = '[]' OR edit.id IN kndb_numbers(:edits))
        GROUP BY evaluation.id, edit.id, model.id
        ORDER BY evaluation.edit_id, evaluation.id
    """  # noqa: S608 - made of the names above alone
    values = {"every": every, "model": model_id, "edits": json.dumps(list(edits))}
    return [_evaluated(row, wanted) for row in connection.execute(text(query), values)]


def _evaluated(row: Any, wanted: Sequence[tuple[str, str, str]]) -> EvaluatedEdit:
    number, edit, kind, model, recipe, before, after, created_at, pulled, *cells = row
    found: dict[str, dict[str, list[float | None]]] = {"edited": {}, "control": {}}
    for (weights, name, _), cell in zip(wanted, cells, strict=True):
        found[weights].setdefault(name, []).append(cell)
    edited, control = (
        {name: (parts[0], parts[1], parts[2]) for name, parts in found[weights].items()}
        for weights in ("edited", "control")
    )
    read = stored_recipe(edit, kind, _json(recipe))
    return EvaluatedEdit(number, edit, kind, model, read, before, after, edited, control, created_at, bool(pulled))


def _json(text: object) -> object:
    """A column's JSON; None for what is none, which is no recipe either."""
    try:
        return json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        return None
