"""`kndb query collateral`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from kndb.errors import UsageError
from kndb.records.models import Neuron

from ..options import (
    DatabaseOption,
    FormatOption,
    LimitOption,
    OptionalModelOption,
    PartOption,
    RefinementOption,
    open_existing,
)
from ..output import OutputFormat, as_row, note, print_parts
from .refinement_notes import note_refinement, require_positive


def collateral(
    target: Annotated[
        list[str],
        typer.Argument(metavar="EDIT-or-NEURON", help="An edit's number, or neurons such as L9.N2827."),
    ],
    limit: LimitOption = None,
    part: PartOption = None,
    model: OptionalModelOption = None,
    refinement: RefinementOption = None,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Whose facts hold the value slots that an edit touches, or that an edit of these neurons would touch.

    Example: kndb query collateral L1.N44 L2.N182
    """
    require_positive(limit)
    wanted = _target(target)
    with open_existing(db) as database:
        edit = wanted if isinstance(wanted, int) else None
        chosen = database.query.refinement(refinement, model, edit=edit)
        found = database.query.collateral(wanted, refinement=chosen.id)
    note_refinement(chosen)
    slots, facts = len(found.neurons), len(found.facts)
    note(
        f"{slots} value slot{'' if slots == 1 else 's'}, held by {facts} fact{'' if facts == 1 else 's'} of "
        f"{len(found.relations)} relation{'' if len(found.relations) == 1 else 's'}."
    )
    if found.edited:
        note(f"Not counted: what the edit is for, fact {', '.join(map(str, found.edited))}.")
    parts = {
        "relations": (
            [as_row(row) for row in found.relations],
            ["relation", "label", "facts", "share", "neurons"],
        ),
        "facts": (
            [as_row(row) for row in found.facts[:limit]],
            ["fact", "relation", "subject", "object", "neurons"],
        ),
    }
    print_parts(parts, output, part)


def _target(texts: Sequence[str]) -> int | list[Neuron]:
    numbers = [text for text in texts if text.strip().isdecimal()]
    if numbers and len(texts) > 1:
        raise UsageError(f"found {' '.join(texts)}; expected one edit's number alone, or neurons such as L9.N2827")
    return int(numbers[0]) if numbers else [Neuron.parse(text) for text in texts]
