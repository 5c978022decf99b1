"""`kndb edit update`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .edit_plans import (
    FactOption,
    FlipsOption,
    NeuronsOption,
    PreviewOption,
    PreviewPartOption,
    SkipOption,
    TargetsOption,
    ToOption,
    check_preview,
    finish_plan,
    plan_file,
    require_one_way,
)
from .options import DatabaseOption, FormatOption, ModelOption, RefinementOption, open_existing
from .output import OutputFormat

if TYPE_CHECKING:
    from kndb.database.edit_drafts import Draft
    from kndb.database.models import ModelVersion


def update(
    model: ModelOption,
    fact: FactOption = None,
    to: ToOption = None,
    facts: TargetsOption = None,
    skip_unusable: SkipOption = False,
    lambda_old: Annotated[float, typer.Option("--lambda-old", help="Factor away from the present answer.")] = 1.0,
    lambda_new: Annotated[float, typer.Option("--lambda-new", help="Factor towards the new answer.")] = 8.0,
    max_share: Annotated[
        float, typer.Option("--max-share", help="Leave out neurons that more of the relation's facts hold.")
    ] = 0.1,
    neurons: NeuronsOption = None,
    refinement: RefinementOption = None,
    preview: PreviewOption = False,
    part: PreviewPartOption = None,
    list_flips: FlipsOption = False,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Plan that the model gives a new answer for a fact, or for each fact in a file; nothing is applied.

    Example: kndb edit update --model lab-bert --fact 588 --to Toyota
    """
    one = require_one_way(fact, to, facts, skip_unusable, part)
    check_preview(preview, part, output, parts=facts is None, list_flips=list_flips)
    with open_existing(db) as database:

        def plan(number: int, answer: str, on: ModelVersion | None = None) -> Draft:
            return database.edits.drafts.update(
                model,
                number,
                answer,
                lambda_old=lambda_old,
                lambda_new=lambda_new,
                max_share=max_share,
                neurons=neurons,
                refinement=refinement,
                on=on,
            )

        if isinstance(one, Path):
            plan_file(database, model, one, plan, skip_unusable=skip_unusable, preview=preview, output=output)
        else:
            finish_plan(database, plan(*one), preview, part, output, list_flips=list_flips)
