"""What a plan is found to do, measured in memory before it is stored: every recipe has it, as `report`.

The report holds numbers alone, so that the same plan on another day is the same edit; `kndb.records.plan_reports` says
which. The prompts of other facts are one for each of up to ten, drawn at random, of the relation and of other ones.
"""

from __future__ import annotations

import math
import random
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from ...editing.objects.diff_file import EditObject
from ...editing.objects.slots import edited
from ...models.answers import batched_log_probabilities
from ...models.network import Network
from ...models.prompting import EncodedPrompt
from ...records.attribution import Refinement
from ...records.facts import Fact, Prompt
from ...records.plan_reports import FactReport, OthersReport, PlanReport, ReportRefinement
from ...records.recipes import EraseRecipe, fact_recipe
from ...store import facts as store_facts
from ...store import refinements
from ...store.engine import Store
from ..models import ModelVersion
from .edited_sentences import sentences_of_facts
from .kept_prompts import encode_open, encode_single

SAMPLED = 10
"""Other facts of the relation, and of other relations, that a plan is tried on."""
_DIGITS = 6


def with_report(
    store: Store,
    version: ModelVersion,
    content: EditObject,
    *,
    fact: Fact | None,
    relation: str,
    refinement: int,
) -> EditObject:
    """The same edit, with the report in its recipe; the model is as it was when this returns.

    Args:
        store: the store.
        version: the model in memory, on whose weights the edit was planned.
        content: the edit.
        fact: the fact that it is for; None for one of a whole relation.
        relation: its relation's key.
        refinement: the refinement whose neurons it changes.
    """
    network = version.network
    with store.reading() as connection:
        chosen = refinements.refinement(connection, refinement)
        own = [] if fact is None else store_facts.prompts(connection, fact_ids=[fact.id])
        edited_ones = () if fact is None else (fact.id,)
        near, far = sampled(connection, version, edited_ones, {relation}, 0 if fact is None else fact.id)
    groups = {"relation": near, "elsewhere": far}
    if fact is not None:
        groups["own"] = encode_open(version, [prompt for prompt in own if not prompt.held_out])
        groups["held_out"] = encode_open(version, [prompt for prompt in own if prompt.held_out])
    before = asked(network, groups)
    with edited(dict(version.model.named_parameters()), content):
        after = asked(network, groups)
    others: dict[str, Any] = {
        name: report_of_others(groups[name], before[name], after[name]) for name in ("relation", "elsewhere")
    }
    others["refinement"] = of_refinement(chosen)
    if isinstance(content.recipe, EraseRecipe):
        return replace(content, recipe=replace(content.recipe, report=PlanReport(**others)))
    recipe = fact_recipe(content.recipe)
    report = FactReport(**_of_fact(recipe.new_token, before, after), **others)
    return replace(content, recipe=replace(recipe, report=report))


def of_refinement(chosen: Refinement) -> ReportRefinement:
    """What a report says of the refinement whose neurons an edit changes."""
    return ReportRefinement(number=chosen.id, run=chosen.run_id, method=chosen.method, version=chosen.version)


def sampled(
    connection: Any,
    version: ModelVersion,
    edited_ones: Collection[int],
    relations: Collection[str],
    seed: int,
    most: int = SAMPLED,
) -> tuple[list[EncodedPrompt], list[EncodedPrompt]]:
    """A prompt of each of some facts of an edit's relations and of other ones, that the model can be asked.

    A sentence of an edited fact is not among them, though another fact may have it too.

    Args:
        connection: an open transaction.
        version: the model.
        edited_ones: the edited facts.
        relations: the relations.
        seed: of the draw.
        most: how many of either.
    """
    chance = random.Random(seed)  # noqa: S311 - not for secrets
    facts = store_facts.find_facts(connection)
    sentences = sentences_of_facts(connection, edited_ones)
    drawn = [
        [other.id for other in facts if (other.relation in relations) is inside and other.id not in edited_ones]
        for inside in (True, False)
    ]
    found: list[list[EncodedPrompt]] = []
    for numbers in drawn:
        chance.shuffle(numbers)
        found.append([])
        # Not all can be asked: an answer may be several tokens, or all of a fact's prompts begin with it.
        for start in range(0, len(numbers), 2 * most):
            some = numbers[start : start + 2 * most]
            found[-1] += _one_each(version, sentences.others(store_facts.prompts(connection, fact_ids=some)))
            if len(found[-1]) >= most:
                break
    return found[0][:most], found[1][:most]


def _one_each(version: ModelVersion, prompts: Iterable[Prompt]) -> list[EncodedPrompt]:
    found: dict[int, EncodedPrompt] = {}
    for prompt in prompts:
        if prompt.fact_id in found:
            continue
        encoded = encode_single(version, prompt)
        if isinstance(encoded, EncodedPrompt):
            found[prompt.fact_id] = encoded
    return list(found.values())


def asked(network: Network, groups: Mapping[str, Sequence[EncodedPrompt]]) -> dict[str, torch.Tensor]:
    """Log-probabilities [prompts, vocabulary] of each group, all asked together."""
    every = [prompt for prompts in groups.values() for prompt in prompts]
    rows: list[torch.Tensor] = [torch.empty(0)] * len(every)
    for indices, log_probabilities in batched_log_probabilities(network, every):
        for index, row in zip(indices, log_probabilities, strict=True):
            rows[index] = row
    found, start = {}, 0
    for name, prompts in groups.items():
        stop = start + len(prompts)
        found[name] = torch.stack(rows[start:stop]) if prompts else torch.empty(0, 1)
        start = stop
    return found


def _of_fact(new: int, before: Mapping[str, torch.Tensor], after: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    def wins(rows: torch.Tensor) -> float | None:
        return rounded((rows.argmax(-1) == new).double().mean().item()) if len(rows) else None

    def probability(rows: torch.Tensor) -> float | None:
        return rounded(rows[:, new].double().exp().mean().item()) if len(rows) else None

    return {
        "prompts": len(before["own"]),
        "success_before": wins(before["own"]),
        "success": wins(after["own"]),
        "probability_before": probability(before["own"]),
        "probability": probability(after["own"]),
        "held_out_prompts": len(before["held_out"]),
        "held_out_success": wins(after["held_out"]),
    }


def report_of_others(prompts: Sequence[EncodedPrompt], before: torch.Tensor, after: torch.Tensor) -> OthersReport:
    """What an edit does to prompts of others, by log-probabilities [prompts, vocabulary] before it and with it."""
    if not prompts:
        return OthersReport(prompts=0)
    answers = torch.tensor([prompt.answer for prompt in prompts])
    first, then = before.argmax(-1), after.argmax(-1)
    return OthersReport(
        prompts=len(prompts),
        surprisal_before=rounded(-before.double().gather(1, answers[:, None]).mean().item()),
        surprisal=rounded(-after.double().gather(1, answers[:, None]).mean().item()),
        changed=rounded((first != then).double().mean().item()),
        right_before=rounded((first == answers).double().mean().item()),
        right=rounded((then == answers).double().mean().item()),
    )


def rounded(value: float) -> float | None:
    """A number of six digits, which sums in another order leave as it is; None for none."""
    return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None
