"""Which prompts an edit is measured on, and its random-neuron control.

The model before is the version that the edit was planned on; the model after is that version with the edit. The
control changes as many random neurons of the same layers by the same rule.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from ..analysis.edit_measures import (
    CHANGED,
    GROUPS,
    NEIGHBOURS,
    OTHERS,
    OWN,
    PARAPHRASES,
    as_json,
    compare_states,
    intervals_as_json,
)
from ..analysis.readings import Question, State, as_they_are
from ..editing import recipes
from ..editing.diff_file import EditObject
from ..editing.replay import recipe_update_rule
from ..editing.slots import edited
from ..models import loading
from ..models.network import Network
from ..models.prompting import EncodedPrompt
from ..records import Edit, Fact, Neuron, Prompt
from .edit_drafts import answer_token, present_answer
from .edit_optimize import encode_open, local_fact, optimized_anew
from .edit_updates import activation_signs
from .models import ModelVersion

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
        self._network = Network(version.model.to(chosen), version.adapter)
        self._unedited = None if unedited is None else Network(unedited.model.to(chosen), unedited.adapter)
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
    ) -> dict[str, object]:
        """The measures of `method.md` section 5 for an edit of a fact or an erase.

        Args:
            edit: the edit.
            planned: its object.
            prompts: the prompts of `facts_to_measure`.
            facts: at least these facts, by number.
            seed: of the control and of the intervals.
            optimized_on: the prompts of `facts_in_recipe` without held-out templates, for the control of an edit that
                was optimised.

        Returns:
            `edited` and `control`, each with groups of measures; `intervals` of both; and `control_neurons`. What made
            a capture is not known, so that it has no control.
        """
        groups = self._groups(edit, prompts, facts)
        compared = [planned]
        if edit.kind != "capture":
            compared.append(control_edit(edit, self._version, self._network, planned, seed, optimized_on))
        states: list[State] = [as_they_are, *(partial(edited, self._parameters, content) for content in compared)]
        own = () if edit.kind == "erase" else CHANGED
        of_edit, *others = compare_states(self._network, groups, states, self._unedited, seed, changed=own)
        of_control = others[0] if others else {}
        return {
            "edited": as_json(of_edit),
            "control": as_json(of_control),
            "intervals": {"edited": intervals_as_json(of_edit), "control": intervals_as_json(of_control)},
            "control_neurons": [str(neuron) for content in compared[1:] for neuron in neurons_of(content)],
        }

    def _groups(self, edit: Edit, prompts: Sequence[Prompt], facts: Mapping[int, Fact]) -> Groups:
        fact, relation = _aim(edit)
        old, new = (_number(edit.recipe.get(name)) for name in ("old_token", "new_token"))
        names = [name for name in GROUPS if fact is not None or name != NEIGHBOURS]
        groups: Groups = {name: [] for name in names}
        for prompt in prompts:
            of_relation = facts[prompt.fact_id].relation == relation
            if of_relation and fact in (None, prompt.fact_id):
                name = PARAPHRASES if prompt.held_out else OWN
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
        optimized_on: the prompts of `facts_in_recipe` without held-out templates, for an edit that was optimised.

    Raises:
        EditError: if nothing would change.
    """
    drawn = recipes.random_neurons(network, neurons_of(planned), seed)
    if edit.kind == "optimize":
        return optimized_anew(edit, version, network, drawn, optimized_on, recipe=edit.recipe, kind="control")
    rule: recipes.Rule = recipes.erase_rule
    if edit.kind == "update":
        # A random neuron, too, pushes with the sign of its own activation: else the control would be half undone.
        signed = edit.recipe.get("rule") == "output"
        signs = activation_signs(network, encode_open(version, optimized_on), drawn) if signed else None
        rule = recipe_update_rule(edit.recipe, signs).on(network)
    return recipes.plan(network, drawn, rule, fingerprint=planned.fingerprint, kind="control", recipe={})


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
    old = present_answer(Network(version.model, version.adapter), encode_open(version, prompts), fact)
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
