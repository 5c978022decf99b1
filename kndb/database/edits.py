"""Use cases of edits: plan, list, apply, revert. `evaluation` has their measures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ..editing import diff_file, recipes
from ..editing.slots import apply_object, changes, check_fingerprint
from ..errors import ConflictError, EditError, UsageError, VersionMovedError
from ..models.answers import batched_log_probabilities
from ..models.network import Network
from ..models.prompting import SKIP_REASONS, EncodedPrompt
from ..records import Edit, Evaluation, Fact, HistoryEntry, Neuron, Refinement, SlotChange
from ..store import edits as store_edits
from ..store import evaluations as store_evaluations
from ..store import facts as store_facts
from ..store import models as store_models
from ..store import queries, refinements, steps
from ..store import runs as store_runs
from ..store import versions as store_versions
from ..store.engine import Store
from .evaluation import EditEvaluator, facts_to_measure
from .models import ModelCommands, ModelVersion


class EditCommands:
    """Plan, apply, revert and evaluate edits."""

    def __init__(self, store: Store, models: ModelCommands) -> None:
        self._store = store
        self._models = models

    # --- planning ------------------------------------------------------------------------------------------

    def plan_update(
        self,
        model: str,
        fact: int,
        to: str,
        *,
        lambda_old: float = 1.0,
        lambda_new: float = 8.0,
        max_share: float = 0.1,
        refinement: int | None = None,
    ) -> Edit:
        """Plans that the model answers `to` for a fact: computes and stores the edit, applies nothing.

        Args:
            model: a registered model.
            fact: the fact's number.
            to: the new answer, one token in the model's tokenizer.
            lambda_old: λ₁, how far each value slot moves away from the present answer's embedding.
            lambda_new: λ₂, how far it moves towards the new answer's.
            max_share: neurons held by more than this share of the relation's facts are left out.
            refinement: whose knowledge neurons; None takes the model's newest.

        Raises:
            NotFoundError: if there is no such fact, model or refinement.
            EditError: if the fact has no knowledge neurons, or the answers can't be used.
        """
        if not (lambda_old >= 0 and lambda_new >= 0):
            raise UsageError(f"found factors {lambda_old} and {lambda_new}; expected numbers of at least 0")
        if not 0 < max_share <= 1:
            raise UsageError(f"found max-share {max_share}; expected a number above 0, at most 1")
        to = to.strip()
        record = self._models.get(model)
        with self._store.reading() as connection:
            chosen = self._refinement(connection, model, refinement)
            subject_of_edit = store_facts.fact(connection, fact)
            neurons, left_out = _neurons_for_update(connection, chosen.id, subject_of_edit, max_share)
            prompts = store_facts.prompts(connection, fact_ids=[fact], held_out=False)
            (relation_id,) = store_facts.require_relations(connection, [subject_of_edit.relation])
        version = self._models.load(model)
        network = _network(version)
        encoded = [
            prompt
            for prompt in (version.encoder.encode(prompt.id, prompt.text, None) for prompt in prompts)
            if isinstance(prompt, EncodedPrompt)
        ]
        old = _present_answer(network, encoded, subject_of_edit)
        new = _answer_token(version, to)
        recipe = {
            "fact": {
                "id": subject_of_edit.id,
                "relation": subject_of_edit.relation,
                "subject": subject_of_edit.subject,
                "object": subject_of_edit.object,
            },
            "to": to,
            "old_answer": version.loaded.decode(old),
            "old_token": old,
            "new_token": new,
            "lambda_old": lambda_old,
            "lambda_new": lambda_new,
            "max_share": max_share,
            "refinement": chosen.id,
            "neurons": [str(neuron) for neuron in neurons],
            "neurons_left_out": [str(neuron) for neuron in left_out],
        }
        rule = recipes.update_rule(network, old, new, lambda_old, lambda_new)
        planned = recipes.plan(network, neurons, rule, fingerprint=record.fingerprint, kind="update", recipe=recipe)
        return self._add(version, planned, fact_id=fact, relation_id=relation_id)

    def plan_erase(self, model: str, relation: str, *, top: int = 20, refinement: int | None = None) -> Edit:
        """Plans that the model forgets a relation: the value slots of its most common neurons become zero.

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
            chosen = self._refinement(connection, model, refinement)
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
        planned = recipes.plan(
            _network(version),
            neurons,
            recipes.erase_rule,
            fingerprint=record.fingerprint,
            kind="erase",
            recipe=recipe,
        )
        return self._add(version, planned, fact_id=None, relation_id=relation_id)

    # --- looking -------------------------------------------------------------------------------------------

    def get(self, edit: int) -> Edit:
        """One edit.

        Raises:
            NotFoundError: if there is none of that number.
        """
        with self._store.reading() as connection:
            return store_edits.edit(connection, edit)

    def all(self, model: str | None = None) -> list[Edit]:
        """All edits, or those of one model."""
        with self._store.reading() as connection:
            number = None if model is None else store_models.model(connection, model).id
            return store_edits.edits(connection, number)

    def slots(self, edit: int) -> list[SlotChange]:
        """The value slots that an edit changes."""
        with self._store.reading() as connection:
            return store_edits.edit_slots(connection, edit)

    def log(self, model: str | None = None) -> list[HistoryEntry]:
        """Every apply, revert and restore, the oldest first."""
        with self._store.reading() as connection:
            number = None if model is None else store_models.model(connection, model).id
            return store_edits.history(connection, number)

    def slot_lengths(self, edit: int) -> dict[Neuron, tuple[float, float]]:
        """The length ‖v‖ of each value slot before and after an edit.

        Raises:
            DiffFileError: if the edit's object is damaged.
        """
        planned = self._object(self.get(edit))
        return {
            Neuron(planned.layers[diff.parameter], index): (old, new)
            for diff in planned.parameters
            for index, old, new in zip(
                diff.indices.tolist(),
                diff.old.double().norm(dim=1).tolist(),
                diff.new.double().norm(dim=1).tolist(),
                strict=True,
            )
        }

    # --- moving the current version ------------------------------------------------------------------------

    def apply(self, edit: int) -> HistoryEntry:
        """Applies an edit to its model's current version, once every slot was compared bit for bit.

        Raises:
            ConflictError: if other edits changed its slots.
            VersionMovedError: if another process moved the version meanwhile.
            DiffFileError: if the edit's object is damaged.
        """
        return self._step(edit, "apply")

    def revert(self, edit: int) -> HistoryEntry:
        """Takes an applied edit out of its model's current version; the slots get their old bytes back.

        Raises:
            ConflictError: if later edits changed the same slots.
            VersionMovedError: if another process moved the version meanwhile.
            DiffFileError: if the edit's object is damaged.
        """
        return self._step(edit, "revert")

    # --- measuring -----------------------------------------------------------------------------------------

    def evaluate(self, edit: int, *, sample: int = 300, seed: int = 0, device: str = "auto") -> Evaluation:
        """Measures an edit against the version that it was planned on, beside a random-neuron control; stored.

        Args:
            edit: the edit's number; it need not be applied.
            sample: facts of other relations to measure, drawn at random; at least 1.
            seed: of the draw and of the control's neurons.
            device: where to compute.
        """
        if sample < 1:
            raise UsageError(f"found sample {sample}; expected at least 1")
        if not 0 <= seed < 2**63:
            raise UsageError(f"found seed {seed}; expected a number from 0 to 2^63 - 1")
        record = self.get(edit)
        planned = self._object(record)
        version = self._models.load(record.model, record.base_version)
        with self._store.reading() as connection:
            facts = {fact.id: fact for fact in store_facts.find_facts(connection)}
            measured = facts_to_measure(record, facts, sample=sample, seed=seed)
            prompts = store_facts.prompts(connection, fact_ids=measured)
            after = store_versions.version_with_edit(connection, version.record.id, record.base_version, edit)
        evaluator = EditEvaluator(version, device)
        measures = evaluator.measure(record, planned, prompts, facts, seed=seed)
        with self._store.writing() as connection:
            number = store_evaluations.add_evaluation(
                connection,
                edit_id=edit,
                version_before=record.base_version,
                version_after=after,
                settings={"sample": sample, "seed": seed},
                measures=measures,
            )
            return store_evaluations.evaluation(connection, number)

    def evaluations(self, edit: int | None = None) -> list[Evaluation]:
        """All stored evaluations, or those of one edit."""
        with self._store.reading() as connection:
            return store_evaluations.evaluations(connection, edit)

    def _refinement(self, connection: Any, model: str, number: int | None) -> Refinement:
        if number is None:
            return refinements.latest_refinement(connection, model)
        chosen = refinements.refinement(connection, number)
        owner = store_runs.run(connection, chosen.run_id).model
        if owner != model:
            raise EditError(
                f"refinement {number} is of model {owner!r}; expected one of {model!r}: kndb query refinements"
            )
        return chosen

    def _object(self, edit: Edit) -> diff_file.EditObject:
        return diff_file.read(self._store.objects, edit.object_path, edit.object_hash)

    def _add(
        self,
        version: ModelVersion,
        planned: diff_file.EditObject,
        *,
        fact_id: int | None,
        relation_id: int | None,
    ) -> Edit:
        with self._store.writing() as connection:
            current = store_models.model(connection, version.record.name).version
            if current != version.version:
                raise VersionMovedError(
                    f"model {version.record.name} moved from {version.version} to {current} while the edit was "
                    "planned; plan it again"
                )
            object_hash, object_path = diff_file.write(planned, self._store.objects)
            number = store_edits.add_edit(
                connection,
                version.record.id,
                planned.kind,
                planned.recipe,
                object_hash,
                object_path,
                version.version,
                changes(planned),
                fact_id,
                relation_id,
            )
            return store_edits.edit(connection, number)

    def _step(self, edit: int, action: steps.Action) -> HistoryEntry:
        with self._store.reading() as connection:
            record = store_edits.edit(connection, edit)
            # The store knows every slot's hash: a conflict is named there, with the edits that are in the way.
            expected = steps.plan_step(connection, edit, action).model.version
        planned = self._object(record)
        version = self._models.load(record.model, expected)
        check_fingerprint(planned, version.record.fingerprint)
        try:
            apply_object(dict(version.model.named_parameters()), planned, reverse=action == "revert")
        except ConflictError as error:
            raise EditError(f"the weights do not agree with the store ({error}); run `kndb db check`") from error
        with self._store.writing() as connection:
            take = steps.apply_edit if action == "apply" else steps.revert_edit
            return take(connection, edit, expected)


