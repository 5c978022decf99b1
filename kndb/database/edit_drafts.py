"""Drafts of edits: computed on a model's current version, and neither stored nor applied yet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..editing import diff_file, optimize, recipes
from ..errors import EditError, UsageError
from ..models.answers import batched_log_probabilities
from ..models.network import Network
from ..models.prompting import SKIP_REASONS, EncodedPrompt
from ..records import Fact, Neuron, Refinement
from ..store import facts as store_facts
from ..store import queries, refinements
from ..store import runs as store_runs
from ..store.engine import Store
from .edit_optimize import Neighbours, encode_open, kept_prompts, optimized_edit, without_far_below
from .models import ModelCommands, ModelVersion


@dataclass(frozen=True, eq=False)
class Draft:
    """An edit that is computed but not stored.

    Attributes:
        version: the model's current version, on which it was computed.
        content: the edit's object.
        fact_id: the fact that it is for, if it is for one.
        relation_id: the relation that it is for, if it is for one.
        refinement_id: whose knowledge neurons it changes, if anybody's.
    """

    version: ModelVersion
    content: diff_file.EditObject
    fact_id: int | None
    relation_id: int | None
    refinement_id: int | None


@dataclass(frozen=True, eq=False)
class _Aim:
    """A fact and its new answer, with all that a rule for it needs."""

    refinement_id: int
    relation_id: int
    fact: Fact
    neurons: list[Neuron]
    version: ModelVersion
    prompts: list[EncodedPrompt]
    old: int
    new: int
    recipe: dict[str, object]

    def draft(self, content: diff_file.EditObject) -> Draft:
        """The draft of an edit of this fact."""
        return Draft(self.version, content, self.fact.id, self.relation_id, self.refinement_id)


class EditDrafts:
    """Computes edits, and stores and applies nothing."""

    def __init__(self, store: Store, models: ModelCommands) -> None:
        self._store = store
        self._models = models

    def update(
        self,
        model: str,
        fact: int,
        to: str,
        *,
        lambda_old: float = 1.0,
        lambda_new: float = 8.0,
        max_share: float = 0.1,
        neurons: int | None = None,
        refinement: int | None = None,
        on: ModelVersion | None = None,
    ) -> Draft:
        """Moves a fact's value slots from the present answer's word embedding to that of `to`: the paper's rule.

        Args:
            model: a registered model.
            fact: the fact's number.
            to: the new answer, one token in the model's tokenizer.
            lambda_old: λ₁, how far each value slot moves away from the present answer's embedding.
            lambda_new: λ₂, how far it moves towards the new answer's.
            max_share: neurons held by more than this share of the relation's facts are left out.
            neurons: of the others, only so many, those with the highest mean scores; None takes all.
            refinement: whose knowledge neurons; None takes the model's newest.
            on: the model in memory, to plan on its weights as they are; None loads the current version.

        Raises:
            NotFoundError: if there is no such fact, model or refinement.
            EditError: if the fact has no knowledge neurons, or the answers can't be used.
        """
        if not (lambda_old >= 0 and lambda_new >= 0):
            raise UsageError(f"found factors {lambda_old} and {lambda_new}; expected numbers of at least 0")
        aim = self._aim(model, fact, to, max_share, neurons, refinement, on)
        recipe = {**aim.recipe, "lambda_old": lambda_old, "lambda_new": lambda_new}
        network = _network(aim.version)
        rule = recipes.update_rule(network, aim.old, aim.new, lambda_old, lambda_new)
        fingerprint = aim.version.record.fingerprint
        return aim.draft(
            recipes.plan(network, aim.neurons, rule, fingerprint=fingerprint, kind="update", recipe=recipe)
        )

    def optimize(
        self,
        model: str,
        fact: int,
        to: str,
        *,
        settings: optimize.Settings | None = None,
        neighbours: Neighbours | None = None,
        max_share: float = 1.0,
        neurons: int | None = None,
        refinement: int | None = None,
        progress: optimize.Progress | None = None,
        on: ModelVersion | None = None,
    ) -> Draft:
        """Changes a fact's value slots by gradient steps, so that `to` wins while other facts' answers stay.

        Args:
            model: a registered model.
            fact: the fact's number.
            to: the new answer, one token in the model's tokenizer.
            settings: of the steps; None takes the defaults.
            neighbours: how many other facts' answers are to stay; None takes the defaults.
            max_share: neurons held by more than this share of the relation's facts are left out.
            neurons: of the others, only so many, those with the highest mean scores; None takes all.
            refinement: whose knowledge neurons; None takes the model's newest.
            progress: told the steps taken, of how many at most.
            on: the model in memory, to plan on its weights as they are; None loads the current version.

        Raises:
            NotFoundError: if there is no such fact, model or refinement.
            EditError: if the fact has no knowledge neurons, or the answer can't be used.
        """
        settings, counts = settings or optimize.Settings(), neighbours or Neighbours()
        aim = self._aim(model, fact, to, max_share, neurons, refinement, on)
        with self._store.reading() as connection:
            drawn, others = kept_prompts(connection, aim.fact, counts, settings.seed)
        chosen = without_far_below(aim.neurons)
        return aim.draft(
            optimized_edit(
                aim.version,
                _network(aim.version),
                chosen,
                aim.prompts,
                encode_open(aim.version, others),
                settings,
                recipe={
                    **aim.recipe,
                    "neurons": [str(neuron) for neuron in chosen],
                    "neurons_far_below": [str(neuron) for neuron in aim.neurons if neuron not in chosen],
                    "neighbours": counts.relation,
                    "others": counts.elsewhere,
                    "prompts_each": counts.prompts,
                    "kept_facts": drawn,
                },
                progress=progress,
            )
        )

    def erase(self, model: str, relation: str, *, top: int = 20, refinement: int | None = None) -> Draft:
        """Sets the value slots of a relation's most common neurons to zero, so that the model forgets it.

        Args:
            model: a registered model.
            relation: the relation's key.
            top: how many of its neurons, at least 1.
            refinement: whose knowledge neurons; None takes the model's newest.

        Raises:
            NotFoundError: if there is no such relation, model or refinement.
            EditError: if no fact of the relation has a knowledge neuron.
        """
        if top < 1:
            raise UsageError(f"found top {top}; expected at least 1")
        record = self._models.get(model)
        with self._store.reading() as connection:
            chosen = chosen_refinement(connection, model, refinement)
            (relation_id,) = store_facts.require_relations(connection, [relation])
            shared = queries.shared_neurons(connection, chosen.id, [relation_id], top=top)
        if not shared:
            raise EditError(
                f"no fact of {relation} has a knowledge neuron in refinement {chosen.id}; attribute it first: "
                f"kndb attribute --model {model} --relation {relation}, then kndb refine"
            )
        version = self._models.load(model)
        neurons = sorted(Neuron(row.layer, row.neuron) for row in shared)
        recipe = {
            "relation": relation,
            "top": top,
            "refinement": chosen.id,
            "neurons": [str(neuron) for neuron in neurons],
        }
        content = recipes.plan(
            _network(version),
            neurons,
            recipes.erase_rule,
            fingerprint=record.fingerprint,
            kind="erase",
            recipe=recipe,
        )
        return Draft(version, content, None, relation_id, chosen.id)

    def _aim(
        self,
        model: str,
        fact_id: int,
        to: str,
        max_share: float,
        most: int | None,
        refinement: int | None,
        on: ModelVersion | None,
    ) -> _Aim:
        if most is not None and most < 1:
            raise UsageError(f"found neurons {most}; expected at least 1")
        if not 0 < max_share <= 1:
            raise UsageError(f"found max-share {max_share}; expected a number above 0, at most 1")
        to = to.strip()
        self._models.get(model)
        with self._store.reading() as connection:
            chosen = chosen_refinement(connection, model, refinement)
            fact = store_facts.fact(connection, fact_id)
            neurons, left_out = _neurons_for_update(connection, chosen.id, fact, max_share, most)
            prompts = store_facts.prompts(connection, fact_ids=[fact_id], held_out=False)
            (relation_id,) = store_facts.require_relations(connection, [fact.relation])
        version = on or self._models.load(model)
        encoded = encode_open(version, prompts)
        old = present_answer(_network(version), encoded, fact)
        new = answer_token(version, to)
        if old == new:
            raise EditError("the new answer is the one that the model gives already; nothing to change")
        recipe: dict[str, object] = {
            "fact": {"id": fact.id, "relation": fact.relation, "subject": fact.subject, "object": fact.object},
            "to": to,
            "old_answer": version.loaded.decode(old),
            "old_token": old,
            "new_token": new,
            "max_share": max_share,
            "refinement": chosen.id,
            "neurons": [str(neuron) for neuron in neurons],
            "neurons_left_out": [str(neuron) for neuron in left_out],
        }
        if most is not None:
            recipe["most_neurons"] = most
        return _Aim(chosen.id, relation_id, fact, neurons, version, encoded, old, new, recipe)


def chosen_refinement(connection: Any, model: str, number: int | None) -> Refinement:
    """The refinement of a number, or a model's newest.

    Raises:
        NotFoundError: if there is none.
        EditError: if it is of another model.
    """
    if number is None:
        return refinements.latest_refinement(connection, model)
    chosen = refinements.refinement(connection, number)
    owner = store_runs.run(connection, chosen.run_id).model
    if owner != model:
        raise EditError(f"refinement {number} is of model {owner!r}; expected one of {model!r}: kndb query refinements")
    return chosen


def _network(version: ModelVersion) -> Network:
    return Network(version.model, version.adapter)


def _neurons_for_update(
    connection: Any, refinement_id: int, fact: Fact, max_share: float, most: int | None
) -> tuple[list[Neuron], list[Neuron]]:
    """The fact's knowledge neurons to change, and those left out: held by too many facts, or beyond the most wanted."""
    held = queries.neurons_of_fact(connection, refinement_id, fact.id)
    if not held:
        raise EditError(
            f"fact {fact.id} {fact.title} has no knowledge neurons in refinement {refinement_id}; attribute it with "
            f"kndb attribute --relation {fact.relation}, or refine with a lower --share or --threshold"
        )
    relation_ids = store_facts.require_relations(connection, [fact.relation])
    shares = queries.shares(connection, refinement_id, relation_ids)
    common = {(row.layer, row.neuron) for row in held if shares[row.layer, row.neuron] > max_share}
    kept = [Neuron(row.layer, row.neuron) for row in held if (row.layer, row.neuron) not in common]
    if not kept:
        least = min(shares[row.layer, row.neuron] for row in held)
        raise EditError(
            f"each of the {len(held)} knowledge neurons of fact {fact.id} is held by more than {max_share:.4g} of the "
            f"facts of {fact.relation}; allow more with --max-share {math.ceil(least * 100) / 100:.2f} or above"
        )
    scores = {Neuron(row.layer, row.neuron): row.mean_score or 0.0 for row in held}
    chosen = set(sorted(kept, key=lambda neuron: (-scores[neuron], neuron))[:most])
    return [neuron for neuron in kept if neuron in chosen], sorted(neuron for neuron in scores if neuron not in chosen)


def present_answer(network: Network, prompts: Sequence[EncodedPrompt], fact: Fact) -> int:
    """The token with the highest mean probability over a fact's prompts.

    Raises:
        EditError: if there is no prompt.
    """
    if not prompts:
        raise EditError(f"fact {fact.id} {fact.title} has no prompt that this model can be asked")
    total: torch.Tensor | None = None
    for _, log_probabilities in batched_log_probabilities(network, prompts):
        part = log_probabilities.exp().sum(0)
        total = part if total is None else total + part
    assert total is not None
    return int(total.argmax())


def answer_token(version: ModelVersion, answer: str) -> int:
    """The one token of a new answer.

    Raises:
        EditError: if it is several, or none that the tokenizer knows.
    """
    token = version.encoder.answer_token(answer)
    if isinstance(token, str):
        raise EditError(f"{answer!r} can't be the new answer: {SKIP_REASONS[token]}; expected an answer of one token")
    return token
