"""`kndb edit memit`."""

from __future__ import annotations

from typing import Annotated

import typer

from kndb.records.many_settings import MemitSettings

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
@takes_keys(rounds=2)
@takes_plan()
def memit(
    model: ModelOption,
    one: OneFact = NO_FACT,
    listed: FactList = NO_LIST,
    preserve: Annotated[
        float | None,
        typer.Option(
            "--preserve",
            help="Weight of what other keys give (λ in the docs): more changes other answers less, and new answers "
            "win less. Default: 0.3.",
            show_default=False,
        ),
    ] = None,
    how: KeyOptions = NO_KEYS,
    plan: ManyPlan = NO_PLAN,
) -> None:
    """Plan one edit that gives many facts new answers by MEMIT, over some layers; nothing is applied.

    Example: kndb edit memit --model lab-bert --facts answers.csv --preview
    """
    settings = MemitSettings(**plan.chosen, **how.settings(), **given({"preserve": preserve}))
    plan_many(model, one, listed, settings, plan)
