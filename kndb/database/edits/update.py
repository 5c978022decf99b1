"""Updates: a fact's value slots moved by a rule, so that the model gives a new answer."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any, Literal

from ...editing.planning import recipes
from ...records.attribution import RefinementChoice
from ...records.edit_settings import Neighbours, UpdateSettings
from ...records.recipes import UpdateRecipe
from ...store.engine import Store
from ..models import ModelCommands, ModelVersion
from .aim import Aim, aim_at
from .draft import Draft
from .kept_prompts import encode_open, kept_prompts
from .update_rules import activation_signs, by_gradient, cosine_of_rules, fitted, fitted_along_gradient

RATIO = 0.5
"""The default of λ₁ ÷ λ₂ with output directions: `kndb docs edits` has the measurements."""
MEASURED_AGAINST = Neighbours(relation=0, elsewhere=64, prompts=1)
"""The other facts on whose prompts rule `gradient` weighs a fact's neurons."""
PAPERS_FACTORS = 1.0, 8.0
"""λ₁ and λ₂ of the paper's code, the defaults of rule `paper`."""


def draft_update(
    store: Store,
    models: ModelCommands,
    model: str,
    fact: int,
    to: str,
    settings: UpdateSettings,
    *,
    refinement: RefinementChoice,
    on: ModelVersion | None,
    report: bool,
    within: Collection[int] | None = None,
) -> Draft:
    """Moves a fact's value slots away from the present answer and towards `to`; see `EditDrafts.update`."""
    aim = aim_at(store, models, model, fact, to, settings, refinement, on)
    rule, details = _rule_without_factors(store, aim, settings.rule, within)
    rule, turned_at = _with_factors(aim, rule, settings)
    recipe = UpdateRecipe(
        **aim.told,
        rule=settings.rule,
        lambda_old=rule.lambda_old,
        lambda_new=rule.lambda_new,
        lambda_fitted=_factor(settings) == "auto",
        turned_at=turned_at,
        **details,
    )
    network, fingerprint = aim.version.network, aim.version.record.fingerprint
    content = recipes.plan(network, recipe.neurons, rule.on(network), fingerprint=fingerprint, recipe=recipe)
    return aim.draft(store, content, report=report)


def _factor(settings: UpdateSettings) -> float | Literal["auto"]:
    """λ₂ as it is set, or the rule's default."""
    if settings.lambda_new is not None:
        return settings.lambda_new
    return PAPERS_FACTORS[1] if settings.rule == "paper" else "auto"


def _rule_without_factors(
    store: Store, aim: Aim, name: str, within: Collection[int] | None
) -> tuple[recipes.UpdateRule, dict[str, Any]]:
    """The rule with its weights or signs, and what the recipe says of them."""
    network, neurons = aim.version.network, aim.chosen.neurons
    rule = recipes.UpdateRule(aim.old, aim.new, 0.0, 0.0, name)
    if name == "gradient":
        with store.reading() as connection:
            kept, others = kept_prompts(connection, aim.fact, MEASURED_AGAINST, 0, within)
        rule = by_gradient(network, rule, neurons, aim.prompts, encode_open(aim.version, others))
        each = MEASURED_AGAINST.prompts
        return rule, {"weights": dict(rule.weights), "kept_facts": tuple(kept), "prompts_each": each}
    signs = activation_signs(network, aim.prompts, neurons)
    if name == "output":
        return replace(rule, weights=signs), {"signs": signs}
    cosine = None
    if network.word_embeddings.shape[1] == network.hidden_size:
        cosine = round(cosine_of_rules(network, neurons, aim.new), 3)
    negative = tuple(slot for slot, sign in signs.items() if sign < 0)
    return rule, {"negative_neurons": negative, "cosine_to_output": cosine}


def _with_factors(
    aim: Aim, rule: recipes.UpdateRule, settings: UpdateSettings
) -> tuple[recipes.UpdateRule, tuple[float, ...] | None]:
    """The rule with λ₁ and λ₂; and where its directions were turned, if that was looked for."""
    ratio = None
    if settings.lambda_old is not None:
        rule = replace(rule, lambda_old=settings.lambda_old)
    elif rule.name == "paper":
        rule = replace(rule, lambda_old=PAPERS_FACTORS[0])
    else:
        ratio = {"gradient": 0.0, "output": RATIO}[rule.name]
    factor, network = _factor(settings), aim.version.network
    if factor == "auto" and rule.name == "gradient":
        rule, turned_at = fitted_along_gradient(network, rule, aim.chosen.neurons, aim.prompts)
        return rule, tuple(turned_at)
    if factor == "auto":
        return fitted(network, rule, aim.chosen.neurons, aim.prompts, ratio).rule, None
    away = rule.lambda_old if ratio is None else ratio * factor
    return replace(rule, lambda_old=away, lambda_new=factor), None
