"""What an edit of a fact aims at: the fact, its answer now and the new one, and the neurons to change."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ...advice import Placeholder, call
from ...editing.objects.diff_file import EditObject
from ...errors import EditError
from ...models.answers import batched_log_probabilities
from ...models.network import Network
from ...models.prompting import EncodedPrompt, Skipped
from ...records.attribution import RefinementChoice
from ...records.edit_settings import EditSettings
from ...records.facts import Fact, Prompt
from ...records.recipes import RecipeFact
from ...records.skip_reasons import SKIP_EMPTY, SKIP_MULTI_TOKEN, SKIP_REASONS, SKIP_SPECIAL, SKIP_UNKNOWN
from ...store import facts as store_facts
from ...store.choosing import answering
from ...store.engine import Store
from ..models import ModelCommands, ModelVersion
from .draft import Draft
from .fact_neurons import ChosenNeurons, choose_neurons
from .kept_prompts import encode_open, encode_single
from .reports import with_report

_OF_ANSWERS = (SKIP_MULTI_TOKEN, SKIP_UNKNOWN, SKIP_EMPTY, SKIP_SPECIAL)
"""Why prompts are skipped for what their answer is."""


@dataclass(frozen=True, eq=False)
class Aim:
    """A fact and its new answer, with all that a rule for it needs.

    Attributes:
        refinement_id: whose knowledge neurons; `relation_id`: the fact's relation.
        fact: the fact.
        to: the new answer; `new`: its token, and `old` the token of the present one.
        chosen: the neurons.
        version: the model in memory.
        prompts: the fact's prompts, held-out templates left out, that the model can be asked.
        most: how many neurons were wanted at most, if that was said.
    """

    refinement_id: int
    relation_id: int
    fact: Fact
    to: str
    chosen: ChosenNeurons
    version: ModelVersion
    prompts: list[EncodedPrompt]
    old: int
    new: int
    most: int | None

    @property
    def told(self) -> dict[str, Any]:
        """What every recipe of a fact's new answer says; see `kndb.records.recipes`."""
        return {
            "fact": recipe_fact(self.fact),
            "to": self.to,
            "old_answer": self.version.loaded.decode(self.old),
            "old_token": self.old,
            "new_token": self.new,
            "max_share": self.chosen.max_share,
            "refinement": self.refinement_id,
            "neurons": self.chosen.neurons,
            "neurons_left_out": self.chosen.left_out,
            "most_neurons": self.most,
            "least_shared": self.chosen.least_shared,
        }

    def draft(self, store: Store, content: EditObject, *, report: bool) -> Draft:
        """The draft of an edit of this fact, with what it does in its recipe if that is wanted."""
        if report:
            content = with_report(
                store,
                self.version,
                content,
                fact=self.fact,
                relation=self.fact.relation,
                refinement=self.refinement_id,
            )
        return Draft(self.version, content, self.fact.id, self.relation_id, self.refinement_id)


def aim_at(
    store: Store,
    models: ModelCommands,
    model: str,
    fact_id: int,
    to: str,
    settings: EditSettings,
    refinement: RefinementChoice,
    on: ModelVersion | None,
) -> Aim:
    """What an edit of a fact aims at.

    Args:
        store: the store.
        models: loads the model.
        model: a registered model.
        fact_id: the fact.
        to: the new answer.
        settings: say which neurons.
        refinement: whose knowledge neurons; see `QueryCommands.choose`.
        on: the model in memory; None loads the current version.

    Raises:
        NotFoundError: if there is no such fact, model or refinement.
        EditError: if the fact has no knowledge neurons, or the answers can't be used.
    """
    to = to.strip()
    models.get(model)
    with store.reading() as connection:
        fact = store_facts.fact(connection, fact_id)
        number = answering(connection, refinement, model=model, facts=[fact_id]).id
        chosen = choose_neurons(connection, model, number, fact, settings)
        prompts = store_facts.prompts(connection, fact_ids=[fact_id], held_out=False)
        (relation_id,) = store_facts.require_relations(connection, [fact.relation])
    version = on or models.load(model)
    encoded = encode_open(version, prompts)
    old = present_answer(version.network, encoded, fact)
    together = call("edits.plan_together", model=model, targets=Placeholder("FILE"))
    new = answer_token(version, to, prompts, several=f", or plan it with {together}")
    if old == new:
        raise EditError(f"the model answers {to!r} already; nothing to change")
    return Aim(number, relation_id, fact, to, chosen, version, encoded, old, new, settings.neurons)


def recipe_fact(fact: Fact) -> RecipeFact:
    """A fact as recipes name it."""
    return RecipeFact(id=fact.id, relation=fact.relation, subject=fact.subject, object=fact.object)


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


def answer_token(version: ModelVersion, answer: str, prompts: Sequence[Prompt] = (), *, several: str = "") -> int:
    """The one token of a new answer, as it stands in a fact's prompts.

    Where prompts differ (one ends in a line break, another in a space), the token that most of them have; where they
    are even, or there are none, the one after a space.

    Args:
        version: the model.
        answer: the new answer.
        prompts: the fact's.
        several: what else to advise where it is several tokens.

    Raises:
        EditError: if it is several, or none that the tokenizer knows.
    """
    found = [encode_single(version, prompt, answer) for prompt in prompts]
    counts = Counter(one.answer for one in found if isinstance(one, EncodedPrompt))
    spaced = version.encoder.answer_token(answer)
    if counts:
        return max(counts, key=lambda token: (counts[token], token == spaced))
    reasons = Counter(one.reason for one in found if isinstance(one, Skipped) and one.reason in _OF_ANSWERS)
    reason = reasons.most_common(1)[0][0] if reasons else spaced
    if isinstance(reason, str):
        more = several if reason == SKIP_MULTI_TOKEN else ""
        raise EditError(
            f"{answer!r} can't be the new answer: {SKIP_REASONS[reason]}; give an answer of one token{more}"
        )
    return reason
