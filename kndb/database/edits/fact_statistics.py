"""Covariances of keys from the prompts of facts that are not edited: what every store has.

All tokens of the prompts count, their own answers included as the model sees them. More than `TOKENS_PER_NEURON` for
each neuron of a layer make plans no better (lab-bert, forty facts: 20 of them, and 320).
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from itertools import accumulate
from typing import Any

from ...advice import Placeholder, call
from ...editing.many import covariance
from ...editing.many.covariance import Covariance, Origin
from ...editing.many.sentences import Sentence, asked
from ...editing.many.texts import digest
from ...errors import EditError
from ...models.prompting import EncodedPrompt
from ...records.progress import Progress
from ...store import facts as store_facts
from ...store.engine import Store
from ..models import ModelVersion
from .edited_sentences import sentences_of_facts

TOKENS_PER_NEURON = 20
"""So many tokens are counted for each neuron of a layer, of prompts drawn at random, where there are as many."""
SOURCE = "prompts of other facts"
"""What a recipe says of them."""


def covariances_from_facts(
    store: Store,
    version: ModelVersion,
    layers: Sequence[int],
    edited: Collection[int] = (),
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[int, Covariance]:
    """Counts the keys of some layers on a model's weights as they are; stores nothing.

    Args:
        store: the store.
        version: the model in memory.
        layers: which layers.
        edited: facts whose sentences are left out, with all others that ask the same.
        seed: of the draw.
        progress: told how many prompts were counted, and how many there are.

    Raises:
        EditError: if the store has no prompt of another fact that the model can be asked.
    """
    with store.reading() as connection:
        sentences = other_sentences(connection, version, edited, seed=seed, answered=True)
    sentences = _within(sentences, TOKENS_PER_NEURON * version.network.neurons)
    if not sentences:
        raise EditError(
            f"the store has no prompt of another fact that model {version.record.name} can be asked, so that what the "
            f"edit must leave as it is is not known; ingest more facts: {call('facts.ingest', Placeholder('PATH'))}"
        )
    origin = Origin(
        fingerprint=version.record.fingerprint,
        version=version.version,
        source=f"{SOURCE}, seed {seed}",
        tokens="every",
        texts=len(sentences),
        digest=digest(sentences),
    )
    begun = {layer: covariance.empty(layer, version.network.neurons, origin) for layer in layers}
    return covariance.count_keys(version.network, sentences, begun, progress=progress)


def _within(sentences: Sequence[Sentence], tokens: int) -> list[Sentence]:
    """The first sentences, as many as have so many tokens; at least one."""
    lengths = accumulate(len(one.ids) for one in sentences)
    return [one for one, length in zip(sentences, lengths, strict=True) if length <= tokens] or list(sentences[:1])


def other_sentences(
    connection: Any,
    version: ModelVersion,
    edited: Collection[int],
    *,
    seed: int,
    most: int | None = None,
    answered: bool,
) -> list[Sentence]:
    """Prompts of facts that are not edited as a model sees them, drawn at random; held-out ones are left out.

    Args:
        connection: an open transaction.
        version: the model.
        edited: facts whose sentences are left out, with all others that ask the same.
        seed: of the draw.
        most: how many; None for all.
        answered: with the facts' own answers; else their answers are left open.
    """
    prompts = sentences_of_facts(connection, edited).others(store_facts.prompts(connection, held_out=False))
    random.Random(f"{seed} others").shuffle(prompts)  # noqa: S311 - not for secrets
    found: list[Sentence] = []
    for prompt in prompts:
        encoded = version.encoder.encode(prompt.id, prompt.text, prompt.answer if answered else None)
        if isinstance(encoded, EncodedPrompt):
            found.append(asked(encoded, version.adapter.blank))
            if len(found) == most:
                break
    return found
