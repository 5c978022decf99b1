"""`kndb edit finetune`."""

from __future__ import annotations

from typing import Annotated

import typer

from kndb.records.many_settings import FinetuneSettings

from ..options import ModelOption
from .fact_list import NO_LIST, FactList, takes_fact_list
from .many import NO_FACT, NO_PLAN, ONE_LAYER, ManyPlan, OneFact, plan_many, takes_fact, takes_plan
from .together import given


@takes_fact
@takes_fact_list
@takes_plan("targets_file", layers=ONE_LAYER)
def finetune(
    model: ModelOption,
    one: OneFact = NO_FACT,
    listed: FactList = NO_LIST,
    steps: Annotated[
        int | None,
        typer.Option("--steps", help="Go over all prompts at most so often. Default: 25.", show_default=False),
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(
            "--learning-rate", help="Adam's, in mean absolute values of the matrix. Default: 0.05.", show_default=False
        ),
    ] = None,
    at_once: Annotated[
        int | None,
        typer.Option("--at-once", help="Use so many prompts in each step. Default: 64.", show_default=False),
    ] = None,
    probability: Annotated[
        float | None,
        typer.Option(
            "--probability",
            help="A prompt counts no more once its answer wins with this probability (0 to 1). Default: 0.95.",
            show_default=False,
        ),
    ] = None,
    bound: Annotated[
        float | None,
        typer.Option(
            "--bound",
            help="Change an element by at most this, in mean absolute values of the matrix. Default: no bound.",
            show_default=False,
        ),
    ] = None,
    plan: ManyPlan = NO_PLAN,
) -> None:
    """Plan one edit that gives many facts new answers by fine-tuning one layer (FT-M); nothing is applied.

    Example: kndb edit finetune --model lab-bert --facts answers.csv --preview
    """
    own = given(
        {
            "steps": steps,
            "learning_rate": learning_rate,
            "at_once": at_once,
            "probability": probability,
            "bound": bound,
        }
    )
    plan_many(model, one, listed, FinetuneSettings(**plan.chosen, **own, seed=plan.seed), plan)
