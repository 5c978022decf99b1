"""Measuring an edit: on which prompts, and what it and its random-neuron control do to them.

The model before is the version that the edit was planned on; the model after is that version with the edit. The
control changes as many random neurons of the same layers by the same rule (`control`).
"""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import torch

from ...advice import option
from ...analysis.edit_measures import (
    CHANGED,
    GROUPS,
    NEIGHBOURS,
    OTHERS,
    OWN,
    PARAPHRASES,
    Compared,
    as_json,
    compare,
    intervals_as_json,
)
from ...analysis.evaluation_prompts import ComparedPrompts, compare_prompts
from ...analysis.fluency import fluency
from ...analysis.readings import Question, State, as_they_are
from ...analysis.summary_measures import SUMMARY, Observed, summary_measures
from ...editing.objects.diff_file import EditObject
from ...editing.objects.slots import edited
from ...errors import EditError, UsageError
from ...models import loading
from ...models.adapter import Blank
from ...models.generation import continuations, require_causal
from ...models.prompting import EncodedPrompt, Skipped
from ...records.edits import Edit
from ...records.facts import BLANK, PARAPHRASE, EvaluationPrompt, Fact, NeededEdit, Prompt
from ...records.recipes import EraseRecipe, OptimizeRecipe, OtherRecipe, UpdateRecipe
from ...records.skip_reasons import SKIP_MULTI_TOKEN
from ..models import ModelVersion
from .aim import answer_token, present_answer
from .asked_prompts import AskedPrompts, as_prompt, choose_prompts
from .control import control_edit, neurons_of
from .edited_sentences import edited_sentences
from .flips import flipped_facts, flipped_prompts
from .kept_prompts import encode_open, encode_single, local_fact

Groups = dict[str, list[Question]]


