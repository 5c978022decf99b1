"""What a causal model says from nothing: texts drawn token by token from its own distribution."""

from __future__ import annotations

from typing import Any, cast

import torch
from transformers import GenerationConfig

from .network import Network

_AT_ONCE = 32


@torch.no_grad()
def sampled_texts(
    network: Network, begin: int, end: int | None, count: int, tokens: int, seed: int
) -> list[tuple[int, ...]]:
    """Draws texts; the draws of others that use torch's generator are not disturbed.

    Args:
        network: a causal model.
        begin: the token that comes first.
        end: the token that ends a text; None if there is none.
        count: how many texts, at least 1.
        tokens: tokens of each at most, the first one included; at least 2.
        seed: of the draws; equal seeds give equal texts on one machine.

    Returns:
        Token ids of each, the ending one included.
    """
    how = GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=True,
        top_k=0,
        max_new_tokens=tokens - 1,
        eos_token_id=end,
        pad_token_id=begin if end is None else end,
    )
    found: list[tuple[int, ...]] = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        while len(found) < count:
            ids = torch.full((min(_AT_ONCE, count - len(found)), 1), begin, device=network.device)
            drawn = cast("Any", network.model).generate(ids, attention_mask=torch.ones_like(ids), generation_config=how)
            found += [_up_to_end(row, end) for row in drawn.tolist()]
    return found


def _up_to_end(ids: list[int], end: int | None) -> tuple[int, ...]:
    """The tokens up to the first one, after the beginning, that ends the text, that one included."""
    stop = next((at for at, token in enumerate(ids) if at and token == end), len(ids) - 1)
    return tuple(ids[: stop + 1])
