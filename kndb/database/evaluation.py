"""Which prompts an edit is measured on, and its random-neuron control.

The model before is the version that the edit was planned on; the model after is that version with the edit. The
control changes as many random neurons of the same layers by the same rule.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from ..editing import evaluation, recipes
from ..editing.diff_file import EditObject
from ..editing.slots import apply_object
from ..models import loading
from ..models.network import Network
from ..models.prompting import EncodedPrompt
from ..records import Edit, Fact, Neuron, Prompt
from .edit_optimize import optimized_anew
from .models import ModelVersion

Group = list[EncodedPrompt]


class EditEvaluator:
    """Measures edits of one model version."""

    def __init__(self, version: ModelVersion, device: str) -> None:
        self._version = version
        self._network = Network(version.model.to(loading.choose_device(device)), version.adapter)
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
            seed: of the control.
            optimized_on: the prompts of `facts_in_recipe` without held-out templates, for the control of an edit that
                was optimised.

        Returns:
            `edited` and `control`, each with groups of measures, and `control_neurons`.
        """
        groups = self._groups(edit, prompts, facts)
        control = self._control(edit, planned, seed, optimized_on)
        target = _number(edit.recipe.get("new_token"))
        before = {name: self._read(group, target) for name, group in groups.items()}
        with self._edited(planned):
            after = {name: self._read(group, target) for name, group in groups.items()}
        with self._edited(control):
            after_control = {name: self._read(group, target) for name, group in groups.items()}
        return {
            "edited": _summaries(edit, groups, before, after),
            "control": _summaries(edit, groups, before, after_control),
            "control_neurons": [str(neuron) for neuron in _neurons(control)],
        }

    def _groups(self, edit: Edit, prompts: Sequence[Prompt], facts: Mapping[int, Fact]) -> dict[str, Group]:
        fact, relation = _aim(edit)
        names = ("own", "own_held_out", "inter") if fact is None else ("own", "own_held_out", "intra", "inter")
        groups: dict[str, Group] = {name: [] for name in names}
        for prompt in prompts:
            of_relation = facts[prompt.fact_id].relation == relation
            if of_relation and fact in (None, prompt.fact_id):
                group = groups["own_held_out" if prompt.held_out else "own"]
            else:
                group = groups["intra" if of_relation else "inter"]
            encoded = self._version.encoder.encode(prompt.id, prompt.text, prompt.answer, single_token=True)
            if isinstance(encoded, EncodedPrompt):
                group.append(encoded)
        return groups

    def _control(self, edit: Edit, planned: EditObject, seed: int, optimized_on: Sequence[Prompt]) -> EditObject:
        drawn = recipes.random_neurons(self._network, _neurons(planned), seed)
        if edit.kind == "optimize":
            return optimized_anew(
                edit, self._version, self._network, drawn, optimized_on, recipe=edit.recipe, kind="control"
            )
        rule = recipes.erase_rule if edit.kind == "erase" else self._update_rule(edit.recipe)
        return recipes.plan(self._network, drawn, rule, fingerprint=planned.fingerprint, kind="control", recipe={})

    def _update_rule(self, recipe: Mapping[str, object]) -> recipes.Rule:
        old, new = (int(str(recipe[name])) for name in ("old_token", "new_token"))
        factors = (float(str(recipe[name])) for name in ("lambda_old", "lambda_new"))
        return recipes.update_rule(self._network, old, new, *factors)

    def _read(self, prompts: Group, target: int | None) -> evaluation.Reading:
        return evaluation.read_answers(self._network, prompts, target)

    @contextmanager
    def _edited(self, planned: EditObject) -> Iterator[None]:
        apply_object(self._parameters, planned)
        try:
            yield
        finally:
            apply_object(self._parameters, planned, reverse=True)


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


def _summaries(
    edit: Edit,
    groups: Mapping[str, Group],
    before: Mapping[str, evaluation.Reading],
    after: Mapping[str, evaluation.Reading],
) -> dict[str, object]:
    summaries: dict[str, object] = {}
    for name, prompts in groups.items():
        if name.startswith("own") and edit.kind != "erase":
            old, new = int(str(edit.recipe["old_token"])), int(str(edit.recipe["new_token"]))
            summaries[name] = evaluation.update_measures(prompts, old, new, before[name], after[name])
        else:
            summaries[name] = evaluation.compare(prompts, before[name], after[name])
    return summaries


def _aim(edit: Edit) -> tuple[int | None, str]:
    """The fact that an edit is for, if it is for one, and the relation."""
    fact: Any = edit.recipe.get("fact")
    if isinstance(fact, Mapping):
        return int(fact["id"]), str(fact["relation"])
    return None, str(edit.recipe["relation"])


def _neurons(planned: EditObject) -> list[Neuron]:
    return sorted(
        Neuron(planned.layers[diff.parameter], index) for diff in planned.parameters for index in diff.indices.tolist()
    )


def _number(value: object) -> int | None:
    return value if isinstance(value, int) else None
