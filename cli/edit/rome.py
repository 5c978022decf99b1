"""`kndb edit rome`."""

from __future__ import annotations

from dataclasses import replace

from kndb.records.many_settings import RomeSettings

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


@takes_fact
@takes_fact_list
@takes_keys("keys")
@takes_plan("batch_size")
def rome(
    model: ModelOption,
    one: OneFact = NO_FACT,
    listed: FactList = NO_LIST,
    how: KeyOptions = NO_KEYS,
    plan: ManyPlan = NO_PLAN,
) -> None:
    """Plan an edit that gives a fact a new answer by ROME: one layer's output exactly; nothing is applied.

    With --facts, an edit for each fact in a file, every one on the weights with those before it.

    Example: kndb edit rome --model lab-bert --fact 588 --to Toyota --preview
    """
    settings = RomeSettings(**plan.chosen, **how.settings())
    plan_many(model, one, listed, settings, replace(plan, batch_size=1))
