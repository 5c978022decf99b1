"""Drafts of edits: computed on a model's current version, and neither stored nor applied yet."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch

from ...editing.objects import diff_file
from ...editing.planning import optimize, recipes
from ...errors import EditError, UsageError
from ...models.answers import batched_log_probabilities
from ...models.network import Network
from ...models.prompting import SKIP_REASONS, EncodedPrompt
from ...records.attribution import Refinement
from ...records.facts import Fact
from ...records.models import Neuron
from ...store import facts as store_facts
from ...store import refinements
from ...store import runs as store_runs
from ...store.engine import Store
from ...store.queries import neurons as queries
from ..models import ModelCommands, ModelVersion
from .optimize import Neighbours, encode_open, kept_prompts, optimized_edit, without_far_below
from .reports import with_report
from .updates import activation_signs, by_gradient, cosine_of_rules, fitted, fitted_along_gradient

MAX_SHARE = {"gradient": 1.0, "output": 0.1, "paper": 0.1}
"""The default of an update by each rule: neurons that more of the relation's facts hold are left out, as in the paper.
Along the gradient, weights take the place of that."""
LEAST_SHARED = 4
"""How many of the least shared neurons an update takes, at least, where that leaves none."""
RATIO = 0.5
"""The default of λ₁ ÷ λ₂ with output directions: `kndb docs edits` has the measurements."""
MEASURED_AGAINST = Neighbours(relation=0, elsewhere=64, prompts=1)
"""The other facts on whose prompts rule `gradient` weighs a fact's neurons."""
PAPERS_FACTORS = 1.0, 8.0
"""λ₁ and λ₂ of the paper's code, the defaults of rule `paper`."""


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
        rule: str = "gradient",
        lambda_old: float | None = None,
        lambda_new: float | Literal["auto"] | None = None,
        max_share: float | None = None,
        neurons: int | None = None,
        refinement: int | None = None,
        on: ModelVersion | None = None,
        report: bool = True,
    ) -> Draft:
        """Moves a fact's value slots away from the present answer and towards `to`: the paper's rule.

        Args:
            model: a registered model.
            fact: the fact's number.
            to: the new answer, one token in the model's tokenizer.
            rule: `gradient`: along the gradient of the new answer's log-probability, each slot with a weight that makes
                the change the fact's own. `output`: along the tokens' output directions, each slot with the sign of its
                neuron's activation. `paper`: along their word embeddings, without a sign, as published. See
                `recipes.UpdateRule` and `updates.by_gradient`.
            lambda_old: λ₁, how far each value slot moves away from the present answer, in lengths of it; None takes
                half of λ₂ by rule `output`, and 1 by rule `paper`. Rule `gradient` has none.
            lambda_new: λ₂, how far it moves towards the new answer, on average over slots; `auto` fits it to the fact
                (see `updates.fitted`); None takes `auto`, and 8 by rule `paper`.
            max_share: neurons held by more than this share of the relation's facts are left out. None takes all by rule
                `gradient`; else 0.1, and where that leaves none, the least shared ones.
            neurons: of the others, only so many, those with the highest mean scores; None takes all.
            refinement: whose knowledge neurons; None takes the model's newest.
            on: the model in memory, to plan on its weights as they are; None loads the current version.
            report: whether to try the edit in memory and put what it does in the recipe; see `reports`.

        Raises:
            UsageError: if a factor, a share or a number is out of its range, or there is no such rule.
            NotFoundError: if there is no such fact, model or refinement.
            EditError: if the fact has no knowledge neurons, or the answers can't be used.
        """
        if rule not in recipes.RULES:
            raise UsageError(f"--rule must be one of {', '.join(recipes.RULES)} (got {rule})")
        _check_factor("--lambda-old", lambda_old)
        if lambda_new != "auto":
            _check_factor("--lambda-new", lambda_new, ", or auto")
        if rule == "gradient" and lambda_old is not None:
            raise UsageError(
                "--lambda-old is of --rule output and paper; the gradient leads away from the present answer"
            )
        aim = self._aim(model, fact, to, max_share, MAX_SHARE[rule], neurons, refinement, on)
        chosen, details = self._chosen_rule(aim, rule, lambda_old, lambda_new)
        recipe = {**aim.recipe, **details}
        network = _network(aim.version)
        fingerprint = aim.version.record.fingerprint
        content = recipes.plan(
            network, aim.neurons, chosen.on(network), fingerprint=fingerprint, kind="update", recipe=recipe
        )
        return self._reported(aim, content, report)

    def _chosen_rule(
        self, aim: _Aim, name: str, lambda_old: float | None, lambda_new: float | Literal["auto"] | None
    ) -> tuple[recipes.UpdateRule, dict[str, object]]:
        """The rule with its factors and weights, and what the recipe says of them."""
        rule, details = self._rule_without_factors(aim, name)
        if lambda_new is None:
            lambda_new = PAPERS_FACTORS[1] if name == "paper" else "auto"
        if lambda_old is None:
            ratio = {"gradient": 0.0, "output": RATIO, "paper": None}[name]
            lambda_old = PAPERS_FACTORS[0] if name == "paper" else 0.0
        else:
            ratio = None
        rule = replace(rule, lambda_old=lambda_old)
        if lambda_new == "auto" and name == "gradient":
            rule, details["turned_at"] = fitted_along_gradient(_network(aim.version), rule, aim.neurons, aim.prompts)
        elif lambda_new == "auto":
            rule = fitted(_network(aim.version), rule, aim.neurons, aim.prompts, ratio).rule
        else:
            rule = replace(rule, lambda_new=lambda_new)
            if ratio is not None:
                rule = replace(rule, lambda_old=ratio * lambda_new)
        factors = {"lambda_old": rule.lambda_old, "lambda_new": rule.lambda_new, "lambda_fitted": lambda_new == "auto"}
        return rule, {"rule": name, **factors, **details}

    def _rule_without_factors(self, aim: _Aim, name: str) -> tuple[recipes.UpdateRule, dict[str, object]]:
        network = _network(aim.version)
        rule = recipes.UpdateRule(aim.old, aim.new, 0.0, 0.0, name)
        if name == "gradient":
            with self._store.reading() as connection:
                kept, others = kept_prompts(connection, aim.fact, MEASURED_AGAINST, seed=0)
            rule = by_gradient(network, rule, aim.neurons, aim.prompts, encode_open(aim.version, others))
            weights = {str(slot): weight for slot, weight in rule.weights.items()}
            return rule, {"weights": weights, "kept_facts": kept, "prompts_each": MEASURED_AGAINST.prompts}
        signs = activation_signs(network, aim.prompts, aim.neurons)
        if name == "output":
            return replace(rule, weights=signs), {"signs": {str(slot): sign for slot, sign in signs.items()}}
        cosine = None
        if network.word_embeddings.shape[1] == network.hidden_size:
            cosine = round(cosine_of_rules(network, aim.neurons, aim.new), 3)
        negative = [str(slot) for slot, sign in signs.items() if sign < 0]
        return rule, {"negative_neurons": negative, "cosine_to_output": cosine}

    def _reported(self, aim: _Aim, content: diff_file.EditObject, report: bool) -> Draft:
        """The draft of an edit of a fact, with what the edit does, if that is wanted."""
        if report:
            content = with_report(
                self._store,
                aim.version,
                content,
                fact=aim.fact,
                relation=aim.fact.relation,
                refinement=aim.refinement_id,
            )
        return aim.draft(content)

    def optimize(
        self,
        model: str,
        fact: int,
        to: str,
        *,
        settings: optimize.OptimizeSettings | None = None,
        neighbours: Neighbours | None = None,
        max_share: float = 1.0,
        neurons: int | None = None,
        refinement: int | None = None,
        progress: optimize.Progress | None = None,
        on: ModelVersion | None = None,
        report: bool = True,
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
            report: whether to try the edit in memory and put what it does in the recipe; see `reports`.

        Raises:
            NotFoundError: if there is no such fact, model or refinement.
            EditError: if the fact has no knowledge neurons, or the answer can't be used.
        """
        settings, counts = settings or optimize.OptimizeSettings(), neighbours or Neighbours()
        aim = self._aim(model, fact, to, max_share, max_share, neurons, refinement, on)
        with self._store.reading() as connection:
            drawn, others = kept_prompts(connection, aim.fact, counts, settings.seed)
        chosen = without_far_below(aim.neurons)
        content = optimized_edit(
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
        return self._reported(aim, content, report)

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
        content = with_report(self._store, version, content, fact=None, relation=relation, refinement=chosen.id)
        return Draft(version, content, None, relation_id, chosen.id)

    def _aim(
        self,
        model: str,
        fact_id: int,
        to: str,
        max_share: float | None,
        default_share: float,
        most: int | None,
        refinement: int | None,
        on: ModelVersion | None,
    ) -> _Aim:
        if most is not None and most < 1:
            raise UsageError(f"found neurons {most}; expected at least 1")
        if max_share is not None and not 0 < max_share <= 1:
            raise UsageError(f"found max-share {max_share}; expected a number above 0, at most 1")
        to = to.strip()
        self._models.get(model)
        with self._store.reading() as connection:
            chosen = chosen_refinement(connection, model, refinement)
            fact = store_facts.fact(connection, fact_id)
            picked = _neurons_for_update(connection, chosen.id, fact, max_share, default_share, most)
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
            "max_share": default_share if max_share is None else max_share,
            "refinement": chosen.id,
            "neurons": [str(neuron) for neuron in picked.neurons],
            "neurons_left_out": [str(neuron) for neuron in picked.left_out],
        }
        if most is not None:
            recipe["most_neurons"] = most
        if picked.least_shared is not None:
            recipe["least_shared"] = list(picked.least_shared)
        return _Aim(chosen.id, relation_id, fact, picked.neurons, version, encoded, old, new, recipe)


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


@dataclass(frozen=True)
class _Picked:
    """A fact's knowledge neurons that an edit changes.

    Attributes:
        neurons: those.
        left_out: the others: held by too many facts, or beyond the most wanted.
        least_shared: where all are held by too many facts, so that the least shared ones are taken: the lowest and the
            highest share of those, 0 to 1; else None.
    """

    neurons: list[Neuron]
    left_out: list[Neuron]
    least_shared: tuple[float, float] | None = None


def _neurons_for_update(
    connection: Any, refinement_id: int, fact: Fact, max_share: float | None, default_share: float, most: int | None
) -> _Picked:
    """The fact's knowledge neurons to change; a share that the user names is kept to, the default gives way."""
    held = queries.neurons_of_fact(connection, refinement_id, fact.id)
    if not held:
        raise EditError(
            f"fact {fact.id} {fact.title} has no knowledge neurons in refinement {refinement_id}; attribute it with "
            f"kndb attribute --relation {fact.relation}, or refine with a lower --share or --threshold"
        )
    relation_ids = store_facts.require_relations(connection, [fact.relation])
    of_all = queries.shares(connection, refinement_id, relation_ids)
    shares = {Neuron(row.layer, row.neuron): of_all[row.layer, row.neuron] for row in held}
    scores = {Neuron(row.layer, row.neuron): row.mean_score or 0.0 for row in held}
    limit = default_share if max_share is None else max_share
    kept = [neuron for neuron in shares if shares[neuron] <= limit]
    least = None
    if not kept and max_share is not None:
        would_do = math.ceil(min(shares.values()) * 100) / 100
        raise EditError(
            f"each of the {len(held)} knowledge neurons of fact {fact.id} is held by more than {limit:.4g} of the "
            f"facts of {fact.relation}; allow more with --max-share {would_do:.2f} or above, or leave --max-share out: "
            "the least shared ones are taken then"
        )
    if not kept:
        kept = _least_shared(shares, scores)
        of_kept = [shares[neuron] for neuron in kept]
        least = round(min(of_kept), 6), round(max(of_kept), 6)
    chosen = set(sorted(kept, key=lambda neuron: (-scores[neuron], neuron))[:most])
    left_out = sorted(neuron for neuron in scores if neuron not in chosen)
    return _Picked([neuron for neuron in shares if neuron in chosen], left_out, least)


def _least_shared(shares: Mapping[Neuron, float], scores: Mapping[Neuron, float]) -> list[Neuron]:
    """All neurons of the lowest share, and the next ones (of equal shares, the higher scores) until they are enough."""
    in_order = sorted(shares, key=lambda neuron: (shares[neuron], -scores[neuron], neuron))
    lowest = sum(share == shares[in_order[0]] for share in shares.values())
    return in_order[: max(lowest, LEAST_SHARED)]


def _check_factor(option: str, value: float | None, otherwise: str = "") -> None:
    if value is not None and not 0 <= value < math.inf:
        raise UsageError(f"{option} must be a number of at least 0{otherwise} (got {value})")


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
