"""Measuring an edit: on which prompts, and what it and its random-neuron control do to them.

The model before is the version that the edit was planned on; the model after is that version with the edit. The
control changes as many random neurons of the same layers by the same rule (`control`).
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial

import torch

from ...advice import option
from ...analysis.edit_measures import (
    CHANGED,
    GROUPS,
    NEIGHBOURS,
    OTHERS,
    OWN,
    PARAPHRASES,
    as_json,
    compare,
    intervals_as_json,
)
from ...analysis.fluency import fluency
from ...analysis.readings import Question, State, as_they_are
from ...editing.objects.diff_file import EditObject
from ...editing.objects.slots import edited
from ...errors import EditError, UsageError
from ...models import loading
from ...models.generation import continuations, require_causal
from ...models.prompting import EncodedPrompt
from ...records.edits import Edit
from ...records.facts import BLANK, Fact, Prompt
from ...records.recipes import EraseRecipe, OptimizeRecipe, OtherRecipe, UpdateRecipe
from ..models import ModelVersion
from .aim import answer_token, present_answer
from .control import control_edit, neurons_of
from .edited_sentences import edited_sentences
from .flips import flipped_facts
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

        Returns:
            `edited` and `control`, each with groups of measures; `intervals` of both; `control_neurons`; and `flips`,
            the answers that were to stay and changed with the edit. What made a capture is not known, so that it has
            no control. With continuations, `generated`: the texts, and how fluent they are.

        Raises:
            UsageError: if prompts are to be continued, and the model is not causal, or the edit is of a relation.
        """
        groups = self._groups(aim, prompts, facts)
        own_prompts = [prompt for prompt in prompts if prompt.fact_id == aim.fact]
        generated = self._generated(own_prompts, planned, tokens) if tokens else None
        compared = [planned]
        if edit.kind != "capture":
            compared.append(control_edit(edit, self._version, planned, seed, computed_on))
        states: list[State] = [as_they_are, *(partial(edited, self._parameters, content) for content in compared)]
        own = () if edit.kind == "erase" else CHANGED
        compared_states = compare(self._version.network, groups, states, self._unedited, seed, changed=own)
        of_edit, flips = compared_states[0].measures, compared_states[0].flips
        of_control = compared_states[1].measures if len(compared_states) > 1 else {}
        return {
            "edited": as_json(of_edit),
            "control": as_json(of_control),
            "intervals": {"edited": intervals_as_json(of_edit), "control": intervals_as_json(of_control)},
            "control_neurons": [str(neuron) for content in compared[1:] for neuron in neurons_of(content)],
            "flips": [asdict(flip) for flip in flipped_facts(self._version, flips, facts)],
            **({} if generated is None else {"generated": generated}),
        }

    def _generated(self, prompts: Sequence[Prompt], planned: EditObject, tokens: int) -> dict[str, object]:
        """Continuations of prompts before and after an edit, and their mean fluency, prompts included."""
        require_causal(self._version.network)
        if not prompts:
            raise UsageError(
                f"{option('generate')} continues the prompts of a fact, and this edit is for a relation; leave it out"
            )
        encoded = encode_open(self._version, prompts)
        before = continuations(self._version.network, encoded, tokens)
        with edited(self._parameters, planned):
            after = continuations(self._version.network, encoded, tokens)
        by_id = {prompt.id: prompt for prompt in prompts}
        decode = self._version.loaded.tokenizer.decode
        texts: list[dict[str, object]] = []
        fluent: list[tuple[float, float]] = []
        for one, *found in zip(encoded, before, after, strict=True):
            prompt = by_id[one.prompt_id]
            old, new = (decode(ids, skip_special_tokens=True) for ids in found)
            begun = prompt.text.partition(BLANK)[0].rstrip()
            fluent.append((fluency(begun + old), fluency(begun + new)))
            texts.append({"prompt": begun, "held_out": prompt.held_out, "before": old, "after": new})
        first, then = (sum(values) / len(texts) for values in zip(*fluent, strict=True))
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
            encoded = encode_single(self._version, prompt)
            if isinstance(encoded, EncodedPrompt):
                groups[name].append(Question(encoded, prompt.fact_id, aim.old, aim.new))
        return groups


@dataclass(frozen=True)
class MeasuredAim:
    """What an edit is measured by.

    Attributes:
        fact: the number here of the fact that it is for, if it is for one.
        relation: that fact's relation, or the one that it is for.
        old, new: tokens of the answers before and after; None for an edit of a relation.
    """

    fact: int | None
    relation: str
    old: int | None = None
    new: int | None = None


def aim_of(edit: Edit) -> MeasuredAim:
    """What an edit is for, by its recipe.

    Raises:
        EditError: if the recipe does not say it, or its fact is not in this store.
    """
    recipe = edit.recipe
    if isinstance(recipe, (UpdateRecipe, OptimizeRecipe)) and recipe.fact is not None:
        number = local_fact(edit, recipe.fact.id)
        return MeasuredAim(number, recipe.fact.relation, recipe.old_token, recipe.new_token)
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
    return MeasuredAim(fact.id, fact.relation, old, answer_token(version, to, prompts))


def facts_to_measure(aim: MeasuredAim, facts: Mapping[int, Fact], *, sample: int, seed: int) -> set[int]:
    """The facts of an edit's relation, and some of other relations, drawn at random.

    Args:
        aim: what the edit is for.
        facts: all facts of the store, by number.
        sample: how many of other relations, at most.
        seed: of the draw.
    """
    others = sorted(number for number, fact in facts.items() if fact.relation != aim.relation)
    drawn = random.Random(seed).sample(others, min(sample, len(others)))  # noqa: S311 - not for secrets
    return {number for number, fact in facts.items() if fact.relation == aim.relation} | set(drawn)
