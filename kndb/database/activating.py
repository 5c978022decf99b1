"""The prompts of the store for which a neuron fires most."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from random import Random

from sqlalchemy import Connection

from ..analysis.interventions import answer_activations
from ..models.network import Network
from ..models.prompting import EncodedPrompt, Encoder
from ..records.facts import Prompt, by_fact
from ..records.models import ActivatingPrompt, Neuron
from ..store import facts as store_facts
from ..store.engine import Store
from .probes.draws import chance_of, shuffled
from .probes.scaling import batch_size_for

OWN_SHARE = 2
"""One in so many of the prompts that are asked may be of facts that hold the neuron."""


def activating_prompts(
    store: Store,
    network: Network,
    encoder: Encoder,
    neuron: Neuron,
    holders: Sequence[int],
    top: int,
    sample: int,
    seed: int,
) -> tuple[list[ActivatingPrompt], list[ActivatingPrompt]]:
    """See `ModelCommands.activating_prompts`; `network` computes what `encoder` encodes."""
    chance, held = chance_of(seed, "activating prompts"), set(holders)
    with store.reading() as connection:
        own = _one_each(connection, encoder, _some(list(holders), sample // OWN_SHARE, chance), chance)
        others = [number for number in store_facts.numbers(connection) if number not in held]
        asked = own | _one_each(connection, encoder, _some(others, sample - len(own), chance), chance)
        facts = {fact.id: fact for fact in store_facts.facts_of(connection, (one.fact_id for one in asked.values()))}
    prompts = list(asked)
    if not prompts:
        return [], []
    size = batch_size_for(network, prompts)
    found = answer_activations(network, prompts, [neuron], size)[:, 0].tolist()

    def row(value: float, prompt: EncodedPrompt) -> ActivatingPrompt:
        one = asked[prompt]
        fact = facts[one.fact_id]
        return ActivatingPrompt(one.text, value, fact.id, fact.relation, fact.subject, fact.object, fact.id in held)

    ranked = sorted(zip(found, prompts, strict=True), key=lambda pair: (-pair[0], pair[1].prompt_id))
    return [row(*pair) for pair in ranked[:top]], [row(*pair) for pair in ranked[::-1][:top]]


def _some(numbers: Sequence[int], count: int, chance: Random) -> list[int]:
    return [numbers[place] for place in islice(shuffled(len(numbers), chance), count)]


def _one_each(
    connection: Connection, encoder: Encoder, facts: Sequence[int], chance: Random
) -> dict[EncodedPrompt, Prompt]:
    """A prompt of each fact that has one which the model can be asked, drawn at random."""
    found = {}
    for prompts in by_fact(store_facts.prompts(connection, facts)).values():
        chance.shuffle(prompts)
        for one in prompts:
            encoded = encoder.encode(one.id, one.text, None, subject=one.subject_span)
            if isinstance(encoded, EncodedPrompt):
                found[encoded] = one
                break
    return found
