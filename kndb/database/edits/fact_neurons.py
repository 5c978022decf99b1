"""The choice among a fact's knowledge neurons: those whose value slots an edit changes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...advice import call, option
from ...errors import EditError
from ...records.edit_settings import EditSettings, UpdateSettings
from ...records.facts import Fact
from ...records.models import Neuron
from ...store import facts as store_facts
from ...store.queries import neurons as queries

LEAST_SHARED = 4
"""How many of the least shared neurons an update takes, at least, where its rule's share leaves none."""


@dataclass(frozen=True)
class ChosenNeurons:
    """A fact's knowledge neurons that an edit changes.

    Attributes:
        neurons: those.
        left_out: the others: held by too many facts, or beyond the most wanted.
        max_share: more than this share of the relation's facts is too many.
        least_shared: where all are held by too many facts, so that the least shared ones are taken: the lowest and the
            highest share of those, 0 to 1; else None.
    """

    neurons: tuple[Neuron, ...]
    left_out: tuple[Neuron, ...]
    max_share: float
    least_shared: tuple[float, float] | None = None


def choose_neurons(
    connection: Any, model: str, refinement_id: int, fact: Fact, settings: EditSettings
) -> ChosenNeurons:
    """The fact's knowledge neurons to change; a share that the user names is kept to, an update's default gives way.

    Args:
        connection: an open transaction.
        model: the model's name, for messages.
        refinement_id: whose knowledge neurons.
        fact: the fact.
        settings: of the edit.

    Raises:
        EditError: if the fact has no knowledge neurons, or all are held by too many facts.
    """
    held = queries.neurons_of_fact(connection, refinement_id, fact.id)
    if not held:
        attribute = call("attribution.run", model=model, relations=[fact.relation])
        raise EditError(
            f"fact {fact.id} {fact.title} has no knowledge neurons in refinement {refinement_id}; attribute its "
            f"relation first: {attribute}, then {call('attribution.refine', model=model)}; or refine with a lower "
            f"{option('share')} or {option('threshold')}"
        )
    relation_ids = store_facts.require_relations(connection, [fact.relation])
    of_all = queries.shares(connection, refinement_id, relation_ids)
    shares = {Neuron(row.layer, row.neuron): of_all[row.layer, row.neuron] for row in held}
    scores = {Neuron(row.layer, row.neuron): row.mean_score or 0.0 for row in held}
    gives_way = isinstance(settings, UpdateSettings) and settings.max_share is None
    limit = settings.share if isinstance(settings, UpdateSettings) else settings.max_share
    kept = [neuron for neuron in shares if shares[neuron] <= limit]
    least = None
    if not kept and not gives_way:
        would_do = math.ceil(min(shares.values()) * 100) / 100
        raise EditError(
            f"each of the {len(held)} knowledge neurons of fact {fact.id} is held by more than {limit:.4g} of the "
            f"facts of {fact.relation}; allow more with {option('max_share', would_do)} or above, or leave "
            f"{option('max_share')} out: the least shared ones are taken then"
        )
    if not kept:
        kept = _least_shared(shares, scores)
        of_kept = [shares[neuron] for neuron in kept]
        least = round(min(of_kept), 6), round(max(of_kept), 6)
    chosen = set(sorted(kept, key=lambda neuron: (-scores[neuron], neuron))[: settings.neurons])
    left_out = sorted(neuron for neuron in scores if neuron not in chosen)
    return ChosenNeurons(tuple(neuron for neuron in shares if neuron in chosen), tuple(left_out), limit, least)


def _least_shared(shares: Mapping[Neuron, float], scores: Mapping[Neuron, float]) -> list[Neuron]:
    """All neurons of the lowest share, and the next ones (of equal shares, the higher scores) until they are enough."""
    in_order = sorted(shares, key=lambda neuron: (shares[neuron], -scores[neuron], neuron))
    lowest = sum(share == shares[in_order[0]] for share in shares.values())
    return in_order[: max(lowest, LEAST_SHARED)]
