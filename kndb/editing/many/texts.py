"""The texts whose keys covariances are of: sentences of facts, lines of a file, or what the model says itself."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Sequence
from typing import Any, cast

import torch
from transformers import GenerationConfig

from ...errors import EditError
from ...models.adapter import Blank
from ...models.network import Network
from .sentences import Sentence

_AT_ONCE = 32


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


@torch.no_grad()
def sampled(network: Network, tokenizer: Any, count: int, tokens: int, seed: int) -> list[Sentence]:
    """What a causal model says from nothing: texts drawn token by token from its own distribution.

    Args:
        network: the model.
        tokenizer: its tokenizer, whose token for a text's beginning, or else its end, comes first.
        count: how many texts, at least 1.
        tokens: tokens of each at most, at least 2.
        seed: of the draws; equal seeds give equal texts on one machine.

    Raises:
        EditError: if the model is not causal, or the tokenizer has no token to begin with.
    """
    if network.adapter.blank is not Blank.CUT:
        raise EditError(
            f"a {network.adapter.family} model only fills blanks, and says nothing from nothing; take the prompts of "
            "facts, or a file of texts"
        )
    begin = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    if begin is None:
        raise EditError("the tokenizer has no token for the beginning or end of a text; take a file of texts")
    end = tokenizer.eos_token_id
    how = GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=True,
        top_k=0,
        max_new_tokens=tokens - 1,
        eos_token_id=end,
        pad_token_id=begin if end is None else end,
    )
    found: list[Sentence] = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        while len(found) < count:
            ids = torch.full((min(_AT_ONCE, count - len(found)), 1), begin, device=network.device)
            drawn = cast("Any", network.model).generate(ids, attention_mask=torch.ones_like(ids), generation_config=how)
            found += [_whole(_up_to_end(row, end)) for row in drawn.tolist()]
    return found


def _up_to_end(ids: Sequence[int], end: int | None) -> tuple[int, ...]:
    """The tokens up to the first one, after the beginning, that ends the text, that one included."""
    stop = next((at for at, token in enumerate(ids) if at and token == end), len(ids) - 1)
    return tuple(ids[: stop + 1])


def _whole(ids: tuple[int, ...]) -> Sentence:
    return Sentence(ids, len(ids) - 1, (len(ids) - 1,), (-1,))


def digest(sentences: Iterable[Sentence]) -> str:
    """The sha256, in hex, of sentences' tokens and places."""
    found = hashlib.sha256()
    for one in sentences:
        found.update(struct.pack(f"<{len(one.ids) + 2}q", len(one.ids), one.place, *one.ids))
    return found.hexdigest()
