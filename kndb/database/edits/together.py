"""One plan for many facts: gradient steps on all their value slots together, other facts' answers kept."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ...advice import call, option
from ...editing.objects.diff_file import EditObject
from ...editing.planning.together import plan_together
from ...errors import EditError, UsageError
from ...models.adapter import Blank
from ...models.answers import batched_log_probabilities
from ...models.prompting import EncodedPrompt, Skipped
from ...records.attribution import RefinementChoice
from ...records.edits import Edit
from ...records.facts import Fact, Prompt, by_fact
from ...records.models import Neuron
from ...records.progress import Progress
from ...records.skip_reasons import SKIP_REASONS
from ...records.together import KeptFacts, PlannedFact, TogetherRecipe, TogetherSettings
from ...store import facts as store_facts
from ...store.choosing import answering
from ...store.engine import Store
from ...store.queries import neurons as queries
from ..models import ModelCommands, ModelVersion
from .batch import Target, Unusable, listed
from .draft import Draft
from .edited_sentences import sentences_of_facts
from .group_report import with_group_report
from .kept_prompts import encode_open, kept_of, local_fact, own_prompts, prompts_of_others

UPPER_SHARE = 0.75
"""The share of the facts' knowledge neurons that lie in the lowest changed layer or above it."""
_NEAR = 5
"""Layers below the highest with a knowledge neuron that cost little to change."""
_DEEP = 12
"""From so many layers on, a causal model's layers are chosen by depth."""
_LISTED = 10
_AT_ONCE = 32
"""Facts whose present answers are asked for at once: a distribution of each is held."""
_NO_NEURONS = "the fact has no knowledge neurons in the refinement"


@dataclass(frozen=True)
class ChosenSlots:
    """What a joint plan changes.

    Attributes:
        refinement: whose knowledge neurons; None where layers were named.
        layers: with scope `layers`, those that change; `neurons`: with scope `neurons`, those whose slots change.
        left_out: how many of the facts' knowledge neurons lie below.
        without: with scope `neurons`, the facts without a knowledge neuron.
    """

    refinement: int | None
    layers: tuple[int, ...]
    neurons: tuple[Neuron, ...]
    left_out: int | None
    without: frozenset[int] = frozenset()

    @property
    def lowest(self) -> int:
        """The lowest layer that changes."""
        return min((*self.layers, *(neuron.layer for neuron in self.neurons)))


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
    skip_unusable: bool = False,
    report: bool = True,
    within: Collection[int] | None = None,
) -> Draft:
    """Changes the value slots of many facts by gradient steps, so that each gets its new answer.

    Args:
        store: the store.
        models: loads the model.
        model: a registered model.
        targets: the facts and their new answers, of one token or several; at least one, each fact once.
        settings: how.
        keep: how many other facts' answers are to stay.
        layers: with scope `layers`, those to change; none takes `layers_by_depth` in a causal model, and where there
            are none those of the facts' knowledge neurons, but for the lowest: `UPPER_SHARE` of these neurons lie in
            the layers taken.
        refinement: whose knowledge neurons; see `QueryCommands.choose`. None is needed where layers are named or chosen
            by depth.
        steps_file: keeps the steps taken, so that a plan that was stopped goes on; whoever stores the edit removes it.
        progress: told the steps taken, and how many there are at most.
        on: the model in memory, to plan on its weights as they are; None loads the current version.
        skip_unusable: pass over facts that the model can't be asked for their new answers and, with scope `neurons`,
            facts without knowledge neurons; the draft has them as `unusable`.
        report: whether to try the edit in memory and put what it does in the recipe.
        within: only these facts' answers may be kept; None for all.

    Raises:
        UsageError: if there is no target, a question gets two answers, or layers are named with scope `neurons`.
        NotFoundError: if there is no such fact, model or refinement.
        EditError: if the model can ask a fact by none of its prompts, or none has knowledge neurons.
    """
    if layers and settings.scope != "layers":
        raise UsageError(f"{option('layers')} is of {option('scope', 'layers')}; leave it out, or take that scope")
    count = models.get(model).layers
    for layer in layers:
        if not 0 <= layer < count:
            raise UsageError(f"{option('layers')} must be from 0 to {count - 1} for model {model} (got {layer})")
    if settings.scope == "layers" and not layers and layers_by_depth(count):
        on = on or models.load(model)
        layers = layers_of(on)
    with store.reading() as connection:
        facts = [store_facts.fact(connection, target.fact) for target in targets]
        require_one_answer_each(facts, targets)
        slots = _choose(connection, model, facts, settings, layers, refinement, skip_unusable=skip_unusable)
        prompts = store_facts.prompts(connection, fact_ids=[fact.id for fact in facts], held_out=False)
    version = on or models.load(model)
    edited, unusable = encode_new_answers(version, targets, prompts, skip_unusable=skip_unusable)
    kept_targets = [target for target in targets if target.fact in edited and target.fact not in slots.without]
    unusable += [Unusable(target, _NO_NEURONS) for target in targets if target.fact in edited.keys() & slots.without]
    numbers = {target.fact for target in kept_targets}
    planned = [fact for fact in facts if fact.id in numbers]
    with store.reading() as connection:
        if unusable:
            slots = _choose(connection, model, planned, settings, layers, refinement)
        drawn = _draw(connection, planned, keep, settings.seed, within)
        others = prompts_of_others(connection, sorted(numbers), drawn, keep.prompts)
    present = present_answers(version, [prompt for prompt in prompts if prompt.fact_id in numbers])
    recipe = TogetherRecipe(
        facts=tuple(
            PlannedFact(
                fact.id,
                fact.relation,
                fact.subject,
                fact.object,
                target.to.strip(),
                edited[fact.id][0].answers,
                version.loaded.decode(present[fact.id]),
            )
            for fact, target in zip(planned, kept_targets, strict=True)
        ),
        refinement=slots.refinement,
        layers=slots.layers,
        neurons=slots.neurons,
        left_out=slots.left_out,
        kept_facts=tuple(drawn),
        prompts_each=keep.prompts,
        how=settings.fitted(count - slots.lowest).as_json(),
    )
    content = plan_together(
        version.network,
        recipe,
        [prompt for fact in planned for prompt in edited[fact.id]],
        _encode_kept(version, others),
        fingerprint=version.record.fingerprint,
        version=version.version,
        steps_file=steps_file,
        progress=progress,
    )
    if report:
        content = with_group_report(store, version, content)
    return Draft(version, content, None, None, slots.refinement, tuple(unusable))