class EditEvaluator:
    """Measures edits of one model version.

    Args:
        version: the version that they were planned on.
        device: where to compute.
        unedited: the model without any edit; None if the version is just that.
    """

    def __init__(self, version: ModelVersion, device: str, unedited: ModelVersion | None = None) -> None:
        chosen = loading.choose_device(device)
        self._version = version
        version.model.to(chosen)
        self._unedited = None
        if unedited is not None:
            unedited.model.to(chosen)
            self._unedited = unedited.network
        self._parameters: dict[str, torch.Tensor] = dict(version.model.named_parameters())

    def measure(
        self,
        edit: Edit,
        aim: MeasuredAim,
        planned: EditObject,
        prompts: Sequence[Prompt],
        facts: Mapping[int, Fact],
        *,
        seed: int,
        computed_on: Sequence[Prompt] = (),
        tokens: int = 0,
        evaluation: Sequence[EvaluationPrompt] = (),
        there: Collection[NeededEdit] = (),
        control: bool = True,
    ) -> dict[str, object]:
        """The measures of `method.md` section 5 for an edit of a fact or an erase.

        Args:
            edit: the edit.
            aim: what it is for.
            planned: its object.
            prompts: the prompts of `facts_to_measure`.
            facts: at least these facts, by number.
            seed: of the control and of the intervals.
            computed_on: the prompts of `prompts_in_recipe`, for the control.
            tokens: also continue the prompts of the edit's fact by so many tokens, before and after; 0 does not.
            evaluation: the evaluation prompts of the edit's fact.
            there: the edits of facts that the version has.
            control: whether to measure random neurons too.

        Returns:
            `edited` and `control`, each with groups of measures; `intervals` of both; `control_neurons`; and `flips`,
            the answers that were to stay and changed with the edit. What made a capture is not known, so that it has
            no control. `left_out` has the evaluation prompts that were not asked, by kind and reason (a key of
            `asked_prompts.LEFT_OUT`). With continuations, `generated`: the texts, and how fluent they are.

        Raises:
            UsageError: if prompts are to be continued, and the model is not causal, or the edit is of a relation.
        """
        own_prompts = [prompt for prompt in prompts if prompt.fact_id == aim.fact]
        asked = choose_prompts(self._version, evaluation, own_prompts, aim.fact or 0, aim.to, there, aim.new)
        groups = self._groups(aim, prompts, facts)
        if aim.fact is not None:
            groups[PARAPHRASES] += self._paraphrases(aim, facts[aim.fact], asked)
        continued = [(aim.fact or 0, text) for text in asked.continued]
        generated = self._generated(own_prompts, continued, planned, tokens) if tokens else None
        compared = [planned]
        if control and edit.kind != "capture":
            compared.append(control_edit(edit, self._version, planned, seed, computed_on))
        states: list[State] = [as_they_are, *(partial(self._edited, content) for content in compared)]
        own = () if edit.kind == "erase" else CHANGED
        network = self._version.network
        compared_states = compare(network, groups, states, self._unedited, seed, changed=own)
        named = flipped_facts(self._version, compared_states[0].flips, facts)
        further = [ComparedPrompts({}, [], {}) for _ in compared_states]
        if asked.groups and aim.fact is not None:
            further = compare_prompts(network, asked.groups, states, self._unedited, seed)
            named += flipped_prompts(self._version, further[0].flips, facts, {aim.fact: evaluation})
        same = _with_the_object_of(aim.fact, facts)
        measured = [
            {
                SUMMARY: summary_measures(_observed(groups, own, one, asked, more, same, fluent), seed),
                **one.measures,
                **more.measures,
            }
            for one, more, fluent in zip(compared_states, further, (fluency_of(generated), []), strict=False)
        ]
        of_edit, of_control = measured[0], measured[1] if len(measured) > 1 else {}
        return {
            "edited": as_json(of_edit),
            "control": as_json(of_control),
            "intervals": {"edited": intervals_as_json(of_edit), "control": intervals_as_json(of_control)},
            "control_neurons": [str(neuron) for content in compared[1:] for neuron in neurons_of(content)],
            "flips": [asdict(flip) for flip in named],
            **({"left_out": {kind: dict(count) for kind, count in asked.left_out.items()}} if asked.left_out else {}),
            **({} if generated is None else {"generated": generated}),
        }

    def _edited(self, content: EditObject) -> AbstractContextManager[None]:
        """The weights with an edit, while the block lasts."""
        return edited(self._parameters, content)

    def _generated(
        self, own: Sequence[Prompt], continued: Sequence[tuple[int, str]], planned: EditObject, tokens: int
    ) -> dict[str, object]:
        """Continuations of prompts before and after an edit, and their mean fluency, prompts included.

        The fluency is that of the prompts that only ask for a continuation, if there are any, as in ROME's code.
        """
        require_causal(self._version.network)
        prompts = [replace(prompt, id=place) for place, prompt in enumerate(own)]
        first_continued = len(prompts)
        prompts += [
            replace(as_prompt(text, "", fact), id=first_continued + place)
            for place, (fact, text) in enumerate(continued)
        ]
        if not prompts:
            raise UsageError(
                f"{option('generate')} continues the prompts of a fact, and this edit is for a relation; leave it out"
            )
        encoded = encode_open(self._version, prompts)
        before = continuations(self._version.network, encoded, tokens)
        with self._edited(planned):
            after = continuations(self._version.network, encoded, tokens)
        by_id = {prompt.id: prompt for prompt in prompts}
        decode = self._version.loaded.tokenizer.decode
        texts: list[dict[str, object]] = []
        fluent: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
        for one, *found in zip(encoded, before, after, strict=True):
            prompt = by_id[one.prompt_id]
            old, new = (decode(ids, skip_special_tokens=True) for ids in found)
            begun = prompt.text.partition(BLANK)[0].rstrip()
            only_continued = prompt.id >= first_continued
            fluent[only_continued].append((fluency(begun + old), fluency(begun + new)))
            held_out = prompt.held_out and not only_continued
            of_prompt = {"fact": prompt.fact_id, "prompt": begun, "held_out": held_out, "generation": only_continued}
            texts.append({**of_prompt, "before": old, "after": new})
        counted = fluent[True] or fluent[False]
        first, then = (sum(values) / len(counted) for values in zip(*counted, strict=True))
        return {"tokens": tokens, "fluency_before": first, "fluency_after": then, "texts": texts}

    def _groups(self, aim: MeasuredAim, prompts: Sequence[Prompt], facts: Mapping[int, Fact]) -> Groups:
        fact, relation = aim.fact, aim.relation
        names = [name for name in GROUPS if fact is not None or name != NEIGHBOURS]
        groups: Groups = {name: [] for name in names}
        own = [number for number, one in facts.items() if one.relation == relation and fact in (None, number)]
        edited_ones = edited_sentences(facts.values(), prompts, own)
        for prompt in prompts:
            of_relation = facts[prompt.fact_id].relation == relation
            if of_relation and fact in (None, prompt.fact_id):
                name = PARAPHRASES if prompt.held_out else OWN
            elif edited_ones.asks(prompt):
                continue
            else:
                name = NEIGHBOURS if of_relation else OTHERS
            encoded = self._encoded(prompt, of_edit=fact is not None and name in CHANGED)
            if isinstance(encoded, EncodedPrompt):
                groups[name].append(Question(encoded, prompt.fact_id, aim.old, aim.new))
        return groups

    def _paraphrases(self, aim: MeasuredAim, fact: Fact, asked: AskedPrompts) -> list[Question]:
        """The evaluation prompts that ask for the edit's own fact in other words."""
        found = []
        for text in asked.paraphrases:
            encoded = self._encoded(as_prompt(text, fact.object, fact.id), of_edit=True)
            if isinstance(encoded, EncodedPrompt):
                found.append(Question(encoded, fact.id, aim.old, aim.new))
            else:
                asked.leave_out(PARAPHRASE, encoded.reason)
        return found

    def _encoded(self, prompt: Prompt, *, of_edit: bool) -> EncodedPrompt | Skipped:
        """A prompt with the one token of its answer; of the edited fact, where a model reads on, with its first token.

        There it makes no difference to the new answer how long the old one is. A masked model would be shown several
        masks.
        """
        found = encode_single(self._version, prompt)
        reads_on = self._version.network.adapter.blank is Blank.CUT
        if of_edit and reads_on and isinstance(found, Skipped) and found.reason == SKIP_MULTI_TOKEN:
            encode = self._version.encoder.encode
            whole = encode(prompt.id, prompt.text, prompt.answer, subject=prompt.subject_span)
            return replace(whole, further=()) if isinstance(whole, EncodedPrompt) else whole
        return found


