"""Why a prompt has no result: the keys that are stored, and what they mean in words."""

from __future__ import annotations

from collections.abc import Mapping

SKIP_MULTI_TOKEN = "answer-of-several-tokens"  # noqa: S105
SKIP_EMPTY = "answer-empty"
SKIP_UNKNOWN = "answer-not-in-vocabulary"
SKIP_MERGED = "answer-merges-with-prompt"
SKIP_NOT_LAST = "blank-not-last"
SKIP_NO_PREFIX = "nothing-before-blank"
SKIP_TOO_LONG = "prompt-too-long"
SKIP_EXTRA_MASK = "mask-token-in-text"
SKIP_SPECIAL = "special-token-in-fact"
SKIP_NO_TOKENS = "text-not-in-vocabulary"

SKIP_REASONS = {
    SKIP_MULTI_TOKEN: "the answer is several tokens in this tokenizer",
    SKIP_EMPTY: "the answer is empty",
    SKIP_UNKNOWN: "the answer has a token unknown to this tokenizer",
    SKIP_MERGED: "the tokenizer merges the answer's start with the text before it",
    SKIP_NOT_LAST: "the blank is not the end of the sentence, as a causal model needs it",
    SKIP_NO_PREFIX: "no text stands before the blank",
    SKIP_TOO_LONG: "the prompt has more tokens than the model has positions, or its attention windows hold",
    SKIP_EXTRA_MASK: "the text holds the mask token itself",
    SKIP_NO_TOKENS: "the tokenizer has no tokens for a character of the text or the answer",
    SKIP_SPECIAL: "the subject or the answer holds the text of a special token, which only a template may",
    "not-known": "the model's first answer is another one, and only known facts were asked for",
}
"""Each reason for which a prompt has no result, in words."""


def skipped_in_words(skipped: Mapping[str, int]) -> list[str]:
    """A sentence for each reason, with the number of prompts that were skipped for it."""
    return [
        f"Skipped {count:,} {'prompt' if count == 1 else 'prompts'}: {SKIP_REASONS.get(reason, reason)}."
        for reason, count in skipped.items()
    ]