def planned_anew(edit: Edit, recipe: TogetherRecipe, version: ModelVersion, prompts: Sequence[Prompt]) -> EditObject:
    """A joint plan once more, of other neurons or on other weights.

    Args:
        edit: the edit.
        recipe: of the result: the edit's own, with other neurons or another note of where it is from.
        version: the model version, with the weights to start from.
        prompts: those of `prompts_in_recipe` for the edit.

    Raises:
        EditError: if one of the facts can't be asked, or no slot would change.
    """
    targets = [Target(local_fact(edit, fact.id), fact.to) for fact in recipe.facts]
    edited, _ = encode_new_answers(version, targets, own_prompts(edit, prompts))
    return plan_together(
        version.network,
        recipe,
        [prompt for of_fact in edited.values() for prompt in of_fact],
        _encode_kept(version, kept_of(edit, prompts)),
        fingerprint=version.record.fingerprint,
        version=version.version,
    )


def require_one_answer_each(facts: Sequence[Fact], targets: Sequence[Target]) -> None:
    """Refuses no targets, and a question that gets two answers.

    Raises:
        UsageError: for either.
    """
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
    *,
    skip_unusable: bool = False,
) -> ChosenSlots:
    """The slots to change.

    Raises:
        EditError: if no fact has a knowledge neuron or, with scope `neurons`, one has none and is not to be skipped.
    """
    if layers:
        return ChosenSlots(None, tuple(sorted(set(layers))), (), None)
    numbers = [fact.id for fact in facts]
    chosen = answering(connection, refinement, model=model, facts=numbers).id
    held = [
        [Neuron(row.layer, row.neuron) for row in queries.neurons_of_fact(connection, chosen, number)]
        for number in numbers
    ]
    without = [fact for fact, neurons in zip(facts, held, strict=True) if not neurons]
    if len(without) == len(facts) or (without and settings.scope == "neurons" and not skip_unusable):
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
        return ChosenSlots(chosen, (), tuple(taken), left_out, frozenset(fact.id for fact in without))
    return ChosenSlots(chosen, tuple(sorted({neuron.layer for neuron in taken})), (), left_out)