def _with_the_object_of(number: int | None, facts: Mapping[int, Fact]) -> set[int]:
    """The facts of the same relation with the same object as a fact, that fact included."""
    if number is None:
        return set()
    own = facts[number]
    return {other.id for other in facts.values() if (other.relation, other.object) == (own.relation, own.object)}


def _observed(
    groups: Groups,
    changed: Collection[str],
    compared: Compared,
    asked: AskedPrompts,
    further: ComparedPrompts,
    same_object: Collection[int],
    fluent: Sequence[tuple[int, float, float]],
) -> Observed:
    """What was seen of an edit of one fact, or of an erase, by prompt."""
    found = Observed(fluent=[*fluent])
    for name, (before, after) in compared.readings.items():
        if name in changed:
            found.add_own_questions(name, groups[name], after)
        elif name in (NEIGHBOURS, OTHERS):
            found.add_staying(name, groups[name], before, after, same_object)
    for kind, (first, then) in further.readings.items():
        found.add_prompts(kind, asked.groups[kind], first, then)
    return found


def fluency_of(generated: Mapping[str, Any] | None) -> list[tuple[int, float, float]]:
    """The fluency of the texts that count, before and after, each with its fact."""
    texts = [] if generated is None else generated["texts"]
    only = [one for one in texts if one["generation"]] or texts
    return [
        (one["fact"], fluency(one["prompt"] + one["before"]), fluency(one["prompt"] + one["after"])) for one in only
    ]


@dataclass(frozen=True)
class MeasuredAim:
    """What an edit is measured by.

    Attributes:
        fact: the number here of the fact that it is for, if it is for one.
        relation: that fact's relation, or the one that it is for.
        old, new: tokens of the answers before and after; None for an edit of a relation.
        to: the answer after, as text.
    """

    fact: int | None
    relation: str
    old: int | None = None
    new: int | None = None
    to: str | None = None


def aim_of(edit: Edit) -> MeasuredAim:
    """What an edit is for, by its recipe.

    Raises:
        EditError: if the recipe does not say it, or its fact is not in this store.
    """
    recipe = edit.recipe
    if isinstance(recipe, (UpdateRecipe, OptimizeRecipe)) and recipe.fact is not None:
        number = local_fact(edit, recipe.fact.id)
        return MeasuredAim(number, recipe.fact.relation, recipe.old_token, recipe.new_token, recipe.to)
    if isinstance(recipe, EraseRecipe) and recipe.relation is not None:
        return MeasuredAim(None, recipe.relation)
    if isinstance(recipe, OtherRecipe):
        raise EditError(f"the recipe of edit {edit.id} can't be read, so that it can't be measured: {recipe.flaw}")
    raise EditError(f"the recipe of edit {edit.id} does not say what it is for, so it can't be measured")


def aim_of_capture(version: ModelVersion, fact: Fact, prompts: Sequence[Prompt], to: str) -> MeasuredAim:
    """What a capture is for, as its user says.

    Args:
        version: the version that it was made on.
        fact: the fact.
        prompts: the fact's prompts, held-out templates left out.
        to: the new answer.

    Raises:
        EditError: if the fact has no prompt that the model can be asked, or the answer is not one token.
    """
    old = present_answer(version.network, encode_open(version, prompts), fact)
    return MeasuredAim(fact.id, fact.relation, old, answer_token(version, to, prompts), to)


def facts_to_measure(relations: Collection[str], facts: Mapping[int, Fact], *, sample: int, seed: int) -> set[int]:
    """The facts of an edit's relations, and some of other relations, drawn at random.

    Args:
        relations: of what the edit is for.
        facts: all facts of the store, by number.
        sample: how many of other relations, at most.
        seed: of the draw.
    """
    others = sorted(number for number, fact in facts.items() if fact.relation not in relations)
    drawn = random.Random(seed).sample(others, min(sample, len(others)))  # noqa: S311 - not for secrets
    return {number for number, fact in facts.items() if fact.relation in relations} | set(drawn)
