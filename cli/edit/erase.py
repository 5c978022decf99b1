"""`kndb edit erase`."""

from __future__ import annotations

from typing import Annotated

import typer

from ..answering import warn
from ..options import (
    DatabaseOption,
    FormatOption,
    ModelOption,
    RefinementMethodOption,
    RefinementOption,
    open_existing,
)
from ..output import OutputFormat
from .conditions import NOTHING, Required, takes_conditions
from .planning import FlipsOption, PreviewOption, PreviewPartOption, check_preview, finish_plan


@takes_conditions
def erase(
    model: ModelOption,
    relation: Annotated[str, typer.Option("--relation", metavar="KEY", help="Make the model forget this relation.")],
    top: Annotated[int, typer.Option("--top", help="Zero so many of the relation's most common neurons.")] = 20,
    refinement: RefinementOption = None,
    method: RefinementMethodOption = None,
    preview: PreviewOption = False,
    part: PreviewPartOption = None,
    list_flips: FlipsOption = False,
    required: Required = NOTHING,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Plan an edit that makes the model forget a relation; nothing is applied.

    Example: kndb edit erase --model lab-bert --relation P36
    """
    check_preview(preview, part, output, list_flips=list_flips)
    with open_existing(db) as database:
        chosen = warn(database, refinement, method, model, relations=[relation])
        draft = database.edits.drafts.erase(model, relation, top=top, refinement=chosen)
        finish_plan(database, draft, preview, part, output, db, list_flips=list_flips, required=required)
