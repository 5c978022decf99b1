"""`kndb edit emmet`."""

from __future__ import annotations

from typing import Annotated

import typer

from kndb.records.many_settings import EmmetSettings

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
@takes_keys()
@takes_plan()
def emmet(
    model: ModelOption,
    one: OneFact = NO_FACT,
    listed: FactList = NO_LIST,
    slack: Annotated[
        float | None,
        typer.Option(
            "--slack",
            help="Allow outputs to miss their targets, in parts of the mean of kᵀC⁻¹k; needed where keys depend on "
            "each other. Default: 0, none.",
            show_default=False,
        ),
    ] = None,
    how: KeyOptions = NO_KEYS,
    plan: ManyPlan = NO_PLAN,
) -> None:
    """Plan one edit that gives many facts new answers by EMMET: their outputs exactly; nothing is applied.

    Example: kndb edit emmet --model lab-bert --facts answers.csv --preview
    """
    settings = EmmetSettings(**plan.chosen, **how.settings(), **given({"slack": slack}))
    plan_many(model, one, listed, settings, plan)
