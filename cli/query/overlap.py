"""`kndb query overlap`."""

from __future__ import annotations

from ..answering import in_json, note_refinement
from ..option_groups import ANY, Which, takes_which
from ..options import (
    DatabaseOption,
    FormatOption,
    PartOption,
    RelationsOption,
    open_existing,
)
from ..output import OutputFormat, as_row, print_parts

_CELLS = [
    "relation",
    "other",
    "pairs",
    "mean",
    "same_object_pairs",
    "same_object_mean",
    "different_object_pairs",
    "different_object_mean",
]


_SUMMARY = ["where", "cells", "pairs", "pooled_mean", "mean_of_means", *_CELLS[4:]]


_SHORT_CELLS = [name for name in _CELLS if name not in ("same_object_pairs", "different_object_pairs")]
_SHORT_SUMMARY = [name for name in _SUMMARY if name not in ("same_object_pairs", "different_object_pairs")]


@takes_which
def overlap(
    relation: RelationsOption = None,
    part: PartOption = None,
    which: Which = ANY,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Count the neurons that two facts share on average, within each relation and between each two.

    Example: kndb query overlap --part summary
    """
    with open_existing(db) as database:
        chosen = which.chosen(database, relations=relation or [])
        found = database.query.overlap(relation or [], refinement=chosen.refinement)
    note_refinement(chosen)
    parts = {
        "summary": ([as_row(row) for row in found.summary], _SUMMARY),
        "cells": ([as_row(row) for row in found.cells], _CELLS),
    }
    short = {"summary": _SHORT_SUMMARY, "cells": _SHORT_CELLS}
    print_parts(parts, output, part, {"refinement": in_json(chosen.refinement)}, short=short)
