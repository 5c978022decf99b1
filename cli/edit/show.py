"""`kndb edit show`."""

from __future__ import annotations

from typing import Any

from kndb.records.display import many
from kndb.records.edits import SENDER, Edit, EditChange
from kndb.records.group_recipes import GroupRecipe
from kndb.records.together import TogetherRecipe

from ..options import (
    DatabaseOption,
    EditArgument,
    FormatOption,
    open_existing,
)
from ..output import OutputFormat, as_row, note, print_json, print_record, print_rows
from .capture import TENSOR_COLUMNS
from .reports import report_rows, warnings
from .steps import origin
from .together import FACT_COLUMNS, fact_rows


def show(edit: EditArgument, db: DatabaseOption = None, output: FormatOption = OutputFormat.TABLE) -> None:
    """Show an edit: recipe, object, and the value slots that it changes.

    Example: kndb edit show 1
    """
    with open_existing(db) as database:
        planned = database.edits.get(edit)
        change = database.edits.change(edit)
        tensors = [as_row(one) for one in database.edits.tensors(edit)]
    slots = [as_row(slot) for slot in change.slots]
    if output is OutputFormat.JSON:
        print_json({**as_row(planned), "change": change.words, "slots": slots, "tensors": tensors})
    elif output is OutputFormat.CSV:
        print_rows(slots, ["neuron", "length_before", "length_after"], output)
    else:
        print_record(_summary(planned, change), output)
        if planned.kind == "capture":
            print_rows(tensors, TENSOR_COLUMNS, output)
        if isinstance(planned.recipe, GroupRecipe):
            print_rows(fact_rows(planned.recipe, planned.fact_numbers), FACT_COLUMNS, output)
            note(f"The edit changes {len(slots):,} value slots; list them with --format csv.")
        else:
            print_rows(slots, ["neuron", "length_before", "length_after"], output)
    for text in warnings(planned.model, planned.recipe, db, pulled=planned.pulled):
        note(text)


def _summary(planned: Edit, change: EditChange) -> dict[str, Any]:
    """The table's lines; of an edit from a file, first what was computed here, then what its sender says."""
    row: dict[str, Any] = {"what": planned.title, **as_row(planned), "change": change.words}
    told = planned.recipe.as_json()
    aside = ("facts", "answers", "kept_facts", "neurons", "merged_from")
    shown = aside if isinstance(planned.recipe, GroupRecipe) else ()
    row["recipe"] = {name: value for name, value in told.items() if name not in ("report", *shown)}
    if isinstance(planned.recipe, GroupRecipe) and planned.recipe.kept_facts:
        row["recipe"]["kept_facts"] = f"{len(planned.recipe.kept_facts)} facts"
    if isinstance(planned.recipe, TogetherRecipe) and planned.recipe.merged_from is not None:
        row["merged from"] = "; ".join(
            f"edit {one.edit}, object {one.object_hash[:12]}, {many(len(one.facts), 'fact')}"
            for one in planned.recipe.merged_from
        )
    row |= report_rows(planned.recipe)
    if planned.conditions is None:
        del row["conditions"]
    else:
        row["conditions"] = f"{planned.conditions.words}, when it was planned"
    row["from"] = origin(pulled=planned.pulled)
    del row["pulled"]
    if not planned.pulled:
        return row
    computed = {name: row[name] for name in row if name in _COMPUTED}
    return computed | {f"{SENDER}{name}": row[name] for name in row if name not in _COMPUTED}


_COMPUTED = frozenset(
    {"id", "model", "kind", "object_hash", "object_path", "base_version", "neurons", "applied", "fact_numbers"}
    | {"change", "from"}
)
"""Fields of an edit that no sender could make up: they are computed here, or compared with its object."""
