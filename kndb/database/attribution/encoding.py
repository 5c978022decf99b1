"""Prompts of the store as token ids that ask for a target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ...models.prompting import EncodedPrompt, Encoder, Skipped
from ...records.facts import Prompt
from .request import GOLD, PREDICTED


def encode(encoder: Encoder, prompts: Sequence[Prompt], target: str) -> tuple[list[EncodedPrompt], list[Skipped]]:
    """Prompts as token ids, asking for the target, and those that can't be asked."""
    encoded: list[EncodedPrompt] = []
    skipped: list[Skipped] = []
    for prompt in prompts:
        span = prompt.subject_span
        gold = encoder.encode(prompt.id, prompt.text, prompt.answer, subject=span)
        asked = gold
        if target != GOLD:
            asked = encoder.encode(prompt.id, prompt.text, None if target == PREDICTED else target, subject=span)
        if isinstance(asked, Skipped):
            skipped.append(asked)
            continue
        own = gold.answers if isinstance(gold, EncodedPrompt) else ()
        encoded.append(replace(asked, fact_id=prompt.fact_id, gold=own))
    return encoded, skipped
