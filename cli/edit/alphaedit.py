"""`kndb edit alphaedit`."""

from __future__ import annotations

from typing import Annotated

import typer

from kndb.records.many_settings import AlphaEditSettings

from ..options import ModelOption
from .fact_list import NO_LIST, FactList, takes_fact_list
from .many import (
    NO_FACT,
    NO_KEYS,
    NO_PLAN,
    KeyOptions,
    ManyPlan,
    OneFact,
    plan_many,
    takes_fact,
    takes_keys,
    takes_plan,
)
from .together import given


@takes_fact
@takes_fact_list
@takes_keys("ridge")
@takes_plan()
def alphaedit(
    model: ModelOption,
    one: OneFact = NO_FACT,
    listed: FactList = NO_LIST,
    threshold: Annotated[
        float | None,
        typer.Option(
            "--threshold",
            help="Change only along eigenvectors of the covariance whose eigenvalues are under this part of its "
            "median diagonal entry. Default: 0.1.",
            show_default=False,
        ),
    ] = None,
    damping: Annotated[
        float | None,
        typer.Option(
            "--damping",
            help="Penalty for large changes, in parts of the mean squared length of the edited keys there. "
            "Default: 0.01.",
            show_default=False,
        ),
    ] = None,
    how: KeyOptions = NO_KEYS,
    plan: ManyPlan = NO_PLAN,
) -> None:
    """Plan one edit that gives many facts new answers by AlphaEdit: where other keys have nothing; nothing is applied.

    The keys of facts that applied edits gave new answers keep their outputs.

    Example: kndb edit alphaedit --model lab-bert --facts answers.csv --preview
    """
    own = given({"threshold": threshold, "damping": damping})
    plan_many(model, one, listed, AlphaEditSettings(**plan.chosen, **how.settings(), **own), plan)
