"""Which prompts an edit is measured on, and its random-neuron control.

The model before is the version that the edit was planned on; the model after is that version with the edit. The
control changes as many random neurons of the same layers by the same rule.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import torch

from ...analysis.edit_measures import (
    CHANGED,
    GROUPS,
    NEIGHBOURS,
    OTHERS,
    OWN,
    PARAPHRASES,
    Flip,
    as_json,
    compare,
    intervals_as_json,
)
from ...analysis.fluency import fluency
from ...analysis.readings import Question, State, as_they_are
from ...editing.objects.diff_file import EditObject
from ...editing.objects.slots import edited
from ...editing.planning import recipes
from ...editing.planning.gradient_rule import turned
from ...editing.planning.replay import recipe_update_rule, turns_of
from ...errors import UsageError
from ...models import loading
from ...models.generation import continuations, require_causal
from ...models.network import Network
from ...models.prompting import EncodedPrompt
from ...records.edits import Edit
from ...records.facts import BLANK, Fact, Prompt
from ...records.models import Neuron
from ..models import ModelVersion
from .drafts import answer_token, present_answer
from .edited_sentences import edited_sentences
from .optimize import encode_open, kept_of, local_fact, optimized_anew, own_prompts
from .updates import activation_signs, by_gradient

Groups = dict[str, list[Question]]


@dataclass(frozen=True)
class FlippedFact:
    """An answer that was to stay, and that an edit changes.

    Attributes:
        group: of the prompts: `own` (of an erase), `own_held_out`, `intra` or `inter`.
        fact, relation, subject, object: the fact.
        old_answer, new_answer: the model's most probable token before and after.
        prompts: for how many of the fact's prompts; `asked`: of how many.
    """

    group: str
    fact: int
    relation: str
    subject: str | None
    object: str
    old_answer: str
    new_answer: str
    prompts: int
    asked: int


def flipped_facts(version: ModelVersion, flips: Sequence[Flip], facts: Mapping[int, Fact]) -> list[FlippedFact]:
    """Flips with names in place of numbers.

    Args:
        version: the model version whose tokens they are.
        flips: the flips.
        facts: at least their facts, by number.
    """
    named = []
    for flip in flips:
        fact = facts[flip.fact]
        old, new = (version.loaded.decode(token) for token in (flip.old, flip.new))
        about = (flip.group, fact.id, fact.relation, fact.subject, fact.object)
        named.append(FlippedFact(*about, old, new, flip.prompts, flip.asked))
    return named


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
        self._network = version.network
        self._unedited = None
        if unedited is not None:
            unedited.model.to(chosen)
            self._unedited = unedited.network
        self._parameters: dict[str, torch.Tensor] = dict(version.model.named_parameters())

    def measure(
        self,
        edit: Edit,
        planned: EditObject,
        prompts: Sequence[Prompt],
        facts: Mapping[int, Fact],
        *,
        seed: int,
        optimized_on: Sequence[Prompt] = (),
        tokens: int = 0,
    ) -> dict[str, object]:
        """The measures of `method.md` section 5 for an edit of a fact or an erase.

        Args:
            edit: the edit.
            planned: its object.
            prompts: the prompts of `facts_to_measure`.
            facts: at least these facts, by number.
            seed: of the control and of the intervals.
            optimized_on: the prompts of `prompts_in_recipe`, for the control of an edit that was optimised.
            tokens: also continue the prompts of the edit's fact by so many tokens, before and after; 0 does not.

        Returns:
            `edited` and `control`, each with groups of measures; `intervals` of both; `control_neurons`; and `flips`,
            the answers that were to stay and changed with the edit. What made a capture is not known, so that it has
            no control. With continuations, `generated`: the texts, and how fluent they are.

        Raises:
            UsageError: if prompts are to be continued, and the model is not causal, or the edit is of a relation.
        """
        groups = self._groups(edit, prompts, facts)
        own_prompts = [prompt for prompt in prompts if prompt.fact_id == _aim(edit)[0]]
        generated = self._generated(own_prompts, planned, tokens) if tokens else None
        compared = [planned]
        if edit.kind != "capture":
            compared.append(control_edit(edit, self._version, self._network, planned, seed, optimized_on))
        states: list[State] = [as_they_are, *(partial(edited, self._parameters, content) for content in compared)]
        own = () if edit.kind == "erase" else CHANGED
        compared_states = compare(self._network, groups, states, self._unedited, seed, changed=own)
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
        require_causal(self._network)
        if not prompts:
            raise UsageError("--generate continues the prompts of a fact; this edit is for a relation. Leave it out")
        encoded = encode_open(self._version, prompts)
        before = continuations(self._network, encoded, tokens)
        with edited(self._parameters, planned):
            after = continuations(self._network, encoded, tokens)
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

    def _groups(self, edit: Edit, prompts: Sequence[Prompt], facts: Mapping[int, Fact]) -> Groups:
        fact, relation = _aim(edit)
        old, new = (_number(edit.recipe.get(name)) for name in ("old_token", "new_token"))
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
            encoded = self._version.encoder.encode(prompt.id, prompt.text, prompt.answer, single_token=True)
            if isinstance(encoded, EncodedPrompt):
                groups[name].append(Question(encoded, prompt.fact_id, old, new))
        return groups


def control_edit(
    edit: Edit,
    version: ModelVersion,
    network: Network,
    planned: EditObject,
    seed: int,
    optimized_on: Sequence[Prompt],
) -> EditObject:
    """The same edit of as many random other neurons of the same layers.

    Args:
        edit: an edit of a fact or a relation.
        version: the model version, whose weights may have other edits.
        network: the same model.
        planned: the edit's object.
        seed: of the draw.
        optimized_on: the prompts of `prompts_in_recipe`, for an edit that was optimised.

    Raises:
        EditError: if nothing would change.
    """
    drawn = recipes.random_neurons(network, neurons_of(planned), seed)
    if edit.kind == "optimize":
        return optimized_anew(edit, version, network, drawn, optimized_on, recipe=edit.recipe, kind="control")
    rule: recipes.SlotRule = recipes.erase_rule
    if edit.kind == "update":
        rule = _update_of(edit, version, network, drawn, optimized_on).on(network)
    return recipes.plan(network, drawn, rule, fingerprint=planned.fingerprint, kind="control", recipe={})


def _update_of(
    edit: Edit, version: ModelVersion, network: Network, neurons: Sequence[Neuron], computed_on: Sequence[Prompt]
) -> recipes.UpdateRule:
    """The rule of an update for other neurons, each with its own sign or weight: else half would be undone."""
    own = encode_open(version, own_prompts(edit, computed_on))
    name = edit.recipe.get("rule")
    if name == "gradient":
        others = encode_open(version, kept_of(edit, computed_on))
        rule = by_gradient(network, recipe_update_rule(edit.recipe, {}), neurons, own, others)
        for factor in turns_of(edit.recipe):
            rule = turned(network, rule, neurons, own, factor)
        return rule
    return recipe_update_rule(edit.recipe, activation_signs(network, own, neurons) if name == "output" else None)


def aimed_at(edit: Edit, version: ModelVersion, fact: Fact, prompts: Sequence[Prompt], to: str) -> Edit:
    """A capture, told which fact it is for.

    Args:
        edit: the capture.
        version: the version that it was made on.
        fact: the fact.
        prompts: the fact's prompts, held-out templates left out.
        to: the new answer.

    Raises:
        EditError: if the fact has no prompt that the model can be asked, or the answer is not one token.
    """
    old = present_answer(version.network, encode_open(version, prompts), fact)
    recipe = {
        **edit.recipe,
        "fact": {"id": fact.id, "relation": fact.relation, "subject": fact.subject, "object": fact.object},
        "to": to,
        "old_answer": version.loaded.decode(old),
        "old_token": old,
        "new_token": answer_token(version, to),
    }
    return replace(edit, recipe=recipe, fact_numbers=None)


def facts_to_measure(edit: Edit, facts: Mapping[int, Fact], *, sample: int, seed: int) -> set[int]:
    """The facts of an edit's relation, and some of other relations, drawn at random.

    Args:
        edit: the edit.
        facts: all facts of the store, by number.
        sample: how many of other relations, at most.
        seed: of the draw.
    """
    _, relation = _aim(edit)
    others = sorted(number for number, fact in facts.items() if fact.relation != relation)
    drawn = random.Random(seed).sample(others, min(sample, len(others)))  # noqa: S311 - not for secrets
    return {number for number, fact in facts.items() if fact.relation == relation} | set(drawn)


def _aim(edit: Edit) -> tuple[int | None, str]:
    """The fact that an edit is for, if it is for one, and the relation."""
    fact: Any = edit.recipe.get("fact")
    if isinstance(fact, Mapping):
        return local_fact(edit, fact["id"]), str(fact["relation"])
    return None, str(edit.recipe["relation"])


def neurons_of(planned: EditObject) -> list[Neuron]:
    """The neurons whose value slots an edit changes."""
    return sorted(
        Neuron(planned.layers[diff.parameter], index) for diff in planned.parameters for index in diff.indices.tolist()
    )


def _number(value: object) -> int | None:
    return value if isinstance(value, int) else None
