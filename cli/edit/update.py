"""`kndb edit update`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from kndb.errors import UsageError
from kndb.records.edit_settings import UpdateSettings

from ..answering import warn
from ..options import DatabaseOption, FormatOption, ModelOption, RefinementMethodOption, RefinementOption, open_existing
from ..output import OutputFormat
from .conditions import NOTHING, Required, takes_conditions
from .fact_list import NO_LIST, FactList, takes_fact_list
from .planning import (
    FactOption,
    FlipsOption,
    NeuronsOption,
    PreviewOption,
    PreviewPartOption,
    ToOption,
    check_preview,
    finish_plan,
    plan_file,
    require_one_way,
)

if TYPE_CHECKING:
    from kndb.database.edits.draft import Draft
    from kndb.database.models import ModelVersion


@takes_fact_list
@takes_conditions
def update(
    model: ModelOption,
    fact: FactOption = None,
    to: ToOption = None,
    listed: FactList = NO_LIST,
    rule: Annotated[
        str,
        typer.Option(
            "--rule",
            metavar="gradient|output|paper",
            help="gradient: along the gradient of the new answer's log-probability, each slot with a weight that makes "
            "the change the fact's own. output: along the tokens' output directions, with the sign of each neuron's "
            "activation. paper: along their word embeddings, without a sign, as published.",
        ),
    ] = "gradient",
    lambda_old: Annotated[
        float | None,
        typer.Option(
            "--lambda-old",
            help="λ₁, of --rule output and paper: how far each slot moves away from the present answer, in lengths of "
            "it. Default: half of λ₂; 1 with --rule paper.",
            show_default=False,
        ),
    ] = None,
    lambda_new: Annotated[
        str | None,
        typer.Option(
            "--lambda-new",
            metavar="NUMBER|auto",
            help="λ₂: how far it moves towards the new answer. auto: the smallest at which that wins on 4 of 5 "
            "of the fact's prompts. Default: auto; 8 with --rule paper.",
            show_default=False,
        ),
    ] = None,
    max_share: Annotated[
        float | None,
        typer.Option(
            "--max-share",
            help="Leave out neurons that more of the relation's facts hold. Default: 1, which leaves out none; 0.1 "
            "with the other rules, or the least shared ones if that leaves none.",
            show_default=False,
        ),
    ] = None,
    neurons: NeuronsOption = None,
    refinement: RefinementOption = None,
    method: RefinementMethodOption = None,
    preview: PreviewOption = False,
    part: PreviewPartOption = None,
    list_flips: FlipsOption = False,
    required: Required = NOTHING,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Plan an edit that gives a fact, or each fact in a file, a new answer; nothing is applied.

    Example: kndb edit update --model lab-bert --fact 588 --to Toyota
    """
    one = require_one_way(fact, to, listed, part)
    settings = UpdateSettings(rule, lambda_old, new_factor(lambda_new), max_share, neurons)
    check_preview(preview, part, output, parts=one is not None, list_flips=list_flips)
    said: set[str] = set()
    with open_existing(db) as database:

        def plan(number: int, answer: str, on: ModelVersion | None = None) -> Draft:
            chosen = warn(database, refinement, method, model, facts=[number], said=said)
            return database.edits.drafts.update(model, number, answer, settings, refinement=chosen, on=on)

        if one is None:
            plan_file(database, model, listed, plan, preview=preview, output=output, db=db, required=required)
        else:
            finish_plan(database, plan(*one), preview, part, output, db, list_flips=list_flips, required=required)


def new_factor(word: str | None) -> float | Literal["auto"] | None:
    """The λ₂ that `--lambda-new` names, or `auto`; None if it is not given.

    Raises:
        UsageError: if it is neither.
    """
    if word is None or word == "auto":
        return "auto" if word else None
    try:
        return float(word)
    except ValueError:
        raise UsageError(f"--lambda-new must be a number of at least 0, or auto (got {word!r})") from None
