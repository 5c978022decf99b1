"""The texts whose keys covariances are of: sentences of facts, lines of a file, or what the model says itself."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Iterator
from typing import Any

from ...advice import option
from ...errors import EditError
from ...models.adapter import Blank
from ...models.network import Network
from ...models.sampling import sampled_texts
from ...models.token_texts import TokenTexts
from .sentences import Sentence

_MOST_LETTERS = 2000
"""A longer text is cut before it is made tokens: a tokenizer takes a hundred times a text's length in memory."""


def sentences_of(tokenizer: Any, texts: Iterable[str], max_tokens: int) -> Iterator[Sentence]:
    """Texts as a model sees them, cut into pieces where they are too long; empty ones are left out.

    Args:
        tokenizer: the model's.
        texts: the texts; asked for one by one.
        max_tokens: how many tokens a piece may have, those that the tokenizer adds included; at least 3.

    Raises:
        ModelError: if the tokenizer has no tokens for a text.
    """
    asked = TokenTexts(tokenizer)
    start, end = asked.added
    room = max(1, max_tokens - len(start) - len(end))
    for text in texts:
        for part in _parts(text.strip()):
            ids = asked.whole(part)
            if len(ids) <= max_tokens:
                yield whole(ids)
                continue
            bare = asked.bare(part)
            yield from (whole(start + bare[first : first + room] + end) for first in range(0, len(bare), room))


def _parts(text: str) -> Iterator[str]:
    """A text in parts that are not too long, cut at spaces where there are some."""
    first = 0
    while len(text) - first > _MOST_LETTERS:
        stop = text.rfind(" ", first + 1, first + _MOST_LETTERS)
        stop = first + _MOST_LETTERS if stop < 0 else stop
        yield text[first:stop]
        first = stop
    if first < len(text):
        yield text[first:]


def sampled(network: Network, tokenizer: Any, count: int, tokens: int, seed: int) -> list[Sentence]:
    """What a causal model says from nothing: see `kndb.models.sampling`.

    Args:
        network: the model.
        tokenizer: its tokenizer, whose token for a text's beginning, or else its end, comes first.
        count: how many texts, at least 1.
        tokens: tokens of each at most, at least 2.
        seed: of the draws.

    Raises:
        EditError: if the model is not causal, or the tokenizer has no token to begin with.
    """
    instead = f"leave {option('self_sampled')} out to take the prompts of facts, or name a file of {option('texts')}"
    if network.adapter.blank is not Blank.CUT:
        raise EditError(f"a {network.adapter.family} model only fills blanks, and says nothing from nothing; {instead}")
    end = tokenizer.eos_token_id
    begin = end if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    if begin is None:
        raise EditError(f"the tokenizer has no token for the beginning or end of a text; {instead}")
    return [whole(ids) for ids in sampled_texts(network, begin, end, count, tokens, seed)]


def taken(sentences: Iterable[Sentence], most: int | None, *, causal: bool) -> list[Sentence]:
    """The first sentences, each once, that have at most so many tokens that count.

    Args:
        sentences: asked for one by one, until the next one does not fit.
        most: how many tokens, at least 1; None for no limit.
        causal: whether each sentence's first token does not count; one without another is left out.
    """
    found: list[Sentence] = []
    seen: set[tuple[int, ...]] = set()
    counted = 0
    for one in sentences:
        tokens = len(one.ids) - causal
        if not tokens or one.ids in seen:
            continue
        counted += tokens
        if most is not None and counted > most:
            break
        seen.add(one.ids)
        found.append(one)
    return found


def whole(ids: tuple[int, ...]) -> Sentence:
    """A text that is only read."""
    return Sentence(ids, len(ids) - 1, (len(ids) - 1,), (-1,))


def digest(sentences: Iterable[Sentence]) -> str:
    """The sha256, in hex, of sentences' tokens and places."""
    found = hashlib.sha256()
    for one in sentences:
        found.update(struct.pack(f"<{len(one.ids) + 2}q", len(one.ids), one.place, *one.ids))
    return found.hexdigest()
