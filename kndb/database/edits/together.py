"""One plan for many facts: gradient steps on all their value slots together, other facts' answers kept."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...advice import call, option
from ...editing.planning.together import plan_together
from ...errors import EditError, UsageError
from ...models.prompting import SKIP_REASONS, EncodedPrompt, Skipped
from ...records.attribution import RefinementChoice
from ...records.facts import Fact, Prompt
from ...records.models import Neuron
from ...records.progress import Progress
from ...records.together import KeptFacts, PlannedFact, TogetherRecipe, TogetherSettings
from ...store import facts as store_facts
from ...store.choosing import answering
from ...store.engine import Store
from ...store.queries import neurons as queries
from ..models import ModelCommands, ModelVersion
from .batch import Target
from .draft import Draft
from .edited_sentences import EditedSentences, sentences_of_facts

UPPER_SHARE = 0.75
"""The share of the facts' knowledge neurons that lie in the lowest changed layer or above it."""
_NEAR = 5
"""Layers below the highest with a knowledge neuron that cost little to change."""
_LISTED = 10


@dataclass(frozen=True)
class ChosenSlots:
    """What a joint plan changes.

    Attributes:
        refinement: whose knowledge neurons; None where layers were named.
        layers: with scope `layers`, those that change; `neurons`: with scope `neurons`, those whose slots change.
        left_out: how many of the facts' knowledge neurons lie below.
    """

    refinement: int | None
    layers: tuple[int, ...]
    neurons: tuple[Neuron, ...]
    left_out: int | None


def draft_together(
    store: Store,
    models: ModelCommands,
    model: str,
    targets: Sequence[Target],
    settings: TogetherSettings,
    keep: KeptFacts,
    *,
    layers: Sequence[int] = (),
    refinement: RefinementChoice = None,
    steps_file: Path | None = None,
    progress: Progress | None = None,
    on: ModelVersion | None = None,
) -> Draft:
    """Changes the value slots of many facts by gradient steps, so that each gets its new answer.

    Args:
        store: the store.
        models: loads the model.
        model: a registered model.
        targets: the facts and their new answers, of one token or several; at least one, each fact once.
        settings: how.
        keep: how many other facts' answers are to stay.
        layers: with scope `layers`, those to change; none takes those of the facts' knowledge neurons, but for the
            lowest: `UPPER_SHARE` of these neurons lie in the layers taken.
        refinement: whose knowledge neurons; see `QueryCommands.choose`. None is needed where layers are named.
        steps_file: keeps the steps taken, so that a plan that was stopped goes on; whoever stores the edit removes it.
        progress: told the steps taken, and how many there are at most.
        on: the model in memory, to plan on its weights as they are; None loads the current version.

    Raises:
        UsageError: if there is no target, a question gets two answers, or layers are named with scope `neurons`.
        NotFoundError: if there is no such fact, model or refinement.
        EditError: if the model can ask a fact by none of its prompts, or none has knowledge neurons.
    """
    if layers and settings.scope != "layers":
        raise UsageError(f"{option('layers')} is of {option('scope', 'layers')}; leave it out, or take that scope")
    models.get(model)
    with store.reading() as connection:
        facts = [store_facts.fact(connection, target.fact) for target in targets]
        _require_one_answer_each(facts, targets)
        slots = _choose(connection, model, facts, settings, layers, refinement)
        sentences = sentences_of_facts(connection, [fact.id for fact in facts])
        drawn = _draw(store_facts.find_facts(connection), facts, sentences, keep, settings.seed)
        others = _some_of_each(
            sentences.others(store_facts.prompts(connection, fact_ids=drawn, held_out=False)), keep.prompts
        )
        prompts = store_facts.prompts(connection, fact_ids=[fact.id for fact in facts], held_out=False)
    version = on or models.load(model)
    edited = _encode_new_answers(version, targets, prompts)
    recipe = TogetherRecipe(
        facts=tuple(_planned(fact, target, edited) for fact, target in zip(facts, targets, strict=True)),
        refinement=slots.refinement,
        layers=slots.layers,
        neurons=slots.neurons,
        left_out=slots.left_out,
        kept_facts=tuple(drawn),
        prompts_each=keep.prompts,
        how=settings.as_json(),
    )
    content = plan_together(
        version.network,
        recipe,
        [prompt for of_fact in edited.values() for prompt in of_fact],
        _encode_kept(version, others),
        fingerprint=version.record.fingerprint,
        version=version.version,
        steps_file=steps_file,
        progress=progress,
    )
    return Draft(version, content, None, None, slots.refinement)


def _require_one_answer_each(facts: Sequence[Fact], targets: Sequence[Target]) -> None:
    if not targets:
        raise UsageError("there is no fact to edit; give at least one")
    first: dict[tuple[object, ...], Fact] = {}
    for fact in facts:
        asked = (fact.relation, fact.id if fact.subject is None else " ".join(fact.subject.casefold().split()))
        if asked in first:
            other = first[asked].id
            names = (
                f"fact {fact.id} is named twice" if other == fact.id else f"facts {other} and {fact.id} ask the same"
            )
            raise UsageError(f"{names} ({fact.relation} of {fact.subject}); leave one of the two rows out")
        first[asked] = fact


