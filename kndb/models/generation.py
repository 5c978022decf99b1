"""What a causal model goes on to say after a prompt: always the most probable token, by its own `generate`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from transformers import GenerationConfig

from ..advice import option
from ..errors import UsageError
from .adapter import Blank
from .network import Network
from .prompting import EncodedPrompt


def require_causal(network: Network) -> None:
    """Checks that a model goes on where a text stops.

    Raises:
        UsageError: if it does not: a masked language model, or an encoder–decoder.
    """
    if network.adapter.blank is not Blank.CUT:
        raise UsageError(
            f"{option('generate')} continues prompts, which takes a causal language model; a {network.adapter.family} "
            f"model only fills blanks. Leave {option('generate')} out"
        )


@torch.no_grad()
def continuations(network: Network, prompts: Sequence[EncodedPrompt], tokens: int) -> list[tuple[int, ...]]:
    """Continues prompts greedily.

    Nothing is sampled, whatever the checkpoint's own settings say. Prompts of one length are run together, so that
    none is padded.

    Args:
        network: a causal model.
        prompts: the prompts; they end before their blank.
        tokens: how many tokens at most, at least 1; fewer at an end-of-text token, or where the model has no further
            positions.

    Returns:
        The continuation of each prompt.

    Raises:
        UsageError: if the model is not causal, or `tokens` is under 1.
    """
    require_causal(network)
    if tokens < 1:
        raise UsageError(f"{option('tokens')} must be at least 1 (got {tokens})")
    model = cast("Any", network.model)
    most = network.adapter.max_tokens(model.config)
    alike: dict[int, list[int]] = {}
    for number, prompt in enumerate(prompts):
        alike.setdefault(len(prompt.ids), []).append(number)
    found: list[tuple[int, ...]] = [()] * len(prompts)
    for length, numbers in alike.items():
        room = min(tokens, most - length)
        if room < 1:
            continue
        ids = torch.tensor([prompts[number].ids for number in numbers], device=network.device)
        settings = _greedy(model, room)
        rows = model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=settings)
        for number, row in zip(numbers, rows[:, length:].tolist(), strict=True):
            found[number] = _until_end(row, settings.eos_token_id)
    return found


def _greedy(model: Any, tokens: int) -> GenerationConfig:
    """Settings under which every token is the most probable one: all that would change that is spelled out."""
    own = model.generation_config
    end = own.eos_token_id if own.eos_token_id is not None else model.config.eos_token_id
    ends = [] if end is None else end if isinstance(end, list) else [end]
    return GenerationConfig(  # type: ignore[no-untyped-call]
        max_new_tokens=tokens,
        do_sample=False,
        num_beams=1,
        repetition_penalty=1.0,
        no_repeat_ngram_size=0,
        eos_token_id=ends or None,
        pad_token_id=ends[0] if ends else 0,
    )


def _until_end(row: Sequence[int], ends: Sequence[int] | None) -> tuple[int, ...]:
    """A row up to its first end-of-text token, which is left out with all that fills up after it."""
    stops = [place for place, token in enumerate(row) if token in (ends or ())]
    return tuple(row[: stops[0]] if stops else row)
