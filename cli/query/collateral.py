"""`kndb query collateral`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from kndb.errors import UsageError
from kndb.records.models import Neuron

from ..answering import in_json, note_refinement
from ..option_groups import ANY, Which, takes_which
from ..options import (
    DatabaseOption,
    FormatOption,
    LimitOption,
    PartOption,
    open_existing,
)
from ..output import OutputFormat, as_row, note, print_parts, sorted_rows
from .neuron import Parts
from .rows import require_positive

FACT_COLUMNS = ["fact", "relation", "label", "subject", "object", "neurons"]
FACT_SHORT = ["fact", "subject", "label", "object", "neurons"]


@takes_which
def collateral(
    target: Annotated[
        list[str],
        typer.Argument(metavar="EDIT-or-NEURON", help="An edit's number, or one neuron or more, such as L9.N2827."),
    ],
    limit: LimitOption = None,
    part: PartOption = None,
    which: Which = ANY,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """List the facts that hold the value slots which an edit touches, or an edit of these neurons would touch.

    Example: kndb query collateral L1.N44 L2.N182
    """
    require_positive(limit)
    wanted = _target(target)
    with open_existing(db) as database:
        edit = wanted if isinstance(wanted, int) else None
        chosen = which.chosen(database, edit=edit)
        found = database.query.collateral(wanted, refinement=chosen.refinement)
    note_refinement(chosen)
    slots, facts = len(found.neurons), len(found.facts)
    note(
        f"{slots} value slot{'' if slots == 1 else 's'}, held by {facts} fact{'' if facts == 1 else 's'} of "
        f"{len(found.relations)} relation{'' if len(found.relations) == 1 else 's'}."
    )
    if found.edited:
        note(f"Not counted: what the edit is for, fact {', '.join(map(str, found.edited))}.")
    parts: Parts = {
        "relations": (
            [as_row(row) for row in found.relations],
            ["relation", "label", "facts", "share", "neurons"],
        ),
        "facts": (
            sorted_rows([as_row(row) for row in found.facts])[:limit],
            FACT_COLUMNS,
        ),
    }
    print_parts(parts, output, part, {"refinement": in_json(chosen.refinement)}, short={"facts": FACT_SHORT})


def _target(texts: Sequence[str]) -> int | list[Neuron]:
    numbers = [text for text in texts if text.strip().isdecimal()]
    if numbers and len(texts) > 1:
        raise UsageError(f"name one edit by its number, or neurons such as L9.N2827 (got {' '.join(texts)})")
    return int(numbers[0]) if numbers else [Neuron.parse(text) for text in texts]