def layers_by_depth(count: int) -> tuple[int, ...]:
    """The layers that change in a deep causal model of so many: from a sixth to a third of its depth; else none.

    There subjects are read, so that what changes is about them, while the layers above are about all questions of a
    kind. On SmolLM2-135M, of 30 layers, a hundred facts in its upper layers left 49 % of the neighbours' answers right,
    in layers 5 to 10 87 % (94 % before); the new answers won on 94 % and 90 % of the prompts.
    """
    return tuple(range(count // 6, count // 3 + 1)) if count >= _DEEP else ()


def layers_of(version: ModelVersion) -> tuple[int, ...]:
    """The layers that change in a model where the plan names none and its depth chooses; else none."""
    network = version.network
    return layers_by_depth(len(network.layers)) if network.adapter.blank is Blank.CUT else ()


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
    connection: Any, edited: Sequence[Fact], keep: KeptFacts, seed: int, within: Collection[int] | None
) -> list[int]:
    """The facts whose answers should stay, drawn at random, rising."""
    relations = {fact.relation for fact in edited}
    same = sentences_of_facts(connection, [fact.id for fact in edited]).facts
    every = store_facts.find_facts(connection)
    others = [fact for fact in every if fact.id not in same and (within is None or fact.id in within)]
    inside = sorted(fact.id for fact in others if fact.relation in relations)
    outside = sorted(fact.id for fact in others if fact.relation not in relations)
    chance = random.Random(f"{seed} kept")  # noqa: S311 - not for secrets
    drawn = chance.sample(inside, min(keep.neighbours, len(inside)))
    return sorted(drawn + chance.sample(outside, min(keep.others, len(outside))))


def _encode_kept(version: ModelVersion, prompts: Iterable[Prompt]) -> list[EncodedPrompt]:
    """Prompts that are kept, their answers left open; those that the model can't be asked are left out."""
    pairs = ((prompt, version.encoder.encode(prompt.id, prompt.text, None)) for prompt in prompts)
    return [replace(one, fact_id=prompt.fact_id) for prompt, one in pairs if isinstance(one, EncodedPrompt)]


# --- the facts that change --------------------------------------------------------------------------------------


def encode_new_answers(
    version: ModelVersion, targets: Sequence[Target], prompts: Sequence[Prompt], *, skip_unusable: bool = False
) -> tuple[dict[int, list[EncodedPrompt]], list[Unusable]]:
    """The prompts of each fact, asked for its new answer; and the targets that the model can be asked by none.

    Raises:
        EditError: if there are such targets, and they are not to be skipped or nothing else is left; all are named.
    """
    of_fact: dict[int, list[Prompt]] = {target.fact: [] for target in targets}
    for prompt in prompts:
        of_fact[prompt.fact_id].append(prompt)
    found: dict[int, list[EncodedPrompt]] = {}
    unusable: list[Unusable] = []
    for target in targets:
        asked = [version.encoder.encode(prompt.id, prompt.text, target.to.strip()) for prompt in of_fact[target.fact]]
        usable = [replace(one, fact_id=target.fact) for one in asked if isinstance(one, EncodedPrompt)]
        if usable:
            found[target.fact] = usable
            continue
        reasons = Counter(SKIP_REASONS[one.reason] for one in asked if isinstance(one, Skipped))
        why = reasons.most_common(1)[0][0] if reasons else "it has no prompts"
        unusable.append(Unusable(target, f"{target.to!r}: {why}"))
    if unusable and not (skip_unusable and found):
        rows = listed(f"{one.target.place or f'fact {one.target.fact}'}, {one.text}" for one in unusable)
        hint = f", or pass over them with {option('skip_unusable', True)}" if found else ""
        raise EditError(
            f"{len(unusable)} of {len(targets)} facts can't be asked for their new answers: {rows}. Fix these rows, or "
            f"leave them out{hint}"
        )
    return found, unusable


def present_answers(version: ModelVersion, prompts: Sequence[Prompt]) -> dict[int, int]:
    """By fact, the first token of the model's answer: the one of the highest mean probability over its prompts."""
    of_fact = by_fact(prompts)
    numbers, found = list(of_fact), {}
    for start in range(0, len(numbers), _AT_ONCE):
        some = numbers[start : start + _AT_ONCE]
        facts = {prompt.id: prompt.fact_id for number in some for prompt in of_fact[number]}
        encoded = encode_open(version, [prompt for number in some for prompt in of_fact[number]])
        totals: dict[int, torch.Tensor] = {}
        for indices, log_probabilities in batched_log_probabilities(version.network, encoded):
            for index, row in zip(indices, log_probabilities.exp(), strict=True):
                fact = facts[encoded[index].prompt_id]
                totals[fact] = totals[fact] + row if fact in totals else row
        found.update({fact: int(total.argmax()) for fact, total in totals.items()})
    return found