def _choose(
    connection: Any,
    model: str,
    facts: Sequence[Fact],
    settings: TogetherSettings,
    layers: Sequence[int],
    refinement: RefinementChoice,
) -> ChosenSlots:
    """The slots to change."""
    if layers:
        return ChosenSlots(None, tuple(sorted(set(layers))), (), None)
    numbers = [fact.id for fact in facts]
    chosen = answering(connection, refinement, model=model, facts=numbers).id
    held = [
        [Neuron(row.layer, row.neuron) for row in queries.neurons_of_fact(connection, chosen, number)]
        for number in numbers
    ]
    without = [fact for fact, neurons in zip(facts, held, strict=True) if not neurons]
    if len(without) == len(facts) or (without and settings.scope == "neurons"):
        named = ", ".join(f"{fact.id} {fact.title}" for fact in without[:_LISTED])
        more = f" and {len(without) - _LISTED} more" if len(without) > _LISTED else ""
        relations = sorted({fact.relation for fact in without})
        attribute = call("attribution.run", model=model, relations=relations)
        raise EditError(
            f"{len(without)} of {len(facts)} facts have no knowledge neurons in refinement {chosen}: {named}{more}. "
            f"Attribute their relations first: {attribute}, then {call('attribution.refine', model=model)}"
        )
    every = [neuron for neurons in held for neuron in neurons]
    lowest = lowest_layer(every, UPPER_SHARE)
    taken = sorted({neuron for neuron in every if neuron.layer >= lowest})
    left_out = sum(neuron.layer < lowest for neuron in set(every))
    if settings.scope == "neurons":
        return ChosenSlots(chosen, (), tuple(taken), left_out)
    return ChosenSlots(chosen, tuple(sorted({neuron.layer for neuron in taken})), (), left_out)


def lowest_layer(neurons: Iterable[Neuron], share: float) -> int:
    """The lowest layer that is changed: each layer above it is run in every step.

    It is the highest one such that a share of the neurons, each as often as facts hold it, lie in it or above it, and
    at least `_NEAR` layers below the highest one with a neuron; the lowest with a neuron where there is none.
    """
    counts = Counter(neuron.layer for neuron in neurons)
    wanted, above = share * counts.total(), 0
    for layer in sorted(counts, reverse=True):
        above += counts[layer]
        if above >= wanted and layer <= max(counts) - _NEAR:
            return layer
    return min(counts)


# --- the facts that are kept ------------------------------------------------------------------------------------


def _draw(
    facts: Iterable[Fact], edited: Sequence[Fact], sentences: EditedSentences, keep: KeptFacts, seed: int
) -> list[int]:
    """The facts whose answers should stay, drawn at random, rising."""
    relations = {fact.relation for fact in edited}
    others = [fact for fact in facts if fact.id not in sentences.facts]
    inside = sorted(fact.id for fact in others if fact.relation in relations)
    outside = sorted(fact.id for fact in others if fact.relation not in relations)
    chance = random.Random(f"{seed} kept")  # noqa: S311 - not for secrets
    drawn = chance.sample(inside, min(keep.neighbours, len(inside)))
    return sorted(drawn + chance.sample(outside, min(keep.others, len(outside))))


def _some_of_each(prompts: Iterable[Prompt], each: int | None) -> list[Prompt]:
    """So many prompts of each fact; the next ones for the next fact, so that all templates take their turns."""
    of_fact: dict[int, list[Prompt]] = {}
    for prompt in prompts:
        of_fact.setdefault(prompt.fact_id, []).append(prompt)
    found: list[Prompt] = []
    for place, own in enumerate(of_fact.values()):
        count = len(own) if each is None else min(each, len(own))
        found += [own[(place * count + number) % len(own)] for number in range(count)]
    return found


def _encode_kept(version: ModelVersion, prompts: Iterable[Prompt]) -> list[EncodedPrompt]:
    """Prompts that are kept, their answers left open; those that the model can't be asked are left out."""
    pairs = ((prompt, version.encoder.encode(prompt.id, prompt.text, None)) for prompt in prompts)
    return [replace(one, fact_id=prompt.fact_id) for prompt, one in pairs if isinstance(one, EncodedPrompt)]


# --- the facts that change --------------------------------------------------------------------------------------


def _encode_new_answers(
    version: ModelVersion, targets: Sequence[Target], prompts: Sequence[Prompt]
) -> dict[int, list[EncodedPrompt]]:
    """The prompts of each fact, asked for its new answer.

    Raises:
        EditError: if the model can ask a fact by none; all such facts are named.
    """
    of_fact: dict[int, list[Prompt]] = {target.fact: [] for target in targets}
    for prompt in prompts:
        of_fact[prompt.fact_id].append(prompt)
    found: dict[int, list[EncodedPrompt]] = {}
    wrong: list[str] = []
    for target in targets:
        asked = [version.encoder.encode(prompt.id, prompt.text, target.to.strip()) for prompt in of_fact[target.fact]]
        found[target.fact] = [replace(one, fact_id=target.fact) for one in asked if isinstance(one, EncodedPrompt)]
        if not found[target.fact]:
            reasons = Counter(SKIP_REASONS[one.reason] for one in asked if isinstance(one, Skipped))
            why = reasons.most_common(1)[0][0] if reasons else "it has no prompts"
            wrong.append(f"{target.place or f'fact {target.fact}'}, {target.to!r}: {why}")
    if wrong:
        more = f"; and {len(wrong) - _LISTED} more" if len(wrong) > _LISTED else ""
        raise EditError(
            f"{len(wrong)} of {len(targets)} facts can't be asked for their new answers: "
            f"{'; '.join(wrong[:_LISTED])}{more}. Fix these rows, or leave them out"
        )
    return found


def _planned(fact: Fact, target: Target, edited: dict[int, list[EncodedPrompt]]) -> PlannedFact:
    tokens = edited[fact.id][0].answers
    return PlannedFact(fact.id, fact.relation, fact.subject, fact.object, target.to.strip(), tokens)
