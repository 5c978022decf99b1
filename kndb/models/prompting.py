"""From a prompt's text to token ids, answer position and answer token.

A prompt is skipped, with a reason, where the model can't be asked for its answer as one token.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..records import BLANK
from ..sentences import is_closing
from .adapter import Blank

SKIP_MULTI_TOKEN = "answer-of-several-tokens"  # noqa: S105
SKIP_UNKNOWN = "answer-not-in-vocabulary"
SKIP_NOT_LAST = "blank-not-last"
SKIP_NO_PREFIX = "nothing-before-blank"
SKIP_TOO_LONG = "prompt-too-long"
SKIP_EXTRA_MASK = "mask-token-in-text"

SKIP_REASONS = {
    SKIP_MULTI_TOKEN: "the answer is several tokens in this tokenizer",
    SKIP_UNKNOWN: "the answer has a token unknown to this tokenizer",
    SKIP_NOT_LAST: "the blank is not the end of the sentence, as a causal model needs it",
    SKIP_NO_PREFIX: "no text stands before the blank",
    SKIP_TOO_LONG: "the prompt has more tokens than the model has positions",
    SKIP_EXTRA_MASK: "the text holds the mask token itself",
    "not-known": "the model's first answer is another one, and --known-only was asked for",
}
"""Each reason for which a prompt has no result, in words."""


@dataclass(frozen=True)
class EncodedPrompt:
    """A prompt as a model sees it.

    Attributes:
        prompt_id: the prompt in the store.
        ids: token ids.
        position: 0-based index into `ids` at whose output the answer is read.
        answer: the answer's token id; -1 where no answer is asked about.
    """

    prompt_id: int
    ids: tuple[int, ...]
    position: int
    answer: int


@dataclass(frozen=True)
class Skipped:
    """A prompt that this model can't be asked, and why (a key of `SKIP_REASONS`)."""

    prompt_id: int
    reason: str


class Encoder:
    """Turns prompts into token ids for one tokenizer.

    Args:
        tokenizer: a transformers tokenizer.
        blank: how the blank is shown to the model.
        max_tokens: the number of positions that the model has.
    """

    def __init__(self, tokenizer: Any, blank: Blank, max_tokens: int) -> None:
        self._tokenizer = tokenizer
        self._blank = blank
        self._max_tokens = max_tokens

    def encode(self, prompt_id: int, text: str, answer: str | None) -> EncodedPrompt | Skipped:
        """Encodes one prompt.

        Args:
            prompt_id: handed through to the result.
            text: the prompt, with its blank as `[Y]`.
            answer: the answer's text, or None to leave the answer open.
        """
        before, _, after = text.partition(BLANK)
        if self._blank is Blank.MASK:
            encoded = self._encode_masked(prompt_id, before, after, answer)
        else:
            encoded = self._encode_cut(prompt_id, before, after, answer)
        if isinstance(encoded, EncodedPrompt) and len(encoded.ids) > self._max_tokens:
            return Skipped(prompt_id, SKIP_TOO_LONG)
        return encoded

    def answer_token(self, answer: str) -> int | str:
        """The token id of an answer as it stands after a space, or the reason why it has none."""
        if not answer.strip():
            return SKIP_UNKNOWN
        spaced = f" {answer}" if self._blank is Blank.CUT else answer
        ids = self._ids(spaced)
        unknown = self._tokenizer.unk_token_id
        if self._blank is Blank.MASK and unknown is not None and unknown in ids:
            return SKIP_UNKNOWN
        if not ids:
            return SKIP_UNKNOWN
        return ids[0] if len(ids) == 1 else SKIP_MULTI_TOKEN

    def _encode_masked(self, prompt_id: int, before: str, after: str, answer: str | None) -> EncodedPrompt | Skipped:
        token = -1 if answer is None else self.answer_token(answer)
        if isinstance(token, str):
            return Skipped(prompt_id, token)
        mask = self._tokenizer.mask_token
        ids = tuple(self._tokenizer(f"{before}{mask}{after}")["input_ids"])
        if ids.count(self._tokenizer.mask_token_id) != 1:
            return Skipped(prompt_id, SKIP_EXTRA_MASK)
        return EncodedPrompt(prompt_id, ids, ids.index(self._tokenizer.mask_token_id), token)

    def _encode_cut(self, prompt_id: int, before: str, after: str, answer: str | None) -> EncodedPrompt | Skipped:
        if not is_closing(after):
            return Skipped(prompt_id, SKIP_NOT_LAST)
        prefix = before.rstrip()
        if not prefix:
            return Skipped(prompt_id, SKIP_NO_PREFIX)
        ids = tuple(self._tokenizer(prefix)["input_ids"])
        token = -1
        if answer is not None:
            if not answer.strip():
                return Skipped(prompt_id, SKIP_UNKNOWN)
            # The answer's tokens are what the whole text has beyond the prefix: a tokenizer may merge across
            # the boundary, in which case the answer can't be asked for after this prefix.
            glue = before[len(prefix) :]
            whole = tuple(self._tokenizer(f"{prefix}{glue}{answer}")["input_ids"])
            if whole[: len(ids)] != ids or len(whole) != len(ids) + 1:
                return Skipped(prompt_id, SKIP_MULTI_TOKEN)
            token = whole[-1]
            if token == self._tokenizer.unk_token_id and answer != self._tokenizer.unk_token:
                return Skipped(prompt_id, SKIP_UNKNOWN)
        return EncodedPrompt(prompt_id, ids, len(ids) - 1, token)

    def _ids(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])
