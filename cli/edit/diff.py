"""`kndb edit diff`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from kndb.records.attribution import attribute_and_refine
from kndb.records.edits import Edit
from kndb.records.models import Neuron

from ..options import DatabaseOption, FormatOption, LimitOption, ModelOption, PartOption, open_existing
from ..output import OutputFormat, as_row, note, print_parts, sorted_rows
from ..query.collateral import FACT_COLUMNS, FACT_SHORT
from ..query.rows import require_positive

if TYPE_CHECKING:
    from kndb.database.edits.diff import VersionDiff
from .steps import EDIT_COLUMNS, EDIT_SHORT, edit_rows

VersionArgument = typer.Argument(help="A version: base, current, a version id or its start, or a snapshot's name.")


def diff(
    a: Annotated[str, VersionArgument],
    b: Annotated[str, VersionArgument],
    model: ModelOption,
    limit: LimitOption = None,
    part: PartOption = None,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Show what differs between two versions: value slots, the relations and facts that hold them, and edits.

    Example: kndb edit diff base current --model lab-bert
    """
    require_positive(limit)
    with open_existing(db) as database:
        found = database.edits.diff(model, a, b)
        holding = None if found.refinement is None else database.query.refinement(found.refinement)
    count = len(found.slots)
    note(
        f"{found.version_a} → {found.version_b}: "
        + (f"{count} value slot{'s differ' if count > 1 else ' differs'}." if count else "")
        + (f" {len(found.tensors)} other parameters differ." if found.tensors else "")
        + ("" if count or found.tensors else "the same weights; there is nothing to show.")
    )
    if not count and not found.tensors and output is OutputFormat.TABLE:
        return
    if holding is None:
        make = attribute_and_refine(model)
        note(f"The model has no refinement, so facts and relations are left out; make one with: {make}")
    else:
        note(f"Facts and relations are those of {holding.title}.")
    edits = [{"only_in": side, **row} for side, only in _sides(found) for row in edit_rows(only)]
    print_parts(
        {
            "slots": (
                [{"name": str(Neuron(row.layer, row.neuron)), **as_row(row)} for row in found.slots],
                _SLOT_COLUMNS,
            ),
            "tensors": ([{"parameter": name} for name in found.tensors], ["parameter"]),
            "relations": (
                [as_row(row) for row in found.relations],
                ["relation", "label", "facts", "share", "neurons"],
            ),
            "facts": (sorted_rows([as_row(row) for row in found.facts])[:limit], FACT_COLUMNS),
            "edits": (edits, ["only_in", *EDIT_COLUMNS]),
        },
        output,
        part,
        short={"slots": ["name", *_SLOT_COLUMNS[4:]], "facts": FACT_SHORT, "edits": ["only_in", *EDIT_SHORT]},
    )


_SLOT_COLUMNS = ["name", "layer", "neuron", "parameter", "norm_a", "norm_b", "norm_difference", "facts", "relations"]


def _sides(found: VersionDiff) -> list[tuple[str, Sequence[Edit]]]:
    return [("a", found.only_a), ("b", found.only_b)]
