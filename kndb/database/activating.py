"""The prompts of the store for which a neuron fires most."""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from sqlalchemy import Connection

from ..analysis.interventions import answer_activations
from ..models.network import Network
from ..models.prompting import EncodedPrompt, Encoder
from ..records.facts import Prompt, by_fact
from ..records.models import ActivatingPrompt, Neuron
from ..store import facts as store_facts
from ..store.engine import Store
from .probes.draws import chance_of
from .probes.scaling import batch_size_for

if TYPE_CHECKING:
    import torch

OWN_SHARE = 2
"""One in so many of the prompts that are asked may be of facts that hold the neuron."""
KEPT_BYTES = 2**29
"""Room for activations that are kept."""
KEPT_DRAWS = 200_000
"""Facts of which it is kept which of their prompts is asked."""


class KeptActivations:
    """Activations at the answer position of neurons that will be asked about one after the other, on the same prompts.

    A forward pass takes about as long for one neuron as for thousands; so what a prompt does to all of them is read
    once, and kept as long as there is room. So are the order of the store's facts and which prompt of each is asked.
    What was read of another model in memory, or of a store that had other facts and prompts, is forgotten.

    Args:
        neurons: different neurons of one model.
        room: bytes for what is kept.
    """

    def __init__(self, neurons: Iterable[Neuron], room: int = KEPT_BYTES) -> None:
        self._neurons = tuple(neurons)
        self._places = {neuron: place for place, neuron in enumerate(self._neurons)}
        self._most = room // (4 * max(1, len(self._neurons)))
        self._kept: OrderedDict[EncodedPrompt, array[float]] = OrderedDict()
        self._drawn: dict[tuple[int, int], tuple[EncodedPrompt, Prompt] | None] = {}
        self._orders: dict[int, list[int]] = {}
        self._of: tuple[Network, tuple[int, ...]] | None = None

    def hold(self, connection: Connection, network: Network) -> None:
        """Forgets what was read of another model in memory, or before the store got other facts or prompts."""
        state = store_facts.state(connection)
        if self._of is None or self._of[0] is not network or self._of[1] != state:
            self._kept.clear()
            self._drawn.clear()
            self._orders.clear()
            self._of = network, state

    def order(self, connection: Connection, seed: int) -> list[int]:
        """The numbers of all facts, shuffled: the same order for each neuron, so that what is kept is asked again."""
        if seed not in self._orders:
            numbers = store_facts.numbers(connection)
            chance_of(seed, "activating prompts").shuffle(numbers)
            self._orders = {seed: numbers}
        return self._orders[seed]

    def draw(
        self, connection: Connection, encoder: Encoder, facts: Sequence[int], seed: int
    ) -> dict[EncodedPrompt, Prompt]:
        """A prompt of each of some facts that has one which the model can be asked, drawn at random.

        Args:
            connection: a connection in a transaction.
            encoder: the model's; the same one each time.
            facts: their numbers.
            seed: of the draw.
        """
        if len(self._drawn) > KEPT_DRAWS:
            self._drawn.clear()
        missing = [fact for fact in facts if (seed, fact) not in self._drawn]
        prompts = by_fact(store_facts.prompts(connection, missing)) if missing else {}
        for fact in missing:
            self._drawn[seed, fact] = _one(encoder, fact, prompts.get(fact, []), seed)
        return dict(one for fact in facts if (one := self._drawn[seed, fact]) is not None)

    def read(self, network: Network, prompts: Sequence[EncodedPrompt], neuron: Neuron) -> list[float]:
        """A neuron's activation at each of some prompts.

        Args:
            network: the model in float32; the same one each time.
            prompts: at least one.
            neuron: one of the neurons, or another, for which nothing is kept.
        """
        place = self._places.get(neuron)
        if place is None:
            return _read(network, prompts, [neuron]).flatten().tolist()
        found = {}
        for prompt in prompts:
            if prompt in self._kept:
                self._kept.move_to_end(prompt)
                found[prompt] = self._kept[prompt][place]
        missing = [prompt for prompt in prompts if prompt not in found]
        size = self._most_at_once()
        for start in range(0, len(missing), size):
            some = missing[start : start + size]
            for prompt, row in zip(some, _read(network, some, self._neurons), strict=True):
                self._kept[prompt] = array("f", row.tolist())
                found[prompt] = self._kept[prompt][place]
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
        return [found[prompt] for prompt in prompts]

    def _most_at_once(self) -> int:
        """Prompts whose activations are in memory in double precision at one time."""
        return max(256, self._most // 8)


def _read(network: Network, prompts: Sequence[EncodedPrompt], neurons: Sequence[Neuron]) -> torch.Tensor:
    return answer_activations(network, prompts, neurons, batch_size_for(network, prompts))


def activating_prompts(
    store: Store,
    network: Network,
    encoder: Encoder,
    neuron: Neuron,
    holders: Sequence[int],
    top: int,
    sample: int,
    seed: int,
    kept: KeptActivations | None,
) -> tuple[list[ActivatingPrompt], list[ActivatingPrompt]]:
    """See `ModelCommands.activating_prompts`; `network` computes what `encoder` encodes."""
    held, kept = set(holders), kept or KeptActivations([])
    with store.reading() as connection:
        kept.hold(connection, network)
        order = kept.order(connection, seed)
        holding = [number for number in order if number in held][: sample // OWN_SHARE]
        own = kept.draw(connection, encoder, holding, seed)
        others = list(islice((number for number in order if number not in held), sample - len(own)))
        asked = own | kept.draw(connection, encoder, others, seed)
        if not asked:
            return [], []
    found = zip(kept.read(network, list(asked), neuron), asked.values(), strict=True)
    ranked = sorted(found, key=lambda pair: (-pair[0], pair[1].id))
    both = ranked[:top], ranked[::-1][:top]
    with store.reading() as connection:
        shown = {prompt.fact_id for some in both for _, prompt in some}
        facts = {fact.id: fact for fact in store_facts.facts_of(connection, shown)}

    def row(value: float, prompt: Prompt) -> ActivatingPrompt:
        fact = facts[prompt.fact_id]
        return ActivatingPrompt(prompt.text, value, fact.id, fact.relation, fact.subject, fact.object, fact.id in held)

    highest, lowest = ([row(*pair) for pair in some] for some in both)
    return highest, lowest


def _one(encoder: Encoder, fact: int, prompts: Sequence[Prompt], seed: int) -> tuple[EncodedPrompt, Prompt] | None:
    for one in chance_of(seed, "prompt of fact", fact).sample(prompts, len(prompts)):
        encoded = encoder.encode(one.id, one.text, None, subject=one.subject_span)
        if isinstance(encoded, EncodedPrompt):
            return encoded, one
    return None