def _network(version: ModelVersion) -> Network:
    return Network(version.model, version.adapter)


def _neurons_for_update(
    connection: Any, refinement_id: int, fact: Fact, max_share: float
) -> tuple[list[Neuron], list[Neuron]]:
    """The fact's knowledge neurons, and those left out because too many facts of the relation hold them."""
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
    return kept, sorted(Neuron(*neuron) for neuron in common)


def _present_answer(network: Network, prompts: Sequence[EncodedPrompt], fact: Fact) -> int:
    """The token with the highest mean probability over a fact's prompts."""
    if not prompts:
        raise EditError(f"fact {fact.id} {fact.title} has no prompt that this model can be asked")
    total: torch.Tensor | None = None
    for _, log_probabilities in batched_log_probabilities(network, prompts):
        part = log_probabilities.exp().sum(0)
        total = part if total is None else total + part
    assert total is not None
    return int(total.argmax())


def _answer_token(version: ModelVersion, answer: str) -> int:
    token = version.encoder.answer_token(answer)
    if isinstance(token, str):
        raise EditError(f"{answer!r} can't be the new answer: {SKIP_REASONS[token]}; expected an answer of one token")
    return token


def recipe_title(edit: Edit) -> str:
    """What an edit is for, in one line."""
    recipe = edit.recipe
    fact = recipe.get("fact")
    if isinstance(fact, Mapping):
        return f"{fact['subject'] or '(not named)'} · {fact['relation']} · {recipe['old_answer']} → {recipe['to']}"
    return f"{recipe.get('relation', '')}: {edit.neurons} most common neurons to zero"
