"""The texts whose keys covariances are of: sentences of facts, lines of a file, or what the model says itself."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable
from typing import Any

from ...errors import EditError
from ...models.adapter import Blank
from ...models.network import Network
from ...models.sampling import sampled_texts
from .sentences import Sentence


def sentences_of(tokenizer: Any, texts: Iterable[str], max_tokens: int) -> list[Sentence]:
    """Texts as a model sees them, cut into pieces where they are too long; empty ones are left out.

    Args:
        tokenizer: the model's, one that gives what it cuts off.
        texts: the texts.
        max_tokens: how many tokens a piece may have, those that the tokenizer adds included; at least 3.

    Raises:
        EditError: if no text has a token.
    """
    found: list[Sentence] = []
    for text in texts:
        if text.strip():
            cut = tokenizer(text, truncation=True, max_length=max_tokens, return_overflowing_tokens=True, verbose=False)
            found += [_whole(tuple(piece)) for piece in cut["input_ids"]]
    if not found:
        raise EditError("the texts have no token that could be counted; give at least one line of text")
    return found


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
    if network.adapter.blank is not Blank.CUT:
        raise EditError(
            f"a {network.adapter.family} model only fills blanks, and says nothing from nothing; take the prompts of "
            "facts, or a file of texts"
        )
    end = tokenizer.eos_token_id
    begin = end if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    if begin is None:
        raise EditError("the tokenizer has no token for the beginning or end of a text; take a file of texts")
    return [_whole(ids) for ids in sampled_texts(network, begin, end, count, tokens, seed)]


def _whole(ids: tuple[int, ...]) -> Sentence:
    return Sentence(ids, len(ids) - 1, (len(ids) - 1,), (-1,))


def digest(sentences: Iterable[Sentence]) -> str:
    """The sha256, in hex, of sentences' tokens and places."""
    found = hashlib.sha256()
    for one in sentences:
        found.update(struct.pack(f"<{len(one.ids) + 2}q", len(one.ids), one.place, *one.ids))
    return found.hexdigest()
