"""The texts whose keys are counted for a model of the store: prompts of facts, a file's, or its own."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from ...advice import option
from ...content import at_most
from ...editing.many.covariance_file import Origin
from ...editing.many.sentences import Sentence
from ...editing.many.texts import digest, sampled, sentences_of, taken, whole
from ...errors import EditError
from ...facts.plain_texts import plain_texts
from ...models.adapter import Blank
from ...models.prompting import EncodedPrompt
from ...records.statistics import TOKENS_PER_NEURON, StatisticsSettings
from ...store import facts as store_facts
from ...store.engine import Store
from ..models import ModelVersion
from .edited_sentences import sentences_of_facts

_PIECE = 128
"""Tokens of a piece of a text from a file."""
_SAID = 64
"""Tokens of a text that the model says."""


def is_causal(version: ModelVersion) -> bool:
    """Whether a text's first token does not count."""
    return version.adapter.blank is not Blank.MASK


def sentences_and_source(
    store: Store, version: ModelVersion, settings: StatisticsSettings
) -> tuple[list[Sentence], str]:
    """The texts that are counted, each once, and what they are called.

    Args:
        store: the store.
        version: the model in memory.
        settings: which texts.

    Raises:
        InputError: if the file of texts can't be used.
        EditError: if there is no text, or the model can't say any.
    """
    causal = is_causal(version)
    longest = version.adapter.max_tokens(version.network.model.config)
    if settings.self_sampled is not None:
        said = sampled(version.network, version.tokenizer, settings.self_sampled, min(_SAID, longest), settings.seed)
        return taken(said, None, causal=causal), "self-sampled"
    most = settings.max_tokens or TOKENS_PER_NEURON * version.record.neurons
    if settings.texts is None:
        return _some(taken(of_facts(store, version, (), settings.seed), most, causal=causal), most), "facts"
    path = Path(settings.texts)
    with at_most(settings.most_bytes):
        every = sentences_of(version.tokenizer, plain_texts(path), min(_PIECE, longest))
        found = _some(taken(every, most, causal=causal), most)
    name = path.name.encode("utf-8", "backslashreplace").decode("utf-8")
    return found, f"texts {name}"


def _some(sentences: list[Sentence], most: int) -> list[Sentence]:
    if not sentences:
        raise EditError(
            f"there is no text of at most {most:,} tokens to count; raise {option('max_tokens')}, or give other texts"
        )
    return sentences


def of_facts(store: Store, version: ModelVersion, leaving_out: Collection[int], seed: int) -> Iterator[Sentence]:
    """The prompts of facts with their own answers, shuffled, those that the model can't be asked left out.

    A causal model reads all of an answer but its last token; a masked one, a mask for each of its tokens.

    Raises:
        EditError: if there is none.
    """
    with store.reading() as connection:
        prompts = store_facts.prompts(connection, held_out=False)
        if leaving_out:
            prompts = sentences_of_facts(connection, leaving_out).others(prompts)
    random.Random(f"{seed} statistics").shuffle(prompts)  # noqa: S311 - not for secrets
    some = False
    for prompt in prompts:
        asked = version.encoder.encode(prompt.id, prompt.text, prompt.answer, subject=prompt.subject_span)
        if isinstance(asked, EncodedPrompt):
            some = True
            yield whole(asked.questions[-1].ids)
    if not some:
        other = " other" if leaving_out else ""
        raise EditError(
            f"the database has no{other} fact that model {version.record.name} can be asked; ingest some, or take a "
            f"file of {option('texts')}"
        )


def origin_of(version: ModelVersion, sentences: Iterable[Sentence], source: str) -> Origin:
    """What a count of sentences, all their tokens, is of."""
    every = list(sentences)
    return Origin(version.record.fingerprint, version.version, source, "every", len(every), digest(every))
